/*
 * object_decode.c
 *		Reads a Lease from Kubernetes' JSON as strictly as the API server does for
 *		kubectl: no field that it does not know, no value of another type.
 *
 * Messages are those of Go's packages encoding/json and time, and of
 * Kubernetes' strict decoder.  Members are taken in the order of their bytes,
 * as kubectl sends them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "object.h"

/*
 * What has been found wrong so far.  The first value of a wrong type hides the
 * rest; all unknown fields are reported together.
 */
typedef struct Faults
{
	char	   *wrong_type;
	StringInfoData unknown;
} Faults;

typedef struct Member
{
	JsonbValue	key;
	JsonbValue	value;
} Member;

/*
 * The members of an object in the order of their keys' bytes.
 */
static int
compare_members(const void *a, const void *b)
{
	return lease_json_compare(&((const Member *) a)->key, &((const Member *) b)->key);
}

static Member *
sorted_members(JsonbContainer *object, int *count)
{
	Member	   *members = palloc(Max(JsonContainerSize(object), 1) * sizeof(Member));
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	v;

	*count = 0;
	(void) JsonbIteratorNext(&it, &v, true);	/* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &members[*count].key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &members[*count].value, true);
		(*count)++;
		if (*count == JsonContainerSize(object))
			break;
	}
	qsort(members, *count, sizeof(Member), compare_members);
	return members;
}

static bool
key_is(const Member *member, const char *key)
{
	return member->key.val.string.len == strlen(key) &&
		memcmp(member->key.val.string.val, key, strlen(key)) == 0;
}

static bool
is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

static bool
is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
}

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static char *
number_of(const JsonbValue *value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out,
											   NumericGetDatum(value->val.numeric)));
}

/* What Go calls the JSON value. */
static const char *
go_value(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return "string";
		case jbvNumeric:
			return "number";
		case jbvBool:
			return "bool";
		default:
			return is_array(value) ? "array" : "object";
	}
}

/* Where in Go's structs a value was to go. */
typedef struct Target
{
	const char *struct_name;
	const char *path;
	const char *type;
} Target;

static void
wrong_type(Faults *faults, const char *value, Target target)
{
	if (faults->wrong_type == NULL)
		faults->wrong_type =
			psprintf("json: cannot unmarshal %s into Go struct field %s.%s of type %s",
					 value, target.struct_name, target.path, target.type);
}

static Target
in_metadata(const char *path, const char *type)
{
	return (Target) {"ObjectMeta", path, type};
}

static void
unknown_field(Faults *faults, const char *path, const Member *member)
{
	appendStringInfo(&faults->unknown, "%sunknown field \"%s%s%.*s\"",
					 faults->unknown.len == 0 ? "" : ", ",
					 path, path[0] == '\0' ? "" : ".",
					 member->key.val.string.len, member->key.val.string.val);
}

/*
 * The kinds of fields.  Each returns false and notes why, if the value is not of
 * its kind.  null is no value and does not get here.
 */

static bool
decode_string(Faults *faults, const JsonbValue *value, Target target, char **s)
{
	if (value->type != jbvString)
	{
		wrong_type(faults, go_value(value), target);
		return false;
	}
	*s = string_of(value);
	return true;
}

static bool
decode_integer(Faults *faults, const JsonbValue *value, Target target, int64 min, int64 max,
			   int64 *n)
{
	char	   *text;
	char	   *end;

	if (value->type != jbvNumeric)
	{
		wrong_type(faults, go_value(value), target);
		return false;
	}
	text = number_of(value);
	errno = 0;
	*n = strtoi64(text, &end, 10);
	if (errno != 0 || *end != '\0' || *n < min || *n > max)
	{
		wrong_type(faults, psprintf("number %s", text), target);
		return false;
	}
	return true;
}

static bool
decode_time(Faults *faults, const JsonbValue *value, bool micro, TimestampTz *time)
{
	char	   *fault;

	if (value->type != jbvString)
		fault = psprintf("json: cannot unmarshal %s into Go value of type string",
						 go_value(value));
	else
		fault = lease_parse_time(string_of(value), micro, time);

	/* metav1.Time is written without its fraction */
	if (fault == NULL && !micro)
		*time = lease_whole_seconds(*time);
	if (fault != NULL && faults->wrong_type == NULL)
		faults->wrong_type = fault;
	return fault == NULL;
}

