/*
 * store_heap.c
 *		Rows of the table without the executor: index probe, tuple lock, HOT
 *		update.  Ordinary MVCC throughout; only the way there is shorter.
 *
 * store.c decides when this may be used.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/tupmacs.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store.h"
#include "compat.h"

/*
 * Finds the lease's tuple that the snapshot sees and puts it into slot.
 */
static bool
probe(LeaseStore *store, const LeaseKey *key, Snapshot snapshot, TupleTableSlot *slot)
{
	Relation	index = index_open(store->table->pkey, NoLock);
	IndexScanDesc scan = index_beginscan(store->rel, index, snapshot, NULL, 2, 0);
	ScanKeyData keys[2];
	bool		found;

	/* C is the collation of both columns. */
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(key->namespace));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(key->name));
	index_rescan(scan, keys, 2, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	index_close(index, NoLock);
	return found;
}

static void
fill_row(LeaseStore *store, TupleTableSlot *slot, LeaseRow *row)
{
	Datum		values[LEASE_COLUMNS];
	bool		nulls[LEASE_COLUMNS];

	for (int i = FIRST_ROW_COLUMN; i < LEASE_COLUMNS; i++)
		values[i] = slot_getattr(slot, store->table->attnum[i], &nulls[i]);
	lease_row_set(row, values, nulls);
}

/*
 * Makes a slot when it is needed first.  It lives as long as the store.
 */
static TupleTableSlot *
get_slot(LeaseStore *store, TupleTableSlot **slot, const TupleTableSlotOps *ops)
{
	if (*slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(store));

		*slot = MakeSingleTupleTableSlot(RelationGetDescr(store->rel), ops);
		MemoryContextSwitchTo(old);
	}
	return *slot;
}

/*
 * Lets go of the version read last, and of the one locked.
 */
static void
forget(LeaseStore *store)
{
	ExecClearTuple(get_slot(store, &store->read, table_slot_callbacks(store->rel)));
	if (store->locked != NULL)
		ExecClearTuple(store->locked);
	if (store->snapshot != NULL)
		UnregisterSnapshot(store->snapshot);
	store->snapshot = NULL;
}

static void
drop_slot(TupleTableSlot *slot)
{
	if (slot != NULL)
		ExecDropSingleTupleTableSlot(slot);
}

void
lease_heap_end(LeaseStore *store)
{
	if (store->read == NULL)
		return;					/* nothing was read */
	forget(store);
	drop_slot(store->read);
	drop_slot(store->locked);
	drop_slot(store->renewed);
}

bool
lease_heap_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row)
{
	forget(store);
	store->snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (!probe(store, key, store->snapshot, store->read))
		return false;
	fill_row(store, store->read, row);
	return true;
}

/*
 * Locks exactly the version that was read.  If it is not the newest any more,
 * nothing is locked: a caller who lost the race must not keep the winner's row
 * from being renewed until the end of his transaction.
 *
 * LockTupleKeyShare is different: a version that was only renewed since is as
 * good as the newest, and those up to the newest are locked with it.
 */
LeaseLockResult
lease_heap_lock(LeaseStore *store, LockTupleMode mode, LeaseRow *row)
{
	ItemPointerData tid = store->read->tts_tid;
	TupleTableSlot *locked = get_slot(store, &store->locked, table_slot_callbacks(store->rel));
	TM_FailureData tmfd;
	TM_Result	result;

	/*
	 * Otherwise no flags: both would lock newer versions, too, the one even
	 * when it then reports that this one is outdated.
	 */
	result = table_tuple_lock(store->rel, &tid, store->snapshot, locked,
							  GetCurrentCommandId(false), mode, LockWaitSkip,
							  mode == LockTupleKeyShare ? TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS : 0,
							  &tmfd);
	switch (result)
	{
		case TM_Ok:
			fill_row(store, locked, row);
			return LEASE_LOCK_OK;
		case TM_WouldBlock:
			return LEASE_LOCK_BUSY;
		case TM_Updated:
		case TM_Deleted:
			return LEASE_LOCK_STALE;
		case TM_SelfModified:
		case TM_Invisible:
			/* The latter if the executor was asked, which is a command of its own. */
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("lease was already changed by the command that calls this function")));
			break;
		default:
			elog(ERROR, "unexpected result %d of table_tuple_lock", result);
	}
	return LEASE_LOCK_BUSY;		/* not reached */
}

/*
 * Is the version that was locked another transaction's, and so there to stay?
 */
bool
lease_heap_locked_is_committed(LeaseStore *store)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(store->locked, false, &should_free);

	Assert(!should_free);
	return !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

/*
 * A renewal touches no indexed column, so it is a HOT update and needs no index
 * entries, unless the page is full.
 */
