/*
 * validate.c
 *		Kubernetes' rules for names, labels, annotations and the like.
 *
 * Every rule stands here once: the table's constraints call it through the SQL
 * functions lease_valid_*, the functions that take names call it to refuse bad
 * input before they look at the table.
 *
 * Sources: k8s.io/apimachinery pkg/util/validation, pkg/api/validation, and
 * pkg/apis/coordination/validation.  Lengths are bytes, as in Go.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_valid_name);
PG_FUNCTION_INFO_V1(lease_valid_namespace);
PG_FUNCTION_INFO_V1(lease_valid_labels);
PG_FUNCTION_INFO_V1(lease_valid_annotations);
PG_FUNCTION_INFO_V1(lease_valid_owner_references);
PG_FUNCTION_INFO_V1(lease_valid_finalizers);
PG_FUNCTION_INFO_V1(lease_valid_managed_fields);
PG_FUNCTION_INFO_V1(lease_valid_strategy);

/* Checks one member of a JSON object; state is the caller's own. */
typedef bool (*MemberCheck) (const JsonbValue *key, const JsonbValue *value,
							 void *state);

static bool
is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool
is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* [a-z0-9]([-a-z0-9]*[a-z0-9])? */
bool
lease_is_dns_label_syntax(const char *s, int len)
{
	if (len == 0 || !is_lower_alnum(s[0]) || !is_lower_alnum(s[len - 1]))
		return false;
	for (int i = 1; i < len - 1; i++)
	{
		if (!is_lower_alnum(s[i]) && s[i] != '-')
			return false;
	}
	return true;
}

/* DNS labels joined by dots */
bool
lease_is_dns_subdomain_syntax(const char *s, int len)
{
	const char *end = s + len;

	for (;;)
	{
		const char *dot = memchr(s, '.', end - s);

		if (!lease_is_dns_label_syntax(s, (dot ? dot : end) - s))
			return false;
		if (dot == NULL)
			return true;
		s = dot + 1;
	}
}

/* ([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9] */
bool
lease_is_name_syntax(const char *s, int len)
{
	if (len == 0 || !is_alnum(s[0]) || !is_alnum(s[len - 1]))
		return false;
	for (int i = 1; i < len - 1; i++)
	{
		if (!is_alnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.')
			return false;
	}
	return true;
}

static bool
is_name_part(const char *s, int len)
{
	return len <= LEASE_MAX_LABEL && lease_is_name_syntax(s, len);
}

/* a name part, with a DNS subdomain and a slash before it or not */
static bool
is_qualified_name(const char *s, int len)
{
	const char *slash = memchr(s, '/', len);

	if (slash != NULL)
	{
		int			prefix_len = slash - s;

		if (prefix_len > LEASE_MAX_SUBDOMAIN || !lease_is_dns_subdomain_syntax(s, prefix_len))
			return false;
		s = slash + 1;
		len -= prefix_len + 1;
	}
	return is_name_part(s, len);
}

/*
 * Does every member of this JSON object pass?  False for anything that is not
 * an object.
 */
static bool
check_members(JsonbContainer *object, MemberCheck check, void *state)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	if (!JsonContainerIsObject(object))
		return false;

	it = JsonbIteratorInit(object);
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);	/* WJB_VALUE */
		if (!check(&key, &value, state))
			return false;
	}
	Assert(token == WJB_END_OBJECT);
	return true;
}

static bool
label_is_valid(const JsonbValue *key, const JsonbValue *value, void *state)
{
	return value->type == jbvString &&
		is_qualified_name(key->val.string.val, key->val.string.len) &&
		(value->val.string.len == 0 ||
		 is_name_part(value->val.string.val, value->val.string.len));
}

