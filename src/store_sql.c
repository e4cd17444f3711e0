/*
 * store_sql.c
 *		Rows of the table through the executor.  All SQL text of lease is here,
 *		but for whole objects, which are in store_object.c.
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
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store.h"
#include "compat.h"

#define BY_KEY " WHERE namespace OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2"
/* in the order of LeaseColumn */
#define ROW "SELECT holder_identity, lease_duration_seconds, acquire_time, renew_time," \
	" lease_transitions, lock_delay_seconds, not_before, reserved_for," \
	" fencing_token, resource_version FROM ONLY %s"

typedef enum Statement
{
	READ,
	LOCK_KEY_SHARE,
	LOCK_NO_KEY,
	LOCK_EXCLUSIVE,
	RENEW,
	UPDATE,
	INSERT,
	DELETE,
	KEYS_OF_HOLDER,
	COLLECTABLE,
	INSERT_HISTORY,
	TRIM_HISTORY,
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
	" acquire_time = $6, renew_time = $4, lease_transitions = $7, fencing_token = $8,"
	" lock_delay_seconds = $9, not_before = $10, reserved_for = $11" BY_KEY,
	[INSERT] = "INSERT INTO %s (namespace, name, lease_duration_seconds, renew_time,"
	" holder_identity, acquire_time, lease_transitions, fencing_token,"
	" lock_delay_seconds, not_before, reserved_for)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
	" ON CONFLICT (namespace, name) DO NOTHING",
	[DELETE] = "DELETE FROM ONLY %s" BY_KEY,
	[KEYS_OF_HOLDER] = "SELECT namespace, name FROM ONLY %s"
	" WHERE namespace OPERATOR(pg_catalog.=) $1"
	" AND holder_identity OPERATOR(pg_catalog.=) $2 ORDER BY namespace, name",
	/* the label of Kubernetes 1.26, and that of 1.27 and later */
	[COLLECTABLE] = "SELECT namespace, name FROM ONLY %s"
	" WHERE namespace OPERATOR(pg_catalog.=) 'kube-system'"
	" AND (labels OPERATOR(pg_catalog.@>) '{\"k8s.io/component\": \"kube-apiserver\"}'"
	" OR labels OPERATOR(pg_catalog.@>) '{\"apiserver.kubernetes.io/identity\": \"kube-apiserver\"}')"
	" ORDER BY namespace, name",
	[INSERT_HISTORY] = "INSERT INTO %s (namespace, name, fencing_token, holder_identity,"
	" held_from, held_until, end_reason) VALUES ($1, $2, $3, $4, $5, $6, $7)"
	" ON CONFLICT (namespace, name, fencing_token) DO NOTHING",
	[TRIM_HISTORY] = "DELETE FROM %s WHERE held_until OPERATOR(pg_catalog.<) $1",
};

/* Statements on a lease take a prefix of these parameters. */
static Oid	lease_parameters[] = {
	TEXTOID,					/* $1 namespace */
	TEXTOID,					/* $2 name, or holder */
	INT4OID,					/* $3 lease_duration_seconds */
	TIMESTAMPTZOID,				/* $4 renew_time */
	TEXTOID,					/* $5 holder_identity */
	TIMESTAMPTZOID,				/* $6 acquire_time */
	INT4OID,					/* $7 lease_transitions */
	INT8OID,					/* $8 fencing_token */
	INT4OID,					/* $9 lock_delay_seconds */
	TIMESTAMPTZOID,				/* $10 not_before */
	TEXTOID,					/* $11 reserved_for */
};

static Oid	history_parameters[] = {TEXTOID, TEXTOID, INT8OID, TEXTOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};

static Oid	trim_parameters[] = {TIMESTAMPTZOID};

static const int parameter_count[STATEMENTS] = {
	[READ] = 2,
	[LOCK_KEY_SHARE] = 2,
	[LOCK_NO_KEY] = 2,
	[LOCK_EXCLUSIVE] = 2,
	[RENEW] = 4,
	[UPDATE] = lengthof(lease_parameters),
	[INSERT] = lengthof(lease_parameters),
	[DELETE] = 2,
	[KEYS_OF_HOLDER] = 2,
	[COLLECTABLE] = 0,
	[INSERT_HISTORY] = lengthof(history_parameters),
	[TRIM_HISTORY] = lengthof(trim_parameters),
};

/* Plans kept for the rest of the session, and the schema they were made for. */
static SPIPlanPtr plans[STATEMENTS];
static NameData plans_schema;

