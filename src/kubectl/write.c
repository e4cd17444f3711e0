/*
 * write.c
 *		kubectl create, apply, replace and patch.
 *
 * The manifest is what kubectl would read from standard input: -f -.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "object.h"
#include "kubectl.h"
#include "printers.h"

#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

/*
 * ---------- Parts of JSON ----------
 */

static Datum
path_datum(List *path)
{
	Datum	   *parts = palloc(Max(list_length(path), 1) * sizeof(Datum));
	ListCell   *lc;

	foreach(lc, path)
		parts[foreach_current_index(lc)] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(parts, list_length(path), TEXTOID, -1, false, TYPALIGN_INT));
}

static Jsonb *
set_path(Jsonb *object, List *path, Jsonb *value)
{
	return DatumGetJsonbP(DirectFunctionCall4(jsonb_set, JsonbPGetDatum(object), path_datum(path),
											  JsonbPGetDatum(value), BoolGetDatum(true)));
}

static Jsonb *
delete_path(Jsonb *object, List *path)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete_path, JsonbPGetDatum(object), path_datum(path)));
}

static Jsonb *
parse_jsonb(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static Jsonb *
string_jsonb(const char *s)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = strlen(s);
	return JsonbValueToJsonb(&v);
}

/* A member of an object, as an object; NULL if it is none. */
static Jsonb *
get_object(Jsonb *object, const char *key)
{
	JsonbValue *value;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	value = getKeyJsonValueFromContainer(&object->root, key, strlen(key), NULL);
	return value == NULL || value->type != jbvBinary ? NULL : JsonbValueToJsonb(value);
}

/* A member of an object, as text; NULL if it is none. */
static char *
get_string(Jsonb *object, const char *key)
{
	return lease_label(object, key);
}

static bool
same_jsonb(Jsonb *a, Jsonb *b)
{
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

static JsonbContainer *
object_in(const JsonbValue *value)
{
	return value != NULL && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data) ?
		value->val.binary.data : NULL;
}

static void
push_members(JsonbParseState **state, JsonbContainer *object, JsonbContainer *without)
{
	ListCell   *lc;

	foreach(lc, object == NULL ? NIL : kubectl_member_list(object))
	{
		KubectlMember *member = lfirst(lc);

		if (without != NULL &&
			getKeyJsonValueFromContainer(without, member->key.val.string.val, member->key.val.string.len, NULL) != NULL)
			continue;
		pushJsonbValue(state, WJB_KEY, &member->key);
		pushJsonbValue(state, WJB_VALUE, &member->value);
	}
}