void
lease_heap_insert_index_entries(Relation rel, TupleTableSlot *slot, TU_UpdateIndexes update_indexes)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);

	InitResultRelInfo(target, rel, 0, NULL, 0);
	ExecOpenIndices(target, false);
	ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL,
						  update_indexes == TU_Summarizing);
	ExecCloseIndices(target);
	FreeExecutorState(estate);
}

/*
 * Where the values of two columns that are not null, and follow each other in this
 * order, are within a tuple.
 */
static void
find_values(HeapTuple tuple, TupleDesc desc, const AttrNumber *columns, char **values)
{
	HeapTupleHeader header = tuple->t_data;
	char	   *data = (char *) header + header->t_hoff;
	long		offset = 0;
	int			n = 0;

	for (int i = 0; n < 2; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if ((header->t_infomask & HEAP_HASNULL) != 0 && att_isnull(i, header->t_bits))
			continue;
		offset = att_align_pointer(offset, att->attalign, att->attlen, data + offset);
		if (i == columns[n] - 1)
			values[n++] = data + offset;
		offset = att_addlength_pointer(offset, att->attlen, data + offset);
	}
}

/*
 * What a renewal, for the same duration, leaves of an old version.  To copy that and
 * overwrite two values costs much less than to take it to pieces.
 */
HeapTuple
lease_heap_form_renewed(LeaseStore *store, HeapTuple old, const LeaseRow *row)
{
	TupleDesc	desc = RelationGetDescr(store->rel);
	AttrNumber	columns[] = {store->table->attnum[COL_RENEW_TIME], store->table->attnum[COL_RESOURCE_VERSION]};
	HeapTuple	renewed;
	char	   *values[lengthof(columns)];

	if (columns[0] > columns[1] || HeapTupleHeaderGetNatts(old->t_data) < columns[1] ||
		heap_attisnull(old, columns[0], NULL) || heap_attisnull(old, columns[1], NULL))
	{
		Datum		datums[] = {TimestampTzGetDatum(row->renew_time), Int64GetDatum(row->resource_version)};
		bool		nulls[] = {false, false};
		int			numbers[] = {columns[0], columns[1]};

		return heap_modify_tuple_by_cols(old, desc, lengthof(columns), numbers, datums, nulls);
	}
	renewed = heap_copytuple(old);
	find_values(renewed, desc, columns, values);
	memcpy(values[0], &row->renew_time, sizeof(row->renew_time));
	memcpy(values[1], &row->resource_version, sizeof(row->resource_version));
	return renewed;
}

static TM_Result
renew(LeaseStore *store, const LeaseRow *row, TupleTableSlot *old, bool wait)
{
	ItemPointerData tid = old->tts_tid;
	TupleTableSlot *renewed = get_slot(store, &store->renewed, &TTSOpsHeapTuple);
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	TU_UpdateIndexes update_indexes;
	TM_Result	result;

	ExecStoreHeapTuple(lease_heap_form_renewed(store, ExecFetchSlotHeapTuple(old, false, NULL), row),
					   renewed, true);

	/*
	 * A command of our own, as SPI makes one: should the statement that calls
	 * us change this row too, it shall fail and not overlook us.
	 */
	CommandCounterIncrement();
	result = table_tuple_update(store->rel, &tid, renewed, GetCurrentCommandId(true),
								store->snapshot, InvalidSnapshot, wait,
								&tmfd, &lockmode, &update_indexes);
	if (result == TM_Ok && update_indexes != TU_None)
		lease_heap_insert_index_entries(store->rel, renewed, update_indexes);
	ExecClearTuple(renewed);
	if (result != TM_Ok)
		return result;

	forget(store);

	/* The next call in the same statement shall see it. */
	CommandCounterIncrement();
	return TM_Ok;
}

/*
 * Writes a renewal over the version that lease_heap_lock() has locked.
 */
void
lease_heap_renew(LeaseStore *store, const LeaseRow *row)
{
	/* May wait, says the argument; holding the row lock, it has nothing to. */
	TM_Result	result = renew(store, row, store->locked, true);

	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of table_tuple_update", result);
}

/*
 * May a row be updated that is not locked?  Told not to wait, heap_update()
 * reports whatever stands in its way, as it does other results.  But as nobody in
 * PostgreSQL calls it so, a server with assertions asserts that nothing does.
 */
bool
lease_heap_may_skip_lock(void)
{
	static const char *assertions = NULL;

	if (assertions == NULL)
		assertions = GetConfigOption("debug_assertions", false, false);
	return strcmp(assertions, "off") == 0;
}

/*
 * Is this version worth trying to update without a lock on it?  Not if it has an xmax,
 * or was made by this transaction: of what that has done to the row, and of guards,
 * locking takes care.  To look without the buffer's lock is good enough, for
 * heap_update() looks again.
 */
