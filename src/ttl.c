/*
 * ttl.c
 *		Time arithmetic: durations, expiry, resource versions.
 *
 * Pure functions of their arguments.  Nothing here reads a clock, a catalog or
 * the table, so that the rule of validity is the same wherever it is asked.
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "compat.h"

#define USECS_1970_TO_2000 \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

pg_noreturn static void
interval_error(const char *what, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s", what),
			 errdetail_internal("%s", detail),
			 errhint("Pass an interval of days, hours, minutes or seconds, for example '30 s'.")));
}

/*
 * The interval in microseconds; errors out if it has no fixed length or is
 * negative.  what: as in "invalid lease duration".
 */
int64
lease_ttl_microseconds(const Interval *interval, const char *what)
{
	int64		usecs;

	if (INTERVAL_NOT_FINITE(interval))
		interval_error(what, "The interval is infinite.");
	if (interval->month != 0)
		interval_error(what, "The interval contains months or years, which have no fixed length.");
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &usecs) ||
		pg_add_s64_overflow(usecs, interval->time, &usecs) ||
		usecs / USECS_PER_SEC > PG_INT32_MAX)
		interval_error(what, "The interval is too long.");
	if (usecs < 0)
		interval_error(what, "The interval is negative.");
	return usecs;
}

/*
 * The interval in seconds.  Errors out if an integer could not represent it:
 * nothing is rounded in silence.
 */
int32
lease_ttl_seconds(const Interval *interval, const char *what)
{
	int64		usecs = lease_ttl_microseconds(interval, what);

	if (usecs % USECS_PER_SEC != 0)
		interval_error(what, "The interval contains fractions of a second.");
	return (int32) (usecs / USECS_PER_SEC);
}

/*
 * A duration as lease_duration_seconds stores it.
 */
int32
lease_ttl_duration(const Interval *duration)
{
	int32		seconds = lease_ttl_seconds(duration, "lease duration");

	if (seconds == 0)
		interval_error("lease duration", "The interval is zero.");
	return seconds;
}

/*
 * When the time of a lease runs out, held or not; LEASE_NO_TIME if it has none.
 */
static TimestampTz
runs_out_at(TimestampTz renew_time, int32 duration_seconds)
{
	TimestampTz result;

	if (renew_time == LEASE_NO_TIME || duration_seconds == LEASE_NO_DURATION)
		return LEASE_NO_TIME;
	if (pg_add_s64_overflow(renew_time, duration_seconds * USECS_PER_SEC, &result) ||
		!IS_VALID_TIMESTAMP(result))
		return DT_NOEND;
	return result;
}

/*
 * Was the row written by a clock that was ahead of this one: before the wall
 * clock was set back, or on another server?  What the functions write has its time
 * in resource_version, too, within a second; a renew_time in the future that was
 * written by hand is what it says.  In doubt the lease lasts longer.
 */
bool
lease_ttl_is_ahead(const LeaseRow *row, const LeaseTime *time)
{
	int64		version = row->resource_version;

	return time->steady && time->counts_from != LEASE_NO_TIME &&
		row->renew_time > time->now &&
		version > USECS_1970_TO_2000 &&
		version - USECS_1970_TO_2000 >= row->renew_time &&
		version - USECS_1970_TO_2000 < lease_ttl_after(row->renew_time, USECS_PER_SEC);
}

/*
 * When the lease counts as renewed last; LEASE_NO_TIME if it never was.
 */
static TimestampTz
renewed_at(const LeaseRow *row, const LeaseTime *time)
{
	if (row->renew_time == LEASE_NO_TIME)
		return LEASE_NO_TIME;
	if (lease_ttl_is_ahead(row, time))
		return time->counts_from;
	return Max(row->renew_time, time->counts_from);
}

/*
 * When the holding described by the row ends; LEASE_NO_TIME if there is none.
 */
