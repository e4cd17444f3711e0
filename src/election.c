/*
 * election.c
 *		Who gets the lease: the rules of client-go's leader election, decided
 *		on a locked row by this server's one clock.
 *
 * All three operations have the same shape.  Look without a lock: most callers
 * lose, and losing shall cost nothing.  Then lock without waiting, read the
 * clock, and decide again, because the row may have changed, or run out, since.
 * If it changed, start over.
 *
 * For the look the clock is read first.  The other way round, a lease that is
 * renewed in its last moment, between our snapshot and our clock, would seem to
 * have expired although it never did.
 *
 * Where client-go differs: it measures expiry from when it last saw the record
 * change, because its clock is not the holder's.  Here there is only one clock,
 * so renew_time is compared with it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "lease.h"

/*
 * Each time we start over, somebody else has changed the row in the moment
 * between our look and our lock.  Better to say "could not tell" than to go on
 * for ever.
 */
#define MAX_TRIES 16

static bool
is_held_by(const LeaseRow *row, const text *holder)
{
	return row->holder_identity != NULL &&
		lease_text_equal(row->holder_identity, holder);
}

static bool
is_free(const LeaseRow *row)
{
	return row->holder_identity == NULL ||
		VARSIZE_ANY_EXHDR(row->holder_identity) == 0;
}

/*
 * May this holder (NULL: any), under this token (0: any), renew the lease, or
 * if it need not be valid any more, release it?  LEASE_RENEWED stands for yes;
 * else the reason.
 */
static LeaseStatus
check_mine(const LeaseRow *row, const text *holder, int64 token,
		   bool must_be_valid, TimestampTz now)
{
	if (is_free(row))
		return LEASE_FREE;
	if ((holder != NULL && !is_held_by(row, holder)) ||
		(token != 0 && token != row->fencing_token))
		return LEASE_HELD;
	if (must_be_valid && !lease_ttl_is_valid(row, now))
		return LEASE_EXPIRED;
	return LEASE_RENEWED;
}

/*
 * Looks, locks, and looks again.  LEASE_RENEWED if the row is locked and
 * check_mine() said yes at the time now; else the reason why not.
 */
static LeaseStatus
lock_mine(LeaseStore *store, const LeaseKey *key, LockTupleMode mode,
		  const text *holder, int64 token, bool must_be_valid,
		  LeaseRow *row, TimestampTz *now)
{
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseLockResult result;
		LeaseStatus status;

		*now = GetCurrentTimestamp();
		if (!lease_store_read(store, key, row))
			return LEASE_MISSING;
		status = check_mine(row, holder, token, must_be_valid, *now);
		if (status != LEASE_RENEWED)
			return status;

		result = lease_store_lock(store, key, mode, row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		*now = GetCurrentTimestamp();
		return check_mine(row, holder, token, must_be_valid, *now);
	}
	return LEASE_BUSY;
}

/*
 * Makes the row one that says: held by holder from now on.
 *
 * client-go: acquire_time and lease_transitions stay if the record names the
 * same holder, even if it has expired; otherwise a transition is counted, also
 * from a released lease.  Only a new object starts at 0.
 */
static void
grant(LeaseStore *store, LeaseRow *row, text *holder, int32 duration_seconds,
	  TimestampTz now)
{
	if (!is_held_by(row, holder))
	{
		row->acquire_time = now;
		if (row->lease_transitions == LEASE_NO_TRANSITIONS)
			row->lease_transitions = 1;
		else if (row->lease_transitions < PG_INT32_MAX)
			row->lease_transitions++;
	}
	row->holder_identity = holder;
	row->lease_duration_seconds = duration_seconds;
	row->renew_time = now;
	row->fencing_token = lease_store_issue_token(store);
}

/*
 * Extends the holding in a locked row.  renew_time never goes back.
 */
static void
extend(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
	   int32 duration_seconds, TimestampTz now)
{
	bool		new_duration = row->lease_duration_seconds != duration_seconds;

	row->renew_time = Max(row->renew_time, now);
	row->lease_duration_seconds = duration_seconds;
	row->resource_version = lease_ttl_next_resource_version(row->resource_version, now);
	lease_store_renew(store, key, row, new_duration);
}

/*
 * Makes the object, held by holder from now on.
 */
static LeaseLockResult
create(LeaseStore *store, const LeaseKey *key, text *holder,
	   int32 duration_seconds, LeaseRow *row, TimestampTz now)
{
	row->holder_identity = holder;
	row->lease_duration_seconds = duration_seconds;
	row->acquire_time = now;
	row->renew_time = now;
	row->lease_transitions = 0;
	return lease_store_insert(store, key, row);
}