/* state: int64, bytes of all keys and values so far */
static bool
annotation_is_valid(const JsonbValue *key, const JsonbValue *value, void *state)
{
	int64	   *total = state;
	char	   *lower;

	if (value->type != jbvString)
		return false;

	*total += key->val.string.len + value->val.string.len;
	if (*total > LEASE_MAX_ANNOTATIONS)
		return false;

	/* Annotation keys are lower-cased before the check, label keys are not. */
	lower = pnstrdup(key->val.string.val, key->val.string.len);
	for (char *c = lower; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return is_qualified_name(lower, key->val.string.len);
}

static bool
has_text(JsonbContainer *object, const char *key)
{
	JsonbValue *value = lease_json_member(object, key);

	return value != NULL && value->type == jbvString && value->val.string.len > 0;
}

/* True if the member is absent, null, or a boolean, which is stored. */
static bool
get_optional_bool(JsonbContainer *object, const char *key, bool *result)
{
	JsonbValue *value = lease_json_member(object, key);

	*result = value != NULL && value->type == jbvBool && value->val.boolean;
	return value == NULL || value->type == jbvBool || value->type == jbvNull;
}

static bool
owner_reference_is_valid(JsonbContainer *object, int *controllers)
{
	bool		controller;
	bool		block;

	if (!has_text(object, "apiVersion") || !has_text(object, "kind") ||
		!has_text(object, "name") || !has_text(object, "uid") ||
		!get_optional_bool(object, "controller", &controller) ||
		!get_optional_bool(object, "blockOwnerDeletion", &block))
		return false;

	*controllers += controller ? 1 : 0;
	return *controllers <= 1;
}

/*
 * SQL: lease_valid_name(name)
 */
Datum
lease_valid_name(PG_FUNCTION_ARGS)
{
	text	   *name = PG_GETARG_TEXT_PP(0);
	int			len = VARSIZE_ANY_EXHDR(name);

	PG_RETURN_BOOL(len <= LEASE_MAX_SUBDOMAIN &&
				   lease_is_dns_subdomain_syntax(VARDATA_ANY(name), len));
}

/*
 * SQL: lease_valid_namespace(namespace)
 */
Datum
lease_valid_namespace(PG_FUNCTION_ARGS)
{
	text	   *namespace = PG_GETARG_TEXT_PP(0);
	int			len = VARSIZE_ANY_EXHDR(namespace);

	PG_RETURN_BOOL(len <= LEASE_MAX_LABEL &&
				   lease_is_dns_label_syntax(VARDATA_ANY(namespace), len));
}

/*
 * SQL: lease_valid_labels(labels)
 */
Datum
lease_valid_labels(PG_FUNCTION_ARGS)
{
	Jsonb	   *labels = PG_GETARG_JSONB_P(0);

	PG_RETURN_BOOL(check_members(&labels->root, label_is_valid, NULL));
}

/*
 * SQL: lease_valid_annotations(annotations)
 */
Datum
lease_valid_annotations(PG_FUNCTION_ARGS)
{
	Jsonb	   *annotations = PG_GETARG_JSONB_P(0);
	int64		total = 0;

	PG_RETURN_BOOL(check_members(&annotations->root, annotation_is_valid, &total));
}

/*
 * SQL: lease_valid_owner_references(owner_references)
 */
Datum
lease_valid_owner_references(PG_FUNCTION_ARGS)
{
	Jsonb	   *references = PG_GETARG_JSONB_P(0);
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	int			controllers = 0;

	if (!JsonContainerIsArray(&references->root) ||
		JsonContainerIsScalar(&references->root))
		PG_RETURN_BOOL(false);

	it = JsonbIteratorInit(&references->root);
	(void) JsonbIteratorNext(&it, &value, true);	/* WJB_BEGIN_ARRAY */
	while ((token = JsonbIteratorNext(&it, &value, true)) == WJB_ELEM)
	{
		if (value.type != jbvBinary ||
			!JsonContainerIsObject(value.val.binary.data) ||
			!owner_reference_is_valid(value.val.binary.data, &controllers))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/*
 * SQL: lease_valid_finalizers(finalizers)
 */
Datum
lease_valid_finalizers(PG_FUNCTION_ARGS)
{
	ArrayType  *finalizers = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	if (ARR_NDIM(finalizers) > 1)
		PG_RETURN_BOOL(false);

	deconstruct_array(finalizers, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		text	   *element;

		if (nulls[i])
			PG_RETURN_BOOL(false);
		element = DatumGetTextPP(elements[i]);
		if (!is_qualified_name(VARDATA_ANY(element), VARSIZE_ANY_EXHDR(element)))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/*
 * SQL: lease_valid_managed_fields(managed_fields)
 */
Datum
lease_valid_managed_fields(PG_FUNCTION_ARGS)
{
	JsonbContainer *entries = &PG_GETARG_JSONB_P(0)->root;

	if (!JsonContainerIsArray(entries) || JsonContainerIsScalar(entries))
		PG_RETURN_BOOL(false);
	for (int i = 0; i < JsonContainerSize(entries); i++)
	{
		JsonbValue *entry = getIthJsonbValueFromContainer(entries, i);

		if (entry->type != jbvBinary || !JsonContainerIsObject(entry->val.binary.data))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/*
 * SQL: lease_valid_strategy(strategy)
 */
Datum
lease_valid_strategy(PG_FUNCTION_ARGS)
{
	text	   *strategy = PG_GETARG_TEXT_PP(0);
	char	   *s = VARDATA_ANY(strategy);
	int			len = VARSIZE_ANY_EXHDR(strategy);

	if (memchr(s, '/', len) != NULL)
		PG_RETURN_BOOL(is_qualified_name(s, len));
	PG_RETURN_BOOL(len == 0 ||
				   (len == strlen(LEASE_STRATEGY) && memcmp(s, LEASE_STRATEGY, len) == 0));
}

/*
 * Refuses an empty or a too long name.  what: lease name, lease namespace.
 */
static void
check_length(const char *what, int len, int max_len)
{
	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", what)));
	if (len > max_len)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("%s is too long", what),
				 errdetail("It has %d bytes, at most %d are allowed.", len, max_len)));
}

/*
 * Errors out unless this is a name a lease can have.
 */
void
lease_validate_name(const text *name)
{
	const char *s = VARDATA_ANY(name);
	int			len = VARSIZE_ANY_EXHDR(name);

	check_length("lease name", len, LEASE_MAX_SUBDOMAIN);
	if (!lease_is_dns_subdomain_syntax(s, len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid lease name \"%s\"", text_to_cstring(name)),
				 errdetail("A name consists of lower-case letters, digits, \"-\" and \".\", and each of its parts between dots starts and ends with a letter or digit."),
				 errhint("Kubernetes calls this a DNS-1123 subdomain, for example \"nightly-report\" or \"db.example.com\".")));
}

/*
 * Errors out unless this is a namespace a lease can be in.
 */
void
lease_validate_namespace(const text *namespace)
{
	const char *s = VARDATA_ANY(namespace);
	int			len = VARSIZE_ANY_EXHDR(namespace);

	check_length("lease namespace", len, LEASE_MAX_LABEL);
	if (!lease_is_dns_label_syntax(s, len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid lease namespace \"%s\"", text_to_cstring(namespace)),
				 errdetail("A namespace consists of lower-case letters, digits and \"-\", and starts and ends with a letter or digit."),
				 errhint("Kubernetes calls this a DNS-1123 label, for example \"kube-system\".")));
}

/*
 * Errors out unless somebody of this identity can hold a lease.  Any text will
 * do, but an empty one means that nobody does.
 */
void
lease_validate_holder(const text *holder)
{
	if (VARSIZE_ANY_EXHDR(holder) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease holder must not be empty"),
				 errhint(LEASE_HOLDER_HINT)));
}

/*
 * Errors out unless this is a host's name that can be a label's value, as the
 * identity lease of its API server has it.
 */
void
lease_validate_hostname(const text *hostname)
{
	const char *s = VARDATA_ANY(hostname);
	int			len = VARSIZE_ANY_EXHDR(hostname);

	check_length("hostname", len, LEASE_MAX_LABEL);
	if (!is_name_part(s, len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid hostname \"%s\"", text_to_cstring(hostname)),
				 errdetail("It becomes the value of the label kubernetes.io/hostname, which consists of letters, digits, \"-\", \"_\" and \".\", and starts and ends with a letter or digit.")));
}