TimestampTz
lease_ttl_expires_at(const LeaseRow *row, const LeaseTime *time)
{
	if (lease_row_is_free(row))
		return LEASE_NO_TIME;
	return runs_out_at(renewed_at(row, time), row->lease_duration_seconds);
}

/*
 * Does somebody hold the lease at this moment?  As in client-go, it is no
 * longer valid at the very instant of its expiry.
 */
bool
lease_ttl_is_valid(const LeaseRow *row, const LeaseTime *time)
{
	return time->now < lease_ttl_expires_at(row, time);
}

/*
 * Could a lease with these times have run out before then?  For scans: what is
 * no here need not be looked at.
 */
bool
lease_ttl_may_run_out(TimestampTz renew_time, int32 duration_seconds,
					  const LeaseTime *time, TimestampTz before)
{
	return runs_out_at(renew_time, duration_seconds) < before ||
		(time->steady && renew_time > time->now);
}

/*
 * A time so many microseconds later, and finite.
 */
TimestampTz
lease_ttl_after(TimestampTz time, int64 microseconds)
{
	TimestampTz result;

	if (pg_add_s64_overflow(time, microseconds, &result) || !IS_VALID_TIMESTAMP(result))
		return END_TIMESTAMP - 1;
	return result;
}

/*
 * Until when the row keeps the lease back, free or not.
 */
TimestampTz
lease_ttl_not_before(const LeaseRow *row, const LeaseTime *time)
{
	if (row->not_before == LEASE_NO_TIME || !lease_ttl_is_ahead(row, time))
		return row->not_before;
	if (row->not_before <= row->renew_time)
		return time->counts_from;
	return lease_ttl_after(time->counts_from, row->not_before - row->renew_time);
}

/*
 * From when on holder, or everybody if that is NULL, may acquire a lease that is
 * not valid any more: at once, unless it was handed over to somebody else, was
 * released before its minimum hold was over, or is kept back for a while because
 * its holder was lost.  Whoever it is, not while an acquisition that was lost may
 * still be believed in.
 */
TimestampTz
lease_ttl_available_at(const LeaseRow *row, const text *holder, const LeaseTime *time)
{
	TimestampTz available_at = Max(lease_ttl_not_before(row, time), time->grants_from);
	TimestampTz expires_at = lease_ttl_expires_at(row, time);

	if (holder != NULL &&
		((row->holder_identity != NULL && lease_text_equal(row->holder_identity, holder)) ||
		 (row->reserved_for != NULL && lease_text_equal(row->reserved_for, holder))))
		return time->grants_from;

	if (expires_at != LEASE_NO_TIME)
		available_at = Max(available_at,
						   lease_ttl_after(expires_at, row->lock_delay_seconds * USECS_PER_SEC));
	return available_at;
}

/*
 * May the lease be deleted, so many microseconds after its time has run out?
 * Kubernetes asks for the time only, not for the holder; and what keeps a lease
 * back would be lost with the row.
 *
 * A lease that counts as renewed since the server recovered is not deleted; but
 * expired_for counts from what its row says, or nothing would ever be deleted by
 * a server that restarts often.
 */
bool
lease_ttl_is_collectable(const LeaseRow *row, int64 expired_for, const LeaseTime *time)
{
	TimestampTz ran_out = runs_out_at(renewed_at(row, time), row->lease_duration_seconds);
	TimestampTz since = Min(ran_out, runs_out_at(row->renew_time, row->lease_duration_seconds));

	return (ran_out == LEASE_NO_TIME ||
			(ran_out < time->now && lease_ttl_after(since, expired_for) < time->now)) &&
		lease_ttl_available_at(row, NULL, time) <= time->now;
}

/*
 * The resource version after a change at this time: microseconds since 1970,
 * but always more than before, whatever the clock does.
 */
int64
lease_ttl_next_resource_version(int64 old, TimestampTz now)
{
	if (old == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("resource_version of a lease is out of range"),
				 errhint("Delete the lease and create another.")));
	return Max(old + 1, now + USECS_1970_TO_2000);
}
