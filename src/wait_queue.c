/*
 * wait_queue.c
 *		Who waits for a lease: a queue in shared memory, first come, first served; and
 *		the transactions that wake who is next.
 *
 * Every waiting backend has a slot with a ticket.  The one with the lowest ticket for
 * its lease is the first.  When a transaction has ended that changed the holder, or
 * guarded the lease, the first is woken by its latch; and so is the one that the lease
 * is reserved for.  That happens after the commit has become visible, so one look is
 * enough.
 *
 * The slot tells, not the latch: who is first, looks.  So a waiter that goes away
 * cannot take a wake-up with it; when it leaves, however it comes to that, the
 * next is woken and looks for itself.
 *
 * Without shared_preload_libraries there is no queue: everybody is first, and nobody is
 * woken.
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
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(lease_waiters);

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
	char		namespace[LEASE_MAX_LABEL + 1];
	char		name[LEASE_MAX_SUBDOMAIN + 1];
	char		holder[129];
} WaiterLabel;

/* What is in a slot */
struct LeasePlace
{
	Waiter		waiter;
	WaiterLabel label;
};

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
lease_queue_request_shmem(void)
{
	RequestAddinShmemSpace(queue_size());
	RequestNamedLWLockTranche(LEASE_ACQUIRE_WAIT_EVENT, 1);
}

void
lease_queue_startup_shmem(void)
{
	bool		found;

	queue = ShmemInitStruct("lease waiters", queue_size(), &found);
	if (found)
		return;
	memset(queue, 0, queue_size());
	queue->lock = &GetNamedLWLockTranche(LEASE_ACQUIRE_WAIT_EVENT)->lock;
	pg_atomic_init_u32(&queue->count, 0);
	queue->waiters = (Waiter *) ((char *) queue + MAXALIGN(sizeof(WaitQueue)));
	queue->labels = (WaiterLabel *) ((char *) queue->waiters +
									 MaxBackends * MAXALIGN(sizeof(Waiter)));
}

/*
 * Is anybody ever woken?
 */
bool
lease_queue_exists(void)
{
	return queue != NULL;
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
exchange_place(LeasePlace *place)
{
	Waiter	   *waiter = &queue->waiters[MyProcNumber];
	WaiterLabel *label = &queue->labels[MyProcNumber];
	LeasePlace	old = {*waiter, *label};

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
void
lease_queue_leave(LeasePlace *outer, bool wake_next)
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
	LeasePlace	nowhere = {0};

	if (queue->waiters[MyProcNumber].ticket != 0)
		lease_queue_leave(&nowhere, true);
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
 * Takes a place at the end of the queue.  Returns what is for lease_queue_leave(), the
 * place that one had before: a trigger may wait within a try of somebody who waits
 * already.
 */
LeasePlace *
lease_queue_enter(const LeaseKey *key, const text *holder)
{
	LeasePlace *place = palloc0(sizeof(LeasePlace));
	Waiter	   *waiter = &place->waiter;
	WaiterLabel *label = &place->label;

	if (queue == NULL)
		return place;
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
	exchange_place(place);
	LWLockRelease(queue->lock);
	return place;
}

/*
 * Is it this backend's turn?
 */
bool
lease_queue_is_first(void)
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
void
lease_queue_enter_again(void)
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
lease_queue_wake_at_end(const LeaseKey *key, const text *reserved_for)
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
 * ---------- Who waits ----------
 */

/*
 * How many wait for leases in this namespace of a database; NULL: in all of them.
 */
int64
lease_queue_count(Oid database, const char *namespace)
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