/* A JSON merge patch (RFC 7386) of objects. */
static JsonbValue *
push_merged(JsonbParseState **state, JsonbContainer *target, JsonbContainer *patch)
{
	ListCell   *lc;

	check_stack_depth();
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_members(state, target, patch);
	foreach(lc, kubectl_member_list(patch))
	{
		KubectlMember *member = lfirst(lc);
		JsonbContainer *inner = object_in(&member->value);

		if (member->value.type == jbvNull)
			continue;
		pushJsonbValue(state, WJB_KEY, &member->key);
		if (inner == NULL)
			pushJsonbValue(state, WJB_VALUE, &member->value);
		else
			(void) push_merged(state,
							   target == NULL ? NULL :
							   object_in(getKeyJsonValueFromContainer(target, member->key.val.string.val,
																	  member->key.val.string.len, NULL)),
							   inner);
	}
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static Jsonb *
merge_patch(Jsonb *target, Jsonb *patch)
{
	JsonbParseState *state = NULL;

	if (!JB_ROOT_IS_OBJECT(patch))
		kubectl_usage_error("error: unable to parse the patch: it is no JSON object");
	return JsonbValueToJsonb(push_merged(&state, &target->root, &patch->root));
}

/*
 * ---------- Manifests ----------
 */

/* One object of a manifest. */
typedef struct Manifest
{
	KubectlItem item;			/* object is the one that was given */
	text	   *namespace;		/* of -n, or default */
} Manifest;

static void
check_namespace(const KubectlCommand *command, const char *given)
{
	const char *wanted = command->flags.namespace;

	if (wanted != NULL && wanted[0] != '\0' && given != NULL && strcmp(given, wanted) != 0)
		kubectl_usage_error("error: the namespace from the provided object \"%s\" does not match the namespace \"%s\". You must pass '--namespace=%s' to perform this operation.",
							given, wanted, given);
}

static Manifest *
make_manifest(const KubectlCommand *command, Jsonb *object)
{
	Manifest   *manifest = palloc0(sizeof(Manifest));
	Jsonb	   *metadata = get_object(object, "metadata");
	char	   *version = get_string(object, "apiVersion");
	char	   *kind = get_string(object, "kind");
	char	   *name = get_string(metadata, "name");
	char	   *namespace = get_string(metadata, "namespace");

	if (kind == NULL)
		kubectl_usage_error("error: unable to decode \"STDIN\": Object 'Kind' is missing in '%s'",
							JsonbToCString(NULL, &object->root, VARSIZE_ANY_EXHDR(object)));
	if (strcmp(kind, "Lease") == 0 && version != NULL && strcmp(version, LEASE_API_VERSION) == 0)
		manifest->item.type = KUBECTL_LEASE;
	else if (strcmp(kind, "Node") == 0 && version != NULL && strcmp(version, "v1") == 0)
		manifest->item.type = KUBECTL_NODE;
	else
		kubectl_usage_error("error: resource mapping not found for name: \"%s\" namespace: \"%s\" from \"STDIN\": no matches for kind \"%s\" in version \"%s\"\nensure CRDs are installed first",
							name ? name : "", namespace ? namespace : "", kind, version ? version : "");
	check_namespace(command, namespace);
	manifest->namespace = cstring_to_text(namespace != NULL ? namespace :
										  command->flags.namespace != NULL && command->flags.namespace[0] != '\0' ?
										  command->flags.namespace : "default");
	manifest->item.name = name == NULL ? "" : name;
	manifest->item.namespace = text_to_cstring(manifest->namespace);
	manifest->item.object = object;
	return manifest;
}

static void
refuse_arguments(const KubectlCommand *command)
{
	StringInfoData args;
	ListCell   *lc;

	initStringInfo(&args);
	foreach(lc, command->args)
		appendStringInfo(&args, "%s%s", args.len == 0 ? "" : " ", (char *) lfirst(lc));
	kubectl_usage_error("error: Unexpected args: [%s]\nSee 'kubectl %s -h' for help and examples",
						args.data, command->verb);
}

/* The objects of the manifest, those in lists one by one. */
static List *
read_manifests(const KubectlCommand *command)
{
	List	   *manifests = NIL;
	ListCell   *lc;

	if (command->args != NIL)
		refuse_arguments(command);
	if (command->flags.filenames == NIL)
		kubectl_usage_error("error: must specify one of -f and -k");
	if (list_length(command->flags.filenames) != 1 || strcmp(linitial(command->flags.filenames), "-") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("kubectl() reads no files"),
				 errhint("Use -f - and pass the manifest as an argument: kubectl('%s -f -', manifest => '...').", command->verb)));
	if (command->manifest == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("error: no objects passed to %s", command->verb),
				 errhint("Pass what kubectl would read from standard input: kubectl('%s -f -', manifest => '...').", command->verb)));
	foreach(lc, kubectl_read_manifest(command->manifest))
	{
		Jsonb	   *object = lfirst(lc);
		Jsonb	   *items = get_object(object, "items");

		if (items == NULL || !JB_ROOT_IS_ARRAY(items))
			manifests = lappend(manifests, make_manifest(command, object));
		for (uint32 i = 0; items != NULL && JB_ROOT_IS_ARRAY(items) && i < JB_ROOT_COUNT(items); i++)
		{
			JsonbValue *item = getIthJsonbValueFromContainer(&items->root, i);

			manifests = lappend(manifests, make_manifest(command, JsonbValueToJsonb(item)));
		}
	}
	if (manifests == NIL)
		kubectl_usage_error("error: no objects passed to %s", command->verb);
	return manifests;
}

/* The object as it is now; NULL if it is not there. */
static Jsonb *
current_object(KubectlCommand *command, const KubectlItem *item)
{
	List	   *items = item->type == KUBECTL_NODE ?
		kubectl_query_nodes(command, item->name, true) :
		kubectl_query_leases(command, item->namespace, item->name, NULL, true);

	return items == NIL ? NULL : ((KubectlItem *) linitial(items))->object;
}

static bool
is_refusal(const LeaseApiReply *reply)
{
	return reply->result >= LEASE_API_NOT_FOUND;
}

