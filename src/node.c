/*
 * node.c
 *		Nodes: their heartbeats, and who is ready.
 *
 * A heartbeat is what kubelet does every 10 s: it renews the lease of the node's
 * name in the namespace kube-node-lease.  Whether a node is ready follows from
 * that by the rule of Kubernetes' node lifecycle controller, at the moment
 * somebody looks; nothing is written for it.
 *
 * That controller cannot compare a node's renewTime with its own clock.  So it
 * notes when it last saw the node's lease or status change (probeTimestamp), and
 * counts from there; it looks every 5 s, and when it is restarted every node has
 * a full grace period again.  Here one clock writes renew_time and judges it; but
 * when this server has recovered, every node has a full grace period, too.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store.h"
#include "compat.h"

#define NODE_INDEX "lease_node_pkey"

#define DEFAULT_MONITOR_GRACE 40	/* nodeMonitorGracePeriod up to 1.31 */
#define DEFAULT_STARTUP_GRACE 60	/* nodeStartupGracePeriod */

PG_FUNCTION_INFO_V1(lease_node_heartbeat);
PG_FUNCTION_INFO_V1(lease_node_heartbeats);
PG_FUNCTION_INFO_V1(lease_node_status);
PG_FUNCTION_INFO_V1(lease_node_status_since);
PG_FUNCTION_INFO_V1(lease_node_posted);

/* lease.node_monitor_grace_period and lease.node_startup_grace_period, seconds */
static int	monitor_grace = DEFAULT_MONITOR_GRACE;
static int	startup_grace = DEFAULT_STARTUP_GRACE;

void
lease_node_init(void)
{
	DefineCustomIntVariable("lease.node_monitor_grace_period",
							"How long a node may be silent before its status is Unknown.",
							NULL,
							&monitor_grace,
							DEFAULT_MONITOR_GRACE, 1, INT_MAX,
							PGC_USERSET,
							GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lease.node_startup_grace_period",
							"How long a node may take until it is first heard of.",
							NULL,
							&startup_grace,
							DEFAULT_STARTUP_GRACE, 1, INT_MAX,
							PGC_USERSET,
							GUC_UNIT_S,
							NULL, NULL, NULL);
}

/*
 * ---------- Heartbeats ----------
 */

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
	bool		found = false;

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

static void
push_member(JsonbParseState **state, const char *key, char *text)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = text;
	v.val.string.len = strlen(text);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* ownerReferences as kubelet writes them */
