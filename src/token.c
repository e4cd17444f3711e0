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
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "lease.h"
#include "compat.h"

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
