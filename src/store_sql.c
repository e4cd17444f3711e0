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
#include "nodes/params.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store.h"
#include "compat.h"

#define BY_KEY " WHERE namespace OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2"
/* in the order of LeaseColumn */
#define ROW_COLUMNS "holder_identity, lease_duration_seconds, acquire_time, renew_time," \
	" lease_transitions, lock_delay_seconds, not_before, reserved_for," \
	" fencing_token, resource_version"
#define ROW "SELECT " ROW_COLUMNS " FROM ONLY %s"

/* as lease_ttl_next_resource_version() counts */
#define NOW_AS_VERSION "CAST(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())" \
	" OPERATOR(pg_catalog.*) 1000000 AS pg_catalog.int8)"

/* How many rows of a scan are in memory at once */
#define SCAN_FETCH 1000

typedef enum Statement
{
	READ,
	LOCK_KEY_SHARE,
	LOCK_NO_KEY,
	LOCK_EXCLUSIVE,
	RENEW,
	UPDATE,
	INSERT,
	INSERT_WITH_METADATA,
	ADD_LABELS,
	ADD_OWNER,
	IS_OWNED_BY,
	DELETE,
	HAS_NAMESPACE,
	KEYS_OF_HOLDER,
	READ_METADATA,
	SCAN,
	GC_POLICIES,
	DELETE_GC_POLICY,
	INSERT_HISTORY,
	INSERT_EXPIRY,
	TRIM_HISTORY,
	HISTORY_HAS_HOLDER,
	READ_NODE,
	LOCK_NODE,
	WRITE_NODE,
	DELETE_NODE,
	STATEMENTS
} Statement;

