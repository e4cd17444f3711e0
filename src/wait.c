/*
 * wait.c
 *		Waiting for a lease: a queue in shared memory, first come, first served.
 *
 * Every waiting backend has a slot with a ticket.  Only the one with the lowest
 * ticket for its lease tries to acquire it, or the one that the lease is
 * reserved for; the others sleep.  The first sleeps until the lease will be free,
 * and is woken earlier by its latch when a transaction has ended that changed the
 * holder, or guarded the lease.  That happens after the commit has become
 * visible, so one look is enough.
 *
 * The slot tells, not the latch: who is first, looks.  So a waiter that goes away
 * cannot take a wake-up with it; when it leaves, however it comes to that, the
 * next is woken and looks for itself.
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

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "lease.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(lease_waiters);

/* Names the queue's lock, and the wait event. */
#define WAIT_EVENT_NAME "LeaseAcquire"

/* How long to sleep at most before looking again, in milliseconds. */
#define MAX_SLEEP 1000			/* there is a queue */
#define MAX_SLEEP_BUSY 100		/* somebody may have the row locked */
#define MAX_BUSY 10				/* tries in vain before others may try */
#define MAX_SLEEP_UNQUEUED 100	/* there is no queue */

/* What is compared in the queue. */
typedef struct Waiter
{
	uint64		ticket;			/* 0: not waiting */
	uint64		lease;			/* hash_lease() */
	uint64		holder;			/* hash of its identity */
} Waiter;

/* What is shown to people; the holder may be cut off. */
typedef struct WaiterLabel
{
	Oid			database;
	TimestampTz since;
	char		namespace[64];
	char		name[254];
	char		holder[129];
} WaiterLabel;

typedef struct Place
{
	Waiter		waiter;
	WaiterLabel label;
} Place;

/*
 * Slots are those of the PGPROC array.  The lock protects all but the count,
 * which only tells whether it is worth to look.
 */
typedef struct WaitQueue
{
	LWLock	   *lock;
	uint64		last_ticket;
	pg_atomic_uint32 count;
	Waiter	   *waiters;
	WaiterLabel *labels;
} WaitQueue;

static WaitQueue *queue = NULL;

/* Wake who waits for this lease when the transaction has ended. */
typedef struct Event
{
	uint64		lease;
	uint64		successor;		/* wake this one, too; 0: nobody */
	SubTransactionId subxact;	/* where it happened: perhaps rolled back alone */
} Event;

static List *events = NIL;		/* in order; in TopTransactionContext */

/* More are not worth remembering: wake everybody then. */
#define MAX_EVENTS 1000
static bool too_many_events = false;

/*
 * ---------- The queue ----------
 */

static Size
queue_size(void)
{
	return add_size(MAXALIGN(sizeof(WaitQueue)),
					mul_size(MaxBackends, MAXALIGN(sizeof(Waiter)) + MAXALIGN(sizeof(WaiterLabel))));
}

void
lease_wait_request_shmem(void)
{
	RequestAddinShmemSpace(queue_size());
	RequestNamedLWLockTranche(WAIT_EVENT_NAME, 1);
}

void
lease_wait_startup_shmem(void)
{
	bool		found;

	queue = ShmemInitStruct("lease waiters", queue_size(), &found);
	if (found)
		return;
	memset(queue, 0, queue_size());
	queue->lock = &GetNamedLWLockTranche(WAIT_EVENT_NAME)->lock;
	pg_atomic_init_u32(&queue->count, 0);
	queue->waiters = (Waiter *) ((char *) queue + MAXALIGN(sizeof(WaitQueue)));
	queue->labels = (WaiterLabel *) ((char *) queue->waiters +
									 MaxBackends * MAXALIGN(sizeof(Waiter)));
}

static uint64
hash_lease(const LeaseKey *key)
{
	return hash_combine64(hash_combine64(MyDatabaseId, lease_text_hash(key->namespace)),
						  lease_text_hash(key->name));
}

/* The slot of the first who waits for the lease, or -1.  Caller has the lock. */
static int
find_first(uint64 lease)
{
	int			first = -1;

	for (int i = 0; i < MaxBackends; i++)
	{
		const Waiter *w = &queue->waiters[i];

		if (w->ticket != 0 && w->lease == lease &&
			(first < 0 || w->ticket < queue->waiters[first].ticket))
			first = i;
	}
	return first;
}

static void
wake(const Event *event)
{
	int			first;

	if (queue == NULL || pg_atomic_read_u32(&queue->count) == 0)
		return;

	LWLockAcquire(queue->lock, LW_SHARED);
	first = find_first(event->lease);
	if (first >= 0 && first != MyProcNumber)
		SetLatch(&ProcGlobal->allProcs[first].procLatch);
	for (int i = 0; event->successor != 0 && i < MaxBackends; i++)
	{
		const Waiter *w = &queue->waiters[i];

		if (w->ticket != 0 && w->lease == event->lease && w->holder == event->successor)
			SetLatch(&ProcGlobal->allProcs[i].procLatch);
	}
	LWLockRelease(queue->lock);
}

