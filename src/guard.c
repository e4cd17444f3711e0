/*
 * guard.c
 *		Ties a transaction to a fencing token: it can commit only while the token
 *		is the lease's current one.
 *
 * A guard checks, locks the lease FOR KEY SHARE, and checks again.  Whatever
 * ends the holding must change or delete the key of the row, and so has to wait
 * for the guarded transaction, or to give up.  Renewals change no key.
 *
 * A guard that is refused raises an error, so that its lock goes with the
 * transaction that has no business any more.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(lease_guard);
PG_FUNCTION_INFO_V1(lease_guard_trigger);

/* So much of a holder's identity goes into a message. */
#define MAX_SHOWN_HOLDER 128

/* lease.fencing_tokens */
static char *fencing_tokens = NULL;

/*
 * Tokens that this transaction has guarded, for lease_guard_trigger(), which
 * checks and locks for itself.
 */
typedef struct GuardedToken
{
	int64		token;
	SubTransactionId subxact;	/* it goes with this one */
} GuardedToken;

static List *guarded_tokens = NIL;

static void
forget_at_xact_end(XactEvent event, void *arg)
{
	guarded_tokens = NIL;		/* the memory goes with the transaction */
}

static void
forget_at_subxact_abort(SubXactEvent event, SubTransactionId mine,
						SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	foreach(lc, guarded_tokens)
	{
		GuardedToken *guarded = lfirst(lc);

		if (guarded->subxact != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			guarded->subxact = parent;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
			guarded_tokens = foreach_delete_current(guarded_tokens, lc);
	}
}

/*
 * The next of the tokens separated by commas.  Returns where the one after it
 * begins, or NULL at the end; *ok is false if this is not a token.
 */
static const char *
next_token(const char *p, int64 *token, bool *ok)
{
	char	   *end;

	errno = 0;
	*token = strtoi64(p, &end, 10);
	while (isspace((unsigned char) *end))
		end++;
	*ok = end != p && errno == 0 && *token > 0 && (*end == ',' || *end == '\0');
	return *ok && *end == ',' ? end + 1 : NULL;
}

static bool
check_fencing_tokens(char **newval, void **extra, GucSource source)
{
	const char *p = *newval;

	if (p[strspn(p, " ")] == '\0')
		return true;			/* none */
	while (p != NULL)
	{
		int64		token;
		bool		ok;

		p = next_token(p, &token, &ok);
		if (!ok)
		{
			GUC_check_errdetail("Fencing tokens are integers greater than zero, separated by commas.");
			return false;
		}
	}
	return true;
}

void
lease_guard_init(void)
{
	DefineCustomStringVariable("lease.fencing_tokens",
							   "Fencing tokens under which this session or transaction writes to tables with a guard trigger.",
							   "A list of numbers separated by commas.",
							   &fencing_tokens,
							   "",
							   PGC_USERSET,
							   0,
							   check_fencing_tokens, NULL, NULL);
}

static bool
is_guarded(int64 wanted)
{
	ListCell   *lc;

	foreach(lc, guarded_tokens)
	{
		if (((GuardedToken *) lfirst(lc))->token == wanted)
			return true;
	}
	return false;
}

/* Was it given to lease_guard() in this transaction, or is it in the setting? */
static bool
is_my_token(int64 wanted)
{
	const char *p = fencing_tokens;

	if (is_guarded(wanted))
		return true;
	while (p != NULL)
	{
		int64		token;
		bool		ok;

		p = next_token(p, &token, &ok);
		if (ok && token == wanted)
			return true;
	}
	return false;
}

static void
remember_guarded(int64 token)
{
	static bool registered = false;
	MemoryContext old;
	GuardedToken *guarded;

	if (is_guarded(token))
		return;
	if (!registered)
	{
		RegisterXactCallback(forget_at_xact_end, NULL);
		RegisterSubXactCallback(forget_at_subxact_abort, NULL);
		registered = true;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	guarded = palloc(sizeof(GuardedToken));
	guarded->token = token;
	guarded->subxact = GetCurrentSubTransactionId();
	guarded_tokens = lappend(guarded_tokens, guarded);
	MemoryContextSwitchTo(old);
}

/* A holder's identity for a message: any text, of any length. */
static char *
shown_holder(const LeaseRow *row)
{
	const char *s = VARDATA_ANY(row->holder_identity);
	int			len = VARSIZE_ANY_EXHDR(row->holder_identity);

	if (len <= MAX_SHOWN_HOLDER)
		return pnstrdup(s, len);
	return psprintf("%.*s...", pg_mbcliplen(s, len, MAX_SHOWN_HOLDER), s);
}

static int
detail_of_refusal(LeaseStatus status, const LeaseRow *row)
{
	LeaseTime	time = lease_clock_read();

	switch (status)
	{
		case LEASE_HELD:
			return errdetail("It is held by \"%s\" under fencing token %lld until %s.",
							 shown_holder(row), (long long) row->fencing_token,
							 timestamptz_to_str(lease_ttl_expires_at(row, &time)));
		case LEASE_EXPIRED:
			return errdetail("It expired at %s; its last holder is \"%s\".",
							 timestamptz_to_str(lease_ttl_expires_at(row, &time)),
							 shown_holder(row));
		case LEASE_FREE:
			return errdetail("Nobody holds it.");
		default:
			return errdetail("There is no such lease.");
	}
}

pg_noreturn static void
could_not_tell(const LeaseKey *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not tell whether lease \"%s\" in namespace \"%s\" is held",
					text_to_cstring(key->name), text_to_cstring(key->namespace)),
			 errdetail("Another transaction has it locked, perhaps to take it over."),
			 errhint("Roll back and try again.")));
}