/* The object as it was made; NULL, with what kubectl says, if it could not be. */
static Jsonb *
create(KubectlCommand *command, Manifest *manifest, Jsonb *object)
{
	LeaseApiReply *reply;

	if (manifest->item.type == KUBECTL_NODE)
	{
		if (current_object(command, &manifest->item) != NULL)
			kubectl_say_error(command, ERRCODE_UNIQUE_VIOLATION,
							  "Error from server (AlreadyExists): error when creating \"STDIN\": nodes \"%s\" already exists",
							  manifest->item.name);
		else if (kubectl_write_back(command, &manifest->item, object))
			return current_object(command, &manifest->item);
		return NULL;
	}
	reply = lease_api_create(command->funcid, object, manifest->namespace);
	if (is_refusal(reply))
	{
		kubectl_say_refusal(command, reply, "error when creating \"STDIN\": ");
		return NULL;
	}
	manifest->item.name = text_to_cstring(reply->key.name);
	return reply->object;
}

void
kubectl_create_command(KubectlCommand *command)
{
	const char *dry_run;
	bool		dry = kubectl_is_dry_run(command, &dry_run);
	ListCell   *lc;

	foreach(lc, read_manifests(command))
	{
		Manifest   *manifest = lfirst(lc);
		Jsonb	   *object = dry ? manifest->item.object :
			create(command, manifest, manifest->item.object);

		if (object != NULL)
			kubectl_say_done(command, &manifest->item, object, psprintf("created%s", dry_run));
	}
}

/* Writes what is to be in place of an object.  As for kubectl_write_back(). */
static bool
replace(KubectlCommand *command, const Manifest *manifest, Jsonb *object, const char *doing, bool *changed)
{
	LeaseApiReply *reply;

	*changed = true;
	if (manifest->item.type == KUBECTL_NODE)
		return kubectl_write_back(command, &manifest->item, object);
	reply = lease_api_replace(command->funcid, object, manifest->namespace, true);
	*changed = reply->result != LEASE_API_UNCHANGED;
	if (is_refusal(reply))
		kubectl_say_refusal(command, reply, doing);
	return !is_refusal(reply);
}

void
kubectl_replace_command(KubectlCommand *command)
{
	const char *dry_run;
	bool		dry = kubectl_is_dry_run(command, &dry_run);
	ListCell   *lc;

	foreach(lc, read_manifests(command))
	{
		Manifest   *manifest = lfirst(lc);
		bool		changed;

		if (current_object(command, &manifest->item) == NULL)
			kubectl_say_error(command, ERRCODE_NO_DATA_FOUND,
							  "Error from server (NotFound): error when replacing \"STDIN\": %s \"%s\" not found",
							  kubectl_resources[manifest->item.type].plural, manifest->item.name);
		else if (dry || replace(command, manifest, manifest->item.object,
								"error when replacing \"STDIN\": ", &changed))
			kubectl_say_done(command, &manifest->item, manifest->item.object, psprintf("replaced%s", dry_run));
	}
}

/*
 * ---------- apply ----------
 */

/* The object as kubectl remembers it in its annotation. */
static char *
as_applied(const Manifest *manifest)
{
	Jsonb	   *object = manifest->item.object;
	List	   *annotations = list_make2("metadata", "annotations");
	StringInfoData text;
	JsonbValue	value;

	if (manifest->item.type == KUBECTL_LEASE)
		object = set_path(object, list_make2("metadata", "namespace"), string_jsonb(manifest->item.namespace));
	if (get_object(get_object(object, "metadata"), "annotations") == NULL)
		object = set_path(object, annotations, parse_jsonb("{}"));
	object = delete_path(object, lappend(list_copy(annotations), LAST_APPLIED));
	initStringInfo(&text);
	JsonbToJsonbValue(object, &value);
	kubectl_print_compact_json(&text, &value);
	appendStringInfoChar(&text, '\n');
	return text.data;
}

/* Deletes from target what was applied before and is not any more. */
static Jsonb *
without_dropped(Jsonb *target, JsonbContainer *before, JsonbContainer *now, List *path)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, kubectl_member_list(before))
	{
		KubectlMember *member = lfirst(lc);
		JsonbValue *kept = now == NULL ? NULL :
			getKeyJsonValueFromContainer(now, member->key.val.string.val, member->key.val.string.len, NULL);
		List	   *inner = lappend(list_copy(path), pnstrdup(member->key.val.string.val, member->key.val.string.len));

		if (kept == NULL)
			target = delete_path(target, inner);
		else if (object_in(&member->value) != NULL && object_in(kept) != NULL)
			target = without_dropped(target, object_in(&member->value), object_in(kept), inner);
	}
	return target;
}