bool
lease_heap_may_update_unlocked(HeapTuple tuple)
{
	return (tuple->t_data->t_infomask & HEAP_XMAX_INVALID) != 0 &&
		!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

/*
 * Writes a renewal over the version that was read, if it still is the newest and
 * nobody has it locked.  Else nothing is written, and locking will tell why.
 */
bool
lease_heap_renew_unlocked(LeaseStore *store, const LeaseRow *row)
{
	return TTS_IS_BUFFERTUPLE(store->read) &&
		lease_heap_may_update_unlocked(((BufferHeapTupleTableSlot *) store->read)->base.tuple) &&
		renew(store, row, store->read, false) == TM_Ok;
}

/*
 * Has another transaction inserted this lease, or deleted it, and not ended
 * yet?  The unique index would wait for that.
 */
bool
lease_heap_in_progress(LeaseStore *store, const LeaseKey *key)
{
	SnapshotData dirty;
	bool		found;

	InitDirtySnapshot(dirty);
	forget(store);
	found = probe(store, key, &dirty, store->read);
	ExecClearTuple(store->read);
	return found &&
		(TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax));
}

/*
 * Does the version read last lack one of these labels (NULL: none), or any
 * owner?
 */
void
lease_heap_missing_metadata(LeaseStore *store, Jsonb *labels,
							bool *labels_missing, bool *owner_missing)
{
	bool		isnull;
	Datum		value;

	value = slot_getattr(store->read, store->table->attnum[COL_OWNER_REFERENCES], &isnull);
	*owner_missing = isnull || JB_ROOT_COUNT(DatumGetJsonbP(value)) == 0;

	*labels_missing = labels != NULL;
	if (labels == NULL)
		return;
	value = slot_getattr(store->read, store->table->attnum[COL_LABELS], &isnull);
	if (!isnull)
	{
		JsonbIterator *have = JsonbIteratorInit(&DatumGetJsonbP(value)->root);
		JsonbIterator *wanted = JsonbIteratorInit(&labels->root);

		*labels_missing = !JsonbDeepContains(&have, &wanted);
	}
}

static void
fill_metadata(LeaseStore *store, TupleTableSlot *slot, LeaseFound *found)
{
	Datum		values[LEASE_COLUMNS];
	bool		nulls[LEASE_COLUMNS];

	values[COL_LABELS] = slot_getattr(slot, store->table->attnum[COL_LABELS], &nulls[COL_LABELS]);
	values[COL_FINALIZERS] = slot_getattr(slot, store->table->attnum[COL_FINALIZERS], &nulls[COL_FINALIZERS]);
	lease_metadata_set(found, values, nulls);
}

/*
 * Those of the version read last.
 */
void
lease_heap_read_metadata(LeaseStore *store, LeaseFound *found)
{
	fill_metadata(store, store->read, found);
}

static bool
may_run_out(LeaseStore *store, TupleTableSlot *slot, const LeaseTime *time, TimestampTz before)
{
	bool		no_time;
	bool		no_duration;
	Datum		renew_time = slot_getattr(slot, store->table->attnum[COL_RENEW_TIME], &no_time);
	Datum		duration = slot_getattr(slot, store->table->attnum[COL_LEASE_DURATION_SECONDS], &no_duration);

	return lease_ttl_may_run_out(no_time ? LEASE_NO_TIME : DatumGetTimestampTz(renew_time),
								 no_duration ? LEASE_NO_DURATION : DatumGetInt32(duration),
								 time, before);
}

static bool
visit_slot(LeaseStore *store, TupleTableSlot *slot, LeaseVisitor visit, void *arg)
{
	LeaseFound	found;
	bool		isnull;

	found.key.namespace = DatumGetTextPP(slot_getattr(slot, store->table->attnum[COL_NAMESPACE], &isnull));
	found.key.name = DatumGetTextPP(slot_getattr(slot, store->table->attnum[COL_NAME], &isnull));
	fill_row(store, slot, &found.row);
	(void) lease_memory_see(store->table->relid, &found.key, &found.row);
	fill_metadata(store, slot, &found);
	return visit(&found, arg);
}

/*
 * Visits the leases whose time may run out before then, seen from this time.  Most
 * rows do not match, so of each only the time is looked at first.
 */
void
lease_heap_scan(LeaseStore *store, const LeaseTime *time, TimestampTz before,
				LeaseVisitor visit, void *arg)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(store->rel, snapshot, 0, NULL);
	TupleTableSlot *slot;
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "lease found", ALLOCSET_SMALL_SIZES);
	bool		more = true;

	forget(store);
	slot = store->read;
	while (more && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old;

		if (!may_run_out(store, slot, time, before))
			continue;
		old = MemoryContextSwitchTo(row_context);
		more = visit_slot(store, slot, visit, arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	ExecClearTuple(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(row_context);
}
