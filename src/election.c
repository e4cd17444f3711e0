/*
 * election.c
 *		Who gets the lease: the rules of client-go's leader election, decided
 *		on a locked row by this server's one clock.
 *
 * What changes a holding has the same shape everywhere.  Look without a lock: most callers
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

#include "utils/builtins.h"

#include "lease.h"

/*
 * Each time we start over, somebody else has changed the row in the moment
 * between our look and our lock.  Better to say "could not tell" than to go on
 * for ever.
 */
#define MAX_TRIES 16

/* A lease that is missing */
static const LeaseRow nobodys_row = {
	.acquire_time = LEASE_NO_TIME,
	.renew_time = LEASE_NO_TIME,
	.not_before = LEASE_NO_TIME,
	.lease_transitions = LEASE_NO_TRANSITIONS,
};

/*
 * Reads the clock, and then the newest committed version of the lease.  False if
 * there is none.
 *
 * A row that was written in between would look as if its clock were ahead of ours.
 * If it does not when we look at ours again, both are read anew.
 */
bool
lease_election_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row, LeaseTime *time)
{
	for (int i = 0; i < MAX_TRIES; i++)
	{
		LeaseTime	after;

		*time = lease_clock_read();
		if (!lease_store_read(store, key, row))
			return false;
		if (!lease_ttl_is_ahead(row, time))
			break;
		after = lease_clock_read();
		if (lease_ttl_is_ahead(row, &after))
			break;
	}
	return true;
}

static bool
is_held_by(const LeaseRow *row, const text *holder)
{
	return row->holder_identity != NULL &&
		lease_text_equal(row->holder_identity, holder);
}

/*
 * May this holder (NULL: any), under this token (0: any), renew the lease, or
 * if it need not be valid any more, release it?  LEASE_RENEWED stands for yes;
 * else the reason.
 */
static LeaseStatus
check_mine(const LeaseRow *row, const text *holder, int64 token,
		   bool must_be_valid, const LeaseTime *time)
{
	if (lease_row_is_free(row))
		return LEASE_FREE;
	if ((holder != NULL && !is_held_by(row, holder)) ||
		(token != 0 && token != row->fencing_token))
		return LEASE_HELD;
	if (must_be_valid && !lease_ttl_is_valid(row, time))
		return LEASE_EXPIRED;
	return LEASE_RENEWED;
}

/*
 * Looks without a lock what check_mine() says.
 */
static LeaseStatus
look_for_mine(LeaseStore *store, const LeaseKey *key, const text *holder, int64 token,
			  bool must_be_valid, LeaseRow *row, LeaseTime *time)
{
	if (!lease_election_read(store, key, row, time))
		return LEASE_MISSING;
	return check_mine(row, holder, token, must_be_valid, time);
}

/*
 * Looks, locks, and looks again.  LEASE_RENEWED if the row is locked and
 * check_mine() said yes at this time; else the reason why not.
 */
static LeaseStatus
lock_mine(LeaseStore *store, const LeaseKey *key, LockTupleMode mode,
		  const text *holder, int64 token, bool must_be_valid,
		  LeaseRow *row, LeaseTime *time)
{
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseLockResult result;
		LeaseStatus status = look_for_mine(store, key, holder, token, must_be_valid, row, time);

		if (status != LEASE_RENEWED)
			return status;

		result = lease_store_lock(store, key, mode, row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		*time = lease_clock_read();
		return check_mine(row, holder, token, must_be_valid, time);
	}
	return LEASE_BUSY;
}

/*
 * Sets what a new holding begins with.
 */
static void
begin_holding(LeaseRow *row, const LeaseTerms *terms, TimestampTz now)
{
	row->holder_identity = terms->holder;
	row->lease_duration_seconds = terms->duration_seconds;
	row->renew_time = now;
	row->lock_delay_seconds = terms->lock_delay_seconds;
	row->not_before = terms->hold_at_least > 0 ? lease_ttl_after(now, terms->hold_at_least) : LEASE_NO_TIME;
	row->reserved_for = NULL;
}

/*
 * Makes the row one that says: held by holder from now on.
 *
 * client-go: acquire_time and lease_transitions stay if the record names the
 * same holder, even if it has expired; otherwise a transition is counted, also
 * from a released lease.  Only a new object starts at 0.
 */
