/*
 * json.c
 *		Making and looking at jsonb, where PostgreSQL has no function for it.
 */
#include "postgres.h"

#include "lease.h"

/*
 * token: WJB_KEY, WJB_VALUE or WJB_ELEM
 */
void
lease_json_push(JsonbParseState **state, JsonbIteratorToken token, const char *s, int len)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, s);
	value.val.string.len = len;
	(void) pushJsonbValue(state, token, &value);
}

void
lease_json_push_key(JsonbParseState **state, const char *key)
{
	lease_json_push(state, WJB_KEY, key, strlen(key));
}

/*
 * A member that is a string.
 */
void
lease_json_push_member(JsonbParseState **state, const char *key, const char *s)
{
	lease_json_push_key(state, key);
	lease_json_push(state, WJB_VALUE, s, strlen(s));
}

/*
 * A member of an object, in memory of its own; NULL if there is none.
 */
JsonbValue *
lease_json_member(const JsonbContainer *object, const char *key)
{
	if (!JsonContainerIsObject(object))
		return NULL;
	return getKeyJsonValueFromContainer(unconstify(JsonbContainer *, object), key, strlen(key), NULL);
}

/*
 * A member that is a string, as such; NULL if it is none.
 */
char *
lease_json_text(const JsonbContainer *object, const char *key)
{
	JsonbValue *value = lease_json_member(object, key);

	return value == NULL || value->type != jbvString ? NULL :
		pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * Is the member this string?
 */
bool
lease_json_text_is(const JsonbContainer *object, const char *key, const char *wanted)
{
	JsonbValue *value = lease_json_member(object, key);

	return value != NULL && value->type == jbvString &&
		value->val.string.len == strlen(wanted) &&
		memcmp(value->val.string.val, wanted, strlen(wanted)) == 0;
}

/*
 * Strings in the order of their bytes, a prefix first: Go's order.
 */
int
lease_json_compare(const JsonbValue *a, const JsonbValue *b)
{
	int			result = memcmp(a->val.string.val, b->val.string.val,
								Min(a->val.string.len, b->val.string.len));

	return result != 0 ? result : a->val.string.len - b->val.string.len;
}
