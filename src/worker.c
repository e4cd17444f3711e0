/*
 * worker.c
 *		The background worker of a database: sends the events of leases, notices
 *		that they expire, collects what has expired, and writes to the table what
 *		was renewed in memory.
 *
 * Everything is done in short transactions on behalf of the owner of the
 * extension's tables, and nothing is held between them.  Any error ends the
 * process; the launcher starts another, later and later if that goes on.
 *
 * A worker must not be in anybody's way.  It never waits for a lock, takes table
 * locks only within its short transactions, and leaves the database when somebody
 * wants to drop, copy or rename it.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/async.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "lease.h"
#include "compat.h"

#define CHANNEL "lease"

/* How often to look whether somebody wants the database for himself */
#define LOOK_INTERVAL (500 * 1000)

/* A batch of the collection is followed by a pause so many times as long. */
#define GC_PAUSE 9

/* Renewals that are written back in one transaction */
#define FLUSH_BATCH 100

/* How often that is done if there is no room, and nothing was set */
#define FLUSH_INTERVAL_WHEN_FULL (10 * USECS_PER_SEC)

/* With more of the queue of NOTIFY in use, somebody does not listen: send nothing. */
#define MAX_QUEUE_USAGE 0.5
#define MAX_PAYLOADS 1000

/* lease.worker, lease.notify and lease.gc_interval */
bool		lease_worker_enabled = true;
static bool notify = true;
static int	gc_interval;

static Oid	schema;				/* of the extension; InvalidOid: of a version that is not served */

/* When to do what next, by the monotonic clock, as all times here */
static int64 next_look = 0;
static int64 next_scan = 0;

void
lease_worker_init(void)
{
	DefineCustomBoolVariable("lease.worker",
							 "Runs a background worker in each database that has the extension.",
							 "It needs lease in shared_preload_libraries.",
							 &lease_worker_enabled,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("lease.notify",
							 "Sends what happens to leases with NOTIFY on channel \"lease\".",
							 "Everybody who may connect to the database may listen.",
							 &notify,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("lease.gc_interval",
							"How often the background worker collects leases that have expired.",
							"0 leaves that to others.",
							&gc_interval,
							60, 0, SECS_PER_DAY,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
}

/*
 * ---------- Transactions ----------
 */

static LeaseIdentity identity;

/*
 * Begins a transaction of the owner of the table; NULL if DDL has it locked.
 */
static LeaseStore *
begin_work(const char *activity)
{
	pgstat_report_activity(STATE_RUNNING, activity);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	identity = lease_owner_begin(lease_relation_find(LEASE_TABLE, schema));
	return lease_store_open_in(schema, true);
}

static void
end_work(LeaseStore *store)
{
	lease_store_close(store);
	lease_owner_end(identity);
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * ---------- Is it time to go? ----------
 */

static void
detach(int code, Datum arg)
{
	lease_mailbox_detach(true);
}

/*
 * Does somebody want the database for himself, as DROP DATABASE and CREATE
 * DATABASE ... TEMPLATE do?  They wait 5 seconds for others to go, having locked
 * it against those who come.
 */
bool
lease_worker_is_unwelcome(Oid database)
{
	LOCKTAG		tag;
	bool		unwelcome;

	/* what who connects to a database locks */
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	StartTransactionCommand();
	unwelcome = LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	return unwelcome;
}

/*
 * Finds the extension.  Sets schema if it is one that this library serves; ends
 * the process if there is none.
 */
static void
find_extension(void)
{
	static char reported[NAMEDATALEN];
	char	   *version;
	bool		found;

	(void) lease_mailbox_take_change();
	StartTransactionCommand();
	found = lease_extension_find(&schema, &version);
	if (found && !lease_extension_is_served(version))
	{
		schema = InvalidOid;
		if (strncmp(reported, version, NAMEDATALEN - 1) != 0)
			ereport(LOG,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("lease worker for database \"%s\" is idle", get_database_name(MyDatabaseId)),
					 errdetail("The library has version %s, the extension has version %s.",
							   LEASE_VERSION, version),
					 errhint("Restart the server if it has loaded another library than is installed; otherwise run ALTER EXTENSION lease UPDATE.")));
		strlcpy(reported, version, NAMEDATALEN);
	}
	else
		reported[0] = '\0';
	CommitTransactionCommand();
	if (!found)
	{
		lease_mailbox_detach(false);
		proc_exit(0);
	}
}

static void
look_around(void)
{
	int64		now = lease_monotonic_now();

	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (!lease_worker_enabled)
		proc_exit(0);
	if (lease_mailbox_take_change())
		find_extension();
	if (now >= next_look)
	{
		if (lease_expiry_is_stale())
			next_scan = 0;
		if (lease_worker_is_unwelcome(MyDatabaseId))
			proc_exit(0);
		next_look = now + LOOK_INTERVAL;
	}
}

/*
 * ---------- Events ----------
 */

static MemoryContext mail_context;	/* events that are being dealt with */

/*
 * If listeners are so slow that the queue fills up, nobody may use NOTIFY in the
 * end.
 */
static bool
queue_is_full(void)
{
	static bool reported = false;
	bool		full = DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0)) >
		MAX_QUEUE_USAGE;

	if (full && !reported)
		ereport(LOG,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("lease events are not sent because the notification queue is filling up"),
				 errhint("Look for a session that listens and does not end its transaction.")));
	reported = full;
	return full;
}