static void
grant(LeaseStore *store, const LeaseKey *key, LeaseRow *row, const LeaseTerms *terms,
	  TimestampTz now)
{
	LeaseReason reason = LEASE_ON_EXPIRY;

	if (!is_held_by(row, terms->holder))
	{
		reason = LEASE_ON_TAKEOVER;
		row->acquire_time = now;
		if (row->lease_transitions == LEASE_NO_TRANSITIONS)
			row->lease_transitions = 1;
		else if (row->lease_transitions < PG_INT32_MAX)
			row->lease_transitions++;
	}
	begin_holding(row, terms, now);
	row->fencing_token = lease_store_issue_token(store, row->fencing_token);
	lease_store_update(store, key, row, reason);
}

/*
 * renew_time does not go back, unless the clock has.
 */
static void
set_renewed(LeaseRow *row, const LeaseTime *time)
{
	row->renew_time = lease_ttl_is_ahead(row, time) ? time->now : Max(row->renew_time, time->now);
	row->resource_version = lease_ttl_next_resource_version(row->resource_version, time->now);
}

/*
 * Extends the holding in a locked row; or if it may be kept in memory, there instead.
 */
static void
extend(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
	   int32 duration_seconds, bool may_keep, const LeaseTime *time)
{
	bool		new_duration = row->lease_duration_seconds != duration_seconds;
	TimestampTz not_before = lease_ttl_not_before(row, time);

	if (may_keep && !new_duration && not_before == row->not_before &&
		row->renew_time <= time->now && lease_ttl_is_valid(row, time) &&
		lease_store_keep_in_memory(store, key, row))
	{
		row->renew_time = time->now;
		return;
	}
	set_renewed(row, time);
	row->lease_duration_seconds = duration_seconds;
	if (not_before != row->not_before)
	{
		row->not_before = not_before;
		lease_store_update(store, key, row, LEASE_ON_RENEWAL);
	}
	else
		lease_store_renew(store, key, row, new_duration);
}

/*
 * Makes the object, held by holder from now on.
 */
static LeaseLockResult
create(LeaseStore *store, const LeaseKey *key, const LeaseTerms *terms,
	   LeaseRow *row, TimestampTz now)
{
	begin_holding(row, terms, now);
	row->acquire_time = now;
	row->lease_transitions = 0;
	return lease_store_insert(store, key, row, NULL);
}

/*
 * May holder have the lease, or have it for longer?  LEASE_ACQUIRED and
 * LEASE_RENEWED stand for yes; else the reason.
 */
static LeaseStatus
check_free(const LeaseRow *row, const text *holder, const LeaseTime *time)
{
	if (lease_ttl_is_valid(row, time))
	{
		if (!is_held_by(row, holder))
			return LEASE_HELD;

		/*
		 * Who asks for the lease need not believe that it is his: he may have
		 * given it up, and the next one's acquisition have been lost.
		 * lease_renew() is for who does.
		 */
		if (time->now < time->grants_from)
			return LEASE_RESERVED;
		return LEASE_RENEWED;
	}
	if (time->now < lease_ttl_available_at(row, holder, time))
		return LEASE_RESERVED;
	return LEASE_ACQUIRED;
}

/*
 * The operations below take a store that is NULL, if DDL had the table
 * locked, and then answer LEASE_BUSY.
 */

/*
 * What lease_election_acquire() would try to do now, without doing it.
 */
LeaseStatus
lease_election_look(LeaseStore *store, const LeaseKey *key, text *holder,
					LeaseRow *row, LeaseTime *time)
{
	if (store == NULL)
		return LEASE_BUSY;
	if (!lease_election_read(store, key, row, time))
	{
		*row = nobodys_row;
		return time->now < time->grants_from ? LEASE_RESERVED : LEASE_MISSING;
	}
	return check_free(row, holder, time);
}

/*
 * Can the renewal of a lease that is not locked be written?  Only if nothing else is to
 * be written, and so much time is left that it will not run out meanwhile.
 */
static bool
may_skip_lock(const LeaseRow *row, const LeaseTime *time)
{
	return !lease_ttl_is_ahead(row, time) &&
		lease_ttl_expires_at(row, time) > time->now + USECS_PER_SEC;
}

/*
 * A lease that has to be valid must not have run out until the row was ours: to tell that
 * to others, nobody needs to change it.  By now it is too late for an answer.
 */
static void
check_did_not_expire(const LeaseRow *before, const LeaseTime *time)
{
	if (!lease_ttl_is_valid(before, time))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("lease expired while it was renewed"),
				 errhint("Try again.")));
}

