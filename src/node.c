/*
 * node.c
 *		Nodes: their heartbeats, who is registered, and who is ready.
 *
 * A heartbeat is what kubelet does every 10 s: it renews the lease of the node's
 * name in the namespace kube-node-lease.  Whether a node is ready follows from
 * that by the rule of Kubernetes' node lifecycle controller, at the moment
 * somebody looks; nothing is written for it.
 *
 * That controller cannot compare a node's renewTime with its own clock.  So it
 * notes when it last saw the node's lease or status change (probeTimestamp), and
 * counts from there; it looks every 5 s, and when it is restarted every node has
 * a full grace period again.  Here one clock writes renew_time and judges it.
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
#include "utils/datetime.h"
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

#define NODE_NAMESPACE "kube-node-lease"
#define NODE_INDEX "lease_node_pkey"

#define DEFAULT_MONITOR_GRACE 40	/* nodeMonitorGracePeriod up to 1.31 */
#define DEFAULT_STARTUP_GRACE 60	/* nodeStartupGracePeriod */

PG_FUNCTION_INFO_V1(lease_node_heartbeat);
PG_FUNCTION_INFO_V1(lease_node_heartbeats);
PG_FUNCTION_INFO_V1(lease_node_apply);
PG_FUNCTION_INFO_V1(lease_node_register);
PG_FUNCTION_INFO_V1(lease_node_remove);
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
static bool
probe_node(Relation rel, Oid index, text *name, Snapshot snapshot, pg_uuid_t *uid)
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
static Relation
open_nodes(Oid funcid, LOCKMODE lockmode, Oid *index)
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
	Relation	rel = open_nodes(funcid, AccessShareLock, &index);
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

		found = probe_node(rel, index, name, snapshot, uid);
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
static Jsonb *
owner_references(text *name, pg_uuid_t *uid)
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

	return find_node(funcid, key->name, &uid) ? owner_references(key->name, &uid) : NULL;
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
	TimestampTz now;

	key.name = lease_arg_text(fcinfo, 0, "node name");
	key.namespace = cstring_to_text(NODE_NAMESPACE);
	lease_validate_name(key.name);
	beat = heartbeat_of(fcinfo, 1);
	beat.terms.holder = key.name;
	lease_require_writable("lease_node_heartbeat()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_heartbeat(store, &key, &beat, &row, &now);
	lease_store_close(store);
	return lease_result_renewal(status, &row, now);
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
	count = lease_arg_names(fcinfo, 0, cstring_to_text(NODE_NAMESPACE), &keys);
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
		TimestampTz now;

		CHECK_FOR_INTERRUPTS();
		beat.terms.holder = keys[i].name;
		statuses[i] = lease_election_heartbeat(store, &keys[i], &beat, &row, &now);
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
 * ---------- The Node object ----------
 */

static void
invalid_node(const char *detail, const char *member)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid Node object"),
			 errdetail(detail, member),
			 errhint("Pass what the Kubernetes API has for a node, for example from \"kubectl get node NAME -o json\".")));
}

/*
 * A member of an object, in memory of its own.  NULL if it is absent or null;
 * an error if it is of another type.
 */
static JsonbValue *
get_member(Jsonb *object, const char *key, enum jbvType type, const char *path)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&object->root, key, strlen(key), NULL);

	if (value == NULL || value->type == jbvNull)
		return NULL;
	if (type == jbvObject ?
		(value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data)) :
		value->type != type)
		invalid_node("%s has a value of another type than it should have.", path);
	return value;
}

static Jsonb *
get_object(Jsonb *object, const char *key, const char *path)
{
	JsonbValue *value = get_member(object, key, jbvObject, path);

	return value == NULL ? NULL : JsonbValueToJsonb(value);
}

static char *
get_string(Jsonb *object, const char *key, const char *path)
{
	JsonbValue *value = get_member(object, key, jbvString, path);

	return value == NULL ? NULL :
		pnstrdup(value->val.string.val, value->val.string.len);
}

