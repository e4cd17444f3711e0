/*
 * patch.c
 *		kubectl patch; and what patches are: JSON merge patches (RFC 7386), JSON
 *		patches (RFC 6902).
 */
#include "postgres.h"

#include "miscadmin.h"

#include "object.h"
#include "kubectl.h"
#include "printers.h"

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
		JsonbContainer *inner = kubectl_object_in(&member->value);

		if (member->value.type == jbvNull)
			continue;
		pushJsonbValue(state, WJB_KEY, &member->key);
		if (inner == NULL)
			pushJsonbValue(state, WJB_VALUE, &member->value);
		else
			(void) push_merged(state,
							   target == NULL ? NULL :
							   kubectl_object_in(getKeyJsonValueFromContainer(target, member->key.val.string.val,
																	  member->key.val.string.len, NULL)),
							   inner);
	}
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/*
 * The object with a JSON merge patch.
 */
Jsonb *
kubectl_merge_patch(Jsonb *target, Jsonb *patch)
{
	JsonbParseState *state = NULL;

	if (!JB_ROOT_IS_OBJECT(patch))
		kubectl_usage_error("error: unable to parse the patch: it is no JSON object");
	return JsonbValueToJsonb(push_merged(&state, &target->root, &patch->root));
}

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
		return kubectl_set_path(object, path, value);
	if (strcmp(last, "-") == 0)
		path = lappend(parent_path, psprintf("%u", JB_ROOT_COUNT(parent)));
	return kubectl_insert_path(object, path, value);
}

static Jsonb *
json_patch_one(Jsonb *object, Jsonb *change)
{
	char	   *op = kubectl_get_string(change, "op");
	List	   *path = parse_pointer(kubectl_get_string(change, "path"));
	Jsonb	   *value = get_path(change, list_make1("value"));
	Jsonb	   *there = get_path(object, path);

	if (op == NULL)
		op = "";
	if (strcmp(op, "move") == 0 || strcmp(op, "copy") == 0)
	{
		List	   *from = parse_pointer(kubectl_get_string(change, "from"));

		value = get_path(object, from);
		if (value != NULL && op[0] == 'm')
			object = kubectl_delete_path(object, from);
	}
	else if (strcmp(op, "remove") == 0 && there != NULL)
		return kubectl_delete_path(object, path);
	else if (strcmp(op, "replace") == 0 && there != NULL && value != NULL)
		return kubectl_set_path(object, path, value);
	else if (strcmp(op, "test") == 0 && there != NULL && value != NULL && kubectl_same_jsonb(there, value))
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
		Jsonb	   *result = strcmp(type, "json") == 0 ? json_patch(item->object, patch) :
			kubectl_merge_patch(item->object, patch);
		char	   *name = kubectl_get_string(kubectl_get_object(result, "metadata"), "name");
		bool		changed = !kubectl_same_jsonb(result, item->object);

		if (name == NULL || strcmp(name, item->name) != 0)
		{
			kubectl_say_error(command, ERRCODE_LEASE_BAD_REQUEST,
							  "Error from server (BadRequest): the name of the object (%s) does not match the name on the URL (%s)",
							  name == NULL ? "" : name, item->name);
			continue;
		}
		if (changed && !dry && !kubectl_write_back(command, item, result, "", &changed))
			continue;
		kubectl_say_done(command, item, result, psprintf("patched%s%s", changed ? "" : " (no change)", dry_run));
	}
}
