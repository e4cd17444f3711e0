/*
 * history.c
 *		Clients that fight for a handful of leases and write down what they
 *		were told, and when.  History.pm reads it and says whether it can be true.
 *
 *		history CONNINFO CLIENTS SECONDS SEED DIRECTORY
 *
 * Every client is a process with a connection, a random number generator and a
 * file of its own, DIRECTORY/<client>.log.  A line is one call, or the end of
 * a transaction:
 *
 *		client txn level op name duration sent received answer holder token
 *
 * txn is 0 for a call that is a transaction of its own.  Times are in
 * microseconds of CLOCK_MONOTONIC since the start, taken before sending and
 * after receiving.  "-" stands for nothing.
 *
 * Every fourth client is subject to row-level security (role "tenant"), so
 * that the slower way to the rows is taken as well; their names begin with a t.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define MAX_DURATION 2			/* seconds; also 1 */

/* The leases; those from FIRST_DELETED on are deleted by hand now and then. */
static const char *const names[] = {"l0", "l1", "l2", "l3", "d0", "d1"};

#define NAMES 6
#define FIRST_DELETED 4

typedef enum Op
{
	ACQUIRE, RENEW, RENEW_ALL, RELEASE, HOLDER, LOCK, SHARE, DELETE
} Op;

static const char *const op_names[] = {
	"acquire", "renew", "renew_all", "release", "holder", "lock", "share", "delete"
};

/*
 * $1 name, $2 client, $3 duration, $4 token.  The columns are answer, holder,
 * token; of RENEW_ALL, answer and name.
 */
static const char *const op_sql[] = {
	[ACQUIRE] = "SELECT status, holder_identity, fencing_token"
		" FROM lease_acquire($1, $2, make_interval(secs => $3))",
	[RENEW] = "SELECT status, holder_identity, fencing_token"
		" FROM lease_renew($1, $2, fencing_token => $4)",
	[RENEW_ALL] = "SELECT status, name FROM lease_renew_all($2, '{l3,l2,l1,l0}')"
		" WHERE name IS NOT NULL",
	[RELEASE] = "SELECT status, holder_identity, NULL FROM lease_release($1, $2, fencing_token => $4)",
	[HOLDER] = "SELECT 'read', lease_holder($1), NULL",
	[LOCK] = "SELECT 'locked', NULL, NULL FROM lease WHERE name = $1 FOR UPDATE SKIP LOCKED",
	[SHARE] = "SELECT 'shared', NULL, NULL FROM lease WHERE name = $1 FOR KEY SHARE SKIP LOCKED",
	[DELETE] = "DELETE FROM lease WHERE name = $1 RETURNING 'deleted', NULL, NULL",
};

typedef struct Client
{
	char		id[16];
	const char *conninfo;
	bool		tenant;
	PGconn	   *conn;
	FILE	   *log;
	const char *level;			/* isolation level: rc, rr, ser */
	int			txn;			/* current transaction, or 0 */
	int			last_txn;
	bool		failed;			/* the transaction is to be rolled back */
	char		token[NAMES][24];	/* of the last grant, "" without */
	char		before[NAMES][24];	/* the same when the transaction began */
} Client;

static struct timespec start;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - start.tv_sec) * INT64_C(1000000) + (t.tv_nsec - start.tv_nsec) / 1000;
}

static void
sleep_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&t, NULL);
}

/* from, from + 1, ... to */
static int
pick(int from, int to)
{
	return from + random() % (to - from + 1);
}

static bool
chance(int percent)
{
	return pick(1, 100) <= percent;
}

static void
fail(Client *c, const char *what)
{
	fprintf(stderr, "history: %s: %s: %s", c->id, what, PQerrorMessage(c->conn));
	exit(1);
}

static void
note(Client *c, const char *op, const char *name, int duration, int64_t sent,
	 int64_t received, const char *answer, const char *holder, const char *token)
{
	fprintf(c->log, "%s %d %s %s %s %d %lld %lld %s %s %s\n",
			c->id, c->txn, c->level, op, name, duration,
			(long long) sent, (long long) received, answer,
			*holder ? holder : "-", *token ? token : "-");
}

static void
command(Client *c, const char *sql)
{
	PGresult   *res = PQexec(c->conn, sql);

	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
		fail(c, sql);
	PQclear(res);
}

static void
open_connection(Client *c)
{
	c->conn = PQconnectdb(c->conninfo);
	if (PQstatus(c->conn) != CONNECTION_OK)
		fail(c, "connection failed");
	if (c->tenant)
		command(c, "SET ROLE tenant");
}

static const char *
value(PGresult *res, int row, int column)
{
	return row < PQntuples(res) ? PQgetvalue(res, row, column) : "";
}

