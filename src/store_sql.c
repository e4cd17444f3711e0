/*
 * store_sql.c
 *		Rows of the table through the executor.
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
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store.h"
#include "statement.h"

/* in the order of LeaseColumn */
#define ROW_COLUMNS "holder_identity, lease_duration_seconds, acquire_time, renew_time," \
	" lease_transitions, lock_delay_seconds, not_before, reserved_for," \
	" fencing_token, resource_version"
#define ROW "SELECT " ROW_COLUMNS " FROM ONLY %s"

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
	STATEMENTS
} Statement;

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

/* How many parameters, their types, and the text */
#define ON_LEASE(n, types, text) LEASE_STATEMENT(LEASE_TABLE, n, types, text)

static LeaseStatement statements[STATEMENTS] = {
	[READ] = ON_LEASE(2, lease_parameters, ROW LEASE_BY_KEY),
	[LOCK_KEY_SHARE] = ON_LEASE(2, lease_parameters, ROW LEASE_BY_KEY " FOR KEY SHARE SKIP LOCKED"),
	[LOCK_NO_KEY] = ON_LEASE(2, lease_parameters,
		ROW LEASE_BY_KEY " FOR NO KEY UPDATE SKIP LOCKED"),
	[LOCK_EXCLUSIVE] = ON_LEASE(2, lease_parameters, ROW LEASE_BY_KEY " FOR UPDATE SKIP LOCKED"),
	[RENEW] = ON_LEASE(4, lease_parameters,
		"UPDATE ONLY %s SET lease_duration_seconds = $3, renew_time = $4" LEASE_BY_KEY),
	[UPDATE] = ON_LEASE(ROW_PARAMETERS, lease_parameters,
		"UPDATE ONLY %s SET holder_identity = $5, lease_duration_seconds = $3,"
		" acquire_time = $6, renew_time = $4, lease_transitions = $7, fencing_token = $8,"
		" lock_delay_seconds = $9, not_before = $10, reserved_for = $11" LEASE_BY_KEY),
	[INSERT] = ON_LEASE(ROW_PARAMETERS, lease_parameters,
		"INSERT INTO %s (namespace, name, lease_duration_seconds, renew_time,"
		" holder_identity, acquire_time, lease_transitions, fencing_token,"
		" lock_delay_seconds, not_before, reserved_for)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
		" ON CONFLICT (namespace, name) DO NOTHING"),
	[INSERT_WITH_METADATA] = ON_LEASE(lengthof(lease_parameters), lease_parameters,
		"INSERT INTO %s (namespace, name, lease_duration_seconds, renew_time,"
		" holder_identity, acquire_time, lease_transitions, fencing_token,"
		" lock_delay_seconds, not_before, reserved_for, labels, owner_references)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
		" ON CONFLICT (namespace, name) DO NOTHING"),
	[ADD_LABELS] = ON_LEASE(lengthof(metadata_parameters), metadata_parameters,
		"UPDATE ONLY %s SET labels ="
		" pg_catalog.jsonb_concat(COALESCE(labels, '{}'), $3)" LEASE_BY_KEY
		" AND (labels OPERATOR(pg_catalog.@>) $3) IS NOT TRUE"),
	[ADD_OWNER] = ON_LEASE(lengthof(metadata_parameters), metadata_parameters,
		"UPDATE ONLY %s SET owner_references = $3" LEASE_BY_KEY
		" AND COALESCE(owner_references OPERATOR(pg_catalog.=) '[]', true)"),
	/* $3 has one element: contained and of one length is the same but for more members */
	[IS_OWNED_BY] = ON_LEASE(lengthof(metadata_parameters), metadata_parameters,
		"SELECT name FROM ONLY %s" LEASE_BY_KEY
		" AND owner_references OPERATOR(pg_catalog.@>) $3"
		" AND pg_catalog.jsonb_array_length(owner_references) OPERATOR(pg_catalog.=) 1"),
	[DELETE] = ON_LEASE(2, lease_parameters, "DELETE FROM ONLY %s" LEASE_BY_KEY),
	[HAS_NAMESPACE] = ON_LEASE(1, lease_parameters,
		"SELECT name FROM ONLY %s WHERE namespace OPERATOR(pg_catalog.=) $1 LIMIT 1"),
	[KEYS_OF_HOLDER] = ON_LEASE(2, lease_parameters,
		"SELECT name FROM ONLY %s"
		" WHERE namespace OPERATOR(pg_catalog.=) $1"
		" AND holder_identity OPERATOR(pg_catalog.=) $2"),
	[READ_METADATA] = ON_LEASE(2, lease_parameters,
		"SELECT labels, finalizers FROM ONLY %s" LEASE_BY_KEY),
	[SCAN] = ON_LEASE(0, NULL,
		"SELECT namespace, name, labels, owner_references, finalizers, " ROW_COLUMNS " FROM ONLY %s"),
};

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
 * Runs READ or one of the LOCK statements; the snapshot is as for
 * lease_statement_select().
 */
