/*
 * api_validation.c
 *		The API server's validation of a whole Lease, in the API server's words:
 *		every fault, not only the first.
 *
 * validate.c says whether a single value is good, for the table's constraints,
 * and has the syntax; here is what a request is refused with.  Sources: k8s.io/apimachinery 0.32,
 * pkg/api/validation, pkg/apis/meta/v1/validation, pkg/util/validation and its
 * field errors; coordination.k8s.io, ValidateLease and ValidateLeaseUpdate.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "object.h"

#define MAX_FIELD_MANAGER_LEN 128
#define MAX_SUBRESOURCE_LEN 256

#define FINALIZER_ORPHAN "orphan"
#define FINALIZER_FOREGROUND "foregroundDeletion"

#define LABEL_FMT "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#define NAME_FMT "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"

#define SUBDOMAIN_MESSAGE \
	"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters," \
	" '-' or '.', and must start and end with an alphanumeric character" \
	" (e.g. 'example.com', regex used for validation is '" LABEL_FMT "(\\." LABEL_FMT ")*')"
#define LABEL_MESSAGE \
	"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'," \
	" and must start and end with an alphanumeric character" \
	" (e.g. 'my-name',  or '123-abc', regex used for validation is '" LABEL_FMT "')"
#define QUALIFIED_MESSAGE \
	"must consist of alphanumeric characters, '-', '_' or '.', and must start and end with" \
	" an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc'," \
	" regex used for validation is '" NAME_FMT "')"
#define LABEL_VALUE_MESSAGE \
	"a valid label must be an empty string or consist of alphanumeric characters, '-', '_'" \
	" or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', " \
	" or 'my_value',  or '12345', regex used for validation is '(" NAME_FMT ")?')"

static void
add(List **faults, char *fault)
{
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();

	/* One that is found twice is reported once. */
	foreach(lc, *faults)
	{
		if (strcmp(lfirst(lc), fault) == 0)
			return;
	}
	*faults = lappend(*faults, fault);
}

static char *
quote(const char *s)
{
	return lease_go_quote(s, strlen(s));
}

static void
invalid(List **faults, const char *path, const char *value, const char *detail)
{
	add(faults, psprintf("%s: Invalid value: %s: %s", path, value, detail));
}

/* Each of the messages is a fault of this string. */
static void
invalid_string(List **faults, const char *path, const char *value, List *messages)
{
	ListCell   *lc;

	foreach(lc, messages)
		invalid(faults, path, quote(value), lfirst(lc));
}

/*
 * Values.  Each function returns the messages, NIL if the value is good.
 */

static bool
is_subdomain(const char *s)
{
	return lease_is_dns_subdomain_syntax(s, strlen(s));
}

static bool
is_name(const char *s)
{
	return lease_is_name_syntax(s, strlen(s));
}

static char *
too_long(int max)
{
	return psprintf("must be no more than %d characters", max);
}

static List *
check_subdomain(const char *s)
{
	List	   *messages = NIL;

	if (strlen(s) > LEASE_MAX_SUBDOMAIN)
		messages = lappend(messages, too_long(LEASE_MAX_SUBDOMAIN));
	if (!is_subdomain(s))
		messages = lappend(messages, SUBDOMAIN_MESSAGE);
	return messages;
}

static List *
check_label(const char *s)
{
	List	   *messages = NIL;

	if (strlen(s) > LEASE_MAX_LABEL)
		messages = lappend(messages, too_long(LEASE_MAX_LABEL));
	if (!lease_is_dns_label_syntax(s, strlen(s)))
		messages = lappend(messages, is_subdomain(s) ? "must not contain dots" : LABEL_MESSAGE);
	return messages;
}

/* What is wrong with the key of a label or annotation; a list of char *. */
List *
lease_check_qualified_name(const char *s)
{
	List	   *messages = NIL;
	const char *slash = strchr(s, '/');
	const char *name = slash ? slash + 1 : s;
	ListCell   *lc;

	if (strchr(name, '/') != NULL)
		return list_make1("a qualified name " QUALIFIED_MESSAGE
						  " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')");
	if (slash == s)
		messages = lappend(messages, "prefix part must be non-empty");
	else if (slash != NULL)
	{
		foreach(lc, check_subdomain(pnstrdup(s, slash - s)))
			messages = lappend(messages, psprintf("prefix part %s", (char *) lfirst(lc)));
	}
	if (name[0] == '\0')
		messages = lappend(messages, "name part must be non-empty");
	else if (strlen(name) > LEASE_MAX_LABEL)
		messages = lappend(messages, psprintf("name part %s", too_long(LEASE_MAX_LABEL)));
	if (!is_name(name))
		messages = lappend(messages, "name part " QUALIFIED_MESSAGE);
	return messages;
}