/* One lease_renew_all() is a renewal of every lease it names. */
static void
note_renew_all(Client *c, PGresult *res, int64_t sent, int64_t received)
{
	for (int n = 0; n < FIRST_DELETED; n++)
	{
		const char *answer = "renewed";

		for (int i = 0; i < PQntuples(res); i++)
			if (strcmp(PQgetvalue(res, i, 1), names[n]) == 0)
				answer = PQgetvalue(res, i, 0);
		note(c, op_names[RENEW_ALL], names[n], 0, sent, received, answer, "", "");
	}
}

/* Makes a call, writes it down, and says whether the lease is ours now. */
static bool
call(Client *c, Op op, int name)
{
	static const Oid types[] = {25, 25, 23, 20};	/* text, text, int4, int8 */
	int			duration = op == ACQUIRE ? pick(1, MAX_DURATION) : 0;
	char		seconds[2] = {'0' + duration, '\0'};
	const char *values[] = {names[name], c->id, seconds,
		c->token[name][0] && chance(50) ? c->token[name] : NULL};
	bool		mine = false;
	int64_t		sent;
	int64_t		received;
	PGresult   *res;

	if (c->failed)
		return false;
	sent = now_us();
	res = PQexecParams(c->conn, op_sql[op], 4, types, values, NULL, NULL, 0);
	received = now_us();

	if (PQresultStatus(res) != PGRES_TUPLES_OK)
	{
		const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

		note(c, op_names[op], names[name], duration, sent, received,
			 sqlstate ? sqlstate : "unknown", "", "");
		if (sqlstate == NULL || strcmp(sqlstate, "40001") != 0)
			fprintf(stderr, "history: %s: %s", c->id, PQerrorMessage(c->conn));
		c->failed = c->txn != 0;
	}
	else if (op == RENEW_ALL)
		note_renew_all(c, res, sent, received);
	else
	{
		const char *answer = PQntuples(res) > 0 ? value(res, 0, 0) : "nothing";

		note(c, op_names[op], names[name], duration, sent, received,
			 answer, value(res, 0, 1), value(res, 0, 2));
		mine = strcmp(answer, "acquired") == 0 || strcmp(answer, "renewed") == 0;
		if (mine)
			snprintf(c->token[name], sizeof(c->token[name]), "%s", value(res, 0, 2));
		else if (op <= RELEASE && strcmp(answer, "busy") != 0)
			c->token[name][0] = '\0';
	}
	PQclear(res);
	return mine;
}

static void
begin(Client *c, const char *level)
{
	c->level = level;
	command(c, strcmp(level, "rc") == 0 ? "BEGIN" :
			strcmp(level, "rr") == 0 ? "BEGIN ISOLATION LEVEL REPEATABLE READ" :
			"BEGIN ISOLATION LEVEL SERIALIZABLE");
	c->txn = ++c->last_txn;
	memcpy(c->before, c->token, sizeof(c->token));
}

/* Writes down how the transaction ended, and forgets what it brought if in vain. */
static void
ended(Client *c, int64_t sent, const char *answer)
{
	note(c, "end", "-", 0, sent, now_us(), answer, "", "");
	if (strcmp(answer, "commit") != 0)
		memcpy(c->token, c->before, sizeof(c->token));
	c->txn = 0;
	c->level = "rc";
	c->failed = false;
}

static void
end(Client *c, bool commit)
{
	int64_t		sent = now_us();
	PGresult   *res = PQexec(c->conn, commit ? "COMMIT" : "ROLLBACK");
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *answer = sqlstate ? "rollback" :
		PQresultStatus(res) != PGRES_COMMAND_OK ? "unknown" :
		strcmp(PQcmdStatus(res), "COMMIT") == 0 ? "commit" : "rollback";

	/* A serialization failure at COMMIT is a rollback like any other. */
	if (sqlstate && strcmp(sqlstate, "40001") != 0)
		answer = sqlstate;
	ended(c, sent, answer);
	PQclear(res);
}

/* Closes the connection, also in the middle of a transaction. */
static void
reconnect(Client *c)
{
	int64_t		sent = now_us();

	PQfinish(c->conn);
	if (c->txn != 0)
		ended(c, sent, "dropped");
	open_connection(c);
}

static void
random_call(Client *c, int name)
{
	int			r = pick(1, 100);

	if (c->token[name][0])
		call(c, r <= 40 ? RENEW : r <= 55 ? ACQUIRE : r <= 70 ? RENEW_ALL :
			 r <= 92 ? RELEASE : HOLDER, name);
	else
		call(c, r <= 70 ? ACQUIRE : r <= 78 ? RENEW : r <= 84 ? RENEW_ALL :
			 r <= 90 ? RELEASE : HOLDER, name);
}

