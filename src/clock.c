/*
 * clock.c
 *		Was the wall clock set?
 *
 * Leases expire by the wall clock.  It is compared with one that nobody sets and
 * that goes on while the machine sleeps: their difference stays, unless the wall
 * clock is set.  That NTP makes it run slower or faster changes nothing, for it
 * does so with both.
 *
 * Steps are seen by who looks often enough to see them apart: with preloading
 * the background worker, for all; without, each session those between its own
 * looks.
 */
#include "postgres.h"

#include <time.h>

#include "fmgr.h"
#include "funcapi.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_clock_steps);

/* What counts as a step, in microseconds: leases last a second at least. */
#define MIN_STEP 100000

/* How far apart two clocks may be read that shall be compared; in microseconds. */
#define MAX_READING 10000

#ifdef CLOCK_BOOTTIME
#define STEADY_CLOCK CLOCK_BOOTTIME
#else
#define STEADY_CLOCK CLOCK_MONOTONIC
#endif

/* Times of the steady clock are in microseconds. */
typedef struct Reading
{
	int64		steady;
	int64		offset;			/* of the wall clock against it */
} Reading;

typedef struct ClockWatch
{
	slock_t		mutex;
	Reading		last;
	int64		steps;			/* since the first look, at server start if preloaded */
	int64		last_step;		/* in microseconds, positive: forwards */
	int64		last_step_at;	/* by the steady clock */
} ClockWatch;

/* In shared memory, if there is some. */
static ClockWatch own_watch;
static ClockWatch *watch = NULL;

static int64
steady_now(void)
{
	struct timespec now;

	clock_gettime(STEADY_CLOCK, &now);
	return (int64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

/*
 * Reads both clocks.  False if there was always something in between.
 */
static bool
read_clocks(Reading *reading)
{
	for (int i = 0; i < 10; i++)
	{
		int64		before = steady_now();
		TimestampTz wall = GetCurrentTimestamp();

		if (steady_now() - before <= MAX_READING)
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
	RequestAddinShmemSpace(sizeof(ClockWatch));
}

static ClockWatch *
begin(ClockWatch *new_watch)
{
	memset(new_watch, 0, sizeof(ClockWatch));
	SpinLockInit(&new_watch->mutex);
	(void) read_clocks(&new_watch->last);	/* else the first look is the first */
	return new_watch;
}

void
lease_clock_startup_shmem(void)
{
	bool		found;
	ClockWatch *shared = ShmemInitStruct("lease clock", sizeof(ClockWatch), &found);

	watch = found ? shared : begin(shared);
}

/*
 * Looks whether the wall clock was set since the last look, of whichever process.
 *
 * To be called about once a second by the worker: what happens between two looks
 * shows as one step, at the time of the second, and a step forth and back does
 * not show at all.  It costs a few readings of clocks.
 */
void
lease_clock_watch(void)
{
	Reading		now;

	if (watch == NULL)
		watch = begin(&own_watch);
	if (!read_clocks(&now))
		return;

	SpinLockAcquire(&watch->mutex);
	/* Somebody may have looked after us, and got here before. */
	if (now.steady > watch->last.steady)
	{
		int64		step = now.offset - watch->last.offset;

		if (watch->last.steady != 0 && (step >= MIN_STEP || step <= -MIN_STEP))
		{
			watch->steps++;
			watch->last_step = step;
			watch->last_step_at = now.steady;
		}
		watch->last = now;
	}
	SpinLockRelease(&watch->mutex);
}

/*
 * SQL: lease_clock_steps()
 */
Datum
lease_clock_steps(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	ClockWatch	seen;
	Interval	step = {0};
	Datum		values[3] = {0};
	bool		nulls[3] = {false, true, true};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	lease_clock_watch();
	SpinLockAcquire(&watch->mutex);
	seen = *watch;
	SpinLockRelease(&watch->mutex);
	values[0] = Int64GetDatum(seen.steps);
	if (seen.steps > 0)
	{
		step.time = seen.last_step;
		values[1] = IntervalPGetDatum(&step);
		values[2] = TimestampTzGetDatum(GetCurrentTimestamp() - (steady_now() - seen.last_step_at));
		nulls[1] = nulls[2] = false;
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}
