/*
 * node_object.c
 *		Registered nodes: the Node object of the API goes into the table
 *		lease_node, and is removed from there together with the node's lease.
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store.h"

PG_FUNCTION_INFO_V1(lease_node_apply);
PG_FUNCTION_INFO_V1(lease_node_register);
PG_FUNCTION_INFO_V1(lease_node_remove);

pg_noreturn static void
invalid_node(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid Node object"),
			 errdetail_internal("%s", detail),
			 errhint("Pass what the Kubernetes API has for a node, for example from \"kubectl get node NAME -o json\".")));
}

/*
 * A member of an object, in memory of its own.  NULL if it is absent or null;
 * an error if it is of another type.
 */
static JsonbValue *
get_member(Jsonb *object, const char *key, enum jbvType type, const char *path)
{
	JsonbValue *value = lease_json_member(&object->root, key);

	if (value == NULL || value->type == jbvNull)
		return NULL;
	if (type == jbvObject ?
		(value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data)) :
		value->type != type)
		invalid_node(psprintf("%s has a value of another type than it should have.", path));
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
		invalid_node(psprintf("%s must be \"%s\".", key, expected));
}

/* metadata.creationTimestamp: whole seconds */
static TimestampTz
creation_time(const char *text)
{
	TimestampTz time;

	if (lease_parse_time(text, false, &time) != NULL)
		invalid_node("metadata.creationTimestamp is not a time as RFC 3339 has it.");
	return lease_whole_seconds(time);
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
		invalid_node("metadata.name is missing.");
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
		invalid_node("It is not a JSON object.");
	require_string(node, "apiVersion", "v1");
	require_string(node, "kind", "Node");
	if (without(node, members, lengthof(members), true) != NULL)
		invalid_node("It has members besides apiVersion, kind, metadata, spec and status.");

	metadata = get_object(node, "metadata", "metadata");
	if (metadata == NULL)
		invalid_node("metadata is missing.");
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
	if (lease_node_probe(rel, index, change->name, &dirty, &unused))
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
	Relation	rel = lease_node_open(change->funcid, RowExclusiveLock, &index);
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
	LeaseKey	key = {cstring_to_text(LEASE_NODE_NAMESPACE), change->name};
	bool		busy;
	pg_uuid_t  *uid = lock_node(change, rel, index, &busy);
	LeaseStore *store;
	LeaseStatus status;

	if (uid == NULL)
		return busy ? "busy" : "missing";

	store = lease_store_open(change->funcid, true);
	status = lease_election_delete_of_owner(store, &key, lease_node_owner_references(change->name, uid));
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
	Relation	rel = lease_node_open(change->funcid, RowExclusiveLock, &index);

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
