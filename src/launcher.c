/*
 * launcher.c
 *		The process that starts a worker for each database with the extension.
 *
 * Only a process that is connected to a database can tell whether it has the
 * extension.  So the launcher starts a worker for each database that it has not
 * seen yet, one after the other, and who finds nothing there ends at once.  Later
 * on, the transaction that creates the extension says so (extension.c).
 *
 * It begins when the server is open for writing, so never on a standby.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "lease.h"
#include "compat.h"

#define WAIT_EVENT_NAME "LeaseLauncherMain"

/* How often to look for new databases */
#define LOOK_INTERVAL (10 * USECS_PER_SEC)

/* How long to wait before a worker is started again */
#define MIN_DELAY USECS_PER_SEC
#define MAX_DELAY (60 * USECS_PER_SEC)

/* A worker that is connecting to a database that somebody has locked would wait. */
#define LOCKED_DELAY (USECS_PER_SEC / 2)

/* All workers of the server may be busy with something else. */
#define NO_SLOT_DELAY (5 * USECS_PER_SEC)

/* What the launcher knows of a mailbox's worker. */
typedef struct Worker
{
	Oid			database;		/* the mailbox's, when we looked last */
	BackgroundWorkerHandle *handle; /* NULL: not started */
	int64		not_before;		/* by the monotonic clock, as all here */
	int64		delay;
	bool		no_slot;		/* it was to be started, and there was no slot */
} Worker;

static Worker *workers;			/* by the number of the mailbox */
static List *seen = NIL;		/* OIDs of databases that a worker was sent to */
static int64 next_look = 0;

void
lease_launcher_init(void)
{
	BackgroundWorker launcher = {0};

	/* pg_upgrade's servers are its own. */
	if (IsBinaryUpgrade)
		return;
	strlcpy(launcher.bgw_name, "lease launcher", BGW_MAXLEN);
	strlcpy(launcher.bgw_type, "lease launcher", BGW_MAXLEN);
	strlcpy(launcher.bgw_library_name, "lease", BGW_MAXLEN);
	strlcpy(launcher.bgw_function_name, "lease_launcher_main", BGW_MAXLEN);
	launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
	launcher.bgw_restart_time = 1;
	RegisterBackgroundWorker(&launcher);
}

void
lease_launcher_request_shmem(void)
{
	RequestNamedLWLockTranche(WAIT_EVENT_NAME, 1);
}

/*
 * ---------- Databases ----------
 */

/*
 * The databases that one can connect to, in the current memory context.
 */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);

		/* a DROP DATABASE that was interrupted leaves one behind that is invalid */
		if (database->datallowconn && !database_is_invalid_form(database))
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}

/*
 * Is a worker still finding out whether its database has the extension?  Not one
 * that has failed before.
 */
static bool
somebody_is_visiting(void)
{
	for (int i = 0; i < max_worker_processes; i++)
	{
		LeaseMailboxState state = lease_mailbox_state(i);

		if (OidIsValid(state.database) && !state.settled &&
			(workers[i].database != state.database || workers[i].delay == MIN_DELAY))
			return true;
	}
	return false;
}

static void
report_refused(void)
{
	static bool reported = false;

	if (lease_mailbox_take_refused() && !reported)
	{
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("not every database with the extension \"lease\" can have a worker"),
				 errhint("Increase max_worker_processes.")));
		reported = true;
	}
}

/*
 * Gives up mailboxes of databases that are gone, and sends a worker to one that
 * is new.
 */
static void
look_at_databases(void)
{
	List	   *databases = list_databases();
	List	   *gone;
	ListCell   *lc;
	MemoryContext old;

	for (int i = 0; i < max_worker_processes; i++)
	{
		LeaseMailboxState state = lease_mailbox_state(i);

		if (OidIsValid(state.database) && !list_member_oid(databases, state.database))
			lease_mailbox_abandon(state.database);
	}

	old = MemoryContextSwitchTo(TopMemoryContext);
	gone = list_difference_oid(seen, databases);
	foreach(lc, gone)
		seen = list_delete_oid(seen, lfirst_oid(lc));
	list_free(gone);
	next_look = lease_monotonic_now() + LOOK_INTERVAL;
	foreach(lc, databases)
	{
		if (list_member_oid(seen, lfirst_oid(lc)))
			continue;

		/* Look again as soon as this one has found out. */
		next_look = 0;
		if (somebody_is_visiting() || !lease_mailbox_claim(lfirst_oid(lc)))
			break;
		seen = lappend_oid(seen, lfirst_oid(lc));
	}
	MemoryContextSwitchTo(old);
	list_free(databases);
}

