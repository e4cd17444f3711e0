/*
 * node.c
 *		Heartbeats of nodes: what kubelet does every 10 s.  One renews the lease of the
 *		node's name in the namespace kube-node-lease.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "store.h"

#define NODE_INDEX "lease_node_pkey"

PG_FUNCTION_INFO_V1(lease_node_heartbeat);
PG_FUNCTION_INFO_V1(lease_node_heartbeats);

/*
 * Does a scan of the table of nodes find this name?  Then its uid is set.  With
 * a dirty snapshot, also rows of transactions in progress.
 */
bool
lease_node_probe(Relation rel, Oid index, text *name, Snapshot snapshot, pg_uuid_t *uid)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, get_attnum(RelationGetRelid(rel), "name"), BTEqualStrategyNumber,
				F_TEXTEQ, PointerGetDatum(name));
	scan = systable_beginscan(rel, index, OidIsValid(index), snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (tuple != NULL)
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, get_attnum(RelationGetRelid(rel), "uid"),
										 RelationGetDescr(rel), &isnull);

		*uid = *DatumGetUUIDP(value);
	}
	systable_endscan(scan);
	return tuple != NULL;
}

/*
 * Opens the table of nodes without waiting; NULL if DDL has it or an index.
 */
Relation
lease_node_open(Oid funcid, LOCKMODE lockmode, Oid *index)
{
	Oid			schema = get_func_namespace(funcid);
	Oid			relid = lease_relation_find(LEASE_NODE, schema);

	if (!lease_relation_lock(LEASE_NODE, relid, lockmode))
		return NULL;
	*index = get_relname_relid(NODE_INDEX, schema);
	return table_open(relid, NoLock);
}

/*
 * The uid of the node, if it is registered and the caller may see that.
 *
 * A node that is not registered asks with every heartbeat: so without the
 * executor, unless row-level security needs it.
 */
static bool
find_node(Oid funcid, text *name, pg_uuid_t *uid)
{
	Oid			index;
	Relation	rel = lease_node_open(funcid, AccessShareLock, &index);
	bool		found;

	if (rel == NULL)
		return false;
	if (pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		found = false;
	else if (check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED)
	{
		pg_uuid_t  *seen = lease_sql_node_uid(get_namespace_name(RelationGetNamespace(rel)),
											  name, false);

		found = seen != NULL;
		if (found)
			*uid = *seen;
	}
	else
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

		found = lease_node_probe(rel, index, name, snapshot, uid);
		UnregisterSnapshot(snapshot);
	}
	table_close(rel, NoLock);
	return found;
}

/* ownerReferences as kubelet writes them */
Jsonb *
lease_node_owner_references(text *name, pg_uuid_t *uid)
{
	JsonbParseState *state = NULL;
	JsonbValue *result;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	lease_json_push_member(&state, "apiVersion", "v1");
	lease_json_push_member(&state, "kind", "Node");
	lease_json_push_member(&state, "name", text_to_cstring(name));
	lease_json_push_member(&state, "uid", DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uid))));
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	result = pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(result);
}

/* LeaseHeartbeat.find_owner */
static Jsonb *
find_owner(Oid funcid, const LeaseKey *key)
{
	pg_uuid_t	uid;

	return find_node(funcid, key->name, &uid) ? lease_node_owner_references(key->name, &uid) : NULL;
}

static LeaseHeartbeat
heartbeat_of(FunctionCallInfo fcinfo, int duration)
{
	LeaseHeartbeat beat = {0};

	beat.funcid = fcinfo->flinfo->fn_oid;
	beat.terms.duration_seconds =
		lease_ttl_duration(lease_arg_interval(fcinfo, duration, "lease duration"));
	beat.find_owner = find_owner;
	return beat;
}

/*
 * SQL: lease_node_heartbeat(node, duration)
 */
Datum
lease_node_heartbeat(PG_FUNCTION_ARGS)
{
	LeaseHeartbeat beat;
	LeaseKey	key;
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;
	LeaseTime	time;

	key.name = lease_arg_text(fcinfo, 0, "node name");
	key.namespace = cstring_to_text(LEASE_NODE_NAMESPACE);
	lease_validate_name(key.name);
	beat = heartbeat_of(fcinfo, 1);
	beat.terms.holder = key.name;
	lease_require_writable("lease_node_heartbeat()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_heartbeat(store, &key, &beat, &row, &time);
	lease_store_close(store);
	lease_stat_answer(key.namespace, status, LEASE_STAT_REFUSED);
	return lease_result_renewal(status, &row, &time);
}

/*
 * Sends the heartbeat of each node, with statuses[i] what became of keys[i], and counts
 * the statuses.
 */
static void
beat_all(LeaseStore *store, LeaseHeartbeat *beat, int count, const LeaseKey *keys,
		 LeaseStatus *statuses, int64 *counts)
{
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "lease_node_heartbeats",
											   ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(each);

	for (int i = 0; i < count; i++)
	{
		LeaseRow	row;
		LeaseTime	time;

		CHECK_FOR_INTERRUPTS();
		beat->terms.holder = keys[i].name;
		statuses[i] = lease_election_heartbeat(store, &keys[i], beat, &row, &time);
		lease_stat_answer(keys[i].namespace, statuses[i], LEASE_STAT_REFUSED);
		counts[statuses[i]]++;
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(each);
}

/*
 * SQL: lease_node_heartbeats(nodes, duration)
 */
Datum
lease_node_heartbeats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LeaseHeartbeat beat;
	LeaseStore *store;
	LeaseStatus *statuses;
	LeaseKey   *keys;
	int64		counts[LEASE_BUSY + 1] = {0};
	int			count;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("nodes must not be null")));
	count = lease_arg_names(fcinfo, 0, cstring_to_text(LEASE_NODE_NAMESPACE), &keys);
	beat = heartbeat_of(fcinfo, 1);
	lease_require_writable("lease_node_heartbeats()");
	InitMaterializedSRF(fcinfo, 0);
	statuses = palloc(Max(count, 1) * sizeof(LeaseStatus));

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	beat_all(store, &beat, count, keys, statuses, counts);
	lease_store_close(store);

	lease_result_put_count(rsinfo, LEASE_RENEWED, counts[LEASE_RENEWED], NULL);
	lease_result_put_count(rsinfo, LEASE_ACQUIRED, counts[LEASE_ACQUIRED], NULL);
	for (int i = 0; i < count; i++)
	{
		if (statuses[i] != LEASE_RENEWED && statuses[i] != LEASE_ACQUIRED)
			lease_result_put_count(rsinfo, statuses[i], 1, keys[i].name);
	}
	return (Datum) 0;
}