/*
 * Extends the holding in a row that was read and not locked, which saves a WAL record:
 * if nobody has touched the row until it is written, it is as if it had been locked.
 * False if somebody may have, or more is to be written; nothing is done then.
 *
 * may_be_late: who renews need not have been in time, as in check_heartbeat().
 */
static bool
extend_unlocked(LeaseStore *store, const LeaseKey *key, LeaseRow *row, bool may_be_late,
				const LeaseTime *time)
{
	LeaseRow	before = *row;
	LeaseRow	renewed = *row;
	LeaseTime	now;

	if (!lease_store_may_skip_lock(store) || !may_skip_lock(row, time))
		return false;
	set_renewed(&renewed, time);
	if (!lease_store_renew_unlocked(store, key, &before, &renewed))
		return false;
	*row = renewed;

	now = lease_clock_read();
	if (!may_be_late)
		check_did_not_expire(&before, &now);
	else if (!lease_ttl_is_valid(&before, &now))
		lease_event_note(LEASE_EVENT_MODIFIED, key, row);	/* as in write_heartbeat() */
	return true;
}

/*
 * Acquires the lease, or renews it if holder has it already.  Whatever comes
 * out, row and time are what the decision was made on; row is not set with
 * LEASE_BUSY.
 */
LeaseStatus
lease_election_acquire(LeaseStore *store, const LeaseKey *key,
					   const LeaseTerms *terms, LeaseRow *row, LeaseTime *time)
{
	LeaseClaim	claim = {terms->holder, 0, terms->duration_seconds, true};
	bool		owned;

	if (lease_store_renew_in_memory(store, key, &claim, row, time, &owned))
		return LEASE_RENEWED;
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseLockResult result;
		LeaseStatus wanted = lease_election_look(store, key, terms->holder, row, time);
		LeaseStatus status;

		if (wanted == LEASE_HELD || wanted == LEASE_RESERVED)
			return wanted;
		if (wanted == LEASE_RENEWED && row->lease_duration_seconds == terms->duration_seconds &&
			extend_unlocked(store, key, row, false, time))
			return LEASE_RENEWED;
		if (wanted == LEASE_MISSING)
		{
			*time = lease_clock_read();
			result = create(store, key, terms, row, time->now);
			if (result == LEASE_LOCK_OK)
				return LEASE_ACQUIRED;
		}
		else
			result = lease_store_lock(store, key,
									  wanted == LEASE_RENEWED ? LockTupleNoKeyExclusive : LockTupleExclusive,
									  row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		*time = lease_clock_read();
		status = check_free(row, terms->holder, time);
		if (status == LEASE_ACQUIRED)
		{
			if (wanted != LEASE_ACQUIRED)
				continue;		/* ran out since: that takes the stronger lock */
			grant(store, key, row, terms, time->now);
		}
		else if (status == LEASE_RENEWED)
			extend(store, key, row, terms->duration_seconds, true, time);
		return status;
	}
	return LEASE_BUSY;
}

/*
 * Renews one lease of many, that come in the order of their names.  batch is NULL
 * where that is the same as renewing each.  time is the clock, read since the last
 * one was renewed, and no long search ago; it is read anew here for the next one.
 *
 * What the batch has read may be old.  That does not matter if the renewal can be
 * written over it, for then it is the newest; else it is no answer.
 */
LeaseStatus
lease_election_renew_next(LeaseStore *store, LeaseBatch *batch, const LeaseKey *key,
						  text *holder, LeaseTime *time)
{
	LeaseRow	row;
	LeaseRow	before;
	LeaseTime	now;
	LeaseStatus status;

	if (batch != NULL && lease_batch_read(batch, key, &before) &&
		check_mine(&before, holder, 0, true, time) == LEASE_RENEWED && may_skip_lock(&before, time))
	{
		row = before;
		set_renewed(&row, time);
		if (lease_batch_renew(batch, key, &before, &row))
		{
			*time = lease_clock_read();
			check_did_not_expire(&before, time);
			return LEASE_RENEWED;
		}
	}
	status = lease_election_renew(store, key, holder, 0, &row, &now);
	*time = lease_clock_read();
	return status;
}

/*
 * Extends a lease that is holder's and still valid.  token 0 means any.  row
 * and time are what the decision was made on; row is not set with LEASE_MISSING
 * and LEASE_BUSY.
 */
