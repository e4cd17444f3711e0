/*
 * wait.c
 *		Waiting for a lease.
 *
 * Only the first in the queue (wait_queue.c) tries to acquire the lease, or the one
 * that it is reserved for; the others sleep.  The first sleeps until the lease will be
 * free, and is woken earlier when something has happened to it.
 *
 * Each look or try is a subtransaction, rolled back unless it succeeds.  A
 * sleeping waiter therefore holds no lock on the table or a row.  The snapshot of
 * a SELECT that calls us is the server's, and stays; a CALL has none.
 *
 * Once in a while a waiter looks without having been woken, for the sake of what
 * cannot tell us: COMMIT PREPARED, TRUNCATE, a transaction that locked the row by
 * hand.  Without shared_preload_libraries there is no queue, and that is all
 * there is.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "lease.h"
#include "compat.h"

/* How long to sleep at most before looking again, in milliseconds. */
#define MAX_SLEEP 1000			/* there is a queue */
#define MAX_SLEEP_BUSY 100		/* somebody may have the row locked */
#define MAX_BUSY 10				/* tries in vain before others may try */
#define MAX_SLEEP_UNQUEUED 100	/* there is no queue */

typedef struct Attempt
{
	Oid			funcid;
	const LeaseKey *key;
	const LeaseTerms *terms;
	MemoryContext context;		/* for what one attempt allocates, row among it */
	bool		first;			/* in the queue */
	bool		filtered;
	int			busy;			/* so often in a row, being first */
	LeaseStatus status;
	LeaseRow	row;
	LeaseTime	time;
} Attempt;

/* Free, but not for everybody yet. */
static bool
is_reserved(const LeaseRow *row, const LeaseTime *time)
{
	return time->now < lease_ttl_available_at(row, NULL, time);
}

/*
 * Looks, and if it is our turn, acquires.  Work for lease_in_subtransaction():
 * true if we have got it.
 */
static bool
attempt_once(void *arg)
{
	Attempt    *a = arg;
	LeaseStore *store = lease_store_open(a->funcid, true);
	bool		may_try;

	a->filtered = lease_store_is_filtered(store);
	may_try = a->first = lease_queue_is_first();
	if (!a->first)
	{
		a->status = lease_election_look(store, a->key, a->terms->holder, &a->row, &a->time);
		may_try = a->status == LEASE_RENEWED ||
			(a->status == LEASE_ACQUIRED && is_reserved(&a->row, &a->time));
	}
	if (may_try)
		a->status = lease_election_acquire(store, a->key, a->terms, &a->row, &a->time);
	else if (a->status == LEASE_ACQUIRED || a->status == LEASE_MISSING)
		a->status = LEASE_BUSY; /* the first is about to get it */
	lease_store_close(store);
	return a->status == LEASE_ACQUIRED || a->status == LEASE_RENEWED;
}

static bool
attempt(Attempt *a)
{
	MemoryContext old;
	bool		result;

	MemoryContextReset(a->context);
	old = MemoryContextSwitchTo(a->context);
	result = lease_in_subtransaction(attempt_once, a);
	MemoryContextSwitchTo(old);
	return result;
}

/*
 * How long to sleep after an attempt that failed, in milliseconds.  The first
 * sleeps until the lease will be free, if nothing happens before.
 */
static long
sleep_time(const Attempt *a, int64 left)
{
	long		timeout = Min(left / 1000 + 1, !lease_queue_exists() ? MAX_SLEEP_UNQUEUED : MAX_SLEEP);
	TimestampTz free_at;

	if (!a->first)
		return timeout;
	if (a->status == LEASE_BUSY)
		return Min(timeout, MAX_SLEEP_BUSY);

	free_at = lease_ttl_available_at(&a->row, a->terms->holder, &a->time);
	if (a->status == LEASE_HELD)
		free_at = Max(free_at, lease_ttl_expires_at(&a->row, &a->time));
	return Min(timeout, TimestampDifferenceMilliseconds(lease_clock_now(), free_at));
}

/*
 * Sleeps until the time is over or somebody sets our latch.  Look after this, not
 * before: handling interrupts and asking for the client may reset the latch.
 */
static void
sleep_on_latch(long timeout)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = lease_wait_event(LEASE_ACQUIRE_WAIT_EVENT, lease_queue_exists());

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, wait_event);
	ResetLatch(MyLatch);

	/* Nobody else would notice before we answer. */
	if (MyProcPort != NULL && WaitEventSetCanReportClosed() && !pq_check_connection())
	{
		ClientConnectionLost = true;
		InterruptPending = true;
	}
	CHECK_FOR_INTERRUPTS();
}

/*
 * Perhaps we may see the row but not lock it: now and then lets others try.
 */
static void
make_way(Attempt *a)
{
	a->busy = a->first && a->status == LEASE_BUSY ? a->busy + 1 : 0;
	if (a->filtered && a->busy == MAX_BUSY)
	{
		lease_queue_enter_again();
		a->busy = 0;
	}
}

/*
 * Sleeps after an attempt that failed, without the snapshot of a CALL.
 */
static void
sleep_after(const Attempt *a, int64 left, bool atomic)
{
	if (!atomic)
	{
		ForgetPortalSnapshots();
		InvalidateCatalogSnapshot();
	}
	sleep_on_latch(sleep_time(a, left));
	if (!atomic)
		EnsurePortalSnapshotExists();
}

/*
 * Acquires the lease, or waits for it for so many microseconds.  The results are
 * those of lease_election_acquire().
 *
 * atomic: the caller's snapshot has to stay.  Otherwise this is a CALL, and it
 * goes as for a COMMIT in a procedure.
 */
LeaseStatus
lease_wait_acquire(Oid funcid, const LeaseKey *key, const LeaseTerms *terms,
				   int64 wait, bool atomic, LeaseRow *row, LeaseTime *time)
{
	int64		start = lease_monotonic_now();
	int64		deadline = start + wait;
	volatile bool waited = false;
	LeasePlace *outer;
	Attempt		a = {.funcid = funcid, .key = key, .terms = terms};

	a.context = AllocSetContextCreate(CurrentMemoryContext, "lease attempt", ALLOCSET_SMALL_SIZES);
	outer = lease_queue_enter(key, terms->holder);
	PG_TRY();
	{
		while (!attempt(&a))
		{
			int64		left = deadline - lease_monotonic_now();

			if (left <= 0)
				break;

			/* who waits shall show, in a namespace of which nothing was counted yet */
			if (!waited)
				lease_stat_count(LEASE_STAT_WAITS, key->namespace, 0);
			waited = true;

			make_way(&a);
			sleep_after(&a, left, atomic);
		}
	}
	PG_CATCH();
	{
		lease_queue_leave(outer, true);
		if (waited)
			lease_stat_wait(key->namespace, lease_monotonic_now() - start);
		PG_RE_THROW();
	}
	PG_END_TRY();
	lease_queue_leave(outer, a.status != LEASE_ACQUIRED);
	if (waited)
		lease_stat_wait(key->namespace, lease_monotonic_now() - start);

	*row = a.row;
	*time = a.time;
	return a.status;
}