/* How long somebody sits on a lock: sometimes longer than any call may take. */
static int
idle_ms(void)
{
	return chance(5) ? pick(1200, 1600) : pick(0, 100);
}

static const char *
random_level(void)
{
	return chance(60) ? "rc" : chance(50) ? "rr" : "ser";
}

/* A transaction with a few calls in it that stays open for a while. */
static void
transaction(Client *c, int name)
{
	begin(c, random_level());
	for (int i = pick(1, 3); i > 0; i--)
	{
		random_call(c, chance(80) ? name : pick(0, NAMES - 1));
		sleep_ms(pick(0, 10));
	}
	sleep_ms(idle_ms());
	if (chance(5))
		reconnect(c);
	else
		end(c, chance(70));
}

/* Somebody who locks, or deletes, a row by hand. */
static void
by_hand(Client *c, int name)
{
	Op			op = name >= FIRST_DELETED ? DELETE : chance(50) ? LOCK : SHARE;

	begin(c, random_level());
	call(c, op, name);
	sleep_ms(idle_ms());
	end(c, chance(70));
}

/*
 * Tries until it is ours or time is up, all in one transaction: a call that
 * loses must leave no lock behind.
 */
static void
besiege(Client *c, int name)
{
	int64_t		until = now_us() + pick(100, 600) * 1000;
	bool		mine = false;

	begin(c, "rc");
	while (!mine && now_us() < until)
	{
		mine = call(c, ACQUIRE, name);
		sleep_ms(mine ? 0 : pick(0, 2));
	}
	if (!mine)
		sleep_ms(pick(0, 200));
	end(c, true);
}

static void
step(Client *c)
{
	int			name = pick(0, NAMES - 1);
	int			r = pick(1, 100);

	/* Who has something, mostly looks after it. */
	for (int i = 0; i < NAMES && !c->token[name][0]; i++)
		if (c->token[i][0] && chance(70))
			name = i;

	if (r <= 68)
		random_call(c, name);
	else if (r <= 80)
		transaction(c, name);
	else if (r <= 84)
		by_hand(c, pick(0, NAMES - 1));
	else if (r <= 96)
		besiege(c, name);
	else if (r <= 98)
		reconnect(c);
	else
		sleep_ms(MAX_DURATION * 1000 + pick(0, 300));
	sleep_ms(pick(0, 30));
}

static void
run_client(const char *conninfo, int number, int seconds, unsigned seed, const char *directory)
{
	Client		c = {.conninfo = conninfo, .level = "rc", .tenant = number % 4 == 0};
	char		path[1024];

	snprintf(c.id, sizeof(c.id), "%c%02d", c.tenant ? 't' : 'c', number);
	snprintf(path, sizeof(path), "%s/%s.log", directory, c.id);
	c.log = fopen(path, "w");
	if (c.log == NULL)
	{
		perror(path);
		exit(1);
	}
	srandom(seed * 1000 + number);
	open_connection(&c);
	while (now_us() < seconds * INT64_C(1000000))
		step(&c);
	PQfinish(c.conn);
	exit(fclose(c.log) == 0 ? 0 : 1);
}

/*
 * Waits for the clients.  This process does nothing else: when its sleep takes
 * much too long, the whole machine stood still.
 */
static int
wait_for_clients(int clients, const char *directory)
{
	char		path[1024];
	FILE	   *log;
	int			result = 0;

	snprintf(path, sizeof(path), "%s/stalls.log", directory);
	log = fopen(path, "w");
	while (clients > 0)
	{
		int64_t		before = now_us();
		int			status;

		sleep_ms(10);
		if (log != NULL && now_us() - before > 100000)
			fprintf(log, "- 0 - stall - 0 %lld %lld - - -\n",
					(long long) before, (long long) now_us());
		while (clients > 0 && waitpid(-1, &status, WNOHANG) > 0)
		{
			clients--;
			if (status != 0)
				result = 1;
		}
	}
	return log != NULL && fclose(log) == 0 ? result : 1;
}

int
main(int argc, char **argv)
{
	int			clients;

	if (argc != 6)
	{
		fprintf(stderr, "usage: history CONNINFO CLIENTS SECONDS SEED DIRECTORY\n");
		return 2;
	}
	clients = atoi(argv[2]);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < clients; i++)
	{
		pid_t		pid = fork();

		if (pid == 0)
			run_client(argv[1], i, atoi(argv[3]), atoi(argv[4]), argv[5]);
		if (pid < 0)
		{
			perror("fork");
			return 1;
		}
	}
	return wait_for_clients(clients, argv[5]);
}
