/*
 * blockers.c
 *		Whose transactions have the row of a lease locked.
 *
 * A tuple lock is nowhere but in the tuple: xmax is the transaction that has it
 * locked, or changes it, or a MultiXactId that stands for several.  They are
 * there with the subtransaction in which it happened, and stay there when they
 * have ended.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/multixact.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "lease.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(lease_row_lockers);

typedef struct Locker
{
	TransactionId xid;			/* the topmost one */
	LockTupleMode mode;			/* the strongest that it has */
} Locker;

static const char *const mode_words[] = {
	[LockTupleKeyShare] = "FOR KEY SHARE",
	[LockTupleShare] = "FOR SHARE",
	[LockTupleNoKeyExclusive] = "FOR NO KEY UPDATE",
	[LockTupleExclusive] = "FOR UPDATE",
};

/* Changing a row is a lock, too. */
static LockTupleMode
mode_of_status(MultiXactStatus status)
{
	switch (status)
	{
		case MultiXactStatusForKeyShare:
			return LockTupleKeyShare;
		case MultiXactStatusForShare:
			return LockTupleShare;
		case MultiXactStatusForNoKeyUpdate:
		case MultiXactStatusNoKeyUpdate:
			return LockTupleNoKeyExclusive;
		case MultiXactStatusForUpdate:
		case MultiXactStatusUpdate:
			return LockTupleExclusive;
	}
	return LockTupleExclusive;	/* not reached */
}

/* The mode of a locker that is alone in xmax. */
static LockTupleMode
mode_of_tuple(HeapTupleHeader tuple)
{
	if (HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask))
	{
		if (HEAP_XMAX_IS_KEYSHR_LOCKED(tuple->t_infomask))
			return LockTupleKeyShare;
		if (HEAP_XMAX_IS_SHR_LOCKED(tuple->t_infomask))
			return LockTupleShare;
	}
	return (tuple->t_infomask2 & HEAP_KEYS_UPDATED) ? LockTupleExclusive : LockTupleNoKeyExclusive;
}

/*
 * Copies the header of the tuple.  False if there is none.
 */
static bool
read_header(Relation rel, ItemPointer tid, HeapTupleHeader header)
{
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(tid);
	bool		found = false;
	Buffer		buffer;
	Page		page;

	if (block >= RelationGetNumberOfBlocks(rel))
		return false;
	buffer = ReadBuffer(rel, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (offset >= FirstOffsetNumber && offset <= PageGetMaxOffsetNumber(page))
	{
		ItemId		item = PageGetItemId(page, offset);

		found = ItemIdIsNormal(item);
		if (found)
			memcpy(header, PageGetItem(page, item), SizeofHeapTupleHeader);
	}
	UnlockReleaseBuffer(buffer);
	return found;
}

/*
 * Notes a transaction, or the one that it is a part of, unless it has ended.
 */
static void
add_locker(List **lockers, TransactionId xid, LockTupleMode mode)
{
	Locker	   *locker;
	ListCell   *lc;

	if (!TransactionIdIsInProgress(xid))
		return;
	xid = SubTransGetTopmostTransaction(xid);
	foreach(lc, *lockers)
	{
		locker = lfirst(lc);
		if (locker->xid == xid)
		{
			locker->mode = Max(locker->mode, mode);
			return;
		}
	}
	locker = palloc(sizeof(Locker));
	locker->xid = xid;
	locker->mode = mode;
	*lockers = lappend(*lockers, locker);
}

static void
add_lockers_of_tuple(List **lockers, HeapTupleHeader tuple)
{
	TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple);
	MultiXactMember *members;
	int			count;

	if (tuple->t_infomask & HEAP_XMAX_INVALID)
		return;
	if (!(tuple->t_infomask & HEAP_XMAX_IS_MULTI))
	{
		add_locker(lockers, xmax, mode_of_tuple(tuple));
		return;
	}
	count = GetMultiXactIdMembers(xmax, &members, HEAP_LOCKED_UPGRADED(tuple->t_infomask),
								  HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask));
	for (int i = 0; i < count; i++)
		add_locker(lockers, members[i].xid, mode_of_status(members[i].status));
}

/*
 * The transactions in progress that have this version of a row locked, or a newer
 * one that has been committed since.
 */
static List *
find_lockers(Relation rel, ItemPointerData tid)
{
	List	   *lockers = NIL;
	HeapTupleHeaderData tuple;
	TransactionId updater = InvalidTransactionId;

	while (read_header(rel, &tid, &tuple) &&
		   (!TransactionIdIsValid(updater) ||
			TransactionIdEquals(HeapTupleHeaderGetXmin(&tuple), updater)))
	{
		add_lockers_of_tuple(&lockers, &tuple);

		/* the newest there is, or about to be changed */
		if ((tuple.t_infomask & HEAP_XMAX_INVALID) ||
			HEAP_XMAX_IS_LOCKED_ONLY(tuple.t_infomask) ||
			ItemPointerEquals(&tid, &tuple.t_ctid))
			break;
		updater = HeapTupleHeaderGetUpdateXid(&tuple);
		if (!TransactionIdIsValid(updater) || TransactionIdIsInProgress(updater) ||
			!TransactionIdDidCommit(updater))
			break;
		tid = tuple.t_ctid;
	}
	return lockers;
}

/*
 * Opens the table as a SELECT by hand would, but does not wait for DDL.
 */
static Relation
open_table(Oid funcid)
{
	Oid			relid = lease_relation_find(LEASE_TABLE, get_func_namespace(funcid));
	Relation	rel;

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, LEASE_TABLE);
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not obtain lock on relation \"%s\"", LEASE_TABLE)));
	rel = table_open(relid, NoLock);
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("row locks of relation \"%s\" cannot be told", LEASE_TABLE),
				 errdetail("Its access method is not heap.")));
	return rel;
}

/*
 * SQL: lease_row_lockers(row_version)
 */
Datum
lease_row_lockers(PG_FUNCTION_ARGS)
{
	ItemPointerData tid = *(ItemPointer) PG_GETARG_POINTER(0);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel = open_table(fcinfo->flinfo->fn_oid);
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	foreach(lc, find_lockers(rel, tid))
	{
		const Locker *locker = lfirst(lc);
		int			pid = BackendXidGetPid(locker->xid);
		Datum		values[] = {
			TransactionIdGetDatum(locker->xid),
			Int32GetDatum(pid),
			CStringGetTextDatum(mode_words[locker->mode]),
		};
		bool		nulls[lengthof(values)] = {false, pid == 0, false};

		/* Nobody's: prepared, on the primary, or ended in this moment. */
		if (pid == 0 && !TransactionIdIsInProgress(locker->xid))
			continue;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	table_close(rel, NoLock);
	return (Datum) 0;
}