/* Every member's value must be a string; null is an empty one, as in Go. */
static bool
decode_string_map(Faults *faults, const JsonbValue *value, const char *path,
				  Datum *result)
{
	JsonbParseState *state = NULL;
	Member	   *members;
	int			count;

	if (!is_object(value))
	{
		wrong_type(faults, go_value(value), in_metadata(path, "map[string]string"));
		return false;
	}
	members = sorted_members(value->val.binary.data, &count);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < count; i++)
	{
		JsonbValue	v = members[i].value;

		if (v.type == jbvNull)
		{
			v.type = jbvString;
			v.val.string.val = "";
			v.val.string.len = 0;
		}
		if (v.type != jbvString)
		{
			wrong_type(faults, go_value(&v), in_metadata(path, "string"));
			return false;
		}
		(void) pushJsonbValue(&state, WJB_KEY, &members[i].key);
		(void) pushJsonbValue(&state, WJB_VALUE, &v);
	}
	*result = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
	return true;
}

static bool
decode_strings(Faults *faults, const JsonbValue *value, const char *path, Datum *result)
{
	JsonbContainer *array;
	Datum	   *elements;
	int			count;

	if (!is_array(value))
	{
		wrong_type(faults, go_value(value), in_metadata(path, "[]string"));
		return false;
	}
	array = value->val.binary.data;
	count = JsonContainerSize(array);
	elements = palloc(Max(count, 1) * sizeof(Datum));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);
		char	   *s = "";

		if (element->type != jbvNull &&
			!decode_string(faults, element, in_metadata(path, "string"), &s))
			return false;
		elements[i] = CStringGetTextDatum(s);
	}
	*result = PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
	return true;
}

/* A member of the structs that metadata has lists of. */
typedef struct ElementMember
{
	const char *key;
	const char *go_type;		/* NULL: any value */
} ElementMember;

static const ElementMember owner_reference_members[] = {
	{"apiVersion", "string"},
	{"kind", "string"},
	{"name", "string"},
	{"uid", "types.UID"},
	{"controller", "bool"},
	{"blockOwnerDeletion", "bool"},
	{NULL}
};

static const ElementMember managed_fields_members[] = {
	{"manager", "string"},
	{"operation", "v1.ManagedFieldsOperationType"},
	{"apiVersion", "string"},
	{"time", "v1.Time"},
	{"fieldsType", "string"},
	{"fieldsV1", NULL},
	{"subresource", "string"},
	{NULL}
};

static const ElementMember *
find_member(const ElementMember *known, const Member *member)
{
	for (; known->key != NULL; known++)
	{
		if (key_is(member, known->key))
			return known;
	}
	return NULL;
}

/* Checks a value, and makes a time what Kubernetes would write. */
static bool
decode_element_member(Faults *faults, const ElementMember *known, const char *struct_name,
					  const char *path, JsonbValue *value)
{
	Target		target = {struct_name, psprintf("%s.%s", path, known->key), known->go_type};
	TimestampTz time;
	char	   *s;

	if (known->go_type == NULL)
		return true;
	if (strcmp(known->go_type, "bool") == 0)
	{
		if (value->type != jbvBool)
			wrong_type(faults, go_value(value), target);
		return value->type == jbvBool;
	}
	if (strcmp(known->go_type, "v1.Time") == 0)
	{
		if (!decode_time(faults, value, false, &time))
			return false;
		value->val.string.val = lease_time_text(time, false);
		value->val.string.len = strlen(value->val.string.val);
		return true;
	}
	return decode_string(faults, value, target, &s);
}