/* %s, or %1$s, is the table; %2$s is that of the leases. */
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
	[INSERT_WITH_METADATA] = "INSERT INTO %s (namespace, name, lease_duration_seconds, renew_time,"
	" holder_identity, acquire_time, lease_transitions, fencing_token,"
	" lock_delay_seconds, not_before, reserved_for, labels, owner_references)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
	" ON CONFLICT (namespace, name) DO NOTHING",
	[ADD_LABELS] = "UPDATE ONLY %s SET labels ="
	" pg_catalog.jsonb_concat(COALESCE(labels, '{}'), $3)" BY_KEY
	" AND (labels OPERATOR(pg_catalog.@>) $3) IS NOT TRUE",
	[ADD_OWNER] = "UPDATE ONLY %s SET owner_references = $3" BY_KEY
	" AND COALESCE(owner_references OPERATOR(pg_catalog.=) '[]', true)",
	/* $3 has one element: contained and of one length is the same but for more members */
	[IS_OWNED_BY] = "SELECT name FROM ONLY %s" BY_KEY
	" AND owner_references OPERATOR(pg_catalog.@>) $3"
	" AND pg_catalog.jsonb_array_length(owner_references) OPERATOR(pg_catalog.=) 1",
	[DELETE] = "DELETE FROM ONLY %s" BY_KEY,
	[HAS_NAMESPACE] = "SELECT name FROM ONLY %s WHERE namespace OPERATOR(pg_catalog.=) $1 LIMIT 1",
	[KEYS_OF_HOLDER] = "SELECT name FROM ONLY %s"
	" WHERE namespace OPERATOR(pg_catalog.=) $1"
	" AND holder_identity OPERATOR(pg_catalog.=) $2",
	[READ_METADATA] = "SELECT labels, finalizers FROM ONLY %s" BY_KEY,
	[SCAN] = "SELECT namespace, name, labels, owner_references, finalizers, " ROW_COLUMNS " FROM ONLY %s",
	[GC_POLICIES] = "SELECT namespace, selector, expired_for, batch_size FROM %s WHERE enabled ORDER BY name",
	[DELETE_GC_POLICY] = "DELETE FROM %s WHERE name OPERATOR(pg_catalog.=) $1",
	[INSERT_HISTORY] = "WITH known AS (SELECT held_until FROM %1$s" BY_KEY
	" AND fencing_token OPERATOR(pg_catalog.=) $3)"
	" INSERT INTO %1$s AS h (namespace, name, fencing_token, holder_identity,"
	" held_from, held_until, end_reason) VALUES ($1, $2, $3, $4, $5, $6, $7)"
	" ON CONFLICT (namespace, name, fencing_token)"
	" DO UPDATE SET held_from = LEAST(h.held_from, EXCLUDED.held_from),"
	" held_until = EXCLUDED.held_until, end_reason = EXCLUDED.end_reason"
	" WHERE h.held_until OPERATOR(pg_catalog.<) EXCLUDED.held_until"
	" OR EXCLUDED.end_reason OPERATOR(pg_catalog.<>) 'expired'"
	" RETURNING NOT EXISTS (SELECT FROM known AS k WHERE k.held_until OPERATOR(pg_catalog.>=) $6)",
	[INSERT_EXPIRY] = "INSERT INTO %1$s AS h (namespace, name, fencing_token, holder_identity,"
	" held_from, held_until, end_reason) SELECT l.namespace, l.name, l.fencing_token, l.holder_identity,"
	" LEAST(COALESCE(l.held_since, l.renew_time), $3), $3, 'expired' FROM ONLY %2$s AS l"
	" WHERE l.namespace OPERATOR(pg_catalog.=) $1 AND l.name OPERATOR(pg_catalog.=) $2"
	" ON CONFLICT (namespace, name, fencing_token)"
	" DO UPDATE SET held_until = EXCLUDED.held_until"
	" WHERE h.held_until OPERATOR(pg_catalog.<) EXCLUDED.held_until",
	/*
	 * A row that is locked stays where it is; and one whose token is the lease's
	 * still, because the end of the holding may have to be written there.  That
	 * is not a join: of many leases, it would read all.
	 */
	[TRIM_HISTORY] = "DELETE FROM %1$s WHERE ctid OPERATOR(pg_catalog.=) ANY"
	" (ARRAY(SELECT h.ctid FROM %1$s AS h WHERE h.held_until OPERATOR(pg_catalog.<) $1"
	" AND COALESCE((SELECT l.fencing_token FROM ONLY %2$s AS l WHERE l.namespace OPERATOR(pg_catalog.=) h.namespace"
	" AND l.name OPERATOR(pg_catalog.=) h.name)"
	" OPERATOR(pg_catalog.<>) h.fencing_token, true)"
	" LIMIT $2 FOR UPDATE OF h SKIP LOCKED))",
	[HISTORY_HAS_HOLDER] = "SELECT name FROM %s" BY_KEY
	" AND holder_identity OPERATOR(pg_catalog.=) $3 LIMIT 1",
	[READ_NODE] = "SELECT uid FROM %s WHERE name OPERATOR(pg_catalog.=) $1",
	[LOCK_NODE] = "SELECT uid FROM %s WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED",
	[WRITE_NODE] = "INSERT INTO %s AS n (name, uid, creation_timestamp, resource_version, labels,"
	" annotations, metadata, unschedulable, spec, status)"
	" VALUES ($1, COALESCE($2, pg_catalog.gen_random_uuid()),"
	" COALESCE($3, pg_catalog.date_trunc('second', pg_catalog.clock_timestamp())),"
	" COALESCE($4, " NOW_AS_VERSION "), $5, $6, $7, $8, $9, $10)"
	" ON CONFLICT (name) DO UPDATE SET uid = COALESCE($2, n.uid),"
	" creation_timestamp = COALESCE($3, n.creation_timestamp),"
	" resource_version = COALESCE($4, GREATEST(n.resource_version OPERATOR(pg_catalog.+) 1, " NOW_AS_VERSION ")),"
	" labels = $5, annotations = $6, metadata = $7, unschedulable = $8, spec = $9, status = $10",
	[DELETE_NODE] = "DELETE FROM %s WHERE name OPERATOR(pg_catalog.=) $1",
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
	JSONBOID,					/* $12 labels */
	JSONBOID,					/* $13 owner_references */
};

#define ROW_PARAMETERS 11
static Oid	metadata_parameters[] = {TEXTOID, TEXTOID, JSONBOID};

static Oid	history_parameters[] = {TEXTOID, TEXTOID, INT8OID, TEXTOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};

static Oid	expiry_parameters[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};

static Oid	trim_parameters[] = {TIMESTAMPTZOID, INT8OID};

static Oid	holder_parameters[] = {TEXTOID, TEXTOID, TEXTOID};

static Oid	node_parameters[NODE_COLUMNS] = {
	[NODE_NAME] = TEXTOID,
	[NODE_UID] = UUIDOID,
	[NODE_CREATION_TIMESTAMP] = TIMESTAMPTZOID,
	[NODE_RESOURCE_VERSION] = INT8OID,
	[NODE_LABELS] = JSONBOID,
	[NODE_ANNOTATIONS] = JSONBOID,
	[NODE_METADATA] = JSONBOID,
	[NODE_UNSCHEDULABLE] = BOOLOID,
	[NODE_SPEC] = JSONBOID,
	[NODE_STATUS] = JSONBOID,
};

