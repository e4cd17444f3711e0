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

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_row_lockers);

typedef struct Locker
{
	TransactionId xid;			/* the topmost one */
	LockTupleMode mode;			/* the strongest that it has */
} Locker;

/* Changing a row is a lock, too. */
static const LockTupleMode mode_of_status[] = {
	[MultiXactStatusForKeyShare] = LockTupleKeyShare,
	[MultiXactStatusForShare] = LockTupleShare,
	[MultiXactStatusForNoKeyUpdate] = LockTupleNoKeyExclusive,
	[MultiXactStatusForUpdate] = LockTupleExclusive,
	[MultiXactStatusNoKeyUpdate] = LockTupleNoKeyExclusive,
	[MultiXactStatusUpdate] = LockTupleExclusive,
};

static const char *const mode_words[] = {
	[LockTupleKeyShare] = "FOR KEY SHARE",
	[LockTupleShare] = "FOR SHARE",
	[LockTupleNoKeyExclusive] = "FOR NO KEY UPDATE",
	[LockTupleExclusive] = "FOR UPDATE",
};

/*
 * Copies the header of a row version.  False if there is none at that place.
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

/* What the one transaction does that is alone in xmax. */
static MultiXactStatus
status_of_single(HeapTupleHeader tuple)
{
	bool		key = (tuple->t_infomask2 & HEAP_KEYS_UPDATED) != 0;

	if (!HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask))
		return key ? MultiXactStatusUpdate : MultiXactStatusNoKeyUpdate;
	if (HEAP_XMAX_IS_KEYSHR_LOCKED(tuple->t_infomask))
		return MultiXactStatusForKeyShare;
	if (HEAP_XMAX_IS_SHR_LOCKED(tuple->t_infomask))
		return MultiXactStatusForShare;
	return key ? MultiXactStatusForUpdate : MultiXactStatusForNoKeyUpdate;
}

/*
 * Whoever has, or had, the row version locked.  Returns how many.
 */
static int
members_of_xmax(HeapTupleHeader tuple, MultiXactMember **members)
{
	TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple);

	if (tuple->t_infomask & HEAP_XMAX_INVALID)
		return 0;
	if (tuple->t_infomask & HEAP_XMAX_IS_MULTI)
		/* Not "locked only", which leaves out what a standby does not know to run. */
		return GetMultiXactIdMembers(xmax, members, HEAP_LOCKED_UPGRADED(tuple->t_infomask), false);
	*members = palloc(sizeof(MultiXactMember));
	(*members)->xid = xmax;
	(*members)->status = status_of_single(tuple);
	return 1;
}

/*
 * The transactions in progress among them, each once: it is there again for every
 * subtransaction that locked the row.
 */
static int
lockers_of(HeapTupleHeader tuple, Locker **lockers)
{
	MultiXactMember *members;
	int			nmembers = members_of_xmax(tuple, &members);
	int			n = 0;

	*lockers = palloc(Max(nmembers, 1) * sizeof(Locker));
	for (int i = 0; i < nmembers; i++)
	{
		Locker		locker = {.mode = mode_of_status[members[i].status]};
		int			same;

		if (!TransactionIdIsInProgress(members[i].xid))
			continue;
		locker.xid = SubTransGetTopmostTransaction(members[i].xid);
		for (same = 0; same < n && (*lockers)[same].xid != locker.xid; same++)
			;
		if (same == n)
			(*lockers)[n++] = locker;
		else
			(*lockers)[same].mode = Max((*lockers)[same].mode, locker.mode);
	}
	return n;
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
	if (!lease_relation_lock(LEASE_TABLE, relid, AccessShareLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not tell who has rows locked because the table is locked"),
				 errhint("Try again when the command that locks the table has ended.")));
	rel = table_open(relid, NoLock);
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("could not tell who has rows locked because the access method of the table is not heap")));
	return rel;
}

/*
 * SQL: lease_row_lockers(row_version)
 */
Datum
lease_row_lockers(PG_FUNCTION_ARGS)
{
	ItemPointer tid = (ItemPointer) PG_GETARG_POINTER(0);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel = open_table(fcinfo->flinfo->fn_oid);
	HeapTupleHeaderData tuple;
	Locker	   *lockers;
	int			n = read_header(rel, tid, &tuple) ? lockers_of(&tuple, &lockers) : 0;

	table_close(rel, NoLock);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		int			pid = BackendXidGetPid(lockers[i].xid);
		Datum		values[] = {
			TransactionIdGetDatum(lockers[i].xid),
			Int32GetDatum(pid),
			CStringGetTextDatum(mode_words[lockers[i].mode]),
		};
		bool		nulls[lengthof(values)] = {false, pid == 0, false};

		/* Nobody's: prepared, on the primary, or ended in this moment. */
		if (pid == 0 && !TransactionIdIsInProgress(lockers[i].xid))
			continue;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