static void
apply(KubectlCommand *command, Manifest *manifest, bool dry, const char *dry_run)
{
	KubectlItem *item = &manifest->item;
	Jsonb	   *current = current_object(command, item);
	List	   *annotation = list_make3("metadata", "annotations", LAST_APPLIED);
	Jsonb	   *wanted = item->object;
	char	   *applied = as_applied(manifest);
	char	   *last;
	Jsonb	   *result;
	bool		changed;

	if (get_object(get_object(wanted, "metadata"), "annotations") == NULL)
		wanted = set_path(wanted, list_make2("metadata", "annotations"), parse_jsonb("{}"));
	wanted = set_path(wanted, annotation, string_jsonb(applied));
	if (current == NULL)
	{
		result = dry ? wanted : create(command, manifest, wanted);
		if (result != NULL)
			kubectl_say_done(command, item, result, psprintf("created%s", dry_run));
		return;
	}

	last = lease_label(get_object(get_object(current, "metadata"), "annotations"), LAST_APPLIED);
	if (last == NULL)
		appendStringInfo(&command->err, "Warning: resource %s is missing the %s annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.\n",
						 psprintf("%s/%s", item->type == KUBECTL_LEASE ? "leases" : "nodes", item->name), LAST_APPLIED);
	result = last == NULL ? current :
		without_dropped(current, &parse_jsonb(last)->root, &parse_jsonb(applied)->root, NIL);
	result = merge_patch(result, wanted);
	changed = !same_jsonb(result, current);
	if (changed && !dry && !replace(command, manifest, result, "error when applying patch: ", &changed))
		return;
	kubectl_say_done(command, item, result, psprintf("%s%s", changed ? "configured" : "unchanged", dry_run));
}

void
kubectl_apply_command(KubectlCommand *command)
{
	const char *dry_run;
	bool		dry = kubectl_is_dry_run(command, &dry_run);
	ListCell   *lc;

	foreach(lc, read_manifests(command))
		apply(command, lfirst(lc), dry, dry_run);
}

/*
 * ---------- patch ----------
 */

/* The parts of a JSON pointer (RFC 6901) */
static List *
parse_pointer(const char *pointer)
{
	List	   *path = NIL;

	if (pointer == NULL || pointer[0] != '/')
		kubectl_usage_error("error: the path of a JSON patch must begin with a slash");
	while (*pointer == '/')
	{
		StringInfoData part;

		initStringInfo(&part);
		for (pointer++; *pointer != '\0' && *pointer != '/'; pointer++)
		{
			if (pointer[0] == '~' && (pointer[1] == '0' || pointer[1] == '1'))
				appendStringInfoChar(&part, *++pointer == '0' ? '~' : '/');
			else
				appendStringInfoChar(&part, *pointer);
		}
		path = lappend(path, part.data);
	}
	return path;
}

/* What is at a path; NULL if nothing is. */
static Jsonb *
get_path(Jsonb *object, List *path)
{
	ListCell   *lc;

	foreach(lc, path)
	{
		const char *key = lfirst(lc);
		JsonbValue *value = NULL;

		if (JB_ROOT_IS_SCALAR(object))
			return NULL;
		if (JB_ROOT_IS_OBJECT(object))
			value = getKeyJsonValueFromContainer(&object->root, key, strlen(key), NULL);
		else if (key[0] != '\0' && key[strspn(key, "0123456789")] == '\0' && strlen(key) < 10)
			value = getIthJsonbValueFromContainer(&object->root, atoi(key));
		if (value == NULL)
			return NULL;
		object = JsonbValueToJsonb(value);
	}
	return object;
}

/* Sets a member, or inserts an element. */
static Jsonb *
add_at(Jsonb *object, List *path, Jsonb *value)
{
	List	   *parent_path = list_copy_head(path, list_length(path) - 1);
	Jsonb	   *parent = get_path(object, parent_path);
	const char *last = llast(path);

	if (parent == NULL || JB_ROOT_IS_SCALAR(parent))
		kubectl_usage_error("The request is invalid: the server rejected our request due to an error in our request");
	if (!JB_ROOT_IS_ARRAY(parent))
		return set_path(object, path, value);
	if (strcmp(last, "-") == 0)
		path = lappend(parent_path, psprintf("%u", JB_ROOT_COUNT(parent)));
	return DatumGetJsonbP(DirectFunctionCall4(jsonb_insert, JsonbPGetDatum(object), path_datum(path),
											  JsonbPGetDatum(value), BoolGetDatum(false)));
}

