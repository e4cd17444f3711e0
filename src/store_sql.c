/*
 * store_sql.c
 *		Rows of the table through the executor.  All SQL text of lease is here.
 *
 * Every statement is constant but for the name of the table, and runs with the
 * caller's privileges under row-level security, triggers and constraints.
 * Operators are qualified: the caller's search_path decides nothing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store.h"
#include "compat.h"

#define BY_KEY " WHERE namespace OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2"
/* in the order of LeaseColumn */
#define ROW "SELECT holder_identity, lease_duration_seconds, acquire_time, renew_time," \
	" lease_transitions, fencing_token, resource_version FROM ONLY %s"

typedef enum Statement
{
	READ,
	LOCK_KEY_SHARE,
	LOCK_NO_KEY,
	LOCK_EXCLUSIVE,
	RENEW,
	UPDATE,
	INSERT,
	NAMES_OF_HOLDER,
	STATEMENTS
} Statement;

/* %s is the table. */
static const char *const statement_text[STATEMENTS] = {
	[READ] = ROW BY_KEY,
	[LOCK_KEY_SHARE] = ROW BY_KEY " FOR KEY SHARE SKIP LOCKED",
	[LOCK_NO_KEY] = ROW BY_KEY " FOR NO KEY UPDATE SKIP LOCKED",
	[LOCK_EXCLUSIVE] = ROW BY_KEY " FOR UPDATE SKIP LOCKED",
	[RENEW] = "UPDATE ONLY %s SET lease_duration_seconds = $3, renew_time = $4" BY_KEY,
	[UPDATE] = "UPDATE ONLY %s SET holder_identity = $5, lease_duration_seconds = $3,"
	" acquire_time = $6, renew_time = $4, lease_transitions = $7,"
	" fencing_token = $8" BY_KEY,
	[INSERT] = "INSERT INTO %s (namespace, name, lease_duration_seconds, renew_time,"
	" holder_identity, acquire_time, lease_transitions, fencing_token)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
	" ON CONFLICT (namespace, name) DO NOTHING",
	[NAMES_OF_HOLDER] = "SELECT name FROM ONLY %s"
	" WHERE namespace OPERATOR(pg_catalog.=) $1"
	" AND holder_identity OPERATOR(pg_catalog.=) $2 ORDER BY namespace, name",
};

/* Every statement takes a prefix of these parameters. */
static Oid	parameter_types[] = {
	TEXTOID,					/* $1 namespace */
	TEXTOID,					/* $2 name, or holder */
	INT4OID,					/* $3 lease_duration_seconds */
	TIMESTAMPTZOID,				/* $4 renew_time */
	TEXTOID,					/* $5 holder_identity */
	TIMESTAMPTZOID,				/* $6 acquire_time */
	INT4OID,					/* $7 lease_transitions */
	INT8OID,					/* $8 fencing_token */
};

static const int parameter_count[STATEMENTS] = {
	[READ] = 2,
	[LOCK_KEY_SHARE] = 2,
	[LOCK_NO_KEY] = 2,
	[LOCK_EXCLUSIVE] = 2,
	[RENEW] = 4,
	[UPDATE] = 8,
	[INSERT] = 8,
	[NAMES_OF_HOLDER] = 2,
};

/* Plans kept for the rest of the session, and the schema they were made for. */
static SPIPlanPtr plans[STATEMENTS];
static NameData plans_schema;

static void
forget_plans(const LeaseTable *table)
{
	for (int i = 0; i < STATEMENTS; i++)
	{
		if (plans[i] != NULL)
			SPI_freeplan(plans[i]);
		plans[i] = NULL;
	}
	plans_schema = table->schema;
}

static Statement
lock_statement(LockTupleMode mode)
{
	switch (mode)
	{
		case LockTupleKeyShare:
			return LOCK_KEY_SHARE;
		case LockTupleNoKeyExclusive:
			return LOCK_NO_KEY;
		default:
			return LOCK_EXCLUSIVE;
	}
}

/*
 * Connects to SPI and returns the plan.  A kept plan survives DDL on the table,
 * and DROP and CREATE EXTENSION; its text names the schema, though.
 */
static SPIPlanPtr
connect_and_plan(const LeaseTable *table, Statement statement)
{
	char	   *text;

	SPI_connect();
	if (strcmp(NameStr(plans_schema), NameStr(table->schema)) != 0)
		forget_plans(table);
	if (plans[statement] != NULL)
		return plans[statement];

	text = psprintf(statement_text[statement],
					quote_qualified_identifier(NameStr(table->schema), LEASE_TABLE));

	/* One row by its primary key: looking at the values again gains nothing. */
	plans[statement] = SPI_prepare_cursor(text, parameter_count[statement],
										  parameter_types, CURSOR_OPT_GENERIC_PLAN);
	if (plans[statement] == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", text,
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plans[statement]);
	return plans[statement];
}

/*
 * Copies the row that SPI has found to the caller's memory.
 */
static void
fill_row(MemoryContext context, LeaseRow *row)
{
	Datum		values[LEASE_COLUMNS];
	bool		nulls[LEASE_COLUMNS];
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int i = FIRST_ROW_COLUMN; i < LEASE_COLUMNS; i++)
		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
								  i - FIRST_ROW_COLUMN + 1, &nulls[i]);
	lease_row_set(row, values, nulls);
	MemoryContextSwitchTo(old);
}

/*
 * Runs READ or one of the LOCK statements.  A snapshot makes it read-only and
 * is used as it is; without one, the isolation level decides.
 */
