/*
 * history.c
 *		Clients that fight for a handful of leases and write down what they
 *		were told, and when.  History.pm reads it and says whether it can be true.
 *
 *		history CONNINFO CLIENTS SECONDS SEED DIRECTORY
 *
 * Every client is a process with a random number generator and a file of its
 * own, DIRECTORY/<client>.log; DIRECTORY/pids has their process IDs.  A line is
 * one call, or the end of a transaction:
 *
 *		client txn level op name duration sent received answer holder token
 *
 * txn is 0 for a call that is a transaction of its own.  Times are in
 * microseconds of CLOCK_MONOTONIC, taken before sending and after receiving.
 * "-" stands for nothing.  The holder of a "write" is the number of the write.
 *
 * A client has two connections, one of them for what it writes under its
 * tokens, so that it can renew meanwhile.  When a connection is lost, it
 * connects again, to whatever server CONNINFO finds then.  The answer "unknown"
 * is that of a call, or COMMIT, that may have been done or not: no answer came,
 * or the server warned that a standby may not have it.
 *
 * It ends after so many SECONDS, or earlier with SIGTERM.
 *
 * Every fourth client is subject to row-level security (role "tenant"), so
 * that the slower way to the rows is taken as well; their names begin with a t.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define MAX_DURATION 3			/* seconds; mostly 1, so that it changes */

/* The leases; those from FIRST_DELETED on are deleted by hand now and then. */
static const char *const names[] = {"l0", "l1", "l2", "l3", "d0", "d1"};

#define NAMES 6
#define FIRST_DELETED 4

/* How long after its time a client may go on; microseconds. */
#define MAX_HANG (30 * INT64_C(1000000))

typedef enum Op
{
	ACQUIRE, AWAIT, RENEW, RENEW_ALL, RELEASE, HOLDER, LOCK, SHARE, DELETE, GUARD, WRITE
} Op;

static const char *const op_names[] = {
	"acquire", "await", "renew", "renew_all", "release", "holder", "lock", "share", "delete",
	"guard", "write"
};

/*
 * $1 name, $2 client, $3 duration, $4 token.  The columns are answer, holder,
 * token; of RENEW_ALL, answer and name; of WRITE, answer, number, token.
 */
static const char *const op_sql[] = {
	[ACQUIRE] = "SELECT status, holder_identity, fencing_token"
		" FROM lease_acquire($1, $2, make_interval(secs => $3))",
	[AWAIT] = "SELECT status, holder_identity, fencing_token"
		" FROM lease_acquire($1, $2, make_interval(secs => $3), wait => '1 s')",
	[RENEW] = "SELECT status, holder_identity, fencing_token"
		" FROM lease_renew($1, $2, fencing_token => $4)",
	[RENEW_ALL] = "SELECT status, name FROM lease_renew_all($2, '{l3,l2,l1,l0}')"
		" WHERE name IS NOT NULL",
	[RELEASE] = "SELECT status, holder_identity, NULL FROM lease_release($1, $2, fencing_token => $4)",
	[HOLDER] = "SELECT 'read', lease_holder($1), NULL",
	[LOCK] = "SELECT 'locked', NULL, NULL FROM lease WHERE name = $1 FOR UPDATE SKIP LOCKED",
	[SHARE] = "SELECT 'shared', NULL, NULL FROM lease WHERE name = $1 FOR KEY SHARE SKIP LOCKED",
	[DELETE] = "DELETE FROM lease WHERE name = $1 RETURNING 'deleted', NULL, NULL",
	[GUARD] = "SELECT 'guarded', NULL, $4 FROM lease_guard($1, $4)",
	[WRITE] = "WITH next AS (UPDATE counter SET n = n + 1 WHERE name = $1 RETURNING n)"
		" INSERT INTO written SELECT $1, n, $4, $2 FROM next RETURNING 'written', n, token",
};

/* A connection, and the transaction in it. */
typedef struct Session
{
	PGconn	   *conn;			/* NULL: lost */
	const char *level;			/* isolation level: rc, rr, ser */
	int			txn;			/* current transaction, or 0 */
	bool		failed;			/* the transaction is to be rolled back */
	bool		doubt;			/* a warning came: the commit may get lost */
} Session;

typedef struct Client
{
	char		id[16];
	const char *conninfo;
	bool		tenant;
	int64_t		until;
	FILE	   *log;
	Session		main;
	Session		writer;			/* for what is guarded */
	int			last_txn;
	char		token[NAMES][24];	/* of the last grant, "" without */
	char		before[NAMES][24];	/* the same when the main transaction began */
} Client;

static volatile sig_atomic_t stopped = 0;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
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
stop(int signal)
{
	stopped = 1;
}