/* The object without some of its members; NULL if nothing is left, or stays so. */
static Jsonb *
without(Jsonb *object, const char *const *keys, int nkeys, bool null_if_empty)
{
	if (object == NULL)
		return NULL;
	for (int i = 0; i < nkeys; i++)
		object = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(object),
													CStringGetTextDatum(keys[i])));
	return null_if_empty && JB_ROOT_COUNT(object) == 0 ? NULL : object;
}

static void
require_string(Jsonb *object, const char *key, const char *expected)
{
	char	   *value = get_string(object, key, key);

	if (value == NULL || strcmp(value, expected) != 0)
		invalid_node(strcmp(key, "kind") == 0 ? "%s must be \"Node\"." : "%s must be \"v1\".", key);
}

/*
 * RFC 3339, as the API writes times.  False if the text is something else.
 */
static bool
parse_time(const char *text, int len, TimestampTz *result)
{
	char	   *s = pnstrdup(text, len);
	struct pg_tm tm = {0};
	fsec_t		fsec = 0;
	int			offset = 0;
	int			end = 0;

	if (sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
			   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end) != 6 || end != 19 ||
		strspn(s, "0123456789-T:") < 19)
		return false;
	if (s[end] == '.')
	{
		int			scale = USECS_PER_SEC / 10;
		int			start = ++end;

		for (; s[end] >= '0' && s[end] <= '9'; end++, scale /= 10)
			fsec += (s[end] - '0') * scale;
		if (end == start)
			return false;
	}
	if (s[end] == '+' || s[end] == '-')
	{
		int			hours;
		int			minutes;
		int			n = 0;

		if (sscanf(s + end + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 || n != 5 ||
			hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
			return false;
		offset = (s[end] == '-' ? 1 : -1) * (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE);
		end += 6;
	}
	else if (s[end++] != 'Z')
		return false;
	if (s[end] != '\0' || tm.tm_year < 1 || tm.tm_mon < 1 || tm.tm_mon > MONTHS_PER_YEAR ||
		tm.tm_mday < 1 || tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] ||
		tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
		return false;
	return tm2timestamp(&tm, fsec, &offset, result) == 0;
}

/* metadata.creationTimestamp: whole seconds */
static TimestampTz
creation_time(const char *text)
{
	TimestampTz time;

	if (!parse_time(text, strlen(text), &time))
		invalid_node("%s is not a time as RFC 3339 has it.", "metadata.creationTimestamp");
	return time - (time % USECS_PER_SEC + USECS_PER_SEC) % USECS_PER_SEC;
}

static void
set_jsonb(Datum *values, bool *nulls, LeaseNodeColumn column, Jsonb *value)
{
	nulls[column] = value == NULL;
	values[column] = JsonbPGetDatum(value);
}

static void
set_metadata(Jsonb *metadata, Datum *values, bool *nulls)
{
	static const char *const own[] = {"name", "uid", "creationTimestamp", "resourceVersion",
	"labels", "annotations"};
	char	   *name = get_string(metadata, "name", "metadata.name");
	char	   *uid = get_string(metadata, "uid", "metadata.uid");
	char	   *created = get_string(metadata, "creationTimestamp", "metadata.creationTimestamp");
	char	   *version = get_string(metadata, "resourceVersion", "metadata.resourceVersion");

	if (name == NULL)
		invalid_node("%s is missing.", "metadata.name");
	values[NODE_NAME] = CStringGetTextDatum(name);
	lease_validate_name(DatumGetTextPP(values[NODE_NAME]));

	nulls[NODE_UID] = uid == NULL;
	if (uid != NULL)
		values[NODE_UID] = DirectFunctionCall1(uuid_in, CStringGetDatum(uid));
	nulls[NODE_CREATION_TIMESTAMP] = created == NULL;
	if (created != NULL)
		values[NODE_CREATION_TIMESTAMP] = TimestampTzGetDatum(creation_time(created));
	nulls[NODE_RESOURCE_VERSION] = version == NULL;
	if (version != NULL)
		values[NODE_RESOURCE_VERSION] = DirectFunctionCall1(int8in, CStringGetDatum(version));
	set_jsonb(values, nulls, NODE_LABELS, get_object(metadata, "labels", "metadata.labels"));
	set_jsonb(values, nulls, NODE_ANNOTATIONS,
			  get_object(metadata, "annotations", "metadata.annotations"));
	set_jsonb(values, nulls, NODE_METADATA, without(metadata, own, lengthof(own), true));
}

static void
set_node(Jsonb *node, Datum *values, bool *nulls)
{
	static const char *const members[] = {"apiVersion", "kind", "metadata", "spec", "status"};
	static const char *const unschedulable[] = {"unschedulable"};
	Jsonb	   *metadata;
	Jsonb	   *spec;
	JsonbValue *value;

	memset(nulls, false, NODE_COLUMNS * sizeof(bool));
	if (!JB_ROOT_IS_OBJECT(node))
		invalid_node("%s is not a JSON object.", "It");
	require_string(node, "apiVersion", "v1");
	require_string(node, "kind", "Node");
	if (without(node, members, lengthof(members), true) != NULL)
		invalid_node("It has members besides apiVersion, kind, metadata, spec and status.%s", "");

	metadata = get_object(node, "metadata", "metadata");
	if (metadata == NULL)
		invalid_node("%s is missing.", "metadata");
	set_metadata(metadata, values, nulls);

	spec = get_object(node, "spec", "spec");
	value = spec == NULL ? NULL : get_member(spec, "unschedulable", jbvBool, "spec.unschedulable");
	nulls[NODE_UNSCHEDULABLE] = value == NULL;
	if (value != NULL)
		values[NODE_UNSCHEDULABLE] = BoolGetDatum(value->val.boolean);
	set_jsonb(values, nulls, NODE_SPEC, without(spec, unschedulable, 1, false));
	set_jsonb(values, nulls, NODE_STATUS, get_object(node, "status", "status"));
}

/*
 * ---------- Registering and removing ----------
 *
 * Neither waits: a node that somebody else is just writing is busy.
 */

/* What to do with a node, for lease_in_subtransaction() */
typedef struct NodeChange
{
	Oid			funcid;
	text	   *name;
	Datum	   *values;			/* for registering */
	bool	   *nulls;
	const char *result;
} NodeChange;

/*
 * Locks the node's row.  Returns its uid, or NULL with *busy telling whether
 * somebody else is just writing it.
 */
static pg_uuid_t *
lock_node(const NodeChange *change, Relation rel, Oid index, bool *busy)
{
	pg_uuid_t  *uid = lease_sql_node_uid(get_namespace_name(RelationGetNamespace(rel)),
										 change->name, true);
	SnapshotData dirty;
	pg_uuid_t	unused;

	*busy = false;
	if (uid != NULL)
		return uid;
	InitDirtySnapshot(dirty);
	if (probe_node(rel, index, change->name, &dirty, &unused))
		*busy = TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax);
	return NULL;
}