static const int parameter_count[STATEMENTS] = {
	[READ] = 2,
	[LOCK_KEY_SHARE] = 2,
	[LOCK_NO_KEY] = 2,
	[LOCK_EXCLUSIVE] = 2,
	[RENEW] = 4,
	[UPDATE] = ROW_PARAMETERS,
	[INSERT] = ROW_PARAMETERS,
	[INSERT_WITH_METADATA] = lengthof(lease_parameters),
	[ADD_LABELS] = lengthof(metadata_parameters),
	[ADD_OWNER] = lengthof(metadata_parameters),
	[IS_OWNED_BY] = lengthof(metadata_parameters),
	[DELETE] = 2,
	[HAS_NAMESPACE] = 1,
	[KEYS_OF_HOLDER] = 2,
	[READ_METADATA] = 2,
	[SCAN] = 0,
	[GC_POLICIES] = 0,
	[DELETE_GC_POLICY] = 1,
	[INSERT_HISTORY] = lengthof(history_parameters),
	[INSERT_EXPIRY] = lengthof(expiry_parameters),
	[TRIM_HISTORY] = lengthof(trim_parameters),
	[HISTORY_HAS_HOLDER] = lengthof(holder_parameters),
	[READ_NODE] = 1,
	[LOCK_NODE] = 1,
	[WRITE_NODE] = NODE_COLUMNS,
	[DELETE_NODE] = 1,
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
		case INSERT_EXPIRY:
			return expiry_parameters;
		case TRIM_HISTORY:
			return trim_parameters;
		case HISTORY_HAS_HOLDER:
			return holder_parameters;
		case ADD_LABELS:
		case ADD_OWNER:
		case IS_OWNED_BY:
			return metadata_parameters;
		case READ_NODE:
		case LOCK_NODE:
		case WRITE_NODE:
		case DELETE_NODE:
			return node_parameters;
		default:
			return lease_parameters;
	}
}

static const char *
table_of(Statement statement)
{
	switch (statement)
	{
		case INSERT_HISTORY:
		case INSERT_EXPIRY:
		case TRIM_HISTORY:
		case HISTORY_HAS_HOLDER:
			return LEASE_HISTORY;
		case GC_POLICIES:
		case DELETE_GC_POLICY:
			return LEASE_GC_POLICY;
		case READ_NODE:
		case LOCK_NODE:
		case WRITE_NODE:
		case DELETE_NODE:
			return LEASE_NODE;
		default:
			return LEASE_TABLE;
	}
}

/*
 * Connects to SPI and returns the plan.  A kept plan survives DDL on the table,
 * and DROP and CREATE EXTENSION; its text names the schema, though.
 */
static SPIPlanPtr
connect_and_plan(const char *schema, Statement statement)
{
	char	   *text;

	SPI_connect();
	if (strcmp(NameStr(plans_schema), schema) != 0)
		forget_plans(schema);
	if (plans[statement] != NULL)
		return plans[statement];

	text = psprintf(statement_text[statement],
					quote_qualified_identifier(schema, table_of(statement)),
					quote_qualified_identifier(schema, LEASE_TABLE));

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
		  const LeaseKey *key, const LeaseRow *row, const LeaseMetadata *metadata)
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
		PointerGetDatum(metadata ? metadata->labels : NULL),
		PointerGetDatum(metadata ? metadata->owner_references : NULL),
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
		metadata == NULL || metadata->labels == NULL ? 'n' : ' ',
		metadata == NULL || metadata->owner_references == NULL ? 'n' : ' ',
	};
	SPIPlanPtr	plan = connect_and_plan(NameStr(store->table->schema), statement);
	LeasePermit outer;
	int			result;
	bool		written;

	outer = lease_permit_begin(reason);
	result = SPI_execute_plan(plan, values, nulls, false, 0);
	lease_permit_end(outer);

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
	if (!write_row(store, RENEW, SPI_OK_UPDATE, LEASE_ON_RENEWAL, key, row, NULL))
		suppressed();
}

void
lease_sql_update(LeaseStore *store, const LeaseKey *key, const LeaseRow *row,
				 LeaseReason reason)
{
	if (!write_row(store, UPDATE, SPI_OK_UPDATE, reason, key, row, NULL))
		suppressed();
}

