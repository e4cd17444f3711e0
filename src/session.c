/*
 * session.c
 *		Leases that end with the session that acquired them.
 *
 * The backend remembers them in its own memory and releases them when it exits,
 * however it comes to that.  A crash of the server leaves no time for it; then
 * the duration decides.
 *
 * An exit callback can neither be interrupted nor catch an error.  So nothing
 * here waits: a lease whose row somebody has locked is left to its duration, and
 * a standby's confirmation is not asked for.  An error, as when the role has lost
 * its privileges, goes to the server's log, and the next lease is released by
 * the next callback.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "lease.h"
#include "compat.h"

typedef struct Binding
{
	Oid			funcid;			/* tells which table */
	LeaseKey	key;
	text	   *holder;
	int64		token;
	Oid			role;			/* releases it, with its privileges */
} Binding;

/* At most one for each lease. */
static List *bindings = NIL;

/*
 * Releases one, if this session's grant is still the current one: the token
 * tells.  A grant that was rolled back, released or lost is no concern of ours.
 */
static void
release(const Binding *binding)
{
	Oid			schema = get_func_namespace(binding->funcid);
	Oid			relid = OidIsValid(schema) ? get_relname_relid(LEASE_TABLE, schema) : InvalidOid;
	LeaseStore *store;
	LeaseRow	row;

	if (!OidIsValid(relid))
		return;					/* the extension was dropped */

	SetUserIdAndSecContext(binding->role, 0);
	store = lease_store_open(binding->funcid, true);
	(void) lease_election_release(store, &binding->key, binding->holder, binding->token,
								  LEASE_ON_SESSION_END, &row);
	lease_store_close(store);
}

/*
 * Callback before_shmem_exit.
 */
static void
release_all(int code, Datum arg)
{
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
		StartTransactionCommand();
		XactIsoLevel = XACT_READ_COMMITTED;
		XactReadOnly = false;
		synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
		PushActiveSnapshot(GetTransactionSnapshot());
		release(binding);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
}

static bool
same_lease(const LeaseKey *a, const LeaseKey *b)
{
	return lease_text_equal(a->name, b->name) && lease_text_equal(a->namespace, b->namespace);
}

static text *
copy_text(const text *t)
{
	return cstring_to_text_with_len(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/*
 * Binds a lease that was just acquired or renewed to this session.
 */
void
lease_session_bind(Oid funcid, const LeaseKey *key, const LeaseRow *row)
{
	static bool registered = false;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Binding    *binding = NULL;
	ListCell   *lc;

	foreach(lc, bindings)
	{
		if (same_lease(&((Binding *) lfirst(lc))->key, key))
			binding = lfirst(lc);
	}
	if (binding == NULL)
	{
		binding = palloc0(sizeof(Binding));
		binding->key.namespace = copy_text(key->namespace);
		binding->key.name = copy_text(key->name);
		bindings = lappend(bindings, binding);
	}
	else
		pfree(binding->holder);
	binding->funcid = funcid;
	binding->holder = copy_text(row->holder_identity);
	binding->token = row->fencing_token;
	binding->role = GetUserId();

	if (!registered)
		before_shmem_exit(release_all, (Datum) 0);
	registered = true;
	MemoryContextSwitchTo(old);
}
