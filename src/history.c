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

/* Counts a holding that is over; expired: it ran out, and nobody knew. */
static void
count_end(const LeaseKey *key, LeaseReason reason, bool expired)
{
	if (expired)
		lease_stat_count(LEASE_STAT_EXPIRED, key->namespace, 1);
	if (reason == LEASE_ON_TAKEOVER)
		lease_stat_count(LEASE_STAT_TAKEN_OVER, key->namespace, 1);
	if (reason == LEASE_ON_RELEASE || reason == LEASE_ON_HANDOVER || reason == LEASE_ON_SESSION_END)
		lease_stat_count(LEASE_STAT_RELEASED, key->namespace, 1);
}

/*
 * Records that the holding described by row is over.  Does nothing if there was
 * none.
 */
void
lease_history_record(Relation rel, const LeaseKey *key, const LeaseRow *row,
					 TimestampTz held_since, LeaseReason reason)
{
	LeaseTime	time = lease_clock_read();
	TimestampTz expires_at = lease_ttl_expires_at(row, &time);
	TimestampTz until = Min(expires_at, time.now);
	TimestampTz from = held_since != LEASE_NO_TIME ? held_since : row->renew_time;
	LeaseIdentity caller;
	bool		news;

	if (until == LEASE_NO_TIME)
		return;

	caller = lease_owner_begin(RelationGetRelid(rel));
	news = lease_sql_insert_history(get_namespace_name(RelationGetNamespace(rel)), key, row,
									Min(from, until), until, reason_names[reason]);
	lease_owner_end(caller);
	count_end(key, reason, news && until == expires_at);
}

/*
 * Records that a holding ran out, though nobody has acquired the lease since.
 * What ends it for good replaces that.  False if it was known already, or DDL
 * has the history locked.
 */
bool
lease_history_record_expiry(Oid relid, const LeaseKey *key, TimestampTz expired_at)
{
	LeaseIdentity caller;
	bool		news;

	if (!lease_history_lock(relid))
		return false;

	caller = lease_owner_begin(relid);
	news = lease_sql_insert_expiry(get_namespace_name(get_rel_namespace(relid)), key, expired_at);
	lease_owner_end(caller);
	if (news)
		lease_stat_count(LEASE_STAT_EXPIRED, key->namespace, 1);
	return news;
}

/*
 * Forgets holdings that ended more than so many seconds ago, not more than limit
 * of them.  Returns how many.  What somebody else has locked, as to forget it, is
 * left to him.
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
									 lease_clock_now() - seconds * USECS_PER_SEC, limit);
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