void
lease_sql_delete(LeaseStore *store, const LeaseKey *key, LeaseReason reason)
{
	const LeaseRow no_row = {0};

	if (!write_row(store, DELETE, SPI_OK_DELETE, reason, key, &no_row, NULL))
		suppressed();
}

/*
 * False if the object exists.  If it does not, but the transaction's snapshot
 * still shows it, the transaction would see two of one name afterwards.
 */
bool
lease_sql_insert(LeaseStore *store, const LeaseKey *key, const LeaseRow *row,
				 const LeaseMetadata *metadata)
{
	bool		plain = metadata == NULL ||
		(metadata->labels == NULL && metadata->owner_references == NULL);
	LeaseRow	gone;

	if (IsolationUsesXactSnapshot() && select_row(store, READ, InvalidSnapshot, key, &gone))
		serialization_failure();

	/* Who may not write metadata can still make a lease without any. */
	return write_row(store, plain ? INSERT : INSERT_WITH_METADATA, SPI_OK_INSERT,
					 LEASE_BY_HAND, key, row, metadata);
}

/*
 * Runs a statement with parameters of its own.  Returns how many rows it wrote.
 */
static int64
write_other(const char *schema, Statement statement, int expected,
			Datum *values, const char *nulls)
{
	SPIPlanPtr	plan = connect_and_plan(schema, statement);
	int			result = SPI_execute_plan(plan, values, nulls, false, 0);
	int64		written = SPI_processed;

	if (result != expected)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	SPI_finish();
	return written;
}

/*
 * Adds to a lease that is locked what it does not have yet.
 */
void
lease_sql_add_metadata(LeaseStore *store, const LeaseKey *key, const LeaseMetadata *metadata)
{
	const char *schema = NameStr(store->table->schema);
	Datum		values[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name), (Datum) 0};

	values[2] = PointerGetDatum(metadata->labels);
	if (metadata->labels != NULL)
		(void) write_other(schema, ADD_LABELS, SPI_OK_UPDATE, values, NULL);
	values[2] = PointerGetDatum(metadata->owner_references);
	if (metadata->owner_references != NULL)
		(void) write_other(schema, ADD_OWNER, SPI_OK_UPDATE, values, NULL);
}

/*
 * Runs a query by the newest committed state.  Its rows, as many as limit or all
 * if that is 0, are in SPI_tuptable until SPI_finish().
 */
static void
select_newest(const char *schema, Statement statement, Datum *values, int64 limit)
{
	SPIPlanPtr	plan = connect_and_plan(schema, statement);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			result = SPI_execute_snapshot(plan, values, NULL, snapshot,
											  InvalidSnapshot, true, false, limit);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	UnregisterSnapshot(snapshot);
}

/*
 * Runs a query of which only matters whether it finds something.
 */
static bool
exists(const char *schema, Statement statement, Datum *values)
{
	bool		found;

	select_newest(schema, statement, values, 1);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

bool
lease_sql_is_owned_by(LeaseStore *store, const LeaseKey *key, Jsonb *owner)
{
	Datum		values[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name),
	PointerGetDatum(owner)};

	return exists(NameStr(store->table->schema), IS_OWNED_BY, values);
}

bool
lease_sql_has_namespace(LeaseStore *store, text *namespace)
{
	Datum		values[] = {PointerGetDatum(namespace)};

	return exists(NameStr(store->table->schema), HAS_NAMESPACE, values);
}

/*
 * Takes the names of a query's rows as they come: with many thousands, to copy rows
 * into a SPITupleTable, and to sort rows, takes as long as to renew the leases.
 */
typedef struct NameReceiver
{
	DestReceiver pub;
	MemoryContext context;
	text	   *namespace;
	LeaseKey   *keys;
	int			count;
	int			room;
} NameReceiver;

static bool
receive_name(TupleTableSlot *slot, DestReceiver *self)
{
	NameReceiver *r = (NameReceiver *) self;
	MemoryContext old = MemoryContextSwitchTo(r->context);
	bool		isnull;
	struct varlena *name = (struct varlena *) DatumGetTextPP(slot_getattr(slot, 1, &isnull));

	if (r->count == r->room)
	{
		r->room *= 2;
		r->keys = repalloc_huge(r->keys, (Size) r->room * sizeof(LeaseKey));
	}
	r->keys[r->count].namespace = r->namespace;
	r->keys[r->count].name = memcpy(palloc(VARSIZE_ANY(name)), name, VARSIZE_ANY(name));
	r->count++;
	MemoryContextSwitchTo(old);
	return true;
}