/*
 * Was the guard not refused?  Errors out if that could not be told.
 */
static bool
is_guarding(const LeaseKey *key, LeaseStatus status)
{
	if (status == LEASE_RENEWED)
		return true;
	lease_stat_answer(key->namespace, status, LEASE_STAT_LOST);
	if (status == LEASE_BUSY)
		could_not_tell(key);
	return false;
}

/*
 * SQL: lease_guard(name, fencing_token, namespace)
 */
Datum
lease_guard(PG_FUNCTION_ARGS)
{
	LeaseKey	key = lease_arg_key(fcinfo, 0, 2);
	int64		token = lease_arg_token(fcinfo, 1);
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;

	if (token == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("fencing token must not be null"),
				 errhint("lease_acquire() returns NULL if it did not get the lease.")));
	lease_require_writable("lease_guard()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_guard(store, &key, token, &row);
	lease_store_close(store);
	if (!is_guarding(&key, status))
		ereport(ERROR,
				(errcode(ERRCODE_LEASE_NOT_HELD),
				 errmsg("lease \"%s\" in namespace \"%s\" is not held under fencing token %lld",
						text_to_cstring(key.name), text_to_cstring(key.namespace),
						(long long) token),
				 detail_of_refusal(status, &row),
				 errhint("Stop what the lease protects, and acquire it again.")));

	remember_guarded(token);
	lease_queue_wake_at_end(&key, NULL);
	PG_RETURN_VOID();
}

/*
 * The lease that the arguments of the trigger name.
 */
static LeaseKey
get_trigger_key(const Trigger *trigger)
{
	LeaseKey	key;

	if (trigger->tgnargs < 1 || trigger->tgnargs > 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must name a lease", trigger->tgname),
				 errhint("Use EXECUTE FUNCTION lease_guard_trigger('namespace', 'name'), or lease_guard_trigger('name') for a lease in namespace \"default\".")));
	key.namespace = cstring_to_text(trigger->tgnargs == 2 ? trigger->tgargs[0] : "default");
	key.name = cstring_to_text(trigger->tgargs[trigger->tgnargs - 1]);
	lease_validate_namespace(key.namespace);
	lease_validate_name(key.name);
	return key;
}

/*
 * Guards the lease with whichever of our tokens is its current one.
 */
static LeaseStatus
guard_with_my_token(LeaseStore *store, const LeaseKey *key, LeaseRow *row)
{
	if (store == NULL)
		return LEASE_BUSY;
	if (!lease_store_read(store, key, row))
		return LEASE_MISSING;
	if (!is_my_token(row->fencing_token))
		return lease_row_is_free(row) ? LEASE_FREE : LEASE_HELD;
	return lease_election_guard(store, key, row->fencing_token, row);
}

/*
 * SQL: trigger function lease_guard_trigger(namespace, name)
 */
Datum
lease_guard_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	LeaseKey	key;
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called by a trigger before the event",
						"lease_guard_trigger"),
				 errhint("Use CREATE TRIGGER ... BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ... FOR EACH STATEMENT.")));

	key = get_trigger_key(trigger->tg_trigger);
	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = guard_with_my_token(store, &key, &row);
	lease_store_close(store);
	if (!is_guarding(&key, status))
		ereport(ERROR,
				(errcode(ERRCODE_LEASE_NOT_HELD),
				 errmsg("cannot write to table \"%s\" without holding lease \"%s\" in namespace \"%s\"",
						RelationGetRelationName(trigger->tg_relation),
						text_to_cstring(key.name), text_to_cstring(key.namespace)),
				 detail_of_refusal(status, &row),
				 errhint("Call lease_guard() before, or set lease.fencing_tokens to the token that lease_acquire() returned."),
				 errtable(trigger->tg_relation)));

	lease_queue_wake_at_end(&key, NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
						   trigger->tg_newtuple : trigger->tg_trigtuple);
}
