/*
 * ttl.c
 *		Time arithmetic: durations, expiry, resource versions.
 *
 * Pure functions of their arguments.  Nothing here reads a clock, a catalog or
 * the table, so that the rule of validity is the same wherever it is asked.
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "compat.h"

#define USECS_1970_TO_2000 \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(lease_expires_at);

static void
duration_error(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid lease duration"),
			 errdetail_internal("%s", detail),
			 errhint("Pass an interval of whole seconds between 1 second and %d seconds.",
					 PG_INT32_MAX)));
}

/*
 * The duration in seconds, as lease_duration_seconds stores it.  Errors out if
 * the API could not represent it: nothing is rounded in silence.
 */
int32
lease_ttl_seconds(const Interval *duration)
{
	int64		usecs;

	if (INTERVAL_NOT_FINITE(duration))
		duration_error("The duration is infinite.");
	if (duration->month != 0)
		duration_error("The duration contains months or years, which have no fixed length.");
	if (pg_mul_s64_overflow(duration->day, USECS_PER_DAY, &usecs) ||
		pg_add_s64_overflow(usecs, duration->time, &usecs))
		duration_error("The duration is too long.");
	if (usecs <= 0)
		duration_error("The duration is zero or negative.");
	if (usecs % USECS_PER_SEC != 0)
		duration_error("The duration contains fractions of a second.");
	if (usecs / USECS_PER_SEC > PG_INT32_MAX)
		duration_error("The duration is too long.");

	return (int32) (usecs / USECS_PER_SEC);
}

/*
 * When the holding described by the row ends; LEASE_NO_TIME if there is none.
 */
TimestampTz
lease_ttl_expires_at(const LeaseRow *row)
{
	TimestampTz expires_at;

	if (row->holder_identity == NULL ||
		VARSIZE_ANY_EXHDR(row->holder_identity) == 0 ||
		row->lease_duration_seconds == LEASE_NO_DURATION ||
		row->renew_time == LEASE_NO_TIME)
		return LEASE_NO_TIME;

	if (pg_add_s64_overflow(row->renew_time,
							row->lease_duration_seconds * USECS_PER_SEC,
							&expires_at) ||
		!IS_VALID_TIMESTAMP(expires_at))
		return DT_NOEND;

	return expires_at;
}

/*
 * Does somebody hold the lease at this moment?  As in client-go, it is no
 * longer valid at the very instant of its expiry.
 */
bool
lease_ttl_is_valid(const LeaseRow *row, TimestampTz now)
{
	return now < lease_ttl_expires_at(row);
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

/*
 * SQL: lease_expires_at(holder_identity, renew_time, lease_duration_seconds)
 */
Datum
lease_expires_at(PG_FUNCTION_ARGS)
{
	LeaseRow	row = {0};
	TimestampTz expires_at;

	row.holder_identity = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	row.renew_time = PG_ARGISNULL(1) ? LEASE_NO_TIME : PG_GETARG_TIMESTAMPTZ(1);
	row.lease_duration_seconds = PG_ARGISNULL(2) ? LEASE_NO_DURATION : PG_GETARG_INT32(2);

	expires_at = lease_ttl_expires_at(&row);
	if (expires_at == LEASE_NO_TIME)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(expires_at);
}
