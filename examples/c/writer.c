/*
 * writer.c
 *		Writes lines that commit only while it holds a lease.
 *
 *		writer NAME
 *
 * The table: CREATE TABLE journal (writer text, line bigint, token bigint,
 * PRIMARY KEY (writer, line))
 */
#include <stdio.h>
#include <string.h>

#include "holder.h"

static Holder h;
static const char *name;
static char token[21];
static char line[21];

/* A pause here may outlast the lease. */
static void
prepare(void)
{
	nap(0.1);
}

static bool
run(const char *sql, int nparams, const char *const *params)
{
	PGresult   *result = holder_ask(&h, h.third, sql, nparams, params);

	PQclear(result);
	return result != NULL;
}

/* After an error the connection is gone, and the transaction with it. */
static bool
write_line(void)
{
	const char *guard[] = {name, token};
	const char *values[] = {h.identity, line, token};

	return run("BEGIN", 0, NULL) &&
		run("SELECT lease_guard($1, $2)", 2, guard) &&
	/* idempotent: it is repeated when the answer to COMMIT was lost */
		run("INSERT INTO journal (writer, line, token) VALUES ($1, $2, $3)"
			" ON CONFLICT DO NOTHING", 3, values) &&
		run("COMMIT", 0, NULL);
}

int
main(int argc, char **argv)
{
	long		lines = 1;

	if (argc != 2)
	{
		fprintf(stderr, "usage: writer NAME\n");
		return 2;
	}
	name = argv[1];
	holder_init(&h, "default");

	while (!stopping)
	{
		bool		mine;

		holder_acquire(&h, name, h.third, 0);
		mine = holder_token(&h, name) != NULL;
		if (mine)
		{
			strcpy(token, holder_token(&h, name));
			say("writer token=%s", token);
		}
		/* Whether the lease is still mine is for lease_guard() to say. */
		while (mine && !stopping)
		{
			prepare();
			snprintf(line, sizeof(line), "%ld", lines);
			if (write_line())
			{
				say("wrote %s token=%s", line, token);
				lines++;
			}
			else if (h.refused)
			{
				say("refused token=%s", token);
				holder_forget(&h, name);
				mine = false;
			}
			holder_keep(&h);
		}
	}

	holder_release(&h, name);
	say("done");
	return 0;
}
