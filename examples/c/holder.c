/*
 * holder.c
 *		See holder.h.
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "holder.h"

/* Linux' CLOCK_MONOTONIC stands still while the machine is suspended. */
#ifdef CLOCK_BOOTTIME
#define CLOCK CLOCK_BOOTTIME
#else
#define CLOCK CLOCK_MONOTONIC
#endif

volatile sig_atomic_t stopping = false;

static void
request_stop(int signo)
{
	stopping = true;
}

double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

void
nap(double seconds)
{
	poll(NULL, 0, seconds * 1000);
}

/* One line for each event */
void
say(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* A libpq message without its second line and further ones */
static void
say_unknown(const char *reason)
{
	say("unknown %.*s", (int) strcspn(reason, "\n"), reason);
}

void
holder_init(Holder *h, const char *namespace)
{
	const char *identity = getenv("LEASE_HOLDER");
	const char *duration = getenv("LEASE_DURATION");
	struct sigaction action = {.sa_handler = request_stop};

	memset(h, 0, sizeof(*h));

	/* One for each process: two with the same would both hear "renewed". */
	if (identity != NULL && identity[0] != '\0')
		snprintf(h->identity, sizeof(h->identity), "%s", identity);
	else
	{
		char		host[256] = "";

		gethostname(host, sizeof(host) - 1);
		for (char *c = host; *c != '\0'; c++)
			*c = tolower((unsigned char) *c);
		snprintf(h->identity, sizeof(h->identity), "%s-%d-%lx",
				 host, (int) getpid(), (unsigned long) time(NULL));
	}
	h->namespace = namespace;
	h->duration = duration != NULL ? atoi(duration) : 15;
	h->third = h->duration / 3;

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

/*
 * ---------- One request, and its answer in time ----------
 */

/* False if nothing happens on the connection until then. */
static bool
wait_for_socket(PGconn *conn, short events, double deadline)
{
	struct pollfd p = {PQsocket(conn), events, 0};
	double		left;

	while ((left = deadline - now()) > 0)
	{
		int			n = poll(&p, 1, left * 1000 + 1);

		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return false;
	}
	return false;
}

static void
on_notice(void *arg, const PGresult *notice)
{
	Holder	   *h = arg;
	const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE);

	/* The wait for the synchronous standby was cancelled. */
	if (sqlstate != NULL && strcmp(sqlstate, "01000") == 0)
		h->doubt = true;
}

static bool
connect_until(Holder *h, double deadline)
{
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	h->conn = PQconnectStart("");
	if (h->conn == NULL || PQstatus(h->conn) == CONNECTION_BAD)
		return false;
	while (state != PGRES_POLLING_OK)
	{
		if (!wait_for_socket(h->conn, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
			return false;
		state = PQconnectPoll(h->conn);
		if (state == PGRES_POLLING_FAILED)
			return false;
	}
	PQsetNoticeReceiver(h->conn, on_notice, h);
	return true;
}

/*
 * The last result of the statement.  It has committed only when there is no
 * further one: an error can still follow.
 */
static PGresult *
result_until(PGconn *conn, double deadline)
{
	PGresult   *last = NULL;

	for (;;)
	{
		PGresult   *next;

		while (PQisBusy(conn))
		{
			if (!wait_for_socket(conn, POLLIN, deadline) || !PQconsumeInput(conn))
			{
				PQclear(last);
				return NULL;
			}
		}
		next = PQgetResult(conn);
		if (next == NULL)
			return last;
		PQclear(last);
		last = next;
	}
}

/*
 * Runs one statement.  Returns NULL, having said why, if it could not tell: an
 * error, no answer after so many seconds, or one that is not to be relied on.
 * The next call connects anew then, perhaps to another server.
 */
PGresult *
holder_ask(Holder *h, double limit, const char *sql, int nparams, const char *const *params)
{
	double		deadline = now() + limit;
	PGresult   *result = NULL;
	const char *sqlstate;

	h->doubt = h->refused = false;
	if ((h->conn != NULL || connect_until(h, deadline)) &&
		PQsendQueryParams(h->conn, sql, nparams, NULL, params, NULL, NULL, 0))
		result = result_until(h->conn, deadline);

	if ((PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK) &&
		!h->doubt)
		return result;

	sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	h->refused = sqlstate != NULL && strcmp(sqlstate, "LS001") == 0;
	if (h->refused)
		;
	else if (h->doubt)
		say_unknown("committed here, but perhaps not on the synchronous standby");
	else if (PQerrorMessage(h->conn)[0] != '\0')
		say_unknown(PQerrorMessage(h->conn));
	else
		say_unknown("no answer in time");

	PQclear(result);
	PQfinish(h->conn);
	h->conn = NULL;
	return NULL;
}

/*
 * ---------- What I hold ----------
 */

static Lease *
find(const Holder *h, const char *name)
{
	for (int i = 0; i < h->nleases; i++)
	{
		if (strcmp(h->leases[i].name, name) == 0)
			return (Lease *) &h->leases[i];
	}
	return NULL;
}

/* The fencing token if it is mine, or NULL.  The clock decides, nobody is asked. */
const char *
holder_token(const Holder *h, const char *name)
{
	const Lease *lease = find(h, name);

	return lease != NULL && now() < lease->until ? lease->token : NULL;
}

void
holder_forget(Holder *h, const char *name)
{
	Lease	   *lease = find(h, name);

	if (lease != NULL)
		*lease = h->leases[--h->nleases];
}

static void
lose(Holder *h, Lease *lease, const char *why)
{
	say("lost %s %s", lease->name, why);
	*lease = h->leases[--h->nleases];
}

/* When the first of my leases ends */
static double
first_end(const Holder *h)
{
	double		end = h->leases[0].until;

	for (int i = 1; i < h->nleases; i++)
	{
		if (h->leases[i].until < end)
			end = h->leases[i].until;
	}
	return end;
}

/*
 * Tries to acquire a lease.  Returns the status of lease_acquire(), or "unknown".
 *
 * wait: at most a third of the duration, because what I may believe counts from
 * before the request was sent.
 */
const char *
holder_acquire(Holder *h, const char *name, double wait, double hold_at_least)
{
	static char status[16];
	double		sent = now();
	char		seconds[3][32];
	const char *params[] = {name, h->identity, seconds[0], h->namespace, seconds[1], seconds[2]};
	PGresult   *result;

	snprintf(seconds[0], sizeof(seconds[0]), "%.0f s", h->duration);
	snprintf(seconds[1], sizeof(seconds[1]), "%.3f s", wait);
	snprintf(seconds[2], sizeof(seconds[2]), "%.3f s", hold_at_least);
	result = holder_ask(h, wait + h->third,
						"SELECT status, fencing_token FROM lease_acquire($1, $2,"
						" duration => $3, namespace => $4, wait => $5, hold_at_least => $6)",
						6, params);
	if (result == NULL)
	{
		nap(h->duration / 10);
		return "unknown";
	}
	snprintf(status, sizeof(status), "%s", PQgetvalue(result, 0, 0));
	if (!PQgetisnull(result, 0, 1))
	{
		Lease	   *lease = find(h, name);

		if (lease == NULL && h->nleases == MAX_LEASES)
		{
			fprintf(stderr, "more than %d leases\n", MAX_LEASES);
			exit(1);
		}
		if (lease == NULL)
			lease = &h->leases[h->nleases++];
		snprintf(lease->name, sizeof(lease->name), "%s", name);
		snprintf(lease->token, sizeof(lease->token), "%s", PQgetvalue(result, 0, 1));
		lease->until = sent + h->duration;
	}
	PQclear(result);
	return status;
}

/* What lease_renew_all() says about this lease; its first row counts the renewed. */
static const char *
status_of(const PGresult *result, const char *name)
{
	for (int row = 1; row < PQntuples(result); row++)
	{
		if (strcmp(PQgetvalue(result, row, 2), name) == 0)
			return PQgetvalue(result, row, 0);
	}
	return "renewed";
}

static void
renew(Holder *h)
{
	double		sent = now();
	double		left = first_end(h) - sent;
	char		names[MAX_LEASES * 255 + 2] = "{";
	const char *params[] = {h->identity, names, h->namespace};
	PGresult   *result;

	h->retry = sent + h->duration / 10;

	/*
	 * Only what I know of: without the names it would also keep alive what I
	 * acquired without hearing of it, and do not work on.
	 */
	for (int i = 0; i < h->nleases; i++)
	{
		strcat(names, i > 0 ? "," : "");
		strcat(names, h->leases[i].name);
	}
	strcat(names, "}");

	result = holder_ask(h, left < h->third ? left : h->third,
						"SELECT status, leases, name FROM lease_renew_all($1, $2, $3)",
						3, params);
	if (result == NULL)
	{
		h->unsure = true;
		return;
	}
	for (int i = h->nleases - 1; i >= 0; i--)
	{
		Lease	   *lease = &h->leases[i];
		const char *status = status_of(result, lease->name);

		if (strcmp(status, "renewed") == 0)
			lease->until = sent + h->duration;
		else if (strcmp(status, "busy") == 0)
			say("unknown %s is busy", lease->name);
		else
			lose(h, lease, status);
	}
	if (h->unsure)
		say("renewed");
	h->unsure = false;
	PQclear(result);
}

/*
 * Renews after a third of the duration, and forgets what is lost.  Call it
 * between pieces of work that are much shorter than that.
 */
void
holder_keep(Holder *h)
{
	if (h->nleases > 0 && now() >= h->retry && now() >= first_end(h) - 2 * h->third)
		renew(h);
	for (int i = h->nleases - 1; i >= 0; i--)
	{
		if (now() >= h->leases[i].until)
			lose(h, &h->leases[i], "no renewal in time");
	}
}

/* Also when I do not know of it: an answer may have been lost. */
void
holder_release(Holder *h, const char *name)
{
	const char *params[] = {name, h->identity, h->namespace};

	holder_forget(h, name);
	/* If that fails, it expires. */
	PQclear(holder_ask(h, h->third, "SELECT status FROM lease_release($1, $2, $3)", 3, params));
}