/*
 * Sends events, and before them, that some were lost.
 */
static void
send_events(List *events, bool lost)
{
	const ListCell *lc;

	for (int i = 0; notify && (lost || i < list_length(events)); i += MAX_PAYLOADS)
	{
		pgstat_report_activity(STATE_RUNNING, "sending events of leases");
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		if (!queue_is_full())
		{
			if (lost)
				Async_Notify(CHANNEL, lease_event_lost_payload());
			for_each_from(lc, events, i)
			{
				if (foreach_current_index(lc) == i + MAX_PAYLOADS)
					break;
				Async_Notify(CHANNEL, lease_event_payload(lfirst(lc)));
			}
		}
		CommitTransactionCommand();
		pgstat_report_activity(STATE_IDLE, NULL);
		lost = false;
	}
}

static void
note_expiry(const LeaseEvent *event)
{
	LeaseKey	key;

	if (event->expires_at == LEASE_NO_TIME || event->type == LEASE_EVENT_DELETED)
		return;
	key.namespace = cstring_to_text_with_len(event->texts, event->namespace_len);
	key.name = cstring_to_text_with_len(event->texts + event->namespace_len, event->name_len);
	lease_expiry_add(&key, event->expires_at);
}

/*
 * Sends what transactions have put into the mailbox.
 */
static void
read_mail(void)
{
	MemoryContext old = MemoryContextSwitchTo(mail_context);
	List	   *events = NIL;
	StringInfoData mail;
	bool		lost;

	initStringInfo(&mail);
	lost = lease_mailbox_take(&mail);
	for (int at = 0; at < mail.len;)
	{
		LeaseEvent *event = (LeaseEvent *) (mail.data + at);

		note_expiry(event);
		if (event->type != LEASE_EVENT_RENEWED)
			events = lappend(events, event);
		at += event->size;
	}
	if (lost)
		next_scan = 0;
	send_events(events, lost);
	MemoryContextSwitchTo(old);
	MemoryContextReset(mail_context);
}

/*
 * ---------- Expiries ----------
 */

static void
scan_expiries(void)
{
	LeaseStore *store;

	find_extension();
	if (OidIsValid(schema))
	{
		store = begin_work("looking for leases that expire soon");
		if (store != NULL)
			lease_expiry_scan(store);
		end_work(store);
	}
	next_scan = lease_monotonic_now() + lease_expiry_scan_interval();
}

