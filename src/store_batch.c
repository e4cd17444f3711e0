/*
 * store_batch.c
 *		Many renewals in one statement, directly: what store_heap.c does, at less
 *		cost for each.
 *
 * Half of what a direct renewal costs inside the server is to find its row, and
 * another part to lock it.  Here keys come in the order of the primary key, so one
 * index scan passes by all of them; and a row that nobody has locked is written
 * without being locked first.  heap_update() sees to it that nobody has been there
 * in between.
 *
 * All is read under one snapshot, which may be old by then.  So what is read is good
 * for one thing only: to write the renewal over exactly that version.  Whatever else
 * comes out is no answer, and the caller asks again in the usual way.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store.h"
#include "compat.h"

/* So many rows that are not wanted are passed by before looking further on anew. */
#define MAX_PASSED 4

/*
 * To find a holder's leases, at least so many are passed by, and for each that is his
 * so many more: to search the table for him costs about half as much a row, but his
 * own have to be found once more then.
 */
#define PASS_FIRST 256
#define PASS_FOR_EACH 4

struct LeaseBatch
{
	LeaseStore *store;
	MemoryContext context;
	Snapshot	snapshot;
	Relation	index;
	IndexScanDesc scan;
	bool		started;
	bool		at_end;
	int64		may_pass;		/* so many rows that are not the holder's */
	TupleTableSlot *read;
	TupleTableSlot *renewed;
	int			last_column;	/* of those in a LeaseRow */
};

/*
 * NULL if leases have to be renewed one by one.
 */
LeaseBatch *
lease_batch_begin(LeaseStore *store)
{
	LeaseBatch *batch;

	if (store == NULL || !store->probe || !lease_store_may_skip_lock(store))
		return NULL;

	batch = palloc0(sizeof(LeaseBatch));
	batch->store = store;
	batch->context = CurrentMemoryContext;
	batch->may_pass = PASS_FIRST;
	batch->snapshot = RegisterSnapshot(GetLatestSnapshot());
	batch->index = index_open(store->table->pkey, NoLock);
	batch->scan = index_beginscan(store->rel, batch->index, batch->snapshot, NULL, 2, 0);
	batch->read = table_slot_create(store->rel, NULL);
	batch->renewed = MakeSingleTupleTableSlot(RelationGetDescr(store->rel), &TTSOpsHeapTuple);
	for (int i = FIRST_ROW_COLUMN; i < LEASE_COLUMNS; i++)
		batch->last_column = Max(batch->last_column, store->table->attnum[i]);

	/*
	 * A command of our own, as SPI makes one: should the statement that calls us
	 * change these rows too, it shall fail and not overlook us.
	 */
	CommandCounterIncrement();
	return batch;
}

void
lease_batch_end(LeaseBatch *batch)
{
	if (batch == NULL)
		return;
	ExecDropSingleTupleTableSlot(batch->renewed);
	ExecDropSingleTupleTableSlot(batch->read);
	index_endscan(batch->scan);
	index_close(batch->index, NoLock);
	UnregisterSnapshot(batch->snapshot);
	pfree(batch);

	/* The next call in the same statement shall see it. */
	CommandCounterIncrement();
}

static void
next(LeaseBatch *batch)
{
	batch->at_end = !index_getnext_slot(batch->scan, ForwardScanDirection, batch->read);
}

/*
 * Goes to the first lease in the namespace whose name is this one or a later one.
 */
static void
go_to(LeaseBatch *batch, const LeaseKey *key)
{
	ScanKeyData keys[2];

	/* C is the collation of both columns. */
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(key->namespace));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTGreaterEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXT_GE, PointerGetDatum(key->name));
	index_rescan(batch->scan, keys, 2, NULL, 0);
	batch->started = true;
	next(batch);
}

/* Negative if the row at which the scan stands comes before the key; after all rows comes nothing. */
static int
compare_to(LeaseBatch *batch, const LeaseKey *key)
{
	bool		isnull;

	if (batch->at_end)
		return 1;
	return lease_text_compare(DatumGetTextPP(slot_getattr(batch->read,
														  batch->store->table->attnum[COL_NAME], &isnull)),
							  key->name);
}