/* path has no index, as in messages about types; those about fields have one. */
static bool
decode_element(Faults *faults, const JsonbValue *element, const ElementMember *known,
			   const char *struct_name, const char *path, int i, JsonbParseState **state)
{
	Member	   *members;
	int			count;

	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	if (element->type != jbvNull)
	{
		if (!is_object(element))
		{
			wrong_type(faults, go_value(element), in_metadata(path, psprintf("v1.%s", struct_name)));
			return false;
		}
		members = sorted_members(element->val.binary.data, &count);
		for (int m = 0; m < count; m++)
		{
			const ElementMember *info = find_member(known, &members[m]);

			if (info == NULL)
				unknown_field(faults, psprintf("%s[%d]", path, i), &members[m]);
			else if (members[m].value.type != jbvNull)
			{
				if (!decode_element_member(faults, info, struct_name, path, &members[m].value))
					return false;
				(void) pushJsonbValue(state, WJB_KEY, &members[m].key);
				(void) pushJsonbValue(state, WJB_VALUE, &members[m].value);
			}
		}
	}
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
	return true;
}

static bool
decode_elements(Faults *faults, const JsonbValue *value, const ElementMember *known,
				const char *struct_name, const char *path, Datum *result)
{
	JsonbParseState *state = NULL;
	JsonbContainer *array;

	if (!is_array(value))
	{
		wrong_type(faults, go_value(value), in_metadata(path, psprintf("[]v1.%s", struct_name)));
		return false;
	}
	array = value->val.binary.data;
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < JsonContainerSize(array); i++)
	{
		if (!decode_element(faults, getIthJsonbValueFromContainer(array, i), known,
							struct_name, path, i, &state))
			return false;
	}
	*result = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
	return true;
}

/* A uid that is none of ours cannot be kept; then the field stays null. */
static bool
uid_value(const char *s, Datum *result)
{
	pg_uuid_t  *uuid = palloc(UUID_LEN);
	int			digits = 0;

	for (const char *p = s; *p; p++)
	{
		int			place = p - s;

		if (place == 8 || place == 13 || place == 18 || place == 23)
		{
			if (*p != '-')
				return false;
			continue;
		}
		if (!(*p >= '0' && *p <= '9') && !(*p >= 'a' && *p <= 'f'))
			return false;
		if (digits >= 2 * UUID_LEN)
			return false;
		if (digits % 2 == 0)
			uuid->data[digits / 2] = 0;
		uuid->data[digits / 2] = uuid->data[digits / 2] << 4 |
			(*p <= '9' ? *p - '0' : *p - 'a' + 10);
		digits++;
	}
	*result = UUIDPGetDatum(uuid);
	return digits == 2 * UUID_LEN;
}

static bool
version_value(const char *s, Datum *result)
{
	char	   *end;
	int64		n;

	if (!isdigit((unsigned char) s[0]) || (s[0] == '0' && s[1] != '\0'))
		return false;
	errno = 0;
	n = strtoi64(s, &end, 10);
	*result = Int64GetDatum(n);
	return errno == 0 && *end == '\0' && n > 0;
}

static void
decode_field(Faults *faults, LeaseField field, const char *struct_name, const char *path,
			 const JsonbValue *value, LeaseObject *object)
{
	const LeaseFieldInfo *info = &lease_fields[field];
	Datum	   *result = &object->values[field];
	bool		ok = false;
	char	   *s = NULL;
	int64		n;
	TimestampTz time = 0;
	Target		target = {struct_name, psprintf("%s.%s", path, info->key), info->go_type};

	object->given[field] = true;
	if (value->type == jbvNull)
		return;
	path = target.path;
	switch (info->kind)
	{
		case KIND_STRING:
			ok = decode_string(faults, value, target, &s);
			if (ok)
				*result = CStringGetTextDatum(s);
			break;
		case KIND_UID:
			ok = decode_string(faults, value, target, &object->uid) &&
				uid_value(object->uid, result);
			break;
		case KIND_VERSION:
			ok = decode_string(faults, value, target, &object->resource_version) &&
				version_value(object->resource_version, result);
			break;
		case KIND_INT32:
			ok = decode_integer(faults, value, target, PG_INT32_MIN, PG_INT32_MAX, &n);
			*result = Int32GetDatum((int32) n);
			break;
		case KIND_INT64:
			ok = decode_integer(faults, value, target, PG_INT64_MIN, PG_INT64_MAX, &n);
			*result = Int64GetDatum(n);
			break;
		case KIND_TIME:
		case KIND_MICRO_TIME:
			ok = decode_time(faults, value, info->kind == KIND_MICRO_TIME, &time);
			*result = TimestampTzGetDatum(time);
			break;
		case KIND_STRING_MAP:
			ok = decode_string_map(faults, value, path, result);
			break;
		case KIND_STRINGS:
			ok = decode_strings(faults, value, path, result);
			break;
		case KIND_OWNER_REFERENCES:
			ok = decode_elements(faults, value, owner_reference_members, "OwnerReference",
								 path, result);
			break;
		case KIND_MANAGED_FIELDS:
			ok = decode_elements(faults, value, managed_fields_members, "ManagedFieldsEntry",
								 path, result);
			break;
	}
	object->nulls[field] = !ok;
}