static bool
over(const Client *c)
{
	return stopped || now_us() >= c->until;
}

static void
note(Client *c, const Session *s, const char *op, const char *name, int duration,
	 int64_t sent, int64_t received, const char *answer, const char *holder, const char *token)
{
	fprintf(c->log, "%s %d %s %s %s %d %lld %lld %s %s %s\n",
			c->id, s->txn, s->level, op, name, duration,
			(long long) sent, (long long) received, answer,
			*holder ? holder : "-", *token ? token : "-");
}

/* A commit that did not wait for the standby it should wait for: as good as no answer. */
static void
on_notice(void *arg, const PGresult *res)
{
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (severity && strcmp(severity, "WARNING") == 0 && sqlstate && strcmp(sqlstate, "01000") == 0)
		((Session *) arg)->doubt = true;
}

static void
lose(Session *s)
{
	PQfinish(s->conn);
	s->conn = NULL;
	s->failed = s->txn != 0;
}

/* Runs it, and says whether there was no error. */
static bool
command(Session *s, const char *sql)
{
	PGresult   *res = PQexec(s->conn, sql);
	bool		ok = PQresultStatus(res) == PGRES_COMMAND_OK;

	PQclear(res);
	if (PQstatus(s->conn) != CONNECTION_OK)
		lose(s);
	return ok;
}

/*
 * Connects if it is not, when there is a server.  Looks first whether the server
 * has closed the connection meanwhile: then nothing was sent, so nothing is
 * unknown.  It takes two looks, for there may be a message before the end.
 */
static bool
connected(Client *c, Session *s)
{
	if (s->conn && !(PQconsumeInput(s->conn) && PQconsumeInput(s->conn)))
		lose(s);
	if (s->failed)
		return false;
	while (s->conn == NULL && !over(c))
	{
		s->conn = PQconnectdb(c->conninfo);
		if (PQstatus(s->conn) != CONNECTION_OK)
			lose(s);
		else
		{
			PQsetNoticeReceiver(s->conn, on_notice, s);
			if (c->tenant && !command(s, "SET ROLE tenant") && s->conn)
				lose(s);
		}
		if (s->conn == NULL)
			sleep_ms(20);
	}
	return s->conn != NULL;
}

static const char *
value(PGresult *res, int row, int column)
{
	return row < PQntuples(res) ? PQgetvalue(res, row, column) : "";
}

/* One lease_renew_all() is a renewal of every lease it names. */
static void
note_renew_all(Client *c, const Session *s, PGresult *res, int64_t sent, int64_t received,
			   const char *failure)
{
	for (int n = 0; n < FIRST_DELETED; n++)
	{
		const char *answer = failure ? failure : "renewed";

		for (int i = 0; failure == NULL && i < PQntuples(res); i++)
			if (strcmp(PQgetvalue(res, i, 1), names[n]) == 0)
				answer = PQgetvalue(res, i, 0);
		note(c, s, op_names[RENEW_ALL], names[n], 0, sent, received, answer, "", "");
	}
}

/* What has gone wrong, or NULL.  Without an answer, nobody knows. */
static const char *
failure_of(Session *s, PGresult *res)
{
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (s->doubt || PQstatus(s->conn) != CONNECTION_OK)
		return "unknown";
	if (PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK)
		return NULL;
	return sqlstate ? sqlstate : "unknown";
}

/* Makes a call, writes it down, and says whether it was granted what it asks for. */
static bool
call(Client *c, Session *s, Op op, int name)
{
	static const Oid types[] = {25, 25, 23, 20};	/* text, text, int4, int8 */
	int			duration = op != ACQUIRE && op != AWAIT ? 0 : chance(70) ? 1 : MAX_DURATION;
	char		seconds[2] = {'0' + duration, '\0'};
	char	   *token = c->token[name];
	const char *values[] = {names[name], c->id, seconds,
		token[0] && (op >= GUARD || chance(50)) ? token : NULL};
	const char *failure;
	bool		granted = false;
	int64_t		sent;
	int64_t		received;
	PGresult   *res;

	if (!connected(c, s))
		return false;
	s->doubt = false;
	sent = now_us();
	res = PQexecParams(s->conn, op_sql[op], 4, types, values, NULL, NULL, 0);
	received = now_us();
	failure = failure_of(s, res);

	if (op == RENEW_ALL)
		note_renew_all(c, s, res, sent, received, failure);
	else if (failure)
		note(c, s, op_names[op], names[name], duration, sent, received, failure, "",
			 op >= GUARD ? token : "");
	else
	{
		const char *answer = PQntuples(res) > 0 ? value(res, 0, 0) : "nothing";

		note(c, s, op_names[op], names[name], duration, sent, received,
			 answer, value(res, 0, 1), value(res, 0, 2));
		granted = strcmp(answer, "acquired") == 0 || strcmp(answer, "renewed") == 0 || op >= GUARD;
		if (op <= RENEW && granted)
			snprintf(token, sizeof(c->token[name]), "%s", value(res, 0, 2));
		else if (op <= RELEASE && strcmp(answer, "busy") != 0)
			token[0] = '\0';
	}
	if (failure)
	{
		s->failed = s->txn != 0;
		if (strcmp(failure, "unknown") == 0 && (op == ACQUIRE || op == AWAIT || op == RELEASE))
			token[0] = '\0';
	}
	PQclear(res);
	if (PQstatus(s->conn) != CONNECTION_OK)
		lose(s);
	return granted;
}