/* The name's lock, so that looking and inserting are one step: see lease_store_insert(). */
static bool
lock_name(Relation rel, text *name, LOCKTAG *tag)
{
	uint64		hash = lease_text_hash(name);

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, RelationGetRelid(rel),
					   (uint32) hash, (uint16) (hash >> 32));
	return LockAcquire(tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * That the node's lease belongs to the node, its next heartbeat sees to.
 */
static const char *
write_node(const NodeChange *change, Relation rel, Oid index)
{
	bool		busy;
	bool		known = lock_node(change, rel, index, &busy) != NULL;

	if (busy)
		return "busy";
	if (!lease_sql_write_node(get_namespace_name(RelationGetNamespace(rel)),
							  change->values, change->nulls))
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("node was not written"),
				 errdetail("A trigger or a rule on the table suppressed it.")));
	return known ? "updated" : "registered";
}

/* Work for lease_in_subtransaction() */
static bool
register_node(void *arg)
{
	NodeChange *change = arg;
	Oid			index;
	Relation	rel = open_nodes(change->funcid, RowExclusiveLock, &index);
	LOCKTAG		tag;

	change->result = "busy";
	if (rel == NULL)
		return false;
	if (lock_name(rel, change->name, &tag))
	{
		change->result = write_node(change, rel, index);
		LockRelease(&tag, ExclusiveLock, false);
	}
	table_close(rel, NoLock);
	return strcmp(change->result, "busy") != 0;
}