/*
 * The fields from first to end are those of a struct.
 */
static void
decode_struct(Faults *faults, const JsonbValue *value, const char *struct_name,
			  const char *path, LeaseField first, LeaseField end, LeaseObject *object)
{
	Member	   *members;
	int			count;

	if (value->type == jbvNull)
	{
		/* as if each were null */
		memset(&object->given[first], true, (end - first) * sizeof(bool));
		return;
	}
	if (!is_object(value))
	{
		wrong_type(faults, go_value(value), (Target) {LEASE_KIND, path, psprintf("v1.%s", struct_name)});
		return;
	}
	members = sorted_members(value->val.binary.data, &count);
	for (int i = 0; i < count; i++)
	{
		LeaseField	f = first;

		while (f < end && !key_is(&members[i], lease_fields[f].key))
			f++;
		if (f < end)
			decode_field(faults, f, struct_name, path, &members[i].value, object);
		else if (first != 0 || !key_is(&members[i], "selfLink"))
			unknown_field(faults, path, &members[i]);
	}
}

/* What says that an object is no Lease, or NULL. */
static char *
check_kind(JsonbContainer *json)
{
	char	   *kind = lease_json_text(json, "kind");
	char	   *version = lease_json_text(json, "apiVersion");

	if (kind == NULL || kind[0] == '\0')
		return psprintf("Object 'Kind' is missing in '%s'", JsonbToCString(NULL, json, 0));
	if (version == NULL || version[0] == '\0')
		return psprintf("Object 'apiVersion' is missing in '%s'", JsonbToCString(NULL, json, 0));
	if (strcmp(kind, LEASE_KIND) != 0 || strcmp(version, LEASE_API_VERSION) != 0)
		return psprintf("no matches for kind %s in version %s",
						lease_go_quote(kind, strlen(kind)),
						lease_go_quote(version, strlen(version)));
	return NULL;
}

/*
 * Reads a Lease.  Returns what is wrong with the JSON, as the API server says
 * it, or NULL.
 */
char *
lease_object_decode(JsonbContainer *json, LeaseObject *object)
{
	Faults		faults = {0};
	Member	   *members;
	int			count;
	char	   *fault;

	memset(object, 0, sizeof(*object));
	memset(object->nulls, true, sizeof(object->nulls));
	if (!JsonContainerIsObject(json))
		return pstrdup("a Lease must be a JSON object");
	fault = check_kind(json);
	if (fault != NULL)
		return fault;

	initStringInfo(&faults.unknown);
	members = sorted_members(json, &count);
	for (int i = 0; i < count; i++)
	{
		if (key_is(&members[i], "metadata"))
			decode_struct(&faults, &members[i].value, "ObjectMeta", "metadata",
						  0, FIRST_SPEC_FIELD, object);
		else if (key_is(&members[i], "spec"))
			decode_struct(&faults, &members[i].value, "LeaseSpec", "spec",
						  FIRST_SPEC_FIELD, LEASE_FIELDS, object);
		else if (!key_is(&members[i], "apiVersion") && !key_is(&members[i], "kind"))
			unknown_field(&faults, "", &members[i]);
	}
	if (faults.wrong_type != NULL)
		return psprintf(LEASE_KIND " in version \"v1\" cannot be handled as a " LEASE_KIND ": %s",
						faults.wrong_type);
	if (faults.unknown.len > 0)
		return psprintf(LEASE_KIND " in version \"v1\" cannot be handled as a " LEASE_KIND
						": strict decoding error: %s", faults.unknown.data);
	return NULL;
}
