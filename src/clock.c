/*
 * clock.c
 *		The clock by which leases expire, and since when it can be relied on.
 *
 * Lease time looks like the wall clock, but if the library is preloaded it is
 * measured by a steady clock, which nobody sets and which goes on while the
 * machine sleeps: lease time = steady time + offset.  When the wall clock is set,
 * the offset follows, and all leases count as renewed at that moment, as they do
 * when the server has recovered: the times in their rows are of another clock.
 * NTP slews both clocks alike.
 *
 * Without preloading, lease time is the wall clock.
 *
 * Locking: who notices that the wall clock was set takes the spinlock and changes
 * first since when leases count, and then the offset.  Everybody reads them the
 * other way round, so that with a new offset he sees when it became valid.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_clock);
PG_FUNCTION_INFO_V1(lease_clock_steps);

/* What counts as a step, in microseconds: leases last a second at least. */
#define MIN_STEP 100000

/* How far apart two clocks may be read that shall be compared; in microseconds. */
#define MAX_READING 10000

/* Of steady time: never. */
#define NO_STEADY_TIME 0

/* lease.recovery_grace and lease.quiet_period */
static bool recovery_grace = true;
static int	quiet_period = 0;

/* Times of the steady clock are in microseconds. */
typedef struct Reading
{
	int64		steady;
	int64		offset;			/* of the wall clock against it */
} Reading;

typedef struct Clock
{
	/* read without a lock, in this order */
	pg_atomic_uint64 offset;	/* of lease time against the steady clock */
	pg_atomic_uint64 stepped_at;	/* steady time of the last step */

	slock_t		mutex;			/* for these, and for changing those */
	int64		seen;			/* steady time of the last look */
	int64		steps;			/* since the first look, at server start if preloaded */
	int64		last_step;		/* in microseconds, positive: forwards */
} Clock;

/* In shared memory, if there is some; else only steps are looked for with it. */
static Clock own_base;
static Clock *base = NULL;
static bool preloaded = false;