static void
check_expiries(void)
{
	MemoryContext old = MemoryContextSwitchTo(mail_context);
	LeaseStore *store = begin_work("looking at leases that expire");
	List	   *events;

	MemoryContextSwitchTo(mail_context);
	events = lease_expiry_check(store);
	end_work(store);

	MemoryContextSwitchTo(mail_context);
	send_events(events, false);
	MemoryContextSwitchTo(old);
	MemoryContextReset(mail_context);
}

/*
 * ---------- Collection ----------
 */

static MemoryContext gc_context;	/* a pass of the collection */
static LeaseGcPass *pass = NULL;
static bool trimming = false;	/* the leases are done, now the history */
static int64 gc_time;			/* what the steps of the pass took */
static int64 next_gc = 0;
static int64 last_gc;			/* when the last pass began */

/*
 * Takes a step: begins a pass, or deletes a batch of leases, or of the history.
 */
static void
collect(void)
{
	int64		start = lease_monotonic_now();
	LeaseStore *store = begin_work("collecting expired leases");
	MemoryContext old;
	bool		more = true;
	int64		deleted = 0;
	int64		took;

	if (pass == NULL)
	{
		last_gc = start;
		gc_time = 0;
		old = MemoryContextSwitchTo(gc_context);
		pass = lease_gc_find(store);
		MemoryContextSwitchTo(old);
	}
	else if (!trimming)
	{
		deleted = lease_gc_batch(pass, store, &more);
		trimming = !more;
		more = true;
	}
	else
		deleted = lease_gc_trim_history(lease_relation_find(LEASE_TABLE, schema), &more);
	end_work(store);
	took = lease_monotonic_now() - start;
	gc_time += took;
	ereport(DEBUG1,
			(errmsg_internal("deleted " INT64_FORMAT " rows in " INT64_FORMAT " us", deleted, took)));

	if (more)
	{
		next_gc = start + took + took * GC_PAUSE;
		return;
	}
	lease_stat_gc_run(gc_time);
	pass = NULL;
	trimming = false;
	MemoryContextReset(gc_context);
	next_gc = 0;
}

/*
 * When to take the next step; INT64_MAX: never.
 */
static int64
gc_due(void)
{
	if (gc_interval == 0)
		return PG_INT64_MAX;
	return Max(next_gc, pass == NULL ? last_gc + gc_interval * USECS_PER_SEC : 0);
}

/*
 * ---------- Renewals in memory ----------
 */

/* Leases whose renewals are to be written back, from the next one on */
static MemoryContext flush_context;
static LeaseUnwritten *unwritten;
static Oid	unwritten_relid;
static int	unwritten_count = 0;
static int	unwritten_next = 0;
static int64 last_flush;		/* when they were looked for */

/*
 * Takes a step: looks for renewals that are in memory only, or writes a batch of them
 * back.  A row that somebody has locked has to wait for the next time; if DDL has the
 * table, all have.
 */
static void
flush(void)
{
	LeaseStore *store = begin_work("writing renewals back");
	int			first;

	if (store == NULL || unwritten_next >= unwritten_count)
	{
		MemoryContext old = MemoryContextSwitchTo(flush_context);

		MemoryContextReset(flush_context);
		last_flush = lease_monotonic_now();
		unwritten_next = 0;
		unwritten_count = store == NULL ? 0 : lease_store_unwritten(store, &unwritten_relid, &unwritten);
		MemoryContextSwitchTo(old);
	}
	first = unwritten_next;
	while (unwritten_next < unwritten_count && unwritten_next < first + FLUSH_BATCH)
	{
		LeaseUnwritten *lease = &unwritten[unwritten_next++];

		lease->done = lease_store_write_back(store, &lease->key);
	}
	end_work(store);

	/* Only now, that it has been committed. */
	for (int i = first; i < unwritten_next; i++)
	{
		if (unwritten[i].done)
			lease_memory_written(unwritten_relid, &unwritten[i]);
	}
}