static void
copy_clipped(char *dst, int size, const text *src)
{
	int			len = pg_mbcliplen(VARDATA_ANY(src), VARSIZE_ANY_EXHDR(src), size - 1);

	memcpy(dst, VARDATA_ANY(src), len);
	dst[len] = '\0';
}

/*
 * Puts place into our slot, and what was there into place.
 */
static void
exchange_place(Place *place)
{
	Waiter	   *waiter = &queue->waiters[MyProcNumber];
	WaiterLabel *label = &queue->labels[MyProcNumber];
	Place		old = {*waiter, *label};

	pg_atomic_fetch_add_u32(&queue->count,
							(place->waiter.ticket != 0) - (old.waiter.ticket != 0));
	*waiter = place->waiter;
	*label = place->label;
	*place = old;
}

/*
 * Leaves the queue, for the place that one had before.  Who is first now must
 * learn that he is, unless the end of this transaction will tell him, having
 * granted us the lease.
 */
static void
leave(Place *outer, bool wake_next)
{
	Event		event = {0};

	if (queue == NULL)
		return;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	event.lease = queue->waiters[MyProcNumber].lease;
	exchange_place(outer);
	LWLockRelease(queue->lock);
	if (wake_next)
		wake(&event);
}

static void
leave_callback(int code, Datum arg)
{
	Place		nowhere = {0};

	if (queue->waiters[MyProcNumber].ticket != 0)
		leave(&nowhere, true);
}

/*
 * Sees to it that this backend leaves when it is terminated.  Once for all: to
 * take a callback back, one has to know that nobody has registered another.
 */
static void
leave_at_exit(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(leave_callback, (Datum) 0);
	registered = true;
}

/*
 * Takes a place at the end of the queue.  outer is for leave(): a trigger may
 * wait within a try of somebody who waits already.
 */
static void
enter(const LeaseKey *key, const text *holder, Place *outer)
{
	Place		place = {0};
	Waiter	   *waiter = &place.waiter;
	WaiterLabel *label = &place.label;

	if (queue == NULL)
		return;
	leave_at_exit();

	waiter->lease = hash_lease(key);
	waiter->holder = lease_text_hash(holder);
	label->database = MyDatabaseId;
	label->since = GetCurrentTimestamp();
	copy_clipped(label->namespace, sizeof(label->namespace), key->namespace);
	copy_clipped(label->name, sizeof(label->name), key->name);
	copy_clipped(label->holder, sizeof(label->holder), holder);

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	waiter->ticket = ++queue->last_ticket;
	exchange_place(&place);
	LWLockRelease(queue->lock);
	*outer = place;
}

static bool
is_first(void)
{
	bool		result;

	if (queue == NULL)
		return true;
	LWLockAcquire(queue->lock, LW_SHARED);
	result = find_first(queue->waiters[MyProcNumber].lease) == MyProcNumber;
	LWLockRelease(queue->lock);
	return result;
}

/*
 * Goes to the end of the queue.
 */
static void
enter_again(void)
{
	Event		event = {0};

	if (queue == NULL)
		return;

	LWLockAcquire(queue->lock, LW_EXCLUSIVE);
	event.lease = queue->waiters[MyProcNumber].lease;
	queue->waiters[MyProcNumber].ticket = ++queue->last_ticket;
	LWLockRelease(queue->lock);
	wake(&event);
}

/*
 * ---------- The transactions that wake ----------
 */

/*
 * Wakes all who wait in this database.  Who is not first goes back to sleep.
 */
static void
wake_everybody(void)
{
	LWLockAcquire(queue->lock, LW_SHARED);
	for (int i = 0; i < MaxBackends; i++)
	{
		if (queue->waiters[i].ticket != 0 && queue->labels[i].database == MyDatabaseId)
			SetLatch(&ProcGlobal->allProcs[i].procLatch);
	}
	LWLockRelease(queue->lock);
}

/*
 * By now the transaction does not count as running any more.
 */
static void
at_xact_end(XactEvent xact_event, void *arg)
{
	ListCell   *lc;

	if (xact_event != XACT_EVENT_COMMIT && xact_event != XACT_EVENT_ABORT &&
		xact_event != XACT_EVENT_PREPARE)
		return;
	if (xact_event != XACT_EVENT_PREPARE)
	{
		if (too_many_events)
			wake_everybody();
		foreach(lc, events)
			wake(lfirst(lc));
	}
	events = NIL;				/* the memory goes with the transaction */
	too_many_events = false;
}