void
lease_clock_init(void)
{
	DefineCustomBoolVariable("lease.recovery_grace",
							 "Leases count as renewed when the server has recovered.",
							 "A renewal that was lost in a crash or a promotion then lets nobody in early.",
							 &recovery_grace,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("lease.quiet_period",
							"How long after a promotion or point-in-time recovery nobody acquires a lease anew.",
							"With asynchronous replication, set this to the longest duration of a lease: an acquisition may have been lost.",
							&quiet_period,
							0, 0, INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
}

/*
 * ---------- Readings ----------
 */

/*
 * Reads both clocks.  False if there was always something in between.
 */
static bool
read_clocks(Reading *reading)
{
	for (int i = 0; i < 10; i++)
	{
		int64		before = lease_steady_now();
		TimestampTz wall = GetCurrentTimestamp();

		if (lease_steady_now() - before <= MAX_READING)
		{
			reading->steady = before;
			reading->offset = wall - before;
			return true;
		}
	}
	return false;
}

void
lease_clock_request_shmem(void)
{
	RequestAddinShmemSpace(sizeof(Clock));
}

static Clock *
begin(Clock *new_clock)
{
	Reading		now = {lease_steady_now(), GetCurrentTimestamp() - lease_steady_now()};

	(void) read_clocks(&now);	/* else the first look will find a step */
	memset(new_clock, 0, sizeof(Clock));
	SpinLockInit(&new_clock->mutex);
	pg_atomic_init_u64(&new_clock->offset, now.offset);
	pg_atomic_init_u64(&new_clock->stepped_at, NO_STEADY_TIME);
	new_clock->seen = now.steady;
	return new_clock;
}

void
lease_clock_startup_shmem(void)
{
	bool		found;
	Clock	   *shared = ShmemInitStruct("lease clock", sizeof(Clock), &found);

	base = found ? shared : begin(shared);
	preloaded = true;
}

/*
 * Looks whether the wall clock was set since the last look, of whichever process.
 *
 * What happens between two looks shows as one step, at the time of the second,
 * and a step forth and back does not show at all.
 */
static void
look(void)
{
	Reading		now;

	if (base == NULL)
		base = begin(&own_base);
	if (!read_clocks(&now))
		return;

	SpinLockAcquire(&base->mutex);
	/* Somebody may have looked after us, and got here before. */
	if (now.steady > base->seen)
	{
		int64		step = now.offset - (int64) pg_atomic_read_u64(&base->offset);

		base->seen = now.steady;
		if (step >= MIN_STEP || step <= -MIN_STEP)
		{
			base->steps++;
			base->last_step = step;
			pg_atomic_write_u64(&base->stepped_at, now.steady);
			pg_write_barrier();
			pg_atomic_write_u64(&base->offset, now.offset);
		}
	}
	SpinLockRelease(&base->mutex);
}

/*
 * ---------- Lease time ----------
 */

/*
 * Adds what follows from when the server became able to write, in lease time.
 */
static void
add_incarnation(LeaseTime *time, TimestampTz began, int64 timeline_age)
{
	int64		quiet = quiet_period * USECS_PER_SEC;

	if (recovery_grace)
		time->counts_from = began;
	/* A restart in between does not end the quiet period. */
	if (quiet > 0 && timeline_age < quiet)
		time->grants_from = lease_ttl_after(began, quiet - timeline_age);
}

static LeaseTime
wall_time(void)
{
	LeaseTime	time = {GetCurrentTimestamp(), LEASE_NO_TIME, LEASE_NO_TIME, false};
	LeaseIncarnation current = lease_incarnation();

	if (current.began != LEASE_NO_TIME)
		add_incarnation(&time, current.began, current.timeline_age);
	return time;
}

static LeaseTime
steady_time(void)
{
	LeaseTime	time = {LEASE_NO_TIME, LEASE_NO_TIME, LEASE_NO_TIME, true};
	LeaseIncarnation current = lease_incarnation();
	int64		offset = pg_atomic_read_u64(&base->offset);
	int64		stepped_at;

	pg_read_barrier();
	stepped_at = pg_atomic_read_u64(&base->stepped_at);
	time.now = lease_steady_now() + offset;
	if (current.began != LEASE_NO_TIME)
		add_incarnation(&time, current.began_steady + offset, current.timeline_age);
	if (stepped_at != NO_STEADY_TIME)
		time.counts_from = Max(time.counts_from, stepped_at + offset);
	return time;
}

/*
 * What time is it?  To be asked with the row locked before anything is decided
 * about it.
 */
LeaseTime
lease_clock_read(void)
{
	LeaseTime	time;
	int64		step;

	if (!preloaded)
		return wall_time();

	time = steady_time();
	step = GetCurrentTimestamp() - time.now;
	if (step < MIN_STEP && step > -MIN_STEP)
		return time;
	look();
	return steady_time();
}

/*
 * Likewise, for what needs to know no more than that.
 */
TimestampTz
lease_clock_now(void)
{
	return preloaded ? lease_clock_read().now : GetCurrentTimestamp();
}

/*
 * What lease time it was at a steady time.  For what is kept in shared memory only,
 * which there is if the library is preloaded.
 */
TimestampTz
lease_clock_at(int64 steady)
{
	return steady + (int64) pg_atomic_read_u64(&base->offset);
}

/*
 * Do leases count as renewed when the server has recovered?
 */
bool
lease_clock_gives_grace(void)
{
	return recovery_grace;
}

/*
 * ---------- SQL functions ----------
 */

static void
put_time(TimestampTz time, Datum *value, bool *isnull)
{
	*isnull = time == LEASE_NO_TIME;
	*value = TimestampTzGetDatum(time);
}

/*
 * SQL: lease_clock()
 */
Datum
lease_clock(PG_FUNCTION_ARGS)
{
	LeaseTime	time = lease_clock_read();
	Datum		values[3];
	bool		nulls[3];

	put_time(time.now, &values[0], &nulls[0]);
	put_time(time.counts_from, &values[1], &nulls[1]);
	put_time(time.grants_from > time.now ? time.grants_from : LEASE_NO_TIME, &values[2], &nulls[2]);
	return lease_result_row(fcinfo, values, nulls);
}

/*
 * SQL: lease_clock_steps()
 */
Datum
lease_clock_steps(PG_FUNCTION_ARGS)
{
	int64		steps;
	int64		stepped_at;
	Interval	last_step = {0};
	Datum		values[3] = {0};
	bool		nulls[3] = {false, true, true};

	look();
	SpinLockAcquire(&base->mutex);
	steps = base->steps;
	last_step.time = base->last_step;
	stepped_at = pg_atomic_read_u64(&base->stepped_at);
	SpinLockRelease(&base->mutex);
	values[0] = Int64GetDatum(steps);
	if (steps > 0)
	{
		values[1] = IntervalPGetDatum(&last_step);
		values[2] = TimestampTzGetDatum(GetCurrentTimestamp() - (lease_steady_now() - stepped_at));
		nulls[1] = nulls[2] = false;
	}
	return lease_result_row(fcinfo, values, nulls);
}