static bool
select_row(LeaseStore *store, Statement statement, Snapshot snapshot,
		   const LeaseKey *key, LeaseRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name)};
	SPIPlanPtr	plan = connect_and_plan(store->table, statement);
	int			result;
	bool		found;

	if (snapshot != InvalidSnapshot)
		result = SPI_execute_snapshot(plan, values, NULL, snapshot,
									  InvalidSnapshot, true, false, 1);
	else
		result = SPI_execute_plan(plan, values, NULL, false, 1);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));

	found = SPI_processed > 0;
	if (found)
		fill_row(context, row);
	SPI_finish();
	return found;
}

static void
serialization_failure(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}

/*
 * Refuses to acknowledge what a trigger or a rule of the user's has suppressed.
 */
static void
suppressed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
			 errmsg("lease was not written"),
			 errdetail("A trigger or a rule on the table suppressed it.")));
}

/*
 * Runs RENEW, UPDATE or INSERT.  Returns whether a row was written.
 */
static bool
write_row(LeaseStore *store, Statement statement, int expected,
		  const LeaseKey *key, const LeaseRow *row)
{
	Datum		values[] = {
		PointerGetDatum(key->namespace),
		PointerGetDatum(key->name),
		Int32GetDatum(row->lease_duration_seconds),
		TimestampTzGetDatum(row->renew_time),
		PointerGetDatum(row->holder_identity),
		TimestampTzGetDatum(row->acquire_time),
		Int32GetDatum(row->lease_transitions),
		Int64GetDatum(row->fencing_token),
	};
	char		nulls[] = {
		' ',
		' ',
		row->lease_duration_seconds == LEASE_NO_DURATION ? 'n' : ' ',
		row->renew_time == LEASE_NO_TIME ? 'n' : ' ',
		row->holder_identity == NULL ? 'n' : ' ',
		row->acquire_time == LEASE_NO_TIME ? 'n' : ' ',
		row->lease_transitions == LEASE_NO_TRANSITIONS ? 'n' : ' ',
		' ',
	};
	SPIPlanPtr	plan = connect_and_plan(store->table, statement);
	int			result = SPI_execute_plan(plan, values, nulls, false, 0);
	bool		written;

	if (result == SPI_OK_REWRITTEN)
	{
		/*
		 * Such a plan knows no table: nothing would say that the rule is
		 * gone.
		 */
		SPI_freeplan(plan);
		plans[statement] = NULL;
		suppressed();
	}
	if (result != expected)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	written = SPI_processed > 0;
	SPI_finish();
	return written;
}

bool
lease_sql_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = select_row(store, READ, snapshot, key, row);

	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * May the caller see the version that lease_heap_read() has just found?
 */
bool
lease_sql_may_read(LeaseStore *store, const LeaseKey *key)
{
	LeaseRow	row;

	return select_row(store, READ, store->snapshot, key, &row);
}

/*
 * May the caller lock the row?  False also if somebody else has it locked.
 *
 * The executor locks whatever version is the newest, finds out later, and keeps
 * the lock; whoever lost a race would so hold on to the winner's row.  So the
 * lock is given back here, and lease_heap_lock() takes it on the right version.
 */
bool
lease_sql_may_lock(LeaseStore *store, const LeaseKey *key, LockTupleMode mode)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	LeaseRow	row;
	bool		found = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		found = select_row(store, lock_statement(mode), InvalidSnapshot, key, &row);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	return found;
}

/*
 * Locks the newest version, even if it is not the one that was read.  Above
 * READ COMMITTED, for which this is meant, that is a serialization failure.
 */
LeaseLockResult
lease_sql_lock(LeaseStore *store, const LeaseKey *key, LockTupleMode mode,
			   LeaseRow *row)
{
	if (select_row(store, lock_statement(mode), InvalidSnapshot, key, row))
		return LEASE_LOCK_OK;

	/* Gone?  Or skipped because it was locked, or made after our snapshot? */
	if (!lease_sql_read(store, key, row))
		return LEASE_LOCK_STALE;
	if (IsolationUsesXactSnapshot() && !select_row(store, READ, InvalidSnapshot, key, row))
		serialization_failure();
	return LEASE_LOCK_BUSY;
}

void
lease_sql_renew(LeaseStore *store, const LeaseKey *key, const LeaseRow *row)
{
	/* The row is locked, so it is there. */
	if (!write_row(store, RENEW, SPI_OK_UPDATE, key, row))
		suppressed();
}

void
lease_sql_update(LeaseStore *store, const LeaseKey *key, const LeaseRow *row)
{
	if (!write_row(store, UPDATE, SPI_OK_UPDATE, key, row))
		suppressed();
}

/*
 * False if the object exists.  If it does not, but the transaction's snapshot
 * still shows it, the transaction would see two of one name afterwards.
 */
bool
lease_sql_insert(LeaseStore *store, const LeaseKey *key, const LeaseRow *row)
{
	LeaseRow	gone;

	if (IsolationUsesXactSnapshot() && select_row(store, READ, InvalidSnapshot, key, &gone))
		serialization_failure();
	return write_row(store, INSERT, SPI_OK_INSERT, key, row);
}

int
lease_sql_names_of_holder(LeaseStore *store, text *namespace, text *holder,
						  text ***names)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[] = {PointerGetDatum(namespace), PointerGetDatum(holder)};
	SPIPlanPtr	plan = connect_and_plan(store->table, NAMES_OF_HOLDER);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			result = SPI_execute_snapshot(plan, values, NULL, snapshot,
											  InvalidSnapshot, true, false, 0);
	int			count;

	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));

	count = SPI_processed;
	*names = MemoryContextAlloc(context, Max(count, 1) * sizeof(text *));
	for (int i = 0; i < count; i++)
	{
		bool		isnull;
		Datum		name = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
										 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		(*names)[i] = DatumGetTextPCopy(name);
		MemoryContextSwitchTo(old);
	}
	UnregisterSnapshot(snapshot);
	SPI_finish();
	return count;
}