/* What is wrong with the value of a label; a list of char *. */
List *
lease_check_label_value(const char *s)
{
	List	   *messages = NIL;

	if (strlen(s) > LEASE_MAX_LABEL)
		messages = lappend(messages, too_long(LEASE_MAX_LABEL));
	if (s[0] != '\0' && !is_name(s))
		messages = lappend(messages, LABEL_VALUE_MESSAGE);
	return messages;
}

/* What a generated name begins with: it may end in a dash. */
static List *
check_subdomain_prefix(const char *s)
{
	int			len = strlen(s);

	if (len > 1 && s[len - 1] == '-')
		s = psprintf("%.*sa", len - 2, s);
	return check_subdomain(s);
}

/*
 * Metadata.
 */

/* One member of a map of strings, as text. */
typedef struct Pair
{
	char	   *key;
	char	   *value;
} Pair;

static int
compare_pairs(const void *a, const void *b)
{
	return strcmp(((const Pair *) a)->key, ((const Pair *) b)->key);
}

/* In the order of the keys: Go has none, so any is right. */
static Pair *
get_pairs(Jsonb *map, int *count)
{
	Pair	   *pairs = palloc(Max(JB_ROOT_COUNT(map), 1) * sizeof(Pair));
	JsonbIterator *it = JsonbIteratorInit(&map->root);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	*count = 0;
	(void) JsonbIteratorNext(&it, &key, true);	/* WJB_BEGIN_OBJECT */
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		pairs[*count].key = pnstrdup(key.val.string.val, key.val.string.len);
		pairs[*count].value = value.type == jbvString ?
			pnstrdup(value.val.string.val, value.val.string.len) : pstrdup("");
		(*count)++;
	}
	qsort(pairs, *count, sizeof(Pair), compare_pairs);
	return pairs;
}

static void
validate_labels(List **faults, const LeaseObject *object)
{
	Pair	   *pairs;
	int			count;

	if (object->nulls[FIELD_LABELS])
		return;
	pairs = get_pairs(DatumGetJsonbP(object->values[FIELD_LABELS]), &count);
	for (int i = 0; i < count; i++)
	{
		invalid_string(faults, "metadata.labels", pairs[i].key,
					   lease_check_qualified_name(pairs[i].key));
		invalid_string(faults, "metadata.labels", pairs[i].value,
					   lease_check_label_value(pairs[i].value));
	}
}

static void
validate_annotations(List **faults, const LeaseObject *object)
{
	Pair	   *pairs;
	int			count;
	int64		total = 0;

	if (object->nulls[FIELD_ANNOTATIONS])
		return;
	pairs = get_pairs(DatumGetJsonbP(object->values[FIELD_ANNOTATIONS]), &count);
	for (int i = 0; i < count; i++)
	{
		char	   *lower = pstrdup(pairs[i].key);

		for (char *c = lower; *c; c++)
			*c = pg_ascii_tolower((unsigned char) *c);
		invalid_string(faults, "metadata.annotations", pairs[i].key,
					   lease_check_qualified_name(lower));
		total += strlen(pairs[i].key) + strlen(pairs[i].value);
	}
	if (total > LEASE_MAX_ANNOTATIONS)
		add(faults, psprintf("metadata.annotations: Too long: may not be more than %d bytes",
							 LEASE_MAX_ANNOTATIONS));
}

static char *
member_text(JsonbContainer *object, const char *key)
{
	char	   *s = lease_json_text(object, key);

	return s == NULL ? "" : s;
}

/* A *bool as %#v prints it; the address is any. */
static const char *
go_bool_pointer(JsonbContainer *object, const char *key, bool *is_true)
{
	JsonbValue *value = lease_json_member(object, key);

	*is_true = value != NULL && value->type == jbvBool && value->val.boolean;
	return value != NULL && value->type == jbvBool ? "(*bool)(0xc000000000)" : "(*bool)(nil)";
}

static char *
go_owner_reference(JsonbContainer *reference)
{
	bool		ignored;

	return psprintf("v1.OwnerReference{APIVersion:%s, Kind:%s, Name:%s, UID:%s, Controller:%s, BlockOwnerDeletion:%s}",
					quote(member_text(reference, "apiVersion")),
					quote(member_text(reference, "kind")),
					quote(member_text(reference, "name")),
					quote(member_text(reference, "uid")),
					go_bool_pointer(reference, "controller", &ignored),
					go_bool_pointer(reference, "blockOwnerDeletion", &ignored));
}

