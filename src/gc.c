/*
 * gc.c
 *		Deletes what nobody needs any more: expired identity leases of API
 *		servers, and old history.
 *
 * Kubernetes' API server does the first (lease_expiration controller): leases of
 * namespace kube-system with the identity label.  Each is looked at again when it
 * is locked, so that a renewal in between wins, and skipped when somebody else
 * has it locked.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "lease.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(lease_gc);

#define DEFAULT_RETENTION (30 * SECS_PER_DAY)
#define KEEP_FOREVER (-1)

/* lease.history_retention, in seconds */
static int	history_retention = DEFAULT_RETENTION;

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

static int64
collect(LeaseStore *store)
{
	LeaseKey   *keys;
	int			count = lease_store_collectable(store, &keys);
	int64		collected = 0;

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (lease_election_collect(store, &keys[i]) == LEASE_EXPIRED)
			collected++;
	}
	return collected;
}

/*
 * The history is trimmed for whoever may delete leases.
 */
static void
check_may_delete(Oid relid)
{
	if (pg_class_aclcheck(relid, GetUserId(), ACL_DELETE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, LEASE_TABLE);
}

/*
 * SQL: lease_gc()
 */
Datum
lease_gc(PG_FUNCTION_ARGS)
{
	Oid			funcid = fcinfo->flinfo->fn_oid;
	Oid			relid;
	LeaseStore *store;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	lease_require_writable("lease_gc()");
	relid = lease_relation_find(LEASE_TABLE, get_func_namespace(funcid));
	check_may_delete(relid);

	store = lease_store_open(funcid, true);
	values[0] = Int64GetDatum(store == NULL ? 0 : collect(store));
	lease_store_close(store);
	values[1] = Int64GetDatum(history_retention == KEEP_FOREVER ? 0 :
							  lease_history_trim(relid, history_retention));

	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}