LeaseStatus
lease_election_renew(LeaseStore *store, const LeaseKey *key, text *holder,
					 int64 token, LeaseRow *row, LeaseTime *time)
{
	LeaseClaim	claim = {holder, token, LEASE_NO_DURATION, false};
	LeaseStatus status;
	bool		owned;

	if (lease_store_renew_in_memory(store, key, &claim, row, time, &owned))
		return LEASE_RENEWED;
	if (store != NULL && lease_store_may_skip_lock(store))
	{
		status = look_for_mine(store, key, holder, token, true, row, time);
		if (status != LEASE_RENEWED || extend_unlocked(store, key, row, false, time))
			return status;
	}

	status = lock_mine(store, key, LockTupleNoKeyExclusive, holder, token, true, row, time);
	if (status == LEASE_RENEWED)
		extend(store, key, row, row->lease_duration_seconds, true, time);
	return status;
}

/*
 * Makes a locked row one that nobody holds.  Writes what client-go's release()
 * writes; what still keeps the lease from being acquired stays or is set by the
 * caller.
 */
static void
end_holding(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
			LeaseReason reason, TimestampTz now)
{
	row->holder_identity = cstring_to_text("");
	row->lease_duration_seconds = LEASE_RELEASED_DURATION;
	row->acquire_time = now;
	row->renew_time = now;
	row->lock_delay_seconds = 0;
	row->fencing_token = lease_store_issue_token(store, row->fencing_token);
	lease_store_update(store, key, row, reason);
}

/*
 * Gives the lease up, valid or not, and ends its token.  token 0 means any.
 */
LeaseStatus
lease_election_release(LeaseStore *store, const LeaseKey *key, text *holder,
					   int64 token, LeaseReason reason, LeaseRow *row)
{
	LeaseTime	time;
	LeaseStatus status = lock_mine(store, key, LockTupleExclusive,
								   holder, token, false, row, &time);

	if (status != LEASE_RENEWED)
		return status;

	row->not_before = lease_ttl_not_before(row, &time);
	if (row->not_before <= time.now)
		row->not_before = LEASE_NO_TIME;
	end_holding(store, key, row, reason, time.now);
	return LEASE_RELEASED;
}

/*
 * Gives the lease up, and lets nobody but successor have it for so many
 * microseconds.  That is the holder's decision: it overrides a minimum hold.
 */
LeaseStatus
lease_election_handover(LeaseStore *store, const LeaseKey *key, text *holder,
						int64 token, text *successor, int64 reserve, LeaseRow *row)
{
	LeaseTime	time;
	LeaseStatus status = lock_mine(store, key, LockTupleExclusive,
								   holder, token, false, row, &time);

	if (status != LEASE_RENEWED)
		return status;

	row->not_before = lease_ttl_after(Max(time.now, time.grants_from), reserve);
	row->reserved_for = successor;
	end_holding(store, key, row, LEASE_ON_HANDOVER, time.now);
	return LEASE_HANDED_OVER;
}

/*
 * The clock was set back after the lease was renewed.  When the clock reaches that
 * renewal again, the lease must neither revive nor last longer.
 */
static void
set_back(LeaseStore *store, const LeaseKey *key, LeaseRow *row, const LeaseTime *time)
{
	row->not_before = lease_ttl_not_before(row, time);
	row->renew_time = time->counts_from;
	row->resource_version = lease_ttl_next_resource_version(row->resource_version, time->now);
	lease_store_update(store, key, row, LEASE_ON_RENEWAL);
}

/*
 * Sees to it that the end of a holding that ran out is in the history, and that a
 * row that a clock ahead of ours has written has our time.  LEASE_EXPIRED if the end
 * is news; LEASE_RENEWED if the lease is valid, and until when; LEASE_BUSY if
 * somebody is just changing it, or LEASE_FREE.
 */
LeaseStatus
lease_election_expire(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
					  TimestampTz *expires_at)
{
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseTime	time;
		LeaseLockResult result;
		bool		news;

		if (!lease_election_read(store, key, row, &time))
			return LEASE_FREE;
		*expires_at = lease_ttl_expires_at(row, &time);
		if (*expires_at == LEASE_NO_TIME)
			return LEASE_FREE;
		if (time.now < *expires_at && !lease_ttl_is_ahead(row, &time))
			return LEASE_RENEWED;

		/* A renewal that was in time may still be in progress. */
		result = lease_store_lock(store, key, LockTupleNoKeyExclusive, row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		time = lease_clock_read();
		*expires_at = lease_ttl_expires_at(row, &time);
		news = time.now >= *expires_at && lease_store_record_expiry(store, key, *expires_at);
		if (lease_ttl_is_ahead(row, &time))
			set_back(store, key, row, &time);
		if (time.now < *expires_at)
			return LEASE_RENEWED;
		return news ? LEASE_EXPIRED : LEASE_FREE;
	}
	return LEASE_BUSY;
}