static char *
go_owner_references(JsonbContainer *references)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "[]v1.OwnerReference{");
	for (int i = 0; i < JsonContainerSize(references); i++)
		appendStringInfo(&out, "%s%s", i == 0 ? "" : ", ",
						 go_owner_reference(getIthJsonbValueFromContainer(references, i)->val.binary.data));
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* The version in group/version or version; empty if there is none. */
static const char *
version_of(const char *api_version)
{
	const char *slash = strchr(api_version, '/');

	if (slash == NULL)
		return api_version;
	return strchr(slash + 1, '/') != NULL ? "" : slash + 1;
}

static void
validate_owner_reference(List **faults, JsonbContainer *reference, int i)
{
	static const char *const members[] = {"apiVersion", "kind", "name", "uid"};
	char	   *api_version = member_text(reference, "apiVersion");

	for (int m = 0; m < lengthof(members); m++)
	{
		char	   *value = member_text(reference, members[m]);

		if ((m == 0 ? version_of(value) : value)[0] == '\0')
			invalid(faults, psprintf("metadata.ownerReferences[%d].%s", i, members[m]), quote(value),
					psprintf("%s must not be empty", m == 0 ? "version" : members[m]));
	}
	if ((strcmp(api_version, "v1") == 0 || strcmp(api_version, "/v1") == 0) &&
		strcmp(member_text(reference, "kind"), "Event") == 0)
		invalid(faults, psprintf("metadata.ownerReferences[%d]", i), go_owner_reference(reference),
				"/v1, Kind=Event is disallowed from being an owner");
}

static void
validate_owner_references(List **faults, const LeaseObject *object)
{
	JsonbContainer *references;
	char	   *controller = NULL;

	if (object->nulls[FIELD_OWNER_REFERENCES])
		return;
	references = &DatumGetJsonbP(object->values[FIELD_OWNER_REFERENCES])->root;
	for (int i = 0; i < JsonContainerSize(references); i++)
	{
		JsonbContainer *reference = getIthJsonbValueFromContainer(references, i)->val.binary.data;
		char	   *name = psprintf("%s/%s", member_text(reference, "kind"),
									member_text(reference, "name"));
		bool		is_controller;

		validate_owner_reference(faults, reference, i);
		(void) go_bool_pointer(reference, "controller", &is_controller);
		if (is_controller && controller != NULL)
			invalid(faults, "metadata.ownerReferences", go_owner_references(references),
					psprintf("Only one reference can have Controller set to true. Found \"true\" in references for %s and %s",
							 controller, name));
		else if (is_controller)
			controller = name;
	}
}

static char **
get_strings(const LeaseObject *object, LeaseField field, int *count)
{
	Datum	   *elements;
	char	  **strings;

	*count = 0;
	if (object == NULL || object->nulls[field])
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(object->values[field]), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, NULL, count);
	strings = palloc(Max(*count, 1) * sizeof(char *));
	for (int i = 0; i < *count; i++)
		strings[i] = TextDatumGetCString(elements[i]);
	return strings;
}

/* []string as %#v prints it */
static char *
go_strings(char **strings, int count)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "[]string{");
	for (int i = 0; i < count; i++)
		appendStringInfo(&out, "%s%s", i == 0 ? "" : ", ", quote(strings[i]));
	appendStringInfoChar(&out, '}');
	return out.data;
}

static bool
contains(char **strings, int count, const char *s)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(strings[i], s) == 0)
			return true;
	}
	return false;
}

static void
validate_finalizers(List **faults, const LeaseObject *object)
{
	int			count;
	char	  **names = get_strings(object, FIELD_FINALIZERS, &count);

	for (int i = 0; i < count; i++)
		invalid_string(faults, "metadata.finalizers", names[i], lease_check_qualified_name(names[i]));
	if (contains(names, count, FINALIZER_ORPHAN) && contains(names, count, FINALIZER_FOREGROUND))
		invalid(faults, "metadata.finalizers", go_strings(names, count),
				"finalizer " FINALIZER_ORPHAN " and " FINALIZER_FOREGROUND " cannot be both set");
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* An object that is being deleted gets no more finalizers. */
static void
validate_no_new_finalizers(List **faults, const LeaseObject *object, const LeaseObject *old)
{
	int			new_count;
	int			old_count;
	int			extra = 0;
	char	  **new_names = get_strings(object, FIELD_FINALIZERS, &new_count);
	char	  **old_names = get_strings(old, FIELD_FINALIZERS, &old_count);

	for (int i = 0; i < new_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!contains(old_names, old_count, new_names[i]) &&
			!contains(new_names, extra, new_names[i]))
			new_names[extra++] = new_names[i];
	}
	if (extra == 0)
		return;
	qsort(new_names, extra, sizeof(char *), compare_strings);
	add(faults, psprintf("metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers %s",
						 go_strings(new_names, extra)));
}