static void
start_receiving(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
end_receiving(DestReceiver *self)
{
}

/*
 * Returns how many leases of the holder there are, and their keys in the order of
 * the primary key.
 */
int
lease_sql_keys_of_holder(LeaseStore *store, text *namespace, text *holder, LeaseKey **keys)
{
	NameReceiver receiver = {
		.pub = {receive_name, start_receiving, end_receiving, end_receiving, DestTuplestore},
		.context = CurrentMemoryContext,
		.namespace = namespace,
		.keys = palloc(64 * sizeof(LeaseKey)),
		.room = 64,
	};
	SPIPlanPtr	plan = connect_and_plan(NameStr(store->table->schema), KEYS_OF_HOLDER);
	ParamListInfo parameters = makeParamList(2);
	SPIExecuteOptions options = {.params = parameters, .read_only = true, .dest = &receiver.pub};
	int			result;

	parameters->params[0] = (ParamExternData) {PointerGetDatum(namespace), false, PARAM_FLAG_CONST, TEXTOID};
	parameters->params[1] = (ParamExternData) {PointerGetDatum(holder), false, PARAM_FLAG_CONST, TEXTOID};

	PushActiveSnapshot(GetLatestSnapshot());
	result = SPI_execute_plan_extended(plan, &options);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	PopActiveSnapshot();
	SPI_finish();

	lease_keys_sort(receiver.keys, receiver.count);
	*keys = receiver.keys;
	return receiver.count;
}

/*
 * Labels and finalizers of a lease that was there.
 */
void
lease_sql_read_metadata(LeaseStore *store, const LeaseKey *key, LeaseFound *found)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		parameters[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name)};
	Datum		values[LEASE_COLUMNS];
	bool		nulls[LEASE_COLUMNS];

	select_newest(NameStr(store->table->schema), READ_METADATA, parameters, 1);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		HeapTuple	tuple = heap_copytuple(SPI_tuptable->vals[0]);

		values[COL_LABELS] = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &nulls[COL_LABELS]);
		values[COL_FINALIZERS] = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &nulls[COL_FINALIZERS]);
		lease_metadata_set(found, values, nulls);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

static Portal
open_scan(LeaseStore *store)
{
	SPIPlanPtr	plan = connect_and_plan(NameStr(store->table->schema), SCAN);
	Portal		portal;

	PushActiveSnapshot(GetLatestSnapshot());
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	PopActiveSnapshot();
	if (portal == NULL)
		elog(ERROR, "could not open a cursor: %s", SPI_result_code_string(SPI_result));
	return portal;
}

static bool
visit_tuple(LeaseStore *store, HeapTuple tuple, TupleDesc desc, const LeaseTime *time,
			TimestampTz before, LeaseVisitor visit, void *arg)
{
	Datum		values[LEASE_COLUMNS];
	bool		nulls[LEASE_COLUMNS];
	LeaseFound	found;

	heap_deform_tuple(tuple, desc, values, nulls);
	lease_row_set(&found.row, values, nulls);
	if (!lease_ttl_may_run_out(found.row.renew_time, found.row.lease_duration_seconds, time, before))
		return true;
	found.key.namespace = DatumGetTextPP(values[COL_NAMESPACE]);
	found.key.name = DatumGetTextPP(values[COL_NAME]);
	(void) lease_memory_see(store->table->relid, &found.key, &found.row);
	lease_metadata_set(&found, values, nulls);
	return visit(&found, arg);
}

/*
 * Visits the leases whose time may run out before then, seen from this time.
 */