static bool
select_row(LeaseStore *store, Statement statement, Snapshot snapshot,
		   const LeaseKey *key, LeaseRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name)};
	bool		found = lease_statement_select(&statements[statement], NameStr(store->table->schema),
											   values, NULL, snapshot, 1);

	if (found)
		fill_row(context, row);
	SPI_finish();
	return found;
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
	LeasePermit outer;
	int64		written;

	outer = lease_permit_begin(reason);
	written = lease_statement_write(&statements[statement], NameStr(store->table->schema),
									values, nulls, expected);
	lease_permit_end(outer);
	if (written == LEASE_REWRITTEN)
		lease_statement_suppressed("lease");
	return written > 0;
}

/*
 * Reads the newest committed version.  False if there is none that the caller may see.
 */
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
		lease_statement_conflict();
	return LEASE_LOCK_BUSY;
}

/*
 * Writes renew_time and lease_duration_seconds of a lease that is locked.
 */
void
lease_sql_renew(LeaseStore *store, const LeaseKey *key, const LeaseRow *row)
{
	/* The row is locked, so it is there. */
	if (!write_row(store, RENEW, SPI_OK_UPDATE, LEASE_ON_RENEWAL, key, row, NULL))
		lease_statement_suppressed("lease");
}

/*
 * Writes everything that says who holds a lease that is locked.
 */
void
lease_sql_update(LeaseStore *store, const LeaseKey *key, const LeaseRow *row,
				 LeaseReason reason)
{
	if (!write_row(store, UPDATE, SPI_OK_UPDATE, reason, key, row, NULL))
		lease_statement_suppressed("lease");
}

/*
 * Deletes a lease that is locked.
 */
void
lease_sql_delete(LeaseStore *store, const LeaseKey *key, LeaseReason reason)
{
	const LeaseRow no_row = {0};

	if (!write_row(store, DELETE, SPI_OK_DELETE, reason, key, &no_row, NULL))
		lease_statement_suppressed("lease");
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
		lease_statement_conflict();

	/* Who may not write metadata can still make a lease without any. */
	return write_row(store, plain ? INSERT : INSERT_WITH_METADATA, SPI_OK_INSERT,
					 LEASE_BY_HAND, key, row, metadata);
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
		(void) lease_statement_write(&statements[ADD_LABELS], schema, values, NULL, SPI_OK_UPDATE);
	values[2] = PointerGetDatum(metadata->owner_references);
	if (metadata->owner_references != NULL)
		(void) lease_statement_write(&statements[ADD_OWNER], schema, values, NULL, SPI_OK_UPDATE);
}

/*
 * Runs a query of which only matters whether it finds something.
 */
static bool
exists(LeaseStore *store, Statement statement, Datum *values)
{
	bool		found = lease_statement_select_newest(&statements[statement],
													  NameStr(store->table->schema), values, NULL, 1);

	SPI_finish();
	return found;
}

/*
 * Does the lease have these owner references, and no others?
 */
bool
lease_sql_is_owned_by(LeaseStore *store, const LeaseKey *key, Jsonb *owner)
{
	Datum		values[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name),
	PointerGetDatum(owner)};

	return exists(store, IS_OWNED_BY, values);
}

/*
 * Does the caller see a lease in this namespace?
 */
bool
lease_sql_has_namespace(LeaseStore *store, text *namespace)
{
	Datum		values[] = {PointerGetDatum(namespace)};

	return exists(store, HAS_NAMESPACE, values);
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
	SPIPlanPtr	plan = lease_statement_begin(&statements[KEYS_OF_HOLDER], NameStr(store->table->schema));
	ParamListInfo parameters = makeParamList(2);
	SPIExecuteOptions options = {.params = parameters, .read_only = true, .dest = &receiver.pub};

	parameters->params[0] = (ParamExternData) {PointerGetDatum(namespace), false, PARAM_FLAG_CONST, TEXTOID};
	parameters->params[1] = (ParamExternData) {PointerGetDatum(holder), false, PARAM_FLAG_CONST, TEXTOID};

	PushActiveSnapshot(GetLatestSnapshot());
	lease_statement_check(SPI_execute_plan_extended(plan, &options), SPI_OK_SELECT);
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

	if (lease_statement_select_newest(&statements[READ_METADATA], NameStr(store->table->schema),
									  parameters, NULL, 1))
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
	SPIPlanPtr	plan = lease_statement_begin(&statements[SCAN], NameStr(store->table->schema));
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
