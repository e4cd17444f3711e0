/*
 * gc.c
 *		Deletes what nobody needs any more: leases that have expired, as far as
 *		a policy says so, and old history.
 *
 * Kubernetes' API server does so with identity leases of API servers
 * (lease_expiration controller); they are the policies that come with the
 * extension.
 *
 * A pass first scans the table for candidates, without a lock and without an
 * index, for one on renew_time would cost every renewal.  Then it deletes them in
 * batches, so that none holds many locks, or any for long.  Each lease is looked
 * at again when it is locked, so that a renewal in between wins, or whatever else
 * the policy asks for, and skipped when somebody else has it locked.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_gc);
PG_FUNCTION_INFO_V1(lease_gc_all);
PG_FUNCTION_INFO_V1(lease_gc_policy_on_insert);
PG_FUNCTION_INFO_V1(lease_valid_selector);

#define DEFAULT_RETENTION (30 * SECS_PER_DAY)
#define KEEP_FOREVER (-1)

/* What a batch takes at most; a policy may ask for less. */
#define MAX_BATCH_ROWS 1000
#define MAX_BATCH_MS 15.0

/* A step of lease_gc_all() is followed by a pause up to so many times as long. */
#define MAX_PAUSE 1000

/* How many candidates of a policy a scan remembers */
#define MAX_FOUND 100000

/* lease.history_retention, in seconds */
static int	history_retention = DEFAULT_RETENTION;

typedef struct Policy
{
	LeaseGcPolicy terms;
	LeaseSelector *selector;
	LeaseKey   *keys;			/* candidates */
	int			found;
	int			done;			/* so many of them were dealt with */
} Policy;

struct LeaseGcPass
{
	MemoryContext context;		/* where all this is */
	Policy	   *policies;
	int			count;
	int			limit;			/* of candidates, for each policy */
	LeaseTime	time;			/* when the scan began */
};

void
lease_gc_init(void)
{
	/* not the caller's to set: trimming is done on behalf of the owner */
	DefineCustomIntVariable("lease.history_retention",
							"How long lease_gc() keeps holdings that have ended.",
							"-1 keeps them forever.",
							&history_retention,
							DEFAULT_RETENTION, KEEP_FOREVER, INT_MAX,
							PGC_SUSET,
							GUC_UNIT_S,
							NULL, NULL, NULL);
}

/*
 * ---------- Finding ----------
 */

static bool
is_full(const LeaseGcPass *pass, const Policy *policy)
{
	return policy->found == pass->limit;
}

/*
 * Is the lease to be deleted, as the policy says?  A LeaseCondition.
 */
static bool
applies(const LeaseFound *found, const LeaseTime *time, const void *arg)
{
	const Policy *policy = arg;

	if (policy->terms.namespace != NULL &&
		!lease_text_equal(policy->terms.namespace, found->key.namespace))
		return false;

	/* Kubernetes would only mark it as being deleted. */
	if (found->has_finalizers)
		return false;
	return lease_ttl_is_collectable(&found->row, policy->terms.expired_for, time) &&
		lease_selector_matches(policy->selector, found->labels);
}

static void
remember(const LeaseGcPass *pass, Policy *policy, const LeaseKey *key)
{
	MemoryContext old = MemoryContextSwitchTo(pass->context);
	LeaseKey   *copy;

	/* its size is a power of 2 */
	if (policy->keys == NULL)
		policy->keys = palloc(sizeof(LeaseKey));
	else if ((policy->found & (policy->found - 1)) == 0)
		policy->keys = repalloc(policy->keys, 2 * policy->found * sizeof(LeaseKey));

	copy = &policy->keys[policy->found++];
	copy->namespace = lease_text_copy(key->namespace);
	copy->name = lease_text_copy(key->name);
	MemoryContextSwitchTo(old);
}

/*
 * Visitor of the scan.  The first policy that applies takes the lease.
 */
static bool
visit(const LeaseFound *found, void *arg)
{
	LeaseGcPass *pass = arg;
	LeaseTime	time = lease_clock_read();	/* later than whatever the scan can see */
	bool		more = false;

	for (int i = 0; i < pass->count; i++)
	{
		if (applies(found, &time, &pass->policies[i]))
		{
			if (!is_full(pass, &pass->policies[i]))
				remember(pass, &pass->policies[i], &found->key);
			break;
		}
	}
	for (int i = 0; i < pass->count && !more; i++)
		more = !is_full(pass, &pass->policies[i]);
	return more;
}

/*
 * Reads the policies.  The time that a lease must have run out before, for any
 * of them.
 */