static bool
find(LeaseBatch *batch, const LeaseKey *key)
{
	int			order = -1;

	if (batch->started)
	{
		for (int passed = 0; passed < MAX_PASSED; passed++)
		{
			order = compare_to(batch, key);
			if (order >= 0)
				return order == 0;
			next(batch);
		}
		order = compare_to(batch, key);
	}
	if (order < 0)
	{
		go_to(batch, key);
		order = compare_to(batch, key);
	}
	return order == 0;
}

static bool
is_of(LeaseBatch *batch, const text *holder)
{
	bool		isnull;
	Datum		value = slot_getattr(batch->read, batch->store->table->attnum[COL_HOLDER_IDENTITY], &isnull);
	text	   *of;
	bool		result;

	if (isnull)
		return false;
	of = DatumGetTextPP(value);
	result = lease_text_equal(of, holder);

	/* Long ones may be compressed, and many rows are passed by. */
	if ((Pointer) of != DatumGetPointer(value))
		pfree(of);
	return result;
}

/*
 * Goes to the next lease of this holder in the namespace; to the first one if the key
 * has an empty name.  Sets the key, which is valid until the next call.  False if there
 * is none, or it seems not worth while to go on; the key is the last one passed by then,
 * and remains valid.  *passed: others were on the way.
 */
bool
lease_batch_next_of_holder(LeaseBatch *batch, const text *holder, LeaseKey *key, bool *passed)
{
	bool		found = false;
	bool		isnull;

	if (batch->started)
		next(batch);
	else
		go_to(batch, key);
	*passed = false;
	while (!batch->at_end && !(found = is_of(batch, holder)) && --batch->may_pass > 0)
	{
		CHECK_FOR_INTERRUPTS();
		*passed = true;
		next(batch);
	}
	if (batch->at_end)
		return false;
	key->name = DatumGetTextPP(slot_getattr(batch->read, batch->store->table->attnum[COL_NAME], &isnull));
	if (found)
		batch->may_pass += PASS_FOR_EACH;
	else
		key->name = lease_text_copy(key->name);
	return found;
}

/*
 * Has all of the namespace been passed by?
 */
bool
lease_batch_is_at_end(LeaseBatch *batch)
{
	return batch->at_end;
}

/*
 * Reads a lease as it was when the batch began.  False if there was none.  All keys
 * are in one namespace, and come in the order of their names.
 */
bool
lease_batch_read(LeaseBatch *batch, const LeaseKey *key, LeaseRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	bool		found = find(batch, key);
	Datum		values[LEASE_COLUMNS];
	bool		nulls[LEASE_COLUMNS];

	MemoryContextSwitchTo(old);
	if (!found)
		return false;

	slot_getsomeattrs(batch->read, batch->last_column);
	for (int i = FIRST_ROW_COLUMN; i < LEASE_COLUMNS; i++)
	{
		int			n = batch->store->table->attnum[i] - 1;

		values[i] = batch->read->tts_values[n];
		nulls[i] = batch->read->tts_isnull[n];
	}
	lease_row_set(row, values, nulls);
	return true;
}

/*
 * Writes a renewal over the version read last (before), if it still is the newest and nobody
 * has it locked.  Else nothing is written.  Never waits.
 */
bool
lease_batch_renew(LeaseBatch *batch, const LeaseKey *key, LeaseRow *before, const LeaseRow *row)
{
	LeaseStore *store = batch->store;
	HeapTuple	old = ((BufferHeapTupleTableSlot *) batch->read)->base.tuple;
	HeapTuple	renewed;
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	TU_UpdateIndexes update_indexes;
	TM_Result	result;

	if (!lease_heap_may_update_unlocked(old))
		return false;

	renewed = lease_heap_form_renewed(store, old, row);
	ExecStoreHeapTuple(renewed, batch->renewed, false);

	result = table_tuple_update(store->rel, &old->t_self, batch->renewed, GetCurrentCommandId(true),
								batch->snapshot, InvalidSnapshot, false,
								&tmfd, &lockmode, &update_indexes);
	if (result == TM_Ok && update_indexes != TU_None)
		lease_heap_insert_index_entries(store->rel, batch->renewed, update_indexes);
	ExecClearTuple(batch->renewed);
	heap_freetuple(renewed);
	if (result != TM_Ok)
		return false;
	(void) lease_memory_follow(store->table->relid, key, before, row->resource_version);
	return true;
}