/*
 * A savepoint rolled back may have freed a lease.  What happened since it began
 * is at the end of the list: there, and there only, are its subtransactions,
 * whose numbers are greater.
 */
static void
at_subxact_end(SubXactEvent subxact_event, SubTransactionId mine,
			   SubTransactionId parent, void *arg)
{
	if (subxact_event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (too_many_events)
		wake_everybody();
	while (events != NIL && ((Event *) llast(events))->subxact >= mine)
	{
		wake(llast(events));
		events = list_delete_last(events);
	}
}

/*
 * When this transaction ends, wakes who waits for the lease, and the one it is
 * reserved for, if any.
 */
void
lease_wait_wake_at_end(const LeaseKey *key, const text *reserved_for)
{
	static bool registered = false;
	Event		event = {
		hash_lease(key),
		reserved_for != NULL ? lease_text_hash(reserved_for) : 0,
		GetCurrentSubTransactionId(),
	};
	MemoryContext old;
	Event	   *copy;

	if (queue == NULL)
		return;
	if (list_length(events) == MAX_EVENTS)
	{
		too_many_events = true;
		return;
	}
	if (!registered)
	{
		RegisterXactCallback(at_xact_end, NULL);
		RegisterSubXactCallback(at_subxact_end, NULL);
		registered = true;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	copy = palloc(sizeof(Event));
	*copy = event;
	events = lappend(events, copy);
	MemoryContextSwitchTo(old);
}

/*
 * ---------- Waiting ----------
 */

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
	may_try = a->first = is_first();
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
	long		timeout = Min(left / 1000 + 1, queue == NULL ? MAX_SLEEP_UNQUEUED : MAX_SLEEP);
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
		wait_event = lease_wait_event(WAIT_EVENT_NAME, queue != NULL);

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
	Place		outer;
	Attempt		a = {.funcid = funcid, .key = key, .terms = terms};

	a.context = AllocSetContextCreate(CurrentMemoryContext, "lease attempt", ALLOCSET_SMALL_SIZES);
	enter(key, terms->holder, &outer);
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

			/* Perhaps we may see the row but not lock it: let others try. */
			a.busy = a.first && a.status == LEASE_BUSY ? a.busy + 1 : 0;
			if (a.filtered && a.busy == MAX_BUSY)
			{
				enter_again();
				a.busy = 0;
			}
			if (!atomic)
			{
				ForgetPortalSnapshots();
				InvalidateCatalogSnapshot();
			}
			sleep_on_latch(sleep_time(&a, left));
			if (!atomic)
				EnsurePortalSnapshotExists();
		}
	}
	PG_CATCH();
	{
		leave(&outer, true);
		if (waited)
			lease_stat_wait(key->namespace, lease_monotonic_now() - start);
		PG_RE_THROW();
	}
	PG_END_TRY();
	leave(&outer, a.status != LEASE_ACQUIRED);
	if (waited)
		lease_stat_wait(key->namespace, lease_monotonic_now() - start);

	*row = a.row;
	*time = a.time;
	return a.status;
}

/*
 * ---------- Who waits ----------
 */

/*
 * How many wait for leases in this namespace of a database; NULL: in all of them.
 */
int64
lease_wait_count(Oid database, const char *namespace)
{
	int64		count = 0;

	if (queue == NULL || pg_atomic_read_u32(&queue->count) == 0)
		return 0;
	LWLockAcquire(queue->lock, LW_SHARED);
	for (int i = 0; i < MaxBackends; i++)
	{
		const WaiterLabel *label = &queue->labels[i];

		if (queue->waiters[i].ticket != 0 && label->database == database &&
			(namespace == NULL || strcmp(label->namespace, namespace) == 0))
			count++;
	}
	LWLockRelease(queue->lock);
	return count;
}

/*
 * SQL: lease_waiters()
 */
Datum
lease_waiters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; queue != NULL && i < MaxBackends; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		WaiterLabel label;
		bool		waiting;
		Oid			role;
		int			pid;

		LWLockAcquire(queue->lock, LW_SHARED);
		waiting = queue->waiters[i].ticket != 0;
		label = queue->labels[i];
		role = proc->roleId;
		pid = proc->pid;
		LWLockRelease(queue->lock);

		/* who may see it in pg_stat_activity */
		if (waiting && label.database == MyDatabaseId &&
			(has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
			 has_privs_of_role(GetUserId(), role)))
		{
			Datum		values[] = {
				CStringGetTextDatum(label.namespace),
				CStringGetTextDatum(label.name),
				CStringGetTextDatum(label.holder),
				Int32GetDatum(pid),
				TimestampTzGetDatum(label.since),
			};
			bool		nulls[lengthof(values)] = {false};

			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}