/*
 * When to take the next step; INT64_MAX: never.
 */
static int64
flush_due(void)
{
	int64		interval = lease_memory_flush_interval();

	if (unwritten_next < unwritten_count)
		return 0;
	if (lease_memory_is_empty())
		return PG_INT64_MAX;

	/* At once, nearly, if nothing may be in memory any more. */
	if (!lease_clock_gives_grace())
		return last_flush + LOOK_INTERVAL;
	/* Only what was written back can make room. */
	if (interval == 0)
		interval = lease_memory_is_full() ? FLUSH_INTERVAL_WHEN_FULL : PG_INT64_MAX - last_flush;
	return last_flush + interval;
}

/*
 * The last thing to do when the server is shut down.
 */
static void
flush_all(void)
{
	unwritten_next = unwritten_count = 0;
	if (!OidIsValid(schema) || lease_memory_is_empty())
		return;
	do
		flush();
	while (unwritten_next < unwritten_count);
}

/*
 * ---------- The process ----------
 */

/*
 * Sleeps until there is something to do.  Nothing is held meanwhile.
 */
static void
sleep_until_due(void)
{
	static uint32 wait_event = 0;
	int64		now = lease_monotonic_now();
	int64		until = next_look;
	int64		timeout;

	if (wait_event == 0)
		wait_event = lease_wait_event(LEASE_WORKER_WAIT_EVENT, true);

	until = Min(until, next_scan);
	if (OidIsValid(schema))
		until = Min(until, Min(gc_due(), flush_due()));
	timeout = Max(until - now, 0);
	if (OidIsValid(schema))
		timeout = Min(timeout, Max(lease_expiry_next() - lease_clock_now(), 0));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 (timeout + 999) / 1000, wait_event);
	ResetLatch(MyLatch);
}

static void
work(void)
{
	bool		settled = false;

	for (;;)
	{
		if (ProcDiePending)
		{
			/* not before this is done, unless told again */
			ProcDiePending = false;
			flush_all();
			ProcDiePending = InterruptPending = true;
		}
		look_around();
		if (lease_monotonic_now() >= next_scan)
			scan_expiries();
		if (OidIsValid(schema))
		{
			read_mail();
			if (lease_clock_now() >= lease_expiry_next())
				check_expiries();
			if (lease_monotonic_now() >= gc_due())
				collect();
			if (lease_monotonic_now() >= flush_due())
				flush();
		}
		if (!settled)
			lease_mailbox_settle();
		settled = true;
		sleep_until_due();
	}
}

/*
 * Works until there is an error, and remembers that.
 */
static void
run(void)
{
	PG_TRY();
	{
		work();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		EmitErrorReport();
		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		lease_stat_error(error->message);
		proc_exit(1);
	}
	PG_END_TRY();
}

/*
 * What somebody has set for the database or for all is not for us.
 */
static void
set_options(void)
{
	static const char *const options[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"lock_timeout", "100ms"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"synchronous_commit", "off"},
		{"session_replication_role", "origin"},
	};

	for (int i = 0; i < lengthof(options); i++)
		SetConfigOption(options[i][0], options[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Main function of a worker.  Started by the launcher.
 */
void
lease_worker_main(Datum database)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	/* before connecting, so that there is one */
	before_shmem_exit(detach, (Datum) 0);
	if (!lease_mailbox_attach(DatumGetObjectId(database)))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);
	set_options();

	mail_context = AllocSetContextCreate(TopMemoryContext, "lease events", ALLOCSET_DEFAULT_SIZES);
	flush_context = AllocSetContextCreate(TopMemoryContext, "lease renewals", ALLOCSET_DEFAULT_SIZES);
	gc_context = AllocSetContextCreate(TopMemoryContext, "lease collection", ALLOCSET_DEFAULT_SIZES);
	lease_expiry_start(TopMemoryContext);
	last_gc = last_flush = lease_monotonic_now();
	find_extension();
	run();
}