static Jsonb *
json_patch_one(Jsonb *object, Jsonb *change)
{
	char	   *op = get_string(change, "op");
	List	   *path = parse_pointer(get_string(change, "path"));
	Jsonb	   *value = get_path(change, list_make1("value"));
	Jsonb	   *there = get_path(object, path);

	if (op == NULL)
		op = "";
	if (strcmp(op, "move") == 0 || strcmp(op, "copy") == 0)
	{
		List	   *from = parse_pointer(get_string(change, "from"));

		value = get_path(object, from);
		if (value != NULL && op[0] == 'm')
			object = delete_path(object, from);
	}
	else if (strcmp(op, "remove") == 0 && there != NULL)
		return delete_path(object, path);
	else if (strcmp(op, "replace") == 0 && there != NULL && value != NULL)
		return set_path(object, path, value);
	else if (strcmp(op, "test") == 0 && there != NULL && value != NULL && same_jsonb(there, value))
		return object;
	else if (strcmp(op, "add") != 0)
		value = NULL;
	if (value == NULL)
		kubectl_usage_error("The request is invalid: the server rejected our request due to an error in our request");
	return add_at(object, path, value);
}

/* RFC 6902 */
static Jsonb *
json_patch(Jsonb *object, Jsonb *patch)
{
	if (!JB_ROOT_IS_ARRAY(patch) || JB_ROOT_IS_SCALAR(patch))
		kubectl_usage_error("error: unable to parse the patch: it is no JSON array");
	for (uint32 i = 0; i < JB_ROOT_COUNT(patch); i++)
		object = json_patch_one(object, JsonbValueToJsonb(getIthJsonbValueFromContainer(&patch->root, i)));
	return object;
}

static Jsonb *
read_patch(const KubectlCommand *command)
{
	List	   *documents;

	if (command->flags.patch == NULL || command->flags.patch[0] == '\0')
		kubectl_usage_error("error: must specify --patch or --patch-file containing the contents of the patch");
	documents = kubectl_read_manifest(command->flags.patch);
	if (list_length(documents) != 1)
		kubectl_usage_error("error: unable to parse %s: it is not one document",
							lease_go_quote(command->flags.patch, strlen(command->flags.patch)));
	return linitial(documents);
}

/*
 * Lists are replaced also by a strategic merge patch: of a lease's, only finalizers
 * and owner references would be merged.
 */
void
kubectl_patch_command(KubectlCommand *command)
{
	const char *type = command->flags.type == NULL ? "strategic" : command->flags.type;
	const char *dry_run;
	bool		dry = kubectl_is_dry_run(command, &dry_run);
	Jsonb	   *patch;
	ListCell   *lc;

	if (strcmp(type, "json") != 0 && strcmp(type, "merge") != 0 && strcmp(type, "strategic") != 0)
		kubectl_usage_error("error: --type must be one of [json merge strategic], not \"%s\"", type);
	patch = read_patch(command);
	if (command->args == NIL)
		kubectl_usage_error("error: must specify one or more resources by argument or filename");
	foreach(lc, kubectl_find(command, kubectl_requests(command, command->args, false), true))
	{
		KubectlItem *item = lfirst(lc);
		Manifest	manifest = {*item, NULL};
		Jsonb	   *result = strcmp(type, "json") == 0 ? json_patch(item->object, patch) :
			merge_patch(item->object, patch);
		char	   *name = get_string(get_object(result, "metadata"), "name");
		bool		changed = !same_jsonb(result, item->object);

		if (name == NULL || strcmp(name, item->name) != 0)
		{
			kubectl_say_error(command, ERRCODE_LEASE_BAD_REQUEST,
							  "Error from server (BadRequest): the name of the object (%s) does not match the name on the URL (%s)",
							  name == NULL ? "" : name, item->name);
			continue;
		}
		if (item->namespace != NULL)
			manifest.namespace = cstring_to_text(item->namespace);
		if (changed && !dry && !replace(command, &manifest, result, "", &changed))
			continue;
		kubectl_say_done(command, item, result, psprintf("patched%s%s", changed ? "" : " (no change)", dry_run));
	}
}
