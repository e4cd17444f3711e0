/*
 * statement.h
 *		Statements of constant text, and their plans.  For store_*.c only.
 */
#ifndef LEASE_STATEMENT_H
#define LEASE_STATEMENT_H

#include "executor/spi.h"
#include "utils/snapshot.h"

#include "lease.h"
#include "compat.h"

/* Of the table of leases, and of the history */
#define LEASE_BY_KEY " WHERE namespace OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2"

typedef struct LeaseStatement
{
	const char *text;			/* %s, or %1$s, is its table; %2$s that of the leases */
	const char *table;
	int			nparameters;
	Oid		   *types;			/* of the parameters, or more of them */

	/* kept for the rest of the session, and the schema that it was made for */
	SPIPlanPtr	plan;
	NameData	schema;
} LeaseStatement;

#define LEASE_STATEMENT(its_table, n, its_types, its_text) \
	{.text = its_text, .table = its_table, .nparameters = n, .types = its_types}

/* A rule has made something else of the statement. */
#define LEASE_REWRITTEN (-1)

extern SPIPlanPtr lease_statement_begin(LeaseStatement *statement, const char *schema);
extern bool lease_statement_select(LeaseStatement *statement, const char *schema, Datum *values,
								   const char *nulls, Snapshot snapshot, int64 limit);
extern bool lease_statement_select_newest(LeaseStatement *statement, const char *schema,
										  Datum *values, const char *nulls, int64 limit);
extern int64 lease_statement_write(LeaseStatement *statement, const char *schema, Datum *values,
								   const char *nulls, int expected);
extern void lease_statement_check(int result, int expected);
pg_noreturn extern void lease_statement_suppressed(const char *what);
pg_noreturn extern void lease_statement_conflict(void);

#endif							/* LEASE_STATEMENT_H */
