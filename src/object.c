/*
 * object.c
 *		A row of the table as the Kubernetes API server sends the object.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "object.h"

PG_FUNCTION_INFO_V1(lease_object);

const LeaseFieldInfo lease_fields[LEASE_FIELDS] = {
	[FIELD_NAME] = {"name", "name", KIND_STRING, "string"},
	[FIELD_GENERATE_NAME] = {"generateName", "generate_name", KIND_STRING, "string"},
	[FIELD_NAMESPACE] = {"namespace", "namespace", KIND_STRING, "string"},
	[FIELD_UID] = {"uid", "uid", KIND_UID, "types.UID"},
	[FIELD_RESOURCE_VERSION] = {"resourceVersion", "resource_version", KIND_VERSION, "string"},
	[FIELD_GENERATION] = {"generation", "generation", KIND_INT64, "int64"},
	[FIELD_CREATION_TIMESTAMP] = {"creationTimestamp", "creation_timestamp", KIND_TIME, "v1.Time"},
	[FIELD_DELETION_TIMESTAMP] = {"deletionTimestamp", "deletion_timestamp", KIND_TIME, "v1.Time"},
	[FIELD_DELETION_GRACE_PERIOD_SECONDS] = {"deletionGracePeriodSeconds",
	"deletion_grace_period_seconds", KIND_INT64, "int64"},
	[FIELD_LABELS] = {"labels", "labels", KIND_STRING_MAP, "map[string]string"},
	[FIELD_ANNOTATIONS] = {"annotations", "annotations", KIND_STRING_MAP, "map[string]string"},
	[FIELD_OWNER_REFERENCES] = {"ownerReferences", "owner_references", KIND_OWNER_REFERENCES,
	"[]v1.OwnerReference"},
	[FIELD_FINALIZERS] = {"finalizers", "finalizers", KIND_STRINGS, "[]string"},
	[FIELD_MANAGED_FIELDS] = {"managedFields", "managed_fields", KIND_MANAGED_FIELDS,
	"[]v1.ManagedFieldsEntry"},
	[FIELD_HOLDER_IDENTITY] = {"holderIdentity", "holder_identity", KIND_STRING, "string"},
	[FIELD_LEASE_DURATION_SECONDS] = {"leaseDurationSeconds", "lease_duration_seconds",
	KIND_INT32, "int32"},
	[FIELD_ACQUIRE_TIME] = {"acquireTime", "acquire_time", KIND_MICRO_TIME, "v1.MicroTime"},
	[FIELD_RENEW_TIME] = {"renewTime", "renew_time", KIND_MICRO_TIME, "v1.MicroTime"},
	[FIELD_LEASE_TRANSITIONS] = {"leaseTransitions", "lease_transitions", KIND_INT32, "int32"},
	[FIELD_STRATEGY] = {"strategy", "strategy", KIND_STRING, "v1.CoordinatedLeaseStrategy"},
	[FIELD_PREFERRED_HOLDER] = {"preferredHolder", "preferred_holder", KIND_STRING, "string"},
};

/* The column's type. */
Oid
lease_field_type(LeaseField field)
{
	switch (lease_fields[field].kind)
	{
		case KIND_STRING:
			return TEXTOID;
		case KIND_UID:
			return UUIDOID;
		case KIND_INT32:
			return INT4OID;
		case KIND_VERSION:
		case KIND_INT64:
			return INT8OID;
		case KIND_TIME:
		case KIND_MICRO_TIME:
			return TIMESTAMPTZOID;
		case KIND_STRINGS:
			return TEXTARRAYOID;
		case KIND_STRING_MAP:
		case KIND_OWNER_REFERENCES:
		case KIND_MANAGED_FIELDS:
			break;
	}
	return JSONBOID;
}