/*
 * Deletes the lease if the condition holds, before and after it is locked.
 * LEASE_EXPIRED stands for yes; else the reason why not.
 */
LeaseStatus
lease_election_collect(LeaseStore *store, const LeaseKey *key,
					   LeaseCondition condition, const void *arg)
{
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseTime	time;
		LeaseLockResult result;
		LeaseFound	found = {.key = *key};

		if (!lease_election_read(store, key, &found.row, &time))
			return LEASE_MISSING;
		lease_store_read_metadata(store, key, &found);
		if (!condition(&found, &time, arg))
			return LEASE_HELD;

		result = lease_store_lock(store, key, LockTupleExclusive, &found.row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		lease_store_read_metadata(store, key, &found);
		time = lease_clock_read();
		if (!condition(&found, &time, arg))
			return LEASE_HELD;
		lease_store_delete(store, key, LEASE_ON_COLLECTION);
		return LEASE_EXPIRED;
	}
	return LEASE_BUSY;
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
		LeaseTime	time;
		LeaseLockResult result;
		LeaseStatus status = look_for_mine(store, key, NULL, token, true, row, &time);

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
		return look_for_mine(store, key, NULL, token, true, row, &time);
	}
	return LEASE_BUSY;
}

/*
 * May this heartbeat renew the lease, or make the lease its holder's?
 * LEASE_RENEWED and LEASE_ACQUIRED stand for yes; else the reason.
 *
 * Its own lease is renewed also when it has expired, as Kubernetes' lease
 * controller does, which knows no election.  That is not a new holding: the
 * token stays, so nobody else can have held the lease since it ran out, and
 * whatever was written under that token before and will be after is the same
 * holder's.  In the history it is one holding, with a gap that nothing records.
 */
static LeaseStatus
check_heartbeat(const LeaseKey *key, const LeaseHeartbeat *beat, const LeaseRow *row,
				const LeaseTime *time)
{
	LeaseStatus status;

	if (is_held_by(row, beat->terms.holder))
		return LEASE_RENEWED;

	status = check_free(row, beat->terms.holder, time);
	if (status == LEASE_HELD && beat->take_over != NULL && time->now >= time->grants_from)
		status = beat->take_over(beat->funcid, key, beat->terms.holder);
	return status;
}

/*
 * What the version read last lacks of the metadata that a heartbeat sees to;
 * made: there is none yet.
 */
static LeaseMetadata
missing_metadata(LeaseStore *store, const LeaseKey *key, const LeaseHeartbeat *beat,
				 bool made)
{
	LeaseMetadata missing = {NULL, NULL};
	bool		no_labels = true;
	bool		no_owner = true;

	if (beat->labels == NULL && beat->find_owner == NULL)
		return missing;
	if (!made)
		lease_store_missing_metadata(store, beat->labels, &no_labels, &no_owner);
	if (no_labels)
		missing.labels = beat->labels;
	if (no_owner && beat->find_owner != NULL)
		missing.owner_references = beat->find_owner(beat->funcid, key);
	return missing;
}

/*
 * Writes a heartbeat to a locked row.  What is the holder's already gets a new
 * renew_time and nothing else; acquire_time and lease_transitions stay anyway.
 */
static void
write_heartbeat(LeaseStore *store, const LeaseKey *key, const LeaseHeartbeat *beat,
				const LeaseMetadata *missing, LeaseStatus status,
				LeaseRow *row, const LeaseTime *time)
{
	if (status == LEASE_ACQUIRED)
	{
		begin_holding(row, &beat->terms, time->now);
		row->fencing_token = lease_store_issue_token(store, row->fencing_token);
		lease_store_update(store, key, row, LEASE_ON_TAKEOVER);
	}
	else
	{
		bool		was_valid = lease_ttl_is_valid(row, time);

		extend(store, key, row,
			   row->lease_duration_seconds == LEASE_NO_DURATION ?
			   beat->terms.duration_seconds : row->lease_duration_seconds,
			   beat->labels == NULL, time);

		/* It lives again: more than a renewal for who has seen it expire. */
		if (!was_valid)
			lease_event_note(LEASE_EVENT_MODIFIED, key, row);
	}

	if (missing->labels != NULL || missing->owner_references != NULL)
		lease_store_add_metadata(store, key, missing);
}