static TimestampTz
read_policies(LeaseGcPass *pass, LeaseStore *store)
{
	LeaseGcPolicy *terms;
	TimestampTz before = LEASE_NO_TIME;

	pass->count = lease_store_gc_policies(store, &terms);
	pass->policies = palloc0(Max(pass->count, 1) * sizeof(Policy));
	for (int i = 0; i < pass->count; i++)
	{
		Policy	   *policy = &pass->policies[i];
		char	   *error;

		policy->terms = terms[i];
		policy->selector = lease_selector_parse(terms[i].selector, &error);
		if (policy->selector == NULL)
			elog(ERROR, "invalid selector in table \"%s\": %s", LEASE_GC_POLICY, error);
		before = Max(before, pass->time.now - terms[i].expired_for);
	}
	return before;
}

/*
 * Scans the table for what is to be deleted, in the current memory context.  A
 * store that is NULL, when DDL had the table locked, has nothing.
 *
 * limit: of candidates, for each policy
 */
static LeaseGcPass *
find(LeaseStore *store, int limit)
{
	LeaseGcPass *pass = palloc0(sizeof(LeaseGcPass));
	TimestampTz before;

	pass->context = CurrentMemoryContext;
	pass->limit = limit;
	pass->time = lease_clock_read();
	if (store == NULL)
		return pass;

	before = read_policies(pass, store);
	if (pass->count > 0)
		lease_store_scan(store, &pass->time, before, visit, pass);
	return pass;
}

/*
 * Begins a pass of several batches: finds what they are to delete.
 */
LeaseGcPass *
lease_gc_find(LeaseStore *store)
{
	return find(store, MAX_FOUND);
}

/*
 * May there be more than was found?
 */
static bool
is_any_full(const LeaseGcPass *pass)
{
	for (int i = 0; i < pass->count; i++)
	{
		if (is_full(pass, &pass->policies[i]))
			return true;
	}
	return false;
}

/*
 * ---------- Deleting ----------
 */

static double
milliseconds_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

/*
 * Deletes the next batch of what was found.  Returns how many leases it deleted;
 * *more is false if nothing is left to try.  The caller's transaction is to end
 * soon.
 */
int64
lease_gc_batch(LeaseGcPass *pass, LeaseStore *store, bool *more)
{
	int64		collected = 0;
	int			tried = 0;
	instr_time	start;

	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; store != NULL && i < pass->count; i++)
	{
		Policy	   *policy = &pass->policies[i];
		const LeaseKey *key;

		while (policy->done < policy->found)
		{
			if (tried >= policy->terms.batch_size || tried >= MAX_BATCH_ROWS ||
				(tried > 0 && milliseconds_since(start) > MAX_BATCH_MS))
			{
				*more = true;
				return collected;
			}
			CHECK_FOR_INTERRUPTS();
			key = &policy->keys[policy->done++];
			if (lease_election_collect(store, key, applies, policy) == LEASE_EXPIRED)
			{
				lease_stat_count(LEASE_STAT_COLLECTED, key->namespace, 1);
				collected++;
			}
			tried++;
		}
	}
	*more = false;
	return collected;
}

/*
 * Forgets a batch of the history that is old enough.
 */
int64
lease_gc_trim_history(Oid relid, bool *more)
{
	int64		removed;

	if (history_retention == KEEP_FOREVER)
	{
		*more = false;
		return 0;
	}
	removed = lease_history_trim(relid, history_retention, MAX_BATCH_ROWS);
	*more = removed == MAX_BATCH_ROWS;
	return removed;
}

/*
 * ---------- SQL functions ----------
 */

/*
 * The table, if the caller may delete leases: for him policies are read and the
 * history is trimmed.
 */