static Datum
do_register(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	NodeChange	change = {fcinfo->flinfo->fn_oid, DatumGetTextPP(values[NODE_NAME]), values, nulls, NULL};

	(void) lease_in_subtransaction(register_node, &change);
	PG_RETURN_TEXT_P(cstring_to_text(change.result));
}

/*
 * SQL: lease_node_apply(node)
 */
Datum
lease_node_apply(PG_FUNCTION_ARGS)
{
	Datum		values[NODE_COLUMNS];
	bool		nulls[NODE_COLUMNS];

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("node must not be null")));
	set_node(PG_GETARG_JSONB_P(0), values, nulls);
	lease_require_writable("lease_node_apply()");
	return do_register(fcinfo, values, nulls);
}

/*
 * SQL: lease_node_register(name, labels, annotations, unschedulable, spec, status)
 */
Datum
lease_node_register(PG_FUNCTION_ARGS)
{
	static const LeaseNodeColumn columns[] = {NODE_NAME, NODE_LABELS, NODE_ANNOTATIONS,
	NODE_UNSCHEDULABLE, NODE_SPEC, NODE_STATUS};
	Datum		values[NODE_COLUMNS];
	bool		nulls[NODE_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i < lengthof(columns); i++)
	{
		values[columns[i]] = PG_GETARG_DATUM(i);
		nulls[columns[i]] = PG_ARGISNULL(i);
	}
	values[NODE_NAME] = PointerGetDatum(lease_arg_text(fcinfo, 0, "node name"));
	lease_validate_name(DatumGetTextPP(values[NODE_NAME]));
	lease_require_writable("lease_node_register()");
	return do_register(fcinfo, values, nulls);
}

/*
 * Deletes the node, and the lease that it owns, both or none.
 */
static const char *
delete_node(const NodeChange *change, Relation rel, Oid index)
{
	LeaseKey	key = {cstring_to_text(NODE_NAMESPACE), change->name};
	bool		busy;
	pg_uuid_t  *uid = lock_node(change, rel, index, &busy);
	LeaseStore *store;
	LeaseStatus status;

	if (uid == NULL)
		return busy ? "busy" : "missing";

	store = lease_store_open(change->funcid, true);
	status = lease_election_delete_of_owner(store, &key, owner_references(change->name, uid));
	lease_store_close(store);
	if (status == LEASE_BUSY)
		return "busy";
	lease_sql_delete_node(get_namespace_name(RelationGetNamespace(rel)), change->name);
	return "removed";
}

/* Work for lease_in_subtransaction() */
static bool
remove_node(void *arg)
{
	NodeChange *change = arg;
	Oid			index;
	Relation	rel = open_nodes(change->funcid, RowExclusiveLock, &index);

	change->result = "busy";
	if (rel == NULL)
		return false;
	change->result = delete_node(change, rel, index);
	table_close(rel, NoLock);
	return strcmp(change->result, "removed") == 0;
}

/*
 * SQL: lease_node_remove(name)
 */
Datum
lease_node_remove(PG_FUNCTION_ARGS)
{
	NodeChange	change = {fcinfo->flinfo->fn_oid, lease_arg_text(fcinfo, 0, "node name"), NULL, NULL, NULL};

	lease_validate_name(change.name);
	lease_require_writable("lease_node_remove()");
	(void) lease_in_subtransaction(remove_node, &change);
	PG_RETURN_TEXT_P(cstring_to_text(change.result));
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
		return lease_ttl_after(node->last_heartbeat, monitor_grace * USECS_PER_SEC);
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
		!parse_time(value->val.string.val, value->val.string.len, &time);
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