void
lease_sql_scan(LeaseStore *store, const LeaseTime *time, TimestampTz before,
			   LeaseVisitor visit, void *arg)
{
	Portal		portal = open_scan(store);
	MemoryContext rows_context = AllocSetContextCreate(CurrentMemoryContext, "lease found", ALLOCSET_DEFAULT_SIZES);
	bool		more = true;

	while (more)
	{
		MemoryContext old;

		SPI_cursor_fetch(portal, true, SCAN_FETCH);
		more = SPI_processed > 0;
		old = MemoryContextSwitchTo(rows_context);
		for (uint64 i = 0; more && i < SPI_processed; i++)
			more = visit_tuple(store, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, time, before, visit, arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(rows_context);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
}

int
lease_sql_gc_policies(const char *schema, LeaseGcPolicy **policies)
{
	MemoryContext context = CurrentMemoryContext;
	int			count;

	select_newest(schema, GC_POLICIES, NULL, 0);
	count = SPI_processed;
	*policies = MemoryContextAllocZero(context, Max(count, 1) * sizeof(LeaseGcPolicy));
	for (int i = 0; i < count; i++)
	{
		LeaseGcPolicy *policy = &(*policies)[i];
		MemoryContext old = MemoryContextSwitchTo(context);
		Datum		values[4];
		bool		nulls[4];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		policy->namespace = nulls[0] ? NULL : DatumGetTextPCopy(values[0]);
		policy->selector = TextDatumGetCString(values[1]);
		policy->expired_for = lease_ttl_microseconds(DatumGetIntervalP(values[2]), "expired_for");
		policy->batch_size = DatumGetInt32(values[3]);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return count;
}

void
lease_sql_delete_gc_policy(const char *schema, text *name)
{
	Datum		values[] = {PointerGetDatum(name)};

	(void) write_other(schema, DELETE_GC_POLICY, SPI_OK_DELETE, values, NULL);
}

/*
 * The next ones take a schema rather than a store: the history is the owner's.
 */

/*
 * Records that a holding has ended.  False if it was known to have ended then.
 */
bool
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
	bool		isnull;
	bool		news;

	if (result != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	news = SPI_processed > 0 &&
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return news;
}

/*
 * Records that a holding ran out.  False if that was known.
 */
bool
lease_sql_insert_expiry(const char *schema, const LeaseKey *key, TimestampTz expired_at)
{
	Datum		values[] = {
		PointerGetDatum(key->namespace),
		PointerGetDatum(key->name),
		TimestampTzGetDatum(expired_at),
	};

	return write_other(schema, INSERT_EXPIRY, SPI_OK_INSERT, values, NULL) > 0;
}

int64
lease_sql_trim_history(const char *schema, TimestampTz before, int64 limit)
{
	Datum		values[] = {TimestampTzGetDatum(before), Int64GetDatum(limit)};
	SPIPlanPtr	plan = connect_and_plan(schema, TRIM_HISTORY);
	int			result = SPI_execute_plan(plan, values, NULL, false, 0);
	int64		removed = SPI_processed;

	if (result != SPI_OK_DELETE)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	SPI_finish();
	return removed;
}

/*
 * Has a holding of this holder ended?
 */
bool
lease_sql_history_has_holder(const char *schema, const LeaseKey *key, text *holder)
{
	Datum		values[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name),
	PointerGetDatum(holder)};

	return exists(schema, HISTORY_HAS_HOLDER, values);
}

/*
 * The uid of a registered node, as far as the caller may see it, or NULL.  With
 * lock, its row is locked; NULL then also if somebody else has it locked.
 */
pg_uuid_t *
lease_sql_node_uid(const char *schema, text *name, bool lock)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[] = {PointerGetDatum(name)};
	SPIPlanPtr	plan = connect_and_plan(schema, lock ? LOCK_NODE : READ_NODE);
	Snapshot	snapshot = lock ? InvalidSnapshot : RegisterSnapshot(GetLatestSnapshot());
	pg_uuid_t  *uid = NULL;
	int			result;

	if (lock)
		result = SPI_execute_plan(plan, values, NULL, false, 1);
	else
		result = SPI_execute_snapshot(plan, values, NULL, snapshot,
									  InvalidSnapshot, true, false, 1);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
	if (SPI_processed > 0)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										  1, &isnull);

		uid = MemoryContextAlloc(context, sizeof(pg_uuid_t));
		*uid = *DatumGetUUIDP(value);
	}
	if (snapshot != InvalidSnapshot)
		UnregisterSnapshot(snapshot);
	SPI_finish();
	return uid;
}

/*
 * Registers a node, or writes anew what is known of it.  values and nulls are
 * indexed by LeaseNodeColumn.  False if something suppressed it.
 */
bool
lease_sql_write_node(const char *schema, const Datum *values, const bool *nulls)
{
	Datum		parameters[NODE_COLUMNS];
	char		isnull[NODE_COLUMNS];

	for (int i = 0; i < NODE_COLUMNS; i++)
	{
		parameters[i] = values[i];
		isnull[i] = nulls[i] ? 'n' : ' ';
	}
	return write_other(schema, WRITE_NODE, SPI_OK_INSERT, parameters, isnull) > 0;
}

void
lease_sql_delete_node(const char *schema, text *name)
{
	Datum		values[] = {PointerGetDatum(name)};

	if (write_other(schema, DELETE_NODE, SPI_OK_DELETE, values, NULL) == 0)
		suppressed();
}
