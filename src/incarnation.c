/*
 * incarnation.c
 *		Since when this server can write.
 *
 * An incarnation begins when the server becomes able to write: when it has been
 * started, has recovered from a crash, or was promoted.  It ends with the next
 * crash or stop.  What was written before may not be all that was acknowledged.
 *
 * No process lives longer than an incarnation, but one may have begun before, on a
 * standby.  So what has been found out stays, and that there is nothing to find does
 * not.
 *
 * Locking: a spinlock protects what is in shared memory, for copying only.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/backend_status.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "compat.h"

/* The age of a timeline that no promotion began */
#define FIRST_TIMELINE PG_INT64_MAX

typedef struct SharedIncarnation
{
	slock_t		mutex;
	LeaseIncarnation incarnation;
} SharedIncarnation;

/* With preloading */
static SharedIncarnation *shared = NULL;

static const LeaseIncarnation unknown = {LEASE_NO_TIME, 0, FIRST_TIMELINE};
static LeaseIncarnation known = {LEASE_NO_TIME, 0, FIRST_TIMELINE};

void
lease_incarnation_request_shmem(void)
{
	RequestAddinShmemSpace(sizeof(SharedIncarnation));
}

void
lease_incarnation_startup_shmem(void)
{
	bool		found;

	shared = ShmemInitStruct("lease incarnation", sizeof(SharedIncarnation), &found);
	if (found)
		return;
	SpinLockInit(&shared->mutex);
	shared->incarnation = unknown;
}

/*
 * When the walwriter started, which the postmaster does as soon as the server is
 * open for writing: after its start, a crash, or a promotion.  LEASE_NO_TIME if
 * there is none yet.
 */
static TimestampTz
walwriter_start(void)
{
	int			count = pgstat_fetch_stat_numbackends();
	TimestampTz start = LEASE_NO_TIME;

	for (int i = 1; i <= count; i++)
	{
		PgBackendStatus *status = &pgstat_get_local_beentry_by_index(i)->backendStatus;

		if (status->st_backendType == B_WAL_WRITER)
			start = status->st_proc_start_timestamp;
	}

	/* or pg_stat_activity would stand still until our caller's transaction ends */
	pgstat_clear_backend_activity_snapshot();
	return start;
}

/*
 * How long before then the timeline began, whoever was the server's postmaster.  Who
 * begins one writes a history file, whose time is taken without fractions: a second less,
 * rather than more, and the same second for all who ask.
 */
static int64
timeline_age(TimestampTz then)
{
	char		path[MAXPGPATH];
	struct stat st;

	TLHistoryFilePath(path, GetWALInsertionTimeLine());
	if (stat(path, &st) != 0)
		return FIRST_TIMELINE;
	return Max(then - time_t_to_timestamptz(st.st_mtime), 0) - USECS_PER_SEC;
}

/*
 * Finds out about this incarnation.  False if it has just begun and the walwriter
 * is not there yet.
 */
static bool
find_incarnation(LeaseIncarnation *found)
{
	int64		ago;

	found->began = walwriter_start();
	if (found->began == LEASE_NO_TIME)
		return false;

	/* Late rather than early, but not after now, if the wall clock was set since. */
	ago = Max(GetCurrentTimestamp() - found->began, 0);
	found->began_steady = lease_steady_now() - ago;
	found->timeline_age = timeline_age(found->began);
	return true;
}

/*
 * This incarnation, not known on a standby.  In the moment in which one begins
 * nobody knows, and it begins now.
 */
LeaseIncarnation
lease_incarnation(void)
{
	LeaseIncarnation found = unknown;

	if (known.began != LEASE_NO_TIME || RecoveryInProgress())
		return known;
	if (shared != NULL)
	{
		SpinLockAcquire(&shared->mutex);
		known = shared->incarnation;
		SpinLockRelease(&shared->mutex);
		if (known.began != LEASE_NO_TIME)
			return known;
	}
	if (!find_incarnation(&found))
	{
		found.began = GetCurrentTimestamp();
		found.began_steady = lease_steady_now();
		found.timeline_age = timeline_age(found.began);
		return found;
	}
	if (shared != NULL)
	{
		/* the same for all, whatever becomes of the wall clock */
		SpinLockAcquire(&shared->mutex);
		if (shared->incarnation.began == LEASE_NO_TIME)
			shared->incarnation = found;
		found = shared->incarnation;
		SpinLockRelease(&shared->mutex);
	}
	known = found;
	return known;
}

/*
 * The second in which this server became able to write, since 1970; the present
 * one if it is not.
 */
int64
lease_incarnation_second(void)
{
	LeaseIncarnation current = lease_incarnation();

	return timestamptz_to_time_t(current.began == LEASE_NO_TIME ? GetCurrentTimestamp() : current.began);
}