static void
forget_plans(const char *schema)
{
	for (int i = 0; i < STATEMENTS; i++)
	{
		if (plans[i] != NULL)
			SPI_freeplan(plans[i]);
		plans[i] = NULL;
	}
	namestrcpy(&plans_schema, schema);
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

static Oid *
parameter_types(Statement statement)
{
	switch (statement)
	{
		case INSERT_HISTORY:
			return history_parameters;
		case TRIM_HISTORY:
			return trim_parameters;
		default:
			return lease_parameters;
	}
}

/*
 * Connects to SPI and returns the plan.  A kept plan survives DDL on the table,
 * and DROP and CREATE EXTENSION; its text names the schema, though.
 */
static SPIPlanPtr
connect_and_plan(const char *schema, Statement statement)
{
	bool		history = statement == INSERT_HISTORY || statement == TRIM_HISTORY;
	char	   *text;

	SPI_connect();
	if (strcmp(NameStr(plans_schema), schema) != 0)
		forget_plans(schema);
	if (plans[statement] != NULL)
		return plans[statement];

	text = psprintf(statement_text[statement],
					quote_qualified_identifier(schema, history ? LEASE_HISTORY : LEASE_TABLE));

	/* One row by its primary key: looking at the values again gains nothing. */
	plans[statement] = SPI_prepare_cursor(text, parameter_count[statement],
										  parameter_types(statement),
										  CURSOR_OPT_GENERIC_PLAN);
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
	SPIPlanPtr	plan = connect_and_plan(NameStr(store->table->schema), statement);
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
 * Runs a statement that writes a lease, for the reason given.  Returns whether a
 * row was written.
 */
static bool
write_row(LeaseStore *store, Statement statement, int expected, LeaseReason reason,
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
		Int32GetDatum(row->lock_delay_seconds),
		TimestampTzGetDatum(row->not_before),
		PointerGetDatum(row->reserved_for),
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
		row->lock_delay_seconds == 0 ? 'n' : ' ',
		row->not_before == LEASE_NO_TIME ? 'n' : ' ',
		row->reserved_for == NULL ? 'n' : ' ',
	};
	SPIPlanPtr	plan = connect_and_plan(NameStr(store->table->schema), statement);
	int			result;
	bool		written;

	lease_permit_begin(reason);
	result = SPI_execute_plan(plan, values, nulls, false, 0);
	lease_permit_end();

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

typedef struct LockRequest
{
	LeaseStore *store;
	const LeaseKey *key;
	LockTupleMode mode;
	bool		found;
} LockRequest;

/* Work for lease_in_subtransaction(), which is never to commit. */
static bool
lock_and_give_back(void *arg)
{
	LockRequest *request = arg;
	LeaseRow	row;

	request->found = select_row(request->store, lock_statement(request->mode),
								InvalidSnapshot, request->key, &row);
	return false;
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
	LockRequest request = {store, key, mode, false};

	(void) lease_in_subtransaction(lock_and_give_back, &request);
	return request.found;
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
	if (!write_row(store, RENEW, SPI_OK_UPDATE, LEASE_ON_RENEWAL, key, row))
		suppressed();
}

void
lease_sql_update(LeaseStore *store, const LeaseKey *key, const LeaseRow *row,
				 LeaseReason reason)
{
	if (!write_row(store, UPDATE, SPI_OK_UPDATE, reason, key, row))
		suppressed();
}

void
lease_sql_delete(LeaseStore *store, const LeaseKey *key, LeaseReason reason)
{
	const LeaseRow no_row = {0};

	if (!write_row(store, DELETE, SPI_OK_DELETE, reason, key, &no_row))
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
	return write_row(store, INSERT, SPI_OK_INSERT, LEASE_BY_HAND, key, row);
}

/*
 * Runs a query that finds leases.  Returns how many, and their keys.
 */
static int
select_keys(LeaseStore *store, Statement statement, Datum *values, LeaseKey **keys)
{
	MemoryContext context = CurrentMemoryContext;
	SPIPlanPtr	plan = connect_and_plan(NameStr(store->table->schema), statement);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			result = SPI_execute_snapshot(plan, values, NULL, snapshot,
											  InvalidSnapshot, true, false, 0);
	MemoryContext old;
	int			count;

	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));

	count = SPI_processed;
	old = MemoryContextSwitchTo(context);
	*keys = palloc(Max(count, 1) * sizeof(LeaseKey));
	for (int i = 0; i < count; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;

		(*keys)[i].namespace = DatumGetTextPCopy(SPI_getbinval(tuple, SPI_tuptable->tupdesc,
															   1, &isnull));
		(*keys)[i].name = DatumGetTextPCopy(SPI_getbinval(tuple, SPI_tuptable->tupdesc,
														  2, &isnull));
	}
	MemoryContextSwitchTo(old);
	UnregisterSnapshot(snapshot);
	SPI_finish();
	return count;
}

int
lease_sql_keys_of_holder(LeaseStore *store, text *namespace, text *holder, LeaseKey **keys)
{
	Datum		values[] = {PointerGetDatum(namespace), PointerGetDatum(holder)};

	return select_keys(store, KEYS_OF_HOLDER, values, keys);
}

/*
 * The leases that collection looks at.  Which have expired is not asked here.
 */
int
lease_sql_collectable(LeaseStore *store, LeaseKey **keys)
{
	return select_keys(store, COLLECTABLE, NULL, keys);
}

/*
 * The next two take a schema rather than a store: the history is the owner's.
 */
void
lease_sql_insert_history(const char *schema, const LeaseKey *key, const LeaseRow *row,
						 TimestampTz from, TimestampTz until, const char *reason)
{
	Datum		values[] = {
		PointerGetDatum(key->namespace),
		PointerGetDatum(key->name),
		Int64GetDatum(row->fencing_token),
		PointerGetDatum(row->holder_identity),
		TimestampTzGetDatum(from),
		TimestampTzGetDatum(until),
		PointerGetDatum(cstring_to_text(reason)),
	};
	SPIPlanPtr	plan = connect_and_plan(schema, INSERT_HISTORY);
	int			result = SPI_execute_plan(plan, values, NULL, false, 0);

	if (result != SPI_OK_INSERT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	SPI_finish();
}

int64
lease_sql_trim_history(const char *schema, TimestampTz before)
{
	Datum		values[] = {TimestampTzGetDatum(before)};
	SPIPlanPtr	plan = connect_and_plan(schema, TRIM_HISTORY);
	int			result = SPI_execute_plan(plan, values, NULL, false, 0);
	int64		removed = SPI_processed;

	if (result != SPI_OK_DELETE)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	SPI_finish();
	return removed;
}