static void
validate_managed_fields(List **faults, const LeaseObject *object)
{
	JsonbContainer *entries;

	if (object->nulls[FIELD_MANAGED_FIELDS])
		return;
	entries = &DatumGetJsonbP(object->values[FIELD_MANAGED_FIELDS])->root;
	for (int i = 0; i < JsonContainerSize(entries); i++)
	{
		JsonbContainer *entry = getIthJsonbValueFromContainer(entries, i)->val.binary.data;
		char	   *path = psprintf("metadata.managedFields[%d]", i);
		char	   *operation = member_text(entry, "operation");
		char	   *type = member_text(entry, "fieldsType");
		char	   *manager = member_text(entry, "manager");

		if (strcmp(operation, "Apply") != 0 && strcmp(operation, "Update") != 0)
			invalid(faults, psprintf("%s.operation", path), quote(operation),
					"must be `Apply` or `Update`");
		if (type[0] != '\0' && strcmp(type, "FieldsV1") != 0)
			invalid(faults, psprintf("%s.fieldsType", path), quote(type), "must be `FieldsV1`");
		if (strlen(manager) > MAX_FIELD_MANAGER_LEN)
			add(faults, psprintf("%s.manager: Too long: may not be more than %d bytes",
								 path, MAX_FIELD_MANAGER_LEN));
		if (!lease_go_prints(manager))
			invalid(faults, psprintf("%s.manager", path), quote(manager),
					"should only contain printable characters");
		if (strlen(member_text(entry, "subresource")) > MAX_SUBRESOURCE_LEN)
			add(faults, psprintf("%s.subresource: Too long: may not be more than %d bytes",
								 path, MAX_SUBRESOURCE_LEN));
	}
}

static char *
text_of(const LeaseObject *object, LeaseField field)
{
	char	   *s = lease_object_text(object, field);

	return s == NULL ? "" : s;
}

/* A generateName once the object is there: no name is made of it any more. */
static void
validate_path_segment(List **faults, const char *path, const char *s)
{
	if (strchr(s, '/') != NULL)
		invalid(faults, path, quote(s), "may not contain '/'");
	if (strchr(s, '%') != NULL)
		invalid(faults, path, quote(s), "may not contain '%'");
}

static void
validate_names(List **faults, const LeaseObject *object, bool is_update)
{
	char	   *generate_name = text_of(object, FIELD_GENERATE_NAME);
	char	   *name = text_of(object, FIELD_NAME);
	char	   *namespace = text_of(object, FIELD_NAMESPACE);

	if (is_update)
		validate_path_segment(faults, "metadata.generateName", generate_name);
	else if (generate_name[0] != '\0')
		invalid_string(faults, "metadata.generateName", generate_name,
					   check_subdomain_prefix(generate_name));
	if (name[0] == '\0')
		add(faults, "metadata.name: Required value: name or generateName is required");
	else
		invalid_string(faults, "metadata.name", name, check_subdomain(name));
	if (namespace[0] == '\0')
		add(faults, "metadata.namespace: Required value");
	else
		invalid_string(faults, "metadata.namespace", namespace, check_label(namespace));
}

static void
validate_generation(List **faults, const LeaseObject *object)
{
	int64		generation = object->nulls[FIELD_GENERATION] ? 0 :
	DatumGetInt64(object->values[FIELD_GENERATION]);

	if (generation < 0)
		invalid(faults, "metadata.generation", psprintf(INT64_FORMAT, generation),
				"must be greater than or equal to 0");
}

/* A time as Go's time.Time prints itself. */
static char *
go_time(TimestampTz time)
{
	char	   *text = lease_time_text(time, false);

	return psprintf("%.10s %.8s +0000 UTC", text, text + strlen(text) - 9);
}

/*
 * What only the server sets.  Once set, it stays whatever a request says; before,
 * a request may not set it.
 */