/*
 * Makes the object of a heartbeat.  Kubernetes' lease controller leaves
 * acquireTime and leaseTransitions out.
 */
static LeaseLockResult
create_for_heartbeat(LeaseStore *store, const LeaseKey *key, const LeaseHeartbeat *beat,
					 const LeaseMetadata *metadata, LeaseRow *row, TimestampTz now)
{
	begin_holding(row, &beat->terms, now);
	row->acquire_time = LEASE_NO_TIME;
	row->lease_transitions = LEASE_NO_TRANSITIONS;
	return lease_store_insert(store, key, row, metadata);
}

/*
 * Does a heartbeat renew the lease in memory, and is nothing left to do?  Labels may
 * have to be written, and an owner if there is none and has been found by now.
 */
static bool
beats_in_memory(LeaseStore *store, const LeaseKey *key, const LeaseHeartbeat *beat,
				LeaseRow *row, LeaseTime *time)
{
	LeaseClaim	claim = {beat->terms.holder, 0, LEASE_NO_DURATION, false};
	bool		owned;

	return beat->labels == NULL &&
		lease_store_renew_in_memory(store, key, &claim, row, time, &owned) &&
		(owned || beat->find_owner == NULL || beat->find_owner(beat->funcid, key) == NULL);
}

/*
 * Renews the lease of whoever sends a heartbeat, or makes it: the rules of
 * Kubernetes' lease controller, which kubelet and API server use.  A lease that
 * nobody holds becomes the sender's.  row and time are what the decision was
 * made on; row is not set with LEASE_BUSY.
 */
LeaseStatus
lease_election_heartbeat(LeaseStore *store, const LeaseKey *key,
						 const LeaseHeartbeat *beat, LeaseRow *row, LeaseTime *time)
{
	if (beats_in_memory(store, key, beat, row, time))
		return LEASE_RENEWED;
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseMetadata missing;
		LeaseLockResult result;
		LeaseStatus wanted;
		LeaseStatus status;

		wanted = lease_election_read(store, key, row, time) ?
			check_heartbeat(key, beat, row, time) : LEASE_MISSING;
		if (wanted == LEASE_HELD || wanted == LEASE_RESERVED || wanted == LEASE_BUSY)
			return wanted;

		missing = missing_metadata(store, key, beat, wanted == LEASE_MISSING);
		if (wanted == LEASE_RENEWED && missing.labels == NULL && missing.owner_references == NULL &&
			extend_unlocked(store, key, row, true, time))
			return LEASE_RENEWED;
		if (wanted == LEASE_MISSING)
		{
			*time = lease_clock_read();
			result = create_for_heartbeat(store, key, beat, &missing, row, time->now);
			if (result == LEASE_LOCK_OK)
				return LEASE_ACQUIRED;
		}
		else
			result = lease_store_lock(store, key,
									  wanted == LEASE_RENEWED ? LockTupleNoKeyExclusive : LockTupleExclusive,
									  row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		*time = lease_clock_read();
		status = check_heartbeat(key, beat, row, time);
		if (status == LEASE_ACQUIRED && wanted != LEASE_ACQUIRED)
			continue;			/* that takes the stronger lock */
		if (status == LEASE_ACQUIRED || status == LEASE_RENEWED)
			write_heartbeat(store, key, beat, &missing, status, row, time);
		return status;
	}
	return LEASE_BUSY;
}

/*
 * Deletes the lease, valid or not, if it has this owner and no other.
 * LEASE_RELEASED stands for yes, LEASE_HELD for another owner.
 */
LeaseStatus
lease_election_delete_of_owner(LeaseStore *store, const LeaseKey *key, Jsonb *owner)
{
	for (int i = 0; store != NULL && i < MAX_TRIES; i++)
	{
		LeaseLockResult result;
		LeaseRow	row;

		if (!lease_store_read(store, key, &row))
			return LEASE_MISSING;
		if (!lease_store_is_owned_by(store, key, owner))
			return LEASE_HELD;

		result = lease_store_lock(store, key, LockTupleExclusive, &row);
		if (result == LEASE_LOCK_BUSY)
			return LEASE_BUSY;
		if (result == LEASE_LOCK_STALE)
			continue;

		/* It has not changed since it was read, but maybe since we asked. */
		if (!lease_store_is_owned_by(store, key, owner))
			return LEASE_HELD;
		lease_store_delete(store, key, LEASE_ON_DELETE);
		return LEASE_RELEASED;
	}
	return LEASE_BUSY;
}
