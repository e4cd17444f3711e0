/*
 * session.c
 *		Leases that end with the session that acquired them.
 *
 * The backend remembers them in its own memory and releases them when it exits,
 * however it comes to that.  A crash of the server leaves no time for it; then
 * the duration decides.
 *
 * An exit callback can neither be interrupted nor catch an error.  So nothing
 * here waits for a lock, but for a few retries: a heartbeat on another connection
 * has the row locked for an instant.  If somebody has it for longer, the lease is
 * left to its duration; and a standby's confirmation is not asked for.  An error, as when the role has lost
 * its privileges, goes to the server's log, and the next lease is released by
 * the next callback.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "lease.h"

/* Of all bindings together, so that a session's end takes a bounded time */
#define MAX_RETRIES 20
#define RETRY_AFTER 5000		/* microseconds */

typedef struct Binding
{
	Oid			funcid;			/* tells which table */
	LeaseKey	key;
	text	   *holder;
	int64		token;
	Oid			role;			/* releases it, with its privileges */
	SubTransactionId subxact;	/* it was acquired here; 0: committed */
} Binding;

/*
 * Of each lease the last that has committed, and those of this transaction: as
 * long as it may be rolled back, the grant before may be the one that goes on.
 */
static List *bindings = NIL;

/*
 * Releases one, if this session's grant is still the current one: the token
 * tells.  A grant that was rolled back, released or lost is no concern of ours.
 */
static LeaseStatus
release(const Binding *binding)
{
	Oid			schema = get_func_namespace(binding->funcid);
	Oid			relid = OidIsValid(schema) ? get_relname_relid(LEASE_TABLE, schema) : InvalidOid;
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;

	if (!OidIsValid(relid))
		return LEASE_MISSING;	/* the extension was dropped */

	SetUserIdAndSecContext(binding->role, 0);
	store = lease_store_open(binding->funcid, true);
	status = lease_election_release(store, &binding->key, binding->holder, binding->token,
									LEASE_ON_SESSION_END, &row);
	lease_store_close(store);
	return status;
}

static LeaseStatus
release_in_transaction(const Binding *binding)
{
	LeaseStatus status;

	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
	PushActiveSnapshot(GetTransactionSnapshot());
	status = release(binding);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return status;
}

/*
 * Callback before_shmem_exit.
 */
static void
release_all(int code, Datum arg)
{
	int			retries = MAX_RETRIES;

	/* Without a postmaster this is a crash like any other. */
	if (bindings == NIL || !PostmasterIsAlive())
		return;

	/* Whatever fails below, this goes on with the rest. */
	before_shmem_exit(release_all, (Datum) 0);

	AbortOutOfAnyTransaction();
	while (bindings != NIL)
	{
		const Binding *binding = linitial(bindings);

		bindings = list_delete_first(bindings);
		while (release_in_transaction(binding) == LEASE_BUSY && retries-- > 0)
			pg_usleep(RETRY_AFTER);
	}
}

static bool
same_lease(const Binding *a, const Binding *b)
{
	return a->funcid == b->funcid && lease_text_equal(a->key.name, b->key.name) &&
		lease_text_equal(a->key.namespace, b->key.namespace);
}

static void
free_binding(Binding *binding)
{
	pfree(binding->key.namespace);
	pfree(binding->key.name);
	pfree(binding->holder);
	pfree(binding);
}

static void
at_xact_end(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	foreach(lc, bindings)
	{
		Binding    *binding = lfirst(lc);

		if (binding->subxact == InvalidSubTransactionId)
			continue;
		if (event == XACT_EVENT_ABORT)
		{
			bindings = foreach_delete_current(bindings, lc);
			free_binding(binding);
		}
		else
			binding->subxact = InvalidSubTransactionId;
	}
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
			   void *arg)
{
	ListCell   *lc;

	foreach(lc, bindings)
	{
		Binding    *binding = lfirst(lc);

		if (binding->subxact != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			binding->subxact = parent;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
		{
			bindings = foreach_delete_current(bindings, lc);
			free_binding(binding);
		}
	}
}

/*
 * The binding of this very grant, or NULL.  Forgets those that committed before
 * the last of the same lease.
 */
static Binding *
find_binding(const Binding *wanted)
{
	Binding    *last = NULL;
	Binding    *found = NULL;
	ListCell   *lc;

	foreach(lc, bindings)
	{
		Binding    *binding = lfirst(lc);

		if (!same_lease(binding, wanted))
			continue;
		if (binding->token == wanted->token)
			found = binding;
		if (binding->subxact == InvalidSubTransactionId &&
			(last == NULL || binding->token > last->token))
			last = binding;
	}
	foreach(lc, bindings)
	{
		Binding    *binding = lfirst(lc);

		if (last != NULL && same_lease(binding, last) && binding->token < last->token &&
			binding->subxact == InvalidSubTransactionId)
		{
			bindings = foreach_delete_current(bindings, lc);
			free_binding(binding);
		}
	}
	return found;
}

/*
 * Binds a lease that was just acquired or renewed to this session.
 */
void
lease_session_bind(Oid funcid, const LeaseKey *key, const LeaseRow *row)
{
	static bool registered = false;
	Binding		wanted = {
		.funcid = funcid,
		.key = *key,
		.holder = row->holder_identity,
		.token = row->fencing_token,
		.role = GetUserId(),
		.subxact = GetCurrentSubTransactionId(),
	};
	Binding    *binding = find_binding(&wanted);
	MemoryContext old;

	if (binding != NULL)
	{
		binding->role = wanted.role;
		return;
	}
	if (!registered)
	{
		RegisterXactCallback(at_xact_end, NULL);
		RegisterSubXactCallback(at_subxact_end, NULL);
		before_shmem_exit(release_all, (Datum) 0);
		registered = true;
	}

	old = MemoryContextSwitchTo(TopMemoryContext);
	binding = palloc(sizeof(Binding));
	*binding = wanted;
	binding->key.namespace = lease_text_copy(key->namespace);
	binding->key.name = lease_text_copy(key->name);
	binding->holder = lease_text_copy(row->holder_identity);
	bindings = lappend(bindings, binding);
	MemoryContextSwitchTo(old);
}
