/*
 * token.c
 *		Fencing tokens: numbers that only grow and never come back.
 *
 * They come from a sequence, which neither rolls back nor forgets, so a lease
 * that is deleted and made again goes on with greater tokens.  Issuing one
 * makes the transaction commit synchronously whatever the caller has set:
 * otherwise a crash could take back the sequence's position together with the
 * grant that was already acknowledged, and the number would be issued again.
 *
 * The sequence is read and raised on behalf of the extension: who may change a
 * lease needs no privileges on it, and nobody needs the privilege to set it
 * back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_token_floor);

/* 2020-01-01 00:00:00 UTC, in seconds since 1970 */
#define FLOOR_EPOCH INT64CONST(1577836800)

/* So many bits count the tokens of a second. */
#define FLOOR_BITS 20

/*
 * The token issued last in this transaction, until the row that carries it has
 * been written.  It is how the trigger tells a grant from a number that
 * somebody made up.
 */
static int64 issued_token = 0;

/* A grant that failed leaves no token behind that could be used by hand. */
static void
forget_at_xact_end(XactEvent event, void *arg)
{
	issued_token = 0;
}

static void
forget_at_subxact_abort(SubXactEvent event, SubTransactionId mine,
						SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		issued_token = 0;
}

static Oid
token_sequence(Oid relid)
{
	return lease_relation_find(LEASE_TOKEN_SEQUENCE, get_rel_namespace(relid));
}

/*
 * Locks the sequence without waiting, so that issuing a token will not wait
 * either.  False if DDL has it.
 */
bool
lease_token_lock(Oid relid)
{
	return lease_relation_lock(LEASE_TOKEN_SEQUENCE, token_sequence(relid), RowExclusiveLock);
}

/*
 * What all tokens of a server that began in this second are greater than.  Tokens
 * of before are not, unless there were 2^20 of them in each second: so those that
 * a promotion or a restore has lost never come back.
 */
static int64
token_floor(int64 second)
{
	return Max(second - FLOOR_EPOCH, 0) << FLOOR_BITS;
}

/*
 * Returns a token greater than all that this database has ever issued, and than
 * floor, which the row has already: from a logical replica, say, whose sequence
 * does not follow.
 */
int64
lease_token_issue(Oid relid, int64 floor)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(forget_at_xact_end, NULL);
		RegisterSubXactCallback(forget_at_subxact_abort, NULL);
		registered = true;
	}

	floor = Max(floor, token_floor(lease_incarnation_second()));
	ForceSyncCommit();
	issued_token = nextval_internal(token_sequence(relid), false);
	if (issued_token <= floor)
	{
		lease_token_raise(relid, floor);
		issued_token = nextval_internal(token_sequence(relid), false);
	}
	return issued_token;
}

/*
 * True if this token was issued in this transaction and is not in a row yet.  It
 * can be taken once.
 */
bool
lease_token_take(int64 token)
{
	if (token == 0 || token != issued_token)
		return false;
	issued_token = 0;
	return true;
}

/*
 * Sees to it that tokens issued from now on are greater than floor.
 *
 * setval() goes backwards as well, so two sessions must not do this at once:
 * the second would set the sequence back to where the first has already gone
 * on from.  The lock is not held to the end of the transaction, for the
 * sequence is not part of it.
 */
void
lease_token_raise(Oid relid, int64 floor)
{
	Oid			seqid = token_sequence(relid);

	if (nextval_internal(seqid, false) > floor)
		return;

	LockDatabaseObject(RelationRelationId, seqid, 0, ExclusiveLock);
	if (nextval_internal(seqid, false) <= floor)
	{
		LeaseIdentity caller = lease_owner_begin(seqid);

		DirectFunctionCall2(setval_oid, ObjectIdGetDatum(seqid), Int64GetDatum(floor));
		lease_owner_end(caller);
	}
	UnlockDatabaseObject(RelationRelationId, seqid, 0, ExclusiveLock);
}

/*
 * SQL: lease_token_floor(since)
 */
Datum
lease_token_floor(PG_FUNCTION_ARGS)
{
	TimestampTz since;

	if (PG_ARGISNULL(0))
		PG_RETURN_INT64(token_floor(lease_incarnation_second()));
	since = PG_GETARG_TIMESTAMPTZ(0);
	if (TIMESTAMP_NOT_FINITE(since) || timestamptz_to_time_t(since) - FLOOR_EPOCH > PG_INT64_MAX >> FLOOR_BITS)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	PG_RETURN_INT64(token_floor(timestamptz_to_time_t(since)));
}
