/*
 * expiry.c
 *		Which leases expire next, and what is done when they have.
 *
 * The worker keeps the leases that expire soon in a heap.  A renewal touches
 * nothing here: when a lease is due, its row is looked at, and most often it has
 * been renewed.  A scan of the table now and then begins the heap anew, with
 * what expires before the next scan; in between, transactions tell the worker
 * what they have acquired.  So leases that are renewed in time mostly never
 * enter the heap, and nothing has to be kept in step.
 *
 * That a lease is noted twice does no harm: the history tells what is news.
 */
#include "postgres.h"

#include "lib/pairingheap.h"
#include "utils/memutils.h"

#include "lease.h"

/* Who waits for a lease may take it first; in microseconds. */
#define ANNOUNCE_DELAY 30000

/* When to look again at a lease that somebody was just changing */
#define BUSY_DELAY 100000

/* Between scans, at least; and not more than 1 % of the time in them. */
#define MIN_SCAN_INTERVAL (10 * USECS_PER_SEC)
#define SCAN_SHARE 100

/* Scans may be late by this. */
#define HORIZON_SLACK (5 * USECS_PER_SEC)

/* A worker that starts looks back so far. */
#define LOOK_BACK (10 * USECS_PER_MINUTE)

/* How many leases to look at in a transaction: those expired stay locked so long. */
#define MAX_CHECKED 20

typedef struct Expiry
{
	pairingheap_node node;
	LeaseKey	key;
	TimestampTz expires_at;
	TimestampTz due;
} Expiry;

static MemoryContext context;	/* the heap and what is in it */
static pairingheap *heap;
static TimestampTz horizon;		/* the next scan will find what expires later */
static TimestampTz unknown_since;	/* what expired before is dealt with */
static TimestampTz oldest_busy; /* expiry of one that was locked; or DT_NOEND */
static int64 scan_interval;
static LeaseTime scanned_at;			/* when the heap was begun */

/* The earliest comes first. */
static int
compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz due_a = pairingheap_const_container(Expiry, node, a)->due;
	TimestampTz due_b = pairingheap_const_container(Expiry, node, b)->due;

	return due_a < due_b ? 1 : due_a > due_b ? -1 : 0;
}

static void
empty(void)
{
	MemoryContext old;

	MemoryContextReset(context);
	old = MemoryContextSwitchTo(context);
	heap = pairingheap_allocate(compare, NULL);
	MemoryContextSwitchTo(old);
	oldest_busy = DT_NOEND;
}

/*
 * Begins with nothing.
 */
void
lease_expiry_start(MemoryContext parent)
{
	context = AllocSetContextCreate(parent, "lease expiries", ALLOCSET_DEFAULT_SIZES);
	empty();
	scanned_at = lease_clock_read();
	unknown_since = scanned_at.now - LOOK_BACK;
	horizon = unknown_since;
	scan_interval = MIN_SCAN_INTERVAL;
}

static Expiry *
first(void)
{
	return pairingheap_is_empty(heap) ? NULL :
		pairingheap_container(Expiry, node, pairingheap_first(heap));
}

static void
add(const LeaseKey *key, TimestampTz expires_at, TimestampTz due)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Expiry	   *expiry = palloc(sizeof(Expiry));

	expiry->key.namespace = lease_text_copy(key->namespace);
	expiry->key.name = lease_text_copy(key->name);
	expiry->expires_at = expires_at;
	expiry->due = due;
	pairingheap_add(heap, &expiry->node);
	MemoryContextSwitchTo(old);
}

/*
 * Notes when a lease expires; LEASE_NO_TIME stands for never.
 */
void
lease_expiry_add(const LeaseKey *key, TimestampTz expires_at)
{
	if (expires_at != LEASE_NO_TIME && expires_at < horizon)
		add(key, expires_at, lease_ttl_after(expires_at, ANNOUNCE_DELAY));
}

static bool
visit(const LeaseFound *found, void *arg)
{
	TimestampTz since = *(TimestampTz *) arg;
	LeaseTime	time = lease_clock_read();	/* later than whatever the scan can see */
	TimestampTz expires_at = lease_ttl_expires_at(&found->row, &time);

	/* What a clock ahead of ours has written is to be put right. */
	if (expires_at != LEASE_NO_TIME && lease_ttl_is_ahead(&found->row, &time))
		lease_expiry_add(&found->key, time.now);
	else if (expires_at >= since)
		lease_expiry_add(&found->key, expires_at);
	return true;
}

/*
 * Begins anew with what the table says.
 */
void
lease_expiry_scan(LeaseStore *store)
{
	int64		start = lease_monotonic_now();
	LeaseTime	now = lease_clock_read();
	TimestampTz since = Min(unknown_since, oldest_busy);

	if (now.counts_from != scanned_at.counts_from)
		since = now.now - LOOK_BACK;
	else if (first() != NULL)
		since = Min(since, first()->expires_at);
	empty();
	scanned_at = now;
	horizon = scanned_at.now + scan_interval + HORIZON_SLACK;
	lease_store_scan(store, &scanned_at, horizon, visit, &since);
	unknown_since = scanned_at.now;
	scan_interval = Max(MIN_SCAN_INTERVAL, (lease_monotonic_now() - start) * SCAN_SHARE);
}

/*
 * Has the clock been set since the last scan?  Then all that is known of when
 * leases expire is wrong.
 */
bool
lease_expiry_is_stale(void)
{
	return lease_clock_read().counts_from != scanned_at.counts_from;
}

/* From one scan to the next, in microseconds. */
int64
lease_expiry_scan_interval(void)
{
	return scan_interval;
}

/*
 * When to call lease_expiry_check() next; DT_NOEND if nothing expires.
 */
TimestampTz
lease_expiry_next(void)
{
	return first() == NULL ? DT_NOEND : first()->due;
}

/* The event, if the lease has expired and nobody knew. */
static LeaseEvent *
check(LeaseStore *store, const Expiry *expiry)
{
	LeaseRow	row;
	TimestampTz expires_at;

	switch (lease_election_expire(store, &expiry->key, &row, &expires_at))
	{
		case LEASE_EXPIRED:
			lease_queue_wake_at_end(&expiry->key, NULL);
			return lease_event_make(LEASE_EVENT_EXPIRED, &expiry->key, &row);
		case LEASE_RENEWED:
			lease_expiry_add(&expiry->key, expires_at);
			return NULL;
		case LEASE_BUSY:
			oldest_busy = Min(oldest_busy, expiry->expires_at);
			add(&expiry->key, expiry->expires_at, lease_clock_now() + BUSY_DELAY);
			return NULL;
		default:
			return NULL;
	}
}

/*
 * Looks at leases that are due, as many as a transaction should.  The events that
 * this causes, in the current memory context; to be sent when it has committed.
 */
List *
lease_expiry_check(LeaseStore *store)
{
	List	   *events = NIL;
	TimestampTz now = lease_clock_now();

	for (int i = 0; i < MAX_CHECKED && lease_expiry_next() <= now; i++)
	{
		Expiry	   *expiry = pairingheap_container(Expiry, node, pairingheap_remove_first(heap));
		LeaseEvent *event = check(store, expiry);

		if (event != NULL)
			events = lappend(events, event);
		pfree(expiry->key.namespace);
		pfree(expiry->key.name);
		pfree(expiry);
	}
	return events;
}