static void
validate_deletion(List **faults, const LeaseObject *object, const LeaseObject *old)
{
	if (old->nulls[FIELD_DELETION_TIMESTAMP] && !object->nulls[FIELD_DELETION_TIMESTAMP])
		invalid(faults, "metadata.deletionTimestamp",
				go_time(DatumGetTimestampTz(object->values[FIELD_DELETION_TIMESTAMP])),
				"field is immutable");
	if (!object->nulls[FIELD_DELETION_GRACE_PERIOD_SECONDS] &&
		(old->nulls[FIELD_DELETION_GRACE_PERIOD_SECONDS] ||
		 DatumGetInt64(old->values[FIELD_DELETION_GRACE_PERIOD_SECONDS]) !=
		 DatumGetInt64(object->values[FIELD_DELETION_GRACE_PERIOD_SECONDS])))
		invalid(faults, "metadata.deletionGracePeriodSeconds",
				psprintf(INT64_FORMAT,
						 DatumGetInt64(object->values[FIELD_DELETION_GRACE_PERIOD_SECONDS])),
				"field is immutable");
}

static void
validate_immutable(List **faults, const LeaseObject *object, const LeaseObject *old,
				   LeaseField field)
{
	char	   *value = text_of(object, field);

	if (strcmp(value, text_of(old, field)) != 0)
		invalid(faults, psprintf("metadata.%s", lease_fields[field].key), quote(value),
				"field is immutable");
}

/* A patch may name another uid; elsewhere that is a precondition that fails. */
static void
validate_uid(List **faults, const LeaseObject *object, const LeaseObject *old)
{
	if (object->uid != NULL && object->uid[0] != '\0' &&
		strcmp(object->uid, lease_object_uid(old)) != 0)
		invalid(faults, "metadata.uid", quote(object->uid), "field is immutable");
}

/*
 * The spec.
 */

static void
validate_strategy(List **faults, const LeaseObject *object)
{
	char	   *strategy = lease_object_text(object, FIELD_STRATEGY);

	/* The API server, too, names the field twice. */
	if (strategy == NULL || strcmp(strategy, LEASE_STRATEGY) == 0)
		return;
	if (strchr(strategy, '/') != NULL)
		invalid_string(faults, "spec.strategy.strategy", strategy,
					   lease_check_qualified_name(strategy));
	else
		add(faults, psprintf("spec.strategy.strategy: Unsupported value: %s: supported values: \""
							 LEASE_STRATEGY "\"", quote(strategy)));
}

static void
validate_spec(List **faults, const LeaseObject *object)
{
	int32		duration = DatumGetInt32(object->values[FIELD_LEASE_DURATION_SECONDS]);
	int32		transitions = DatumGetInt32(object->values[FIELD_LEASE_TRANSITIONS]);

	if (!object->nulls[FIELD_LEASE_DURATION_SECONDS] && duration <= 0)
		invalid(faults, "spec.leaseDurationSeconds", psprintf("%d", duration),
				"must be greater than 0");
	if (!object->nulls[FIELD_LEASE_TRANSITIONS] && transitions < 0)
		invalid(faults, "spec.leaseTransitions", psprintf("%d", transitions),
				"must be greater than or equal to 0");
	validate_strategy(faults, object);
	if (text_of(object, FIELD_PREFERRED_HOLDER)[0] != '\0' &&
		text_of(object, FIELD_STRATEGY)[0] == '\0')
		add(faults, "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined");
}

/*
 * Returns what the API server would refuse an object with, in its order; NIL if
 * it would take it.  old is the object that is to be replaced, or NULL.
 */
List *
lease_object_validate(const LeaseObject *object, const LeaseObject *old)
{
	List	   *faults = NIL;

	validate_names(&faults, object, old != NULL);
	validate_generation(&faults, object);
	validate_labels(&faults, object);
	validate_annotations(&faults, object);
	validate_owner_references(&faults, object);
	validate_finalizers(&faults, object);
	validate_managed_fields(&faults, object);
	if (old != NULL)
	{
		if (!old->nulls[FIELD_DELETION_TIMESTAMP])
			validate_no_new_finalizers(&faults, object, old);
		validate_immutable(&faults, object, old, FIELD_NAME);
		validate_immutable(&faults, object, old, FIELD_NAMESPACE);
		validate_uid(&faults, object, old);
		validate_deletion(&faults, object, old);
	}
	validate_spec(&faults, object);
	return faults;
}