Jsonb *
lease_node_owner_references(text *name, pg_uuid_t *uid)
{
	JsonbParseState *state = NULL;
	JsonbValue *result;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_member(&state, "apiVersion", "v1");
	push_member(&state, "kind", "Node");
	push_member(&state, "name", text_to_cstring(name));
	push_member(&state, "uid", DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uid))));
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
	MemoryContext each;
	MemoryContext old;
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
	each = AllocSetContextCreate(CurrentMemoryContext, "lease_node_heartbeats",
								 ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(each);
	for (int i = 0; i < count; i++)
	{
		LeaseRow	row;
		LeaseTime	time;

		CHECK_FOR_INTERRUPTS();
		beat.terms.holder = keys[i].name;
		statuses[i] = lease_election_heartbeat(store, &keys[i], &beat, &row, &time);
		lease_stat_answer(keys[i].namespace, statuses[i], LEASE_STAT_REFUSED);
		counts[statuses[i]]++;
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(each);
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

/*
 * ---------- Ready, or not ----------
 */

/* What is known of a node: the arguments of both functions below. */
typedef struct NodeSigns
{
	TimestampTz created;
	char	   *ready;			/* the condition Ready that was posted, or NULL */
	TimestampTz posted_since;	/* its lastTransitionTime */
	TimestampTz last_heartbeat; /* of lease and posted condition, or LEASE_NO_TIME */
	TimestampTz beating_since;	/* since when there is a lease */
	TimestampTz at;
} NodeSigns;

static TimestampTz
get_time_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? LEASE_NO_TIME : PG_GETARG_TIMESTAMPTZ(n);
}

/*
 * Until when the node counts as alive if nothing more is heard of it.  How long
 * its lease is valid does not matter.
 */
static TimestampTz
silent_from(const NodeSigns *node)
{
	if (node->last_heartbeat != LEASE_NO_TIME)
	{
		TimestampTz counts_from = lease_clock_read().counts_from;
		TimestampTz heard = node->last_heartbeat;

		/* not if somebody asks about a time before */
		if (counts_from <= node->at)
			heard = Max(heard, counts_from);
		return lease_ttl_after(heard, monitor_grace * USECS_PER_SEC);
	}
	if (node->created == LEASE_NO_TIME)
		return LEASE_NO_TIME;
	return lease_ttl_after(node->created, startup_grace * USECS_PER_SEC);
}

/*
 * The rule of the node lifecycle controller, and since when it says so, as far
 * as that can be told without having been written down.
 */
static const char *
node_status(const NodeSigns *node, TimestampTz *since)
{
	*since = silent_from(node);
	if (node->at > *since)
		return "Unknown";

	/* Never heard of, but new.  Kubernetes taints it as not ready until then. */
	*since = node->created;
	if (node->last_heartbeat == LEASE_NO_TIME)
		return "NotReady";

	/* A lease that is renewed says that the node lives, not how it does. */
	*since = node->posted_since;
	if (node->ready != NULL && strcmp(node->ready, "True") != 0)
		return strcmp(node->ready, "False") == 0 ? "NotReady" : "Unknown";
	if (node->ready == NULL)
		*since = node->beating_since;
	return "Ready";
}

/*
 * SQL: lease_node_status(created, ready, last_heartbeat, at)
 */
Datum
lease_node_status(PG_FUNCTION_ARGS)
{
	NodeSigns	node = {0};
	TimestampTz since;

	if (PG_ARGISNULL(3))
		PG_RETURN_NULL();
	node.created = get_time_arg(fcinfo, 0);
	node.ready = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	node.last_heartbeat = get_time_arg(fcinfo, 2);
	node.at = PG_GETARG_TIMESTAMPTZ(3);
	PG_RETURN_TEXT_P(cstring_to_text(node_status(&node, &since)));
}

/*
 * SQL: lease_node_status_since(created, ready, last_heartbeat, posted_since,
 *		beating_since, at)
 */
Datum
lease_node_status_since(PG_FUNCTION_ARGS)
{
	NodeSigns	node;
	TimestampTz since;

	if (PG_ARGISNULL(5))
		PG_RETURN_NULL();
	node.created = get_time_arg(fcinfo, 0);
	node.ready = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	node.last_heartbeat = get_time_arg(fcinfo, 2);
	node.posted_since = get_time_arg(fcinfo, 3);
	node.beating_since = get_time_arg(fcinfo, 4);
	node.at = PG_GETARG_TIMESTAMPTZ(5);
	(void) node_status(&node, &since);
	if (since == LEASE_NO_TIME)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(since);
}

/* The condition of this type in status.conditions, or NULL */
static Jsonb *
find_condition(Jsonb *status, const char *type)
{
	JsonbValue *conditions = !JB_ROOT_IS_OBJECT(status) ? NULL :
		getKeyJsonValueFromContainer(&status->root, "conditions", strlen("conditions"), NULL);
	uint32		count;

	if (conditions == NULL || conditions->type != jbvBinary ||
		!JsonContainerIsArray(conditions->val.binary.data))
		return NULL;

	count = JsonContainerSize(conditions->val.binary.data);
	for (uint32 i = 0; i < count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(conditions->val.binary.data, i);
		JsonbValue *value;

		if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
			continue;
		value = getKeyJsonValueFromContainer(element->val.binary.data, "type", strlen("type"), NULL);
		if (value != NULL && value->type == jbvString &&
			value->val.string.len == strlen(type) &&
			memcmp(value->val.string.val, type, value->val.string.len) == 0)
			return JsonbValueToJsonb(element);
	}
	return NULL;
}

static Datum
condition_time(Jsonb *condition, const char *key, bool *isnull)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&condition->root, key, strlen(key), NULL);
	TimestampTz time = 0;

	*isnull = value == NULL || value->type != jbvString ||
		lease_parse_time(pnstrdup(value->val.string.val, value->val.string.len), false, &time) != NULL;
	return TimestampTzGetDatum(time);
}

/*
 * SQL: lease_node_posted(status)
 */
Datum
lease_node_posted(PG_FUNCTION_ARGS)
{
	static const LeaseResultColumn columns[] = {
		{"ready", TEXTOID},
		{"last_heartbeat", TIMESTAMPTZOID},
		{"since", TIMESTAMPTZOID},
	};
	static TupleDesc tupdesc = NULL;
	Jsonb	   *condition = find_condition(PG_GETARG_JSONB_P(0), "Ready");
	Datum		values[lengthof(columns)] = {0};
	bool		nulls[lengthof(columns)] = {true, true, true};

	if (condition != NULL)
	{
		JsonbValue *ready = getKeyJsonValueFromContainer(&condition->root, "status",
														 strlen("status"), NULL);

		nulls[0] = ready == NULL || ready->type != jbvString;
		if (!nulls[0])
			values[0] = PointerGetDatum(cstring_to_text_with_len(ready->val.string.val,
																 ready->val.string.len));
		values[1] = condition_time(condition, "lastHeartbeatTime", &nulls[1]);
		values[2] = condition_time(condition, "lastTransitionTime", &nulls[2]);
	}
	return lease_result_form(lease_result_type(&tupdesc, columns, lengthof(columns)), values, nulls);
}
