/*
 * statement.c
 *		Runs statements of constant text, whose plans are kept.
 *
 * Only the names of tables are filled in, and they are qualified; so a plan is good
 * as long as the extension stays in its schema.  It survives DDL on the table, and
 * DROP and CREATE EXTENSION.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "statement.h"

static void
forget_plan(LeaseStatement *statement)
{
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	statement->plan = NULL;
}

/*
 * Connects to SPI and returns the plan.
 */
SPIPlanPtr
lease_statement_begin(LeaseStatement *statement, const char *schema)
{
	char	   *text;

	SPI_connect();
	if (strcmp(NameStr(statement->schema), schema) != 0)
		forget_plan(statement);
	if (statement->plan != NULL)
		return statement->plan;

	text = psprintf(statement->text, quote_qualified_identifier(schema, statement->table),
					quote_qualified_identifier(schema, LEASE_TABLE));

	/* One row by its primary key: looking at the values again gains nothing. */
	statement->plan = SPI_prepare_cursor(text, statement->nparameters, statement->types,
										 CURSOR_OPT_GENERIC_PLAN);
	if (statement->plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
	SPI_keepplan(statement->plan);
	namestrcpy(&statement->schema, schema);
	return statement->plan;
}

/*
 * What SPI returned is what it must return.
 */
void
lease_statement_check(int result, int expected)
{
	if (result != expected)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
}

/*
 * Runs a query.  A snapshot makes it read-only and is used as it is; without one,
 * the isolation level decides.  What it has found, as many rows as limit or all if
 * that is 0, is in SPI_tuptable until the caller's SPI_finish().  False if that is
 * nothing.
 */
bool
lease_statement_select(LeaseStatement *statement, const char *schema, Datum *values,
					   const char *nulls, Snapshot snapshot, int64 limit)
{
	SPIPlanPtr	plan = lease_statement_begin(statement, schema);
	int			result;

	if (snapshot != InvalidSnapshot)
		result = SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot,
									  true, false, limit);
	else
		result = SPI_execute_plan(plan, values, nulls, false, limit);
	lease_statement_check(result, SPI_OK_SELECT);
	return SPI_processed > 0;
}

/*
 * Likewise, by the newest committed state.
 */
bool
lease_statement_select_newest(LeaseStatement *statement, const char *schema,
							  Datum *values, const char *nulls, int64 limit)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = lease_statement_select(statement, schema, values, nulls, snapshot, limit);

	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Runs a statement that writes.  Returns how many rows it wrote, or LEASE_REWRITTEN.
 */
int64
lease_statement_write(LeaseStatement *statement, const char *schema, Datum *values,
					  const char *nulls, int expected)
{
	SPIPlanPtr	plan = lease_statement_begin(statement, schema);
	int			result = SPI_execute_plan(plan, values, nulls, false, 0);
	int64		written = SPI_processed;

	if (result == SPI_OK_REWRITTEN)
	{
		/* Such a plan knows no table: nothing would say that the rule is gone. */
		forget_plan(statement);
		written = LEASE_REWRITTEN;
	}
	else
		lease_statement_check(result, expected);
	SPI_finish();
	return written;
}

/*
 * Refuses to acknowledge what a trigger or a rule of the user's has suppressed: a
 * lease, or a node.
 */
void
lease_statement_suppressed(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
			 errmsg("%s was not written", what),
			 errdetail("A trigger or a rule on the table suppressed it.")));
}

/*
 * The transaction's snapshot shows something else than what is to be written.
 */
void
lease_statement_conflict(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}