static Oid
find_table(Oid funcid, const char *function)
{
	Oid			relid = lease_relation_find(LEASE_TABLE, get_func_namespace(funcid));

	lease_require_writable(function);
	if (pg_class_aclcheck(relid, GetUserId(), ACL_DELETE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, LEASE_TABLE);
	return relid;
}

static Datum
form_result(FunctionCallInfo fcinfo, Datum *values)
{
	bool		nulls[3] = {false};

	return lease_result_row(fcinfo, values, nulls);
}

/*
 * SQL: lease_gc()
 */
Datum
lease_gc(PG_FUNCTION_ARGS)
{
	Oid			funcid = fcinfo->flinfo->fn_oid;
	Oid			relid = find_table(funcid, "lease_gc()");
	int64		start = lease_monotonic_now();
	LeaseStore *store = lease_store_open(funcid, true);
	LeaseGcPass *pass = find(store, MAX_BATCH_ROWS);
	bool		more;
	bool		more_history;
	Datum		values[3];

	values[0] = Int64GetDatum(lease_gc_batch(pass, store, &more));
	lease_store_close(store);
	values[1] = Int64GetDatum(lease_gc_trim_history(relid, &more_history));
	values[2] = BoolGetDatum(more || is_any_full(pass) || more_history);
	lease_stat_gc_run(lease_monotonic_now() - start);
	return form_result(fcinfo, values);
}

static double
arg_pause(FunctionCallInfo fcinfo, int n)
{
	double		pause = PG_ARGISNULL(n) ? -1 : PG_GETARG_FLOAT8(n);

	if (!(pause >= 0 && pause <= MAX_PAUSE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid pause"),
				 errdetail("It is a factor from 0 to %d.", MAX_PAUSE)));
	return pause;
}

/*
 * Ends a step of lease_gc_all(): commits, and leaves the machine to others for
 * some time, in which nothing is held.
 */
static void
end_step(int64 deleted, int64 start, double pause)
{
	int64		end;
	int64		until;

	SPI_commit();
	end = lease_monotonic_now();
	until = end + (int64) ((end - start) * pause);
	ereport(DEBUG1,
			(errmsg_internal("deleted " INT64_FORMAT " rows in " INT64_FORMAT " us", deleted, end - start)));

	for (int64 left = until - end; left > 0; left = until - lease_monotonic_now())
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (left + 999) / 1000, WAIT_EVENT_PG_SLEEP);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * A pass, of which each step is a transaction.  Returns how many leases it
 * deleted; *more says whether to begin another.
 */
static int64
collect_all(Oid funcid, double pause, bool *more)
{
	MemoryContext batch_context = AllocSetContextCreate(CurrentMemoryContext, "lease batch", ALLOCSET_DEFAULT_SIZES);
	int64		start = lease_monotonic_now();
	LeaseStore *store = lease_store_open(funcid, true);
	LeaseGcPass *pass = lease_gc_find(store);
	int64		collected = 0;
	bool		more_found = true;

	lease_store_close(store);
	end_step(0, start, pause);
	while (more_found)
	{
		MemoryContext old = MemoryContextSwitchTo(batch_context);
		int64		deleted;

		start = lease_monotonic_now();
		store = lease_store_open(funcid, true);
		deleted = lease_gc_batch(pass, store, &more_found);
		lease_store_close(store);
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch_context);
		collected += deleted;
		end_step(deleted, start, more_found ? pause : 0);
	}

	/* What could not be deleted would be found again for ever. */
	*more = is_any_full(pass) && collected > 0;
	return collected;
}

/*
 * SQL: CALL lease_gc_all()
 */
Datum
lease_gc_all(PG_FUNCTION_ARGS)
{
	Oid			funcid = fcinfo->flinfo->fn_oid;
	CallContext *context = castNode(CallContext, fcinfo->context);
	Oid			relid = find_table(funcid, "lease_gc_all()");
	double		pause = arg_pause(fcinfo, 0);
	int64		start = lease_monotonic_now();
	MemoryContext pass_context;
	MemoryContext old;
	int64		collected = 0;
	int64		removed = 0;
	bool		more = true;
	Datum		values[2];

	if (context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("lease_gc_all() cannot be called in a transaction block or a function"),
				 errhint("Call it on its own, or lease_gc() instead.")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	pass_context = AllocSetContextCreate(CurrentMemoryContext, "lease collection", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(pass_context);
	while (more)
	{
		collected += collect_all(funcid, pause, &more);
		MemoryContextReset(pass_context);
	}
	for (more = true; more;)
	{
		int64		step_start = lease_monotonic_now();
		int64		deleted = lease_gc_trim_history(relid, &more);

		removed += deleted;
		end_step(deleted, step_start, more ? pause : 0);
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	lease_stat_gc_run(lease_monotonic_now() - start);

	values[0] = Int64GetDatum(collected);
	values[1] = Int64GetDatum(removed);
	return form_result(fcinfo, values);
}

/*
 * SQL: lease_valid_selector(selector)
 */
Datum
lease_valid_selector(PG_FUNCTION_ARGS)
{
	char	   *error;

	PG_RETURN_BOOL(lease_selector_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &error) != NULL);
}

/*
 * SQL: trigger lease_gc_policy_on_insert, BEFORE INSERT FOR EACH ROW
 */
Datum
lease_gc_policy_on_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;
	Datum		name;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) !=
		get_relname_relid(LEASE_GC_POLICY, get_func_namespace(fcinfo->flinfo->fn_oid)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called by the trigger of that name",
						"lease_gc_policy_on_insert")));

	rel = trigger->tg_relation;
	name = heap_getattr(trigger->tg_trigtuple, attnameAttNum(rel, "name", false),
						RelationGetDescr(rel), &isnull);
	if (!isnull)
		lease_store_delete_gc_policy(RelationGetRelid(rel), DatumGetTextPP(name));
	return PointerGetDatum(trigger->tg_trigtuple);
}
