/*
 * parts.c
 *		Parts of objects: looked at, and changed by their path.  A path is a list of
 *		char *.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "kubectl.h"

static Datum
path_datum(List *path)
{
	Datum	   *parts = palloc(Max(list_length(path), 1) * sizeof(Datum));
	ListCell   *lc;

	foreach(lc, path)
		parts[foreach_current_index(lc)] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(parts, list_length(path), TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Sets what is at a path, or adds it.
 */
Jsonb *
kubectl_set_path(Jsonb *object, List *path, Jsonb *value)
{
	return DatumGetJsonbP(DirectFunctionCall4(jsonb_set, JsonbPGetDatum(object), path_datum(path),
											  JsonbPGetDatum(value), BoolGetDatum(true)));
}

/*
 * Deletes what is at a path, if there is something.
 */
Jsonb *
kubectl_delete_path(Jsonb *object, List *path)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete_path, JsonbPGetDatum(object), path_datum(path)));
}

/*
 * Inserts an element of an array before the one at a path.
 */
Jsonb *
kubectl_insert_path(Jsonb *object, List *path, Jsonb *value)
{
	return DatumGetJsonbP(DirectFunctionCall4(jsonb_insert, JsonbPGetDatum(object), path_datum(path),
											  JsonbPGetDatum(value), BoolGetDatum(false)));
}

Jsonb *
kubectl_parse_jsonb(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

Jsonb *
kubectl_string_jsonb(const char *s)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = strlen(s);
	return JsonbValueToJsonb(&v);
}

/*
 * A member of an object that is an object, or an array; NULL if it is neither.
 */
Jsonb *
kubectl_get_object(Jsonb *object, const char *key)
{
	JsonbValue *value = object == NULL ? NULL : lease_json_member(&object->root, key);

	return value == NULL || value->type != jbvBinary ? NULL : JsonbValueToJsonb(value);
}

/*
 * A member of an object that is a string; NULL if it is none.
 */
char *
kubectl_get_string(Jsonb *object, const char *key)
{
	return object == NULL ? NULL : lease_json_text(&object->root, key);
}

bool
kubectl_same_jsonb(Jsonb *a, Jsonb *b)
{
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

/*
 * What is in a value that is an object; NULL if it is none.
 */
JsonbContainer *
kubectl_object_in(const JsonbValue *value)
{
	return value != NULL && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data) ?
		value->val.binary.data : NULL;
}
