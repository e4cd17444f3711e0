/*
 * write.c
 *		kubectl create, apply and replace.
 *
 * The manifest is what kubectl would read from standard input: -f -.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "object.h"
#include "kubectl.h"
#include "printers.h"

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
	Jsonb	   *metadata = kubectl_get_object(object, "metadata");
	char	   *version = kubectl_get_string(object, "apiVersion");
	char	   *kind = kubectl_get_string(object, "kind");
	char	   *name = kubectl_get_string(metadata, "name");
	char	   *namespace = kubectl_get_string(metadata, "namespace");

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
		Jsonb	   *items = kubectl_get_object(object, "items");

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
		else if (kubectl_write_back(command, &manifest->item, object, "", NULL))
			return current_object(command, &manifest->item);
		return NULL;
	}
	reply = lease_api_create(command->funcid, object, manifest->namespace);
	if (kubectl_is_refused(command, reply, "error when creating \"STDIN\": "))
		return NULL;
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

void
kubectl_replace_command(KubectlCommand *command)
{
	const char *dry_run;
	bool		dry = kubectl_is_dry_run(command, &dry_run);
	ListCell   *lc;

	foreach(lc, read_manifests(command))
	{
		Manifest   *manifest = lfirst(lc);

		if (current_object(command, &manifest->item) == NULL)
			kubectl_say_error(command, ERRCODE_NO_DATA_FOUND,
							  "Error from server (NotFound): error when replacing \"STDIN\": %s \"%s\" not found",
							  kubectl_resources[manifest->item.type].plural, manifest->item.name);
		else if (dry || kubectl_write_back(command, &manifest->item, manifest->item.object,
										   "error when replacing \"STDIN\": ", NULL))
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
		object = kubectl_set_path(object, list_make2("metadata", "namespace"), kubectl_string_jsonb(manifest->item.namespace));
	if (kubectl_get_object(kubectl_get_object(object, "metadata"), "annotations") == NULL)
		object = kubectl_set_path(object, annotations, kubectl_parse_jsonb("{}"));
	object = kubectl_delete_path(object, lappend(list_copy(annotations), KUBECTL_LAST_APPLIED));
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
			target = kubectl_delete_path(target, inner);
		else if (kubectl_object_in(&member->value) != NULL && kubectl_object_in(kept) != NULL)
			target = without_dropped(target, kubectl_object_in(&member->value), kubectl_object_in(kept), inner);
	}
	return target;
}

static void
apply(KubectlCommand *command, Manifest *manifest, bool dry, const char *dry_run)
{
	KubectlItem *item = &manifest->item;
	Jsonb	   *current = current_object(command, item);
	List	   *annotation = list_make3("metadata", "annotations", KUBECTL_LAST_APPLIED);
	Jsonb	   *wanted = item->object;
	char	   *applied = as_applied(manifest);
	char	   *last;
	Jsonb	   *result;
	bool		changed;

	if (kubectl_get_object(kubectl_get_object(wanted, "metadata"), "annotations") == NULL)
		wanted = kubectl_set_path(wanted, list_make2("metadata", "annotations"), kubectl_parse_jsonb("{}"));
	wanted = kubectl_set_path(wanted, annotation, kubectl_string_jsonb(applied));
	if (current == NULL)
	{
		result = dry ? wanted : create(command, manifest, wanted);
		if (result != NULL)
			kubectl_say_done(command, item, result, psprintf("created%s", dry_run));
		return;
	}

	last = lease_label(kubectl_get_object(kubectl_get_object(current, "metadata"), "annotations"), KUBECTL_LAST_APPLIED);
	if (last == NULL)
		appendStringInfo(&command->err, "Warning: resource %s is missing the %s annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.\n",
						 psprintf("%s/%s", item->type == KUBECTL_LEASE ? "leases" : "nodes", item->name), KUBECTL_LAST_APPLIED);
	result = last == NULL ? current :
		without_dropped(current, &kubectl_parse_jsonb(last)->root, &kubectl_parse_jsonb(applied)->root, NIL);
	result = kubectl_merge_patch(result, wanted);
	changed = !kubectl_same_jsonb(result, current);
	if (changed && !dry && !kubectl_write_back(command, item, result, "error when applying patch: ", &changed))
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
