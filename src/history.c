/*
 * history.c
 *		Holdings that have ended: who held a lease, from when until when, and why
 *		it ended.
 *
 * One row is written when a holding ends, none when it begins or is renewed.
 * It is written and trimmed on behalf of the owner of the table: who may change
 * a lease needs no privileges on the history, and so cannot change it.
 */
#include "postgres.h"

#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "store.h"
#include "compat.h"

/* end_reason, as users see it */
static const char *const reason_names[] = {
	[LEASE_BY_HAND] = "edited",
	[LEASE_ON_RENEWAL] = "edited",
	[LEASE_ON_RELEASE] = "released",
	[LEASE_ON_HANDOVER] = "handed over",
	[LEASE_ON_TAKEOVER] = "taken over",
	[LEASE_ON_EXPIRY] = "expired",
	[LEASE_ON_COLLECTION] = "collected",
	[LEASE_ON_SESSION_END] = "session end",
	[LEASE_ON_DELETE] = "deleted",
};

static Oid
find_history(Oid relid)
{
	return lease_relation_find(LEASE_HISTORY, get_rel_namespace(relid));
}

/*
 * Locks the history of a table without waiting, so that recording the end of a
 * holding will not wait either.  False if DDL has it.
 */
bool
lease_history_lock(Oid relid)
{
	return lease_relation_lock(LEASE_HISTORY, find_history(relid), RowExclusiveLock);
}

/*
 * Records that the holding described by row is over.  Does nothing if there was
 * none.
 */
void
lease_history_record(Relation rel, const LeaseKey *key, const LeaseRow *row,
					 TimestampTz held_since, LeaseReason reason)
{
	TimestampTz until = Min(lease_ttl_expires_at(row), GetCurrentTimestamp());
	TimestampTz from = held_since != LEASE_NO_TIME ? held_since : row->renew_time;
	LeaseIdentity caller;

	if (until == LEASE_NO_TIME)
		return;

	caller = lease_owner_begin(RelationGetRelid(rel));
	lease_sql_insert_history(get_namespace_name(RelationGetNamespace(rel)), key, row,
							 Min(from, until), until, reason_names[reason]);
	lease_owner_end(caller);
}

/*
 * Forgets holdings that ended more than so many seconds ago, not more than limit
 * of them.  Returns how many.  What somebody else has locked, as to forget it, is left to him.
 */
int64
lease_history_trim(Oid relid, int64 seconds, int64 limit)
{
	LeaseIdentity caller;
	int64		removed;

	if (!lease_history_lock(relid))
		return 0;

	caller = lease_owner_begin(relid);
	removed = lease_sql_trim_history(get_namespace_name(get_rel_namespace(relid)),
									 GetCurrentTimestamp() - seconds * USECS_PER_SEC, limit);
	lease_owner_end(caller);
	return removed;
}

/*
 * Has this holder held the lease before, and lost it, released it, or whatever?
 * LEASE_HELD stands for yes, LEASE_MISSING for no, and LEASE_BUSY for DDL.
 */
LeaseStatus
lease_history_has_holder(Oid relid, const LeaseKey *key, text *holder)
{
	LeaseIdentity caller;
	bool		found;

	if (!lease_history_lock(relid))
		return LEASE_BUSY;

	caller = lease_owner_begin(relid);
	found = lease_sql_history_has_holder(get_namespace_name(get_rel_namespace(relid)), key, holder);
	lease_owner_end(caller);
	return found ? LEASE_HELD : LEASE_MISSING;
}