/* Go's zero time, which it writes as null. */
static bool
is_zero_time(TimestampTz time)
{
	return time == (date2j(1, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

static void
push_cstring(JsonbParseState **state, const char *s)
{
	lease_json_push(state, WJB_VALUE, s, strlen(s));
}

static void
push_number(JsonbParseState **state, int64 number)
{
	JsonbValue	value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_time(JsonbParseState **state, TimestampTz time, bool micro)
{
	JsonbValue	null;

	null.type = jbvNull;
	if (is_zero_time(time))
		(void) pushJsonbValue(state, WJB_VALUE, &null);
	else
		push_cstring(state, lease_time_text(time, micro));
}

static void
push_strings(JsonbParseState **state, ArrayType *array)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < count; i++)
	{
		text	   *element = DatumGetTextPP(elements[i]);

		lease_json_push(state, WJB_ELEM, VARDATA_ANY(element), VARSIZE_ANY_EXHDR(element));
	}
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
push_jsonb(JsonbParseState **state, Jsonb *jsonb)
{
	JsonbValue	value;

	JsonbToJsonbValue(jsonb, &value);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

/* Kubernetes omits empty maps and lists. */
static bool
is_empty(LeaseFieldKind kind, Datum value)
{
	switch (kind)
	{
		case KIND_STRINGS:
			return ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(value)),
								  ARR_DIMS(DatumGetArrayTypeP(value))) == 0;
		case KIND_STRING_MAP:
		case KIND_OWNER_REFERENCES:
		case KIND_MANAGED_FIELDS:
			return JB_ROOT_COUNT(DatumGetJsonbP(value)) == 0;
		default:
			return false;
	}
}

static void
push_field(JsonbParseState **state, const LeaseObject *object, LeaseField field)
{
	Datum		value = object->values[field];
	LeaseFieldKind kind = lease_fields[field].kind;
	text	   *t;

	if (object->nulls[field] || is_empty(kind, value))
		return;

	/* These strings and numbers are no pointers: empty is absent. */
	if (field == FIELD_GENERATE_NAME && VARSIZE_ANY_EXHDR(DatumGetTextPP(value)) == 0)
		return;
	if (field == FIELD_GENERATION && DatumGetInt64(value) == 0)
		return;
	if (field == FIELD_CREATION_TIMESTAMP && is_zero_time(DatumGetTimestampTz(value)))
		return;

	lease_json_push_key(state, lease_fields[field].key);
	switch (kind)
	{
		case KIND_STRING:
			t = DatumGetTextPP(value);
			lease_json_push(state, WJB_VALUE, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
			break;
		case KIND_UID:
			push_cstring(state, lease_object_uid(object));
			break;
		case KIND_VERSION:
			push_cstring(state, psprintf(INT64_FORMAT, DatumGetInt64(value)));
			break;
		case KIND_INT32:
			push_number(state, DatumGetInt32(value));
			break;
		case KIND_INT64:
			push_number(state, DatumGetInt64(value));
			break;
		case KIND_TIME:
			push_time(state, DatumGetTimestampTz(value), false);
			break;
		case KIND_MICRO_TIME:
			push_time(state, DatumGetTimestampTz(value), true);
			break;
		case KIND_STRINGS:
			push_strings(state, DatumGetArrayTypeP(value));
			break;
		case KIND_STRING_MAP:
		case KIND_OWNER_REFERENCES:
		case KIND_MANAGED_FIELDS:
			push_jsonb(state, DatumGetJsonbP(value));
			break;
	}
}

/*
 * The object as the API server sends it.
 */
Jsonb *
lease_object_to_jsonb(const LeaseObject *object)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	lease_json_push_member(&state, "apiVersion", LEASE_API_VERSION);
	lease_json_push_member(&state, "kind", LEASE_KIND);
	lease_json_push_key(&state, "metadata");
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (LeaseField f = 0; f < FIRST_SPEC_FIELD; f++)
		push_field(&state, object, f);
	(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	lease_json_push_key(&state, "spec");
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (LeaseField f = FIRST_SPEC_FIELD; f < LEASE_FIELDS; f++)
		push_field(&state, object, f);
	(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* A field that is a string in the row, or NULL. */
char *
lease_object_text(const LeaseObject *object, LeaseField field)
{
	return object->nulls[field] ? NULL : TextDatumGetCString(object->values[field]);
}

/* The uid of an object that is in the table. */
char *
lease_object_uid(const LeaseObject *object)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, object->values[FIELD_UID]));
}

/* Where the fields are in the rows of a type; kept for the rows that follow. */
typedef struct RowShape
{
	Oid			type;
	int32		typmod;
	AttrNumber	attnum[LEASE_FIELDS];
	AttrNumber	token;			/* fencing_token, or InvalidAttrNumber */
	Oid			relid;			/* of the table */
} RowShape;

/* The number of a column, or InvalidAttrNumber. */
static AttrNumber
find_column(TupleDesc tupdesc, const char *name)
{
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return i + 1;
	}
	return InvalidAttrNumber;
}

static RowShape *
get_shape(FunctionCallInfo fcinfo, HeapTupleHeader row, TupleDesc tupdesc)
{
	RowShape   *shape = fcinfo->flinfo->fn_extra;

	if (shape == NULL)
		shape = fcinfo->flinfo->fn_extra =
			MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(RowShape));
	if (shape->type == HeapTupleHeaderGetTypeId(row) &&
		shape->typmod == HeapTupleHeaderGetTypMod(row))
		return shape;

	for (LeaseField f = 0; f < LEASE_FIELDS; f++)
	{
		shape->attnum[f] = find_column(tupdesc, lease_fields[f].column);
		if (shape->attnum[f] == InvalidAttrNumber ||
			TupleDescAttr(tupdesc, shape->attnum[f] - 1)->atttypid != lease_field_type(f))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist, or has another type",
							lease_fields[f].column, LEASE_TABLE),
					 errhint("Undo what was done by hand to the objects of the extension \"lease\".")));
	}
	shape->token = find_column(tupdesc, "fencing_token");
	shape->relid = lease_relation_find(LEASE_TABLE, get_func_namespace(fcinfo->flinfo->fn_oid));
	shape->type = HeapTupleHeaderGetTypeId(row);
	shape->typmod = HeapTupleHeaderGetTypMod(row);
	return shape;
}