/*
 * The three operations below take a store that is NULL, if DDL had the table
 * locked, and then answer LEASE_BUSY.
 */

/*
 * Acquires the lease, or renews it if holder has it already.  Whatever comes
 * out, row and now are what the decision was made on; row is not set with
 * LEASE_BUSY.
 */
LeaseStatus
lease_election_acquire(LeaseStore *store, const LeaseKey *key, text *holder,
					   int32 duration_seconds, LeaseRow *row, TimestampTz *now)
{
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseLockResult result;
		LockTupleMode mode;

		*now = GetCurrentTimestamp();
		if (!lease_store_read(store, key, row))
		{
			*now = GetCurrentTimestamp();
			result = create(store, key, holder, duration_seconds, row, *now);
			if (result == LEASE_LOCK_OK)
				return LEASE_ACQUIRED;
			if (result == LEASE_LOCK_BUSY)
				return LEASE_BUSY;
			continue;
		}

		mode = LockTupleExclusive;
		if (lease_ttl_is_valid(row, *now))
		{
			if (!is_held_by(row, holder))
				return LEASE_HELD;
			mode = LockTupleNoKeyExclusive;
		}
		result = lease_store_lock(store, key, mode, row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		*now = GetCurrentTimestamp();
		if (!lease_ttl_is_valid(row, *now))
		{
			if (mode != LockTupleExclusive)
				continue;		/* ran out since: that takes the stronger lock */
			grant(store, row, holder, duration_seconds, *now);
			lease_store_update(store, key, row);
			return LEASE_ACQUIRED;
		}
		if (!is_held_by(row, holder))
			return LEASE_HELD;
		extend(store, key, row, duration_seconds, *now);
		return LEASE_RENEWED;
	}
	return LEASE_BUSY;
}

/*
 * Extends a lease that is holder's and still valid.  token 0 means any.  row
 * and now are what the decision was made on; row is not set with LEASE_MISSING
 * and LEASE_BUSY.
 */
LeaseStatus
lease_election_renew(LeaseStore *store, const LeaseKey *key, text *holder,
					 int64 token, LeaseRow *row, TimestampTz *now)
{
	LeaseStatus status = lock_mine(store, key, LockTupleNoKeyExclusive,
								   holder, token, true, row, now);

	if (status == LEASE_RENEWED)
		extend(store, key, row, row->lease_duration_seconds, *now);
	return status;
}

/*
 * Gives the lease up, valid or not, and ends its token.  token 0 means any.
 * Writes what client-go's release() writes.
 */
LeaseStatus
lease_election_release(LeaseStore *store, const LeaseKey *key, text *holder,
					   int64 token, LeaseRow *row)
{
	TimestampTz now;
	LeaseStatus status = lock_mine(store, key, LockTupleExclusive,
								   holder, token, false, row, &now);

	if (status != LEASE_RENEWED)
		return status;

	row->holder_identity = cstring_to_text("");
	row->lease_duration_seconds = LEASE_RELEASED_DURATION;
	row->acquire_time = now;
	row->renew_time = now;
	row->fencing_token = lease_store_issue_token(store);
	lease_store_update(store, key, row);
	return LEASE_RELEASED;
}

/*
 * Ties the transaction to a token: from LEASE_RENEWED on until it ends, nobody
 * can end the holding, while its holder can renew.  Otherwise the reason, with
 * which the caller must raise an error: guards that are refused and go on would
 * keep their locks, and could together keep a takeover out for ever.  row is
 * not set with LEASE_MISSING and LEASE_BUSY.
 */
LeaseStatus
lease_election_guard(LeaseStore *store, const LeaseKey *key, int64 token,
					 LeaseRow *row)
{
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		TimestampTz now = GetCurrentTimestamp();
		LeaseLockResult result;
		LeaseStatus status;

		if (!lease_store_read(store, key, row))
			return LEASE_MISSING;
		status = check_mine(row, NULL, token, true, now);
		if (status != LEASE_RENEWED)
			return status;

		result = lease_store_lock(store, key, LockTupleKeyShare, row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		/*
		 * The token stays from here on.  Whether the lease is still valid
		 * says its newest version, which may be a later one than was locked.
		 */
		now = GetCurrentTimestamp();
		if (!lease_store_read(store, key, row))
			return LEASE_MISSING;
		return check_mine(row, NULL, token, true, now);
	}
	return LEASE_BUSY;
}