static bool
begin(Client *c, Session *s, const char *level)
{
	if (!connected(c, s) ||
		!command(s, strcmp(level, "rc") == 0 ? "BEGIN" :
				 strcmp(level, "rr") == 0 ? "BEGIN ISOLATION LEVEL REPEATABLE READ" :
				 "BEGIN ISOLATION LEVEL SERIALIZABLE"))
		return false;
	s->level = level;
	s->txn = ++c->last_txn;
	if (s == &c->main)
		memcpy(c->before, c->token, sizeof(c->token));
	return true;
}

/* Writes down how the transaction ended, and forgets what it brought if in vain. */
static void
ended(Client *c, Session *s, int64_t sent, const char *answer)
{
	note(c, s, "end", "-", 0, sent, now_us(), answer, "", "");
	if (s == &c->main && strcmp(answer, "commit") != 0)
		memcpy(c->token, c->before, sizeof(c->token));
	s->txn = 0;
	s->level = "rc";
	s->failed = false;
}

static void
end(Client *c, Session *s, bool commit)
{
	int64_t		sent = now_us();
	const char *answer;
	PGresult   *res;

	if (s->conn == NULL)
	{
		ended(c, s, sent, "dropped");
		return;
	}
	s->doubt = false;
	res = PQexec(s->conn, commit ? "COMMIT" : "ROLLBACK");
	answer = failure_of(s, res);
	if (answer == NULL)
		answer = strcmp(PQcmdStatus(res), "COMMIT") == 0 ? "commit" : "rollback";
	else if (!commit && PQstatus(s->conn) != CONNECTION_OK)
		answer = "dropped";
	/* A serialization failure at COMMIT is a rollback like any other. */
	else if (strcmp(answer, "40001") == 0)
		answer = "rollback";
	ended(c, s, sent, answer);
	PQclear(res);
	if (PQstatus(s->conn) != CONNECTION_OK)
		lose(s);
	/* A failed ROLLBACK leaves the transaction open: start afresh. */
	else if (PQtransactionStatus(s->conn) != PQTRANS_IDLE)
		lose(s);
}

/* Closes the connection, also in the middle of a transaction. */
static void
reconnect(Client *c, Session *s)
{
	int64_t		sent = now_us();

	if (s->conn)
		lose(s);
	if (s->txn != 0)
		ended(c, s, sent, "dropped");
}

static void
random_call(Client *c, int name)
{
	int			r = pick(1, 100);

	if (c->token[name][0])
		call(c, &c->main, r <= 40 ? RENEW : r <= 55 ? ACQUIRE : r <= 70 ? RENEW_ALL :
			 r <= 92 ? RELEASE : HOLDER, name);
	else
		call(c, &c->main, r <= 64 ? ACQUIRE : r <= 70 ? AWAIT : r <= 78 ? RENEW :
			 r <= 84 ? RENEW_ALL : r <= 90 ? RELEASE : HOLDER, name);
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
	if (!begin(c, &c->main, random_level()))
		return;
	for (int i = pick(1, 3); i > 0; i--)
	{
		random_call(c, chance(80) ? name : pick(0, NAMES - 1));
		sleep_ms(pick(0, 10));
	}
	sleep_ms(idle_ms());
	if (chance(5))
		reconnect(c, &c->main);
	else
		end(c, &c->main, chance(70));
}

/* Somebody who locks, or deletes, a row by hand. */
static void
by_hand(Client *c, int name)
{
	Op			op = name >= FIRST_DELETED ? DELETE : chance(50) ? LOCK : SHARE;

	if (!begin(c, &c->main, random_level()))
		return;
	call(c, &c->main, op, name);
	sleep_ms(idle_ms());
	end(c, &c->main, chance(70));
}

/*
 * Writes under the token, and renews meanwhile: the guard must not disturb.
 * Whether the token is still good is for the guard to find out.
 */
