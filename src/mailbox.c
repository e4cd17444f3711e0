/*
 * mailbox.c
 *		Shared memory between the transactions that change leases, the workers
 *		that tell others about it, and the launcher that starts these.
 *
 * Each database with a worker has a mailbox.  Transactions put events there when
 * they have committed; the worker takes all of them at once, so it need not be a
 * ring.  What does not fit is lost, and the worker is told that something was:
 * nobody ever waits for it.
 *
 * A mailbox with a database but without a process is how the launcher learns
 * that a worker is wanted.
 *
 * Locking: one lock protects everything here.  It is held for copying only.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "lease.h"
#include "compat.h"

/* Names the lock; a wait event as well, where extensions cannot name others. */
#define TRANCHE_NAME LEASE_WORKER_WAIT_EVENT

#define MAILBOX_SIZE (256 * 1024)

typedef struct Mailbox
{
	Oid			database;		/* InvalidOid: nobody's */
	int			pid;			/* of the worker; 0: there is none */
	int			procno;			/* likewise */
	bool		settled;		/* the worker has found what it needs, and works */
	bool		changed;		/* an extension was created, altered or dropped */
	bool		lost;			/* some mail did not fit */
	uint32		used;
	char		mail[MAILBOX_SIZE];
} Mailbox;

typedef struct Mailboxes
{
	LWLock	   *lock;
	int			launcher;		/* its procno, or -1 */
	bool		refused;		/* there was no mailbox for somebody */
	Mailbox		boxes[FLEXIBLE_ARRAY_MEMBER];
} Mailboxes;

static Mailboxes *mailboxes = NULL;

/* The worker's own */
static Mailbox *mine = NULL;

static Size
mailboxes_size(void)
{
	return add_size(offsetof(Mailboxes, boxes), mul_size(max_worker_processes, sizeof(Mailbox)));
}

void
lease_mailbox_request_shmem(void)
{
	RequestAddinShmemSpace(mailboxes_size());
	RequestNamedLWLockTranche(TRANCHE_NAME, 1);
}

void
lease_mailbox_startup_shmem(void)
{
	bool		found;

	mailboxes = ShmemInitStruct("lease mailboxes", mailboxes_size(), &found);
	if (found)
		return;
	memset(mailboxes, 0, mailboxes_size());
	mailboxes->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
	mailboxes->launcher = -1;
}

/* Caller has the lock.  InvalidOid finds one that is nobody's. */
static Mailbox *
find(Oid database)
{
	for (int i = 0; i < max_worker_processes; i++)
	{
		if (mailboxes->boxes[i].database == database)
			return &mailboxes->boxes[i];
	}
	return NULL;
}