/*
 * ---------- Workers ----------
 */

static bool
is_running(Worker *worker, LeaseMailboxState state)
{
	pid_t		pid;

	if (worker->handle == NULL)
		return false;
	if (GetBackgroundWorkerPid(worker->handle, &pid) != BGWH_STOPPED)
		return true;

	/* It has ended; if it never came to work, wait longer and longer. */
	pfree(worker->handle);
	worker->handle = NULL;
	if (state.settled)
		worker->delay = MIN_DELAY;
	worker->not_before = lease_monotonic_now() + worker->delay;
	if (!state.settled)
		worker->delay = Min(worker->delay * 2, MAX_DELAY);
	return false;
}

static bool
start(Worker *worker)
{
	BackgroundWorker description = {0};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;

	snprintf(description.bgw_name, BGW_MAXLEN, "lease worker for database %u", worker->database);
	strlcpy(description.bgw_type, "lease worker", BGW_MAXLEN);
	strlcpy(description.bgw_library_name, "lease", BGW_MAXLEN);
	strlcpy(description.bgw_function_name, "lease_worker_main", BGW_MAXLEN);
	description.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	description.bgw_start_time = BgWorkerStart_RecoveryFinished;
	description.bgw_restart_time = BGW_NEVER_RESTART;
	description.bgw_main_arg = ObjectIdGetDatum(worker->database);
	description.bgw_notify_pid = MyProcPid;
	started = RegisterDynamicBackgroundWorker(&description, &worker->handle);
	MemoryContextSwitchTo(old);
	return started;
}

/*
 * Says so once, until all have been started: others that come and go in between change
 * nothing.
 */
static void
report_no_slot(void)
{
	for (int i = 0; i < max_worker_processes; i++)
	{
		if (workers[i].no_slot)
			return;
	}
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("could not start a lease worker: out of background worker slots"),
			 errhint("Increase max_worker_processes.  It is tried again now and then.")));
}

/*
 * Starts the worker of a mailbox if it has none and it is time.  Returns when to
 * look again; PG_INT64_MAX if that is not needed.
 */
static int64
see_to_worker(Worker *worker, LeaseMailboxState state)
{
	int64		now = lease_monotonic_now();

	if (worker->database != state.database)
	{
		if (worker->handle != NULL)
			pfree(worker->handle);
		memset(worker, 0, sizeof(Worker));
		worker->database = state.database;
		worker->delay = MIN_DELAY;
	}
	if (!OidIsValid(state.database) || state.pid != 0 || is_running(worker, state))
		return PG_INT64_MAX;
	if (now < worker->not_before)
		return worker->not_before;
	if (lease_worker_is_unwelcome(worker->database))
		worker->not_before = now + LOCKED_DELAY;
	else if (start(worker))
	{
		worker->no_slot = false;
		return PG_INT64_MAX;
	}
	else
	{
		report_no_slot();
		worker->no_slot = true;
		worker->delay = MAX_DELAY;	/* others may be visited */
		worker->not_before = now + NO_SLOT_DELAY;
	}
	return worker->not_before;
}

/* Returns when to look again. */
static int64
see_to_workers(void)
{
	int64		again = PG_INT64_MAX;

	for (int i = 0; i < max_worker_processes; i++)
		again = Min(again, see_to_worker(&workers[i], lease_mailbox_state(i)));
	return again;
}

/*
 * ---------- The process ----------
 */

static void
sleep_until(int64 until)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = lease_wait_event(WAIT_EVENT_NAME, true);
	pgstat_report_activity(STATE_IDLE, NULL);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Max(until - lease_monotonic_now(), 0) / 1000 + 1, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/*
 * Main function of the launcher.
 */
void
lease_launcher_main(Datum unused)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	lease_mailbox_attach_launcher();

	/* Somebody has to notice early since when the server can write. */
	(void) lease_clock_read();
	workers = MemoryContextAllocZero(TopMemoryContext, max_worker_processes * sizeof(Worker));

	for (;;)
	{
		int64		again = lease_monotonic_now() + LOOK_INTERVAL;

		if (lease_worker_enabled)
		{
			pgstat_report_activity(STATE_RUNNING, "looking for databases with leases");
			if (lease_monotonic_now() >= next_look)
				look_at_databases();
			report_refused();
			again = Min(again, see_to_workers());
			if (next_look != 0)
				again = Min(again, next_look);
		}
		sleep_until(again);
	}
}