static void
guarded(Client *c, int name)
{
	Session    *s = &c->writer;

	if (!c->token[name][0] || !begin(c, s, random_level()))
		return;
	/* What is acknowledged shall be there in the end. */
	if (command(s, "SET LOCAL synchronous_commit = on") && call(c, s, GUARD, name))
	{
		for (int i = pick(0, 3); i > 0 && c->token[name][0]; i--)
		{
			call(c, &c->main, RENEW, name);
			sleep_ms(pick(0, 20));
		}
		sleep_ms(idle_ms());
		if (c->token[name][0])
			call(c, s, WRITE, name);
	}
	end(c, s, chance(85));
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

	if (!begin(c, &c->main, "rc"))
		return;
	while (!mine && !c->main.failed && now_us() < until)
	{
		mine = call(c, &c->main, ACQUIRE, name);
		sleep_ms(mine ? 0 : pick(0, 2));
	}
	if (!mine)
		sleep_ms(pick(0, 200));
	end(c, &c->main, true);
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

	if (r <= 60)
		random_call(c, name);
	else if (r <= 72)
		guarded(c, name);
	else if (r <= 82)
		transaction(c, name);
	else if (r <= 86)
		by_hand(c, pick(0, NAMES - 1));
	else if (r <= 96)
		besiege(c, name);
	else if (r <= 98)
		reconnect(c, &c->main);
	else
		sleep_ms(MAX_DURATION * 1000 + pick(0, 300));
	sleep_ms(pick(0, 30));
}

static void
run_client(const char *conninfo, int number, int seconds, unsigned seed, const char *directory)
{
	Client		c = {.conninfo = conninfo, .tenant = number % 4 == 0,
		.main.level = "rc", .writer.level = "rc"};
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
	c.until = now_us() + seconds * INT64_C(1000000);
	while (!over(&c))
		step(&c);
	PQfinish(c.main.conn);
	PQfinish(c.writer.conn);
	exit(fclose(c.log) == 0 ? 0 : 1);
}

/*
 * Waits for the clients.  This process does nothing else: when its sleep takes
 * much too long, the whole machine stood still.  A client that is still there
 * long after its time hangs in a call, and is killed.
 */
static int
wait_for_clients(pid_t *pids, int clients, int seconds, const char *directory)
{
	char		path[1024];
	FILE	   *log;
	int64_t		until = now_us() + seconds * INT64_C(1000000);
	bool		told = false;
	int			running = clients;
	int			result = 0;

	snprintf(path, sizeof(path), "%s/stalls.log", directory);
	log = fopen(path, "w");
	while (running > 0)
	{
		int64_t		before = now_us();
		int			status;

		sleep_ms(10);
		if (log != NULL && now_us() - before > 100000)
			fprintf(log, "- 0 - stall - 0 %lld %lld - - -\n",
					(long long) before, (long long) now_us());
		if (stopped && !told)
		{
			until = before;
			told = true;
			for (int i = 0; i < clients; i++)
				if (pids[i] > 0)
					kill(pids[i], SIGTERM);
		}
		if (before > until + MAX_HANG)
			for (int i = 0; i < clients; i++)
				if (pids[i] > 0 && kill(pids[i], SIGKILL) == 0)
					fprintf(stderr, "history: client %d hangs\n", i);
		for (int i = 0; i < clients; i++)
			if (pids[i] > 0 && waitpid(pids[i], &status, WNOHANG) > 0)
			{
				pids[i] = 0;
				running--;
				if (status != 0)
					result = 1;
			}
	}
	return log != NULL && fclose(log) == 0 ? result : 1;
}

int
main(int argc, char **argv)
{
	char		path[1024];
	int			clients;
	pid_t	   *pids;
	FILE	   *file;

	if (argc != 6)
	{
		fprintf(stderr, "usage: history CONNINFO CLIENTS SECONDS SEED DIRECTORY\n");
		return 2;
	}
	clients = atoi(argv[2]);
	pids = calloc(clients, sizeof(pid_t));
	signal(SIGTERM, stop);
	for (int i = 0; i < clients; i++)
	{
		pids[i] = fork();
		if (pids[i] == 0)
			run_client(argv[1], i, atoi(argv[3]), atoi(argv[4]), argv[5]);
		if (pids[i] < 0)
		{
			perror("fork");
			return 1;
		}
	}

	/* Whom to stop, for who wants to stop one for a while. */
	snprintf(path, sizeof(path), "%s/pids", argv[5]);
	file = fopen(path, "w");
	for (int i = 0; file != NULL && i < clients; i++)
		fprintf(file, "%c%02d %d\n", i % 4 == 0 ? 't' : 'c', i, (int) pids[i]);
	if (file == NULL || fclose(file) != 0)
	{
		perror(path);
		return 1;
	}
	return wait_for_clients(pids, clients, atoi(argv[3]), argv[5]);
}