static void
wake(int procno)
{
	if (procno >= 0)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/*
 * Wakes the worker, or the launcher to start one.  Caller has the lock.
 */
static void
wake_reader(const Mailbox *box)
{
	wake(box->pid != 0 ? box->procno : mailboxes->launcher);
}

/*
 * A new mailbox, or the one that the database has; NULL if there is no room.
 * Caller has the lock.
 */
static Mailbox *
find_or_claim(Oid database)
{
	Mailbox    *box = find(database);

	if (box != NULL)
		return box;
	box = find(InvalidOid);
	if (box == NULL)
	{
		mailboxes->refused = true;
		return NULL;
	}
	memset(box, 0, offsetof(Mailbox, mail));
	box->database = database;
	return box;
}

/*
 * ---------- For transactions ----------
 */

/*
 * Can there be a mailbox at all?
 */
bool
lease_mailbox_exists(void)
{
	return mailboxes != NULL;
}

/*
 * Puts events into the mailbox of this database, if it has one.
 *
 * lost: these are not all
 */
void
lease_mailbox_post(const List *events, bool lost)
{
	Mailbox    *box;
	const ListCell *lc;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	box = find(MyDatabaseId);
	if (box != NULL)
	{
		bool		was_empty = box->used == 0 && !box->lost;

		box->lost = box->lost || lost;
		foreach(lc, events)
		{
			const LeaseEvent *event = lfirst(lc);

			if (event->size > MAILBOX_SIZE - box->used)
			{
				box->lost = true;
				break;
			}
			memcpy(box->mail + box->used, event, event->size);
			box->used += event->size;
		}
		if (was_empty && box->pid != 0)
			wake_reader(box);
	}
	LWLockRelease(mailboxes->lock);
}

/*
 * An extension was created, altered or dropped in this database.  Somebody ought
 * to look whether it is ours.
 */
void
lease_mailbox_announce(void)
{
	Mailbox    *box;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	box = find_or_claim(MyDatabaseId);
	if (box != NULL)
	{
		box->changed = true;
		wake_reader(box);
	}
	else
		wake(mailboxes->launcher);
	LWLockRelease(mailboxes->lock);
}

/*
 * ---------- For the worker ----------
 */

/*
 * Makes the mailbox of this database mine.  False if there is none, or another
 * worker has it.
 */
bool
lease_mailbox_attach(Oid database)
{
	Mailbox    *box;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	box = find(database);
	if (box != NULL && box->pid == 0)
	{
		box->pid = MyProcPid;
		box->procno = MyProcNumber;
		box->settled = false;
		mine = box;
	}
	LWLockRelease(mailboxes->lock);
	return mine != NULL;
}

/*
 * Gives it back: to the next worker, or if none is wanted, to anybody.
 */
void
lease_mailbox_detach(bool wanted)
{
	if (mine == NULL)
		return;
	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	mine->pid = 0;

	/* Created again since we looked? */
	if (!wanted && !mine->changed)
		mine->database = InvalidOid;
	wake(mailboxes->launcher);
	LWLockRelease(mailboxes->lock);
	mine = NULL;
}

/*
 * The worker works, the launcher may go on.  Stays said when the worker has ended,
 * until the next one begins.
 */
void
lease_mailbox_settle(void)
{
	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	mine->settled = true;
	wake(mailboxes->launcher);
	LWLockRelease(mailboxes->lock);
}

/*
 * Takes all that is there.  Returns true if some mail was lost.
 */
bool
lease_mailbox_take(StringInfo mail)
{
	bool		lost;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	appendBinaryStringInfo(mail, mine->mail, mine->used);
	lost = mine->lost;
	mine->used = 0;
	mine->lost = false;
	LWLockRelease(mailboxes->lock);
	return lost;
}

/*
 * Was an extension created, altered or dropped since this was asked last?
 */
bool
lease_mailbox_take_change(void)
{
	bool		changed;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	changed = mine->changed;
	mine->changed = false;
	LWLockRelease(mailboxes->lock);
	return changed;
}

/*
 * ---------- For the launcher ----------
 */

void
lease_mailbox_attach_launcher(void)
{
	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	mailboxes->launcher = MyProcNumber;
	LWLockRelease(mailboxes->lock);
}

/*
 * Asks for a worker for the database.  False if there is no room.
 */
bool
lease_mailbox_claim(Oid database)
{
	bool		claimed;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	claimed = find_or_claim(database) != NULL;
	LWLockRelease(mailboxes->lock);
	return claimed;
}

/*
 * Nobody wants a worker for the database any more.
 */
void
lease_mailbox_abandon(Oid database)
{
	Mailbox    *box;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	box = find(database);
	if (box != NULL && box->pid == 0)
		box->database = InvalidOid;
	LWLockRelease(mailboxes->lock);
}

/*
 * Was there no mailbox for somebody since this was asked last?
 */
bool
lease_mailbox_take_refused(void)
{
	bool		refused;

	LWLockAcquire(mailboxes->lock, LW_EXCLUSIVE);
	refused = mailboxes->refused;
	mailboxes->refused = false;
	LWLockRelease(mailboxes->lock);
	return refused;
}

/*
 * Describes the mailbox with this number, from 0 to max_worker_processes - 1.
 */
LeaseMailboxState
lease_mailbox_state(int i)
{
	const Mailbox *box = &mailboxes->boxes[i];
	LeaseMailboxState state;

	LWLockAcquire(mailboxes->lock, LW_SHARED);
	state.database = box->database;
	state.pid = box->pid;
	state.settled = box->settled;
	LWLockRelease(mailboxes->lock);
	return state;
}