/*
 * Sets when the lease was last renewed, in memory it may be.
 */
void
lease_object_see_renewals(LeaseObject *object, Oid relid, int64 fencing_token)
{
	LeaseKey	key;
	LeaseRow	row;

	if (object->nulls[FIELD_RENEW_TIME] || object->nulls[FIELD_NAMESPACE] ||
		object->nulls[FIELD_NAME] || object->nulls[FIELD_RESOURCE_VERSION])
		return;
	key.namespace = DatumGetTextPP(object->values[FIELD_NAMESPACE]);
	key.name = DatumGetTextPP(object->values[FIELD_NAME]);
	row.renew_time = DatumGetTimestampTz(object->values[FIELD_RENEW_TIME]);
	row.fencing_token = fencing_token;
	row.resource_version = DatumGetInt64(object->values[FIELD_RESOURCE_VERSION]);
	(void) lease_memory_see(relid, &key, &row);
	object->values[FIELD_RENEW_TIME] = TimestampTzGetDatum(row.renew_time);
}

/*
 * SQL: lease_object(lease)
 */
Datum
lease_object(PG_FUNCTION_ARGS)
{
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(0);
	TupleDesc	tupdesc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
												 HeapTupleHeaderGetTypMod(row));
	RowShape   *shape = get_shape(fcinfo, row, tupdesc);
	Datum	   *values = palloc(tupdesc->natts * sizeof(Datum));
	bool	   *nulls = palloc(tupdesc->natts * sizeof(bool));
	HeapTupleData tuple;
	LeaseObject object;

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	heap_deform_tuple(&tuple, tupdesc, values, nulls);
	for (LeaseField f = 0; f < LEASE_FIELDS; f++)
	{
		object.values[f] = values[shape->attnum[f] - 1];
		object.nulls[f] = nulls[shape->attnum[f] - 1];
	}
	if (shape->token != InvalidAttrNumber && !nulls[shape->token - 1])
		lease_object_see_renewals(&object, shape->relid, DatumGetInt64(values[shape->token - 1]));
	ReleaseTupleDesc(tupdesc);
	PG_RETURN_JSONB_P(lease_object_to_jsonb(&object));
}
