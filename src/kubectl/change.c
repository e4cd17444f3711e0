/*
 * change.c
 *		kubectl label, annotate and delete.
 *
 * Each object is read, changed and written back, with the API server's checks
 * (object_request.c).  One that somebody else has locked is reported, and left.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "object.h"
#include "kubectl.h"

/*
 * ---------- Writing back ----------
 */

/*
 * What kubectl says when the API server says no.
 */
static void
say_refusal(KubectlCommand *command, const LeaseApiReply *reply, const char *doing)
{
	ListCell   *lc;

	switch (reply->result)
	{
		case LEASE_API_NOT_FOUND:
			kubectl_say_error(command, ERRCODE_NO_DATA_FOUND, "Error from server (NotFound): %s%s", doing, reply->message);
			break;
		case LEASE_API_CONFLICT:
			kubectl_say_error(command, ERRCODE_LEASE_CONFLICT, "Error from server (Conflict): %s%s", doing, reply->message);
			break;
		case LEASE_API_ALREADY_EXISTS:
			kubectl_say_error(command, ERRCODE_UNIQUE_VIOLATION, "Error from server (AlreadyExists): %s%s", doing, reply->message);
			break;
		case LEASE_API_BUSY:
			kubectl_say_error(command, ERRCODE_LOCK_NOT_AVAILABLE, "error: %s: another transaction has it locked", reply->message);
			break;
		case LEASE_API_INVALID:
			if (list_length(reply->causes) == 1)
				kubectl_say_error(command, ERRCODE_LEASE_INVALID, "The Lease \"%s\" is invalid: %s",
								  text_to_cstring(reply->key.name), (char *) linitial(reply->causes));
			else
			{
				kubectl_say_error(command, ERRCODE_LEASE_INVALID, "The Lease \"%s\" is invalid: ",
								  text_to_cstring(reply->key.name));
				foreach(lc, reply->causes)
					kubectl_say_error(command, ERRCODE_LEASE_INVALID, "* %s", (char *) lfirst(lc));
			}
			break;
		default:
			kubectl_say_error(command, ERRCODE_LEASE_BAD_REQUEST, "Error from server (BadRequest): %s%s", doing, reply->message);
	}
}

/*
 * Did the API server say no?  Then says what kubectl says.  doing: "error when ...: ",
 * or empty.
 */
bool
kubectl_is_refused(KubectlCommand *command, const LeaseApiReply *reply, const char *doing)
{
	if (reply->result < LEASE_API_NOT_FOUND)
		return false;
	say_refusal(command, reply, doing);
	return true;
}

/* Likewise, for what a function said about a node. */
static bool
is_busy(KubectlCommand *command, const KubectlItem *node, const char *result)
{
	if (strcmp(result, "busy") != 0)
		return false;
	kubectl_say_error(command, ERRCODE_LOCK_NOT_AVAILABLE,
					  "error: could not lock node \"%s\": another transaction has it locked", node->name);
	return true;
}

/*
 * Writes an object in place of what is there.  False, with what kubectl says, if that
 * is not possible.  *changed, unless changed is NULL: it was not like that already, as
 * far as that can be told.
 */
bool
kubectl_write_back(KubectlCommand *command, const KubectlItem *item, Jsonb *object,
				   const char *doing, bool *changed)
{
	LeaseApiReply *reply;

	if (changed != NULL)
		*changed = true;
	if (item->type == KUBECTL_NODE)
		return !is_busy(command, item, kubectl_write_node(command, object));
	reply = lease_api_replace(command->funcid, object, cstring_to_text(item->namespace), true);
	if (changed != NULL)
		*changed = reply->result != LEASE_API_UNCHANGED;
	return !kubectl_is_refused(command, reply, doing);
}

/* --dry-run: nothing is written; the words that are added to the message. */
bool
kubectl_is_dry_run(const KubectlCommand *command, const char **words)
{
	const char *value = command->flags.dry_run;

	*words = "";
	if (value == NULL || strcmp(value, "none") == 0)
		return false;
	if (strcmp(value, "server") == 0)
		*words = " (server dry run)";
	else if (strcmp(value, "client") == 0 || strcmp(value, "unchanged") == 0)
		*words = " (dry run)";
	else
		kubectl_usage_error("error: Invalid dry-run value (%s). Must be \"none\", \"server\", or \"client\".", value);
	return true;
}

/* The message, or what -o asks for. */
void
kubectl_say_done(KubectlCommand *command, KubectlItem *item, Jsonb *object, const char *done)
{
	const char *format = command->flags.output;

	if (format == NULL || format[0] == '\0')
		kubectl_say(command, "%s %s\n", kubectl_qualified_name(item), done);
	else
	{
		item->object = object;
		kubectl_print_objects(command, format, list_make1(item), true);
	}
}

/*
 * ---------- label and annotate ----------
 */

typedef struct Changes
{
	const char *what;			/* label or annotation */
	const char *member;			/* of metadata */
	List	   *resources;		/* arguments before the changes */
	List	   *set;			/* char *, key and value by turns */
	List	   *remove;			/* char * */
} Changes;

static bool
is_change(const char *word)
{
	int			len = strlen(word);

	return (strchr(word, '=') != NULL && word[0] != '=') ||
		(len > 1 && word[len - 1] == '-');
}

/* Refuses what cannot be a label. */
static void
check_label(const char *spec, const char *key, const char *value)
{
	List	   *messages = lease_check_qualified_name(key);

	if (strchr(value, '=') != NULL)
		kubectl_usage_error("error: invalid label spec: %s", spec);
	if (messages != NIL)
		kubectl_usage_error("error: invalid label key: %s: %s", lease_go_quote(spec, strlen(spec)),
							(char *) linitial(messages));
	messages = lease_check_label_value(value);
	if (messages != NIL)
		kubectl_usage_error("error: invalid label value: %s: %s", lease_go_quote(spec, strlen(spec)),
							(char *) linitial(messages));
}

static bool
is_set(const Changes *changes, const char *key)
{
	for (int i = 0; i < list_length(changes->set); i += 2)
	{
		if (strcmp(list_nth(changes->set, i), key) == 0)
			return true;
	}
	return false;
}

static void
parse_change(Changes *changes, const char *spec)
{
	const char *equals = strchr(spec, '=');
	bool		labels = strcmp(changes->what, "label") == 0;

	if (equals != NULL)
	{
		char	   *key = pnstrdup(spec, equals - spec);
		char	   *value = pstrdup(equals + 1);

		if (labels)
			check_label(spec, key, value);
		changes->set = lappend(lappend(changes->set, key), value);
	}
	else
		changes->remove = lappend(changes->remove, pnstrdup(spec, strlen(spec) - 1));
}

static void
parse_changes(const KubectlCommand *command, Changes *changes)
{
	ListCell   *lc;
	bool		changing = false;

	foreach(lc, command->args)
	{
		char	   *word = lfirst(lc);

		if (is_change(word))
		{
			changing = true;
			parse_change(changes, word);
		}
		else if (changing)
			kubectl_usage_error("error: all resources must be specified before %s changes: %s",
								changes->what, word);
		else
			changes->resources = lappend(changes->resources, word);
	}
	foreach(lc, changes->remove)
	{
		if (is_set(changes, lfirst(lc)))
			kubectl_usage_error("error: can not both modify and remove %s %s in the same command",
								strcmp(changes->what, "label") == 0 ? "a" : "an", changes->what);
	}
	if (changes->resources == NIL)
		kubectl_usage_error("error: one or more resources must be specified as <resource> <name> or <resource>/<name>");
	if (changes->set == NIL && changes->remove == NIL && !command->flags.list)
		kubectl_usage_error("error: at least one %s update is required", changes->what);
}

static List *
path_of(const char *member, char *key)
{
	List	   *path = list_make2("metadata", unconstify(char *, member));

	return key == NULL ? path : lappend(path, key);
}

static Jsonb *
get_map(Jsonb *object, const char *member)
{
	return kubectl_get_object(kubectl_get_object(object, "metadata"), member);
}

/* The length of the map in the object's JSON; 0 if it is not there. */
static int
json_length(Jsonb *object, const char *member)
{
	Jsonb	   *map = get_map(object, member);

	return map == NULL ? 0 : strlen(JsonbToCString(NULL, &map->root, VARSIZE_ANY_EXHDR(map)));
}

/*
 * The object with the changes.  kubectl leaves an empty map where there was none.
 */
static Jsonb *
change_object(KubectlCommand *command, const Changes *changes, Jsonb *object)
{
	ListCell   *lc;

	if (get_map(object, changes->member) == NULL)
		object = kubectl_set_path(object, path_of(changes->member, NULL), kubectl_parse_jsonb("{}"));
	for (int i = 0; i < list_length(changes->set); i += 2)
		object = kubectl_set_path(object, path_of(changes->member, list_nth(changes->set, i)),
								  kubectl_string_jsonb(list_nth(changes->set, i + 1)));
	foreach(lc, changes->remove)
	{
		if (strcmp(changes->what, "label") == 0 &&
			lease_label(get_map(object, changes->member), lfirst(lc)) == NULL)
			kubectl_say(command, "label %s not found.\n", lease_go_quote(lfirst(lc), strlen(lfirst(lc))));
		object = kubectl_delete_path(object, path_of(changes->member, lfirst(lc)));
	}
	return object;
}

/* False, with what kubectl says, if something would be overwritten. */
static bool
may_overwrite(KubectlCommand *command, const Changes *changes, const KubectlItem *item)
{
	bool		labels = strcmp(changes->what, "label") == 0;
	StringInfoData found;
	int			count = 0;

	if (command->flags.overwrite)
		return true;
	initStringInfo(&found);
	for (int i = 0; i < list_length(changes->set); i += 2)
	{
		char	   *key = list_nth(changes->set, i);
		char	   *value = lease_label(get_map(item->object, changes->member), key);

		if (value == NULL || (labels && strcmp(value, list_nth(changes->set, i + 1)) == 0))
			continue;
		appendStringInfo(&found, labels ? "%s'%s' already has a value (%s), and --overwrite is false" :
						 "%s'%s' already has a value (%s)",
						 count++ == 0 ? "" : labels ? ", " : "; ", key, value);
	}
	if (count == 0)
		return true;
	if (labels)
		kubectl_say_error(command, ERRCODE_INVALID_PARAMETER_VALUE,
						  count == 1 ? "error: %s" : "error: [%s]", found.data);
	else
		kubectl_say_error(command, ERRCODE_INVALID_PARAMETER_VALUE,
						  "error: --overwrite is false but found the following declared annotation(s): %s", found.data);
	return false;
}

static const char *
what_was_done(const KubectlCommand *command, const Changes *changes, Jsonb *before, Jsonb *after)
{
	int			shorter = json_length(before, changes->member) - json_length(after, changes->member);

	if (strcmp(changes->what, "annotation") == 0)
		return "annotated";
	if (kubectl_same_jsonb(before, after))
		return "not labeled";
	return !command->flags.overwrite && shorter > 0 ? "unlabeled" : "labeled";
}

static void
list_values(KubectlCommand *command, const Changes *changes, const KubectlItem *item, bool several)
{
	Jsonb	   *map = get_map(item->object, changes->member);
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *key = NULL;

	if (several)
		kubectl_say(command, "Listing %ss for %s/%s:\n", changes->what,
					kubectl_resources[item->type].kind, item->name);
	if (map == NULL)
		return;
	it = JsonbIteratorInit(&map->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && v.type == jbvString)
			kubectl_say(command, "%s%s=%.*s\n", several ? " " : "", key, v.val.string.len, v.val.string.val);
	}
}

static void
change_item(KubectlCommand *command, const Changes *changes, KubectlItem *item)
{
	const char *dry_run;
	Jsonb	   *before = item->object;
	Jsonb	   *after;

	if (!may_overwrite(command, changes, item))
		return;
	after = change_object(command, changes, before);
	if (command->flags.resource_version != NULL)
		after = kubectl_set_path(after, path_of("resourceVersion", NULL),
								 kubectl_string_jsonb(command->flags.resource_version));
	if (!kubectl_is_dry_run(command, &dry_run) && !kubectl_write_back(command, item, after, "", NULL))
		return;
	kubectl_say_done(command, item, after,
					 psprintf("%s%s", what_was_done(command, changes, before, after), dry_run));
}

static void
change_command(KubectlCommand *command, Changes *changes)
{
	List	   *items;
	ListCell   *lc;

	parse_changes(command, changes);
	items = kubectl_find(command, kubectl_requests(command, changes->resources, false), true);
	if (command->flags.resource_version != NULL && list_length(items) > 1)
		kubectl_usage_error("error: --resource-version may only be used with a single resource");
	foreach(lc, items)
	{
		if (command->flags.list)
			list_values(command, changes, lfirst(lc), list_length(items) > 1);
		if (changes->set != NIL || changes->remove != NIL)
			change_item(command, changes, lfirst(lc));
	}
}

void
kubectl_label_command(KubectlCommand *command)
{
	Changes		changes = {.what = "label", .member = "labels"};

	change_command(command, &changes);
}

void
kubectl_annotate_command(KubectlCommand *command)
{
	Changes		changes = {.what = "annotation", .member = "annotations"};

	change_command(command, &changes);
}

/*
 * ---------- delete ----------
 */

/* Is it deleted at once and without waiting?  Checks the flags. */
static bool
is_forced(const KubectlCommand *command)
{
	const KubectlFlags *flags = &command->flags;
	int			grace = flags->grace_period == NULL ? -1 : pg_strtoint32(flags->grace_period);

	if (flags->now && grace >= 0)
		kubectl_usage_error("error: --now and --grace-period cannot be specified together");
	if (flags->force && grace > 0)
		kubectl_usage_error("error: --force and --grace-period greater than 0 cannot be specified together");
	return flags->force;
}

/* False, with what kubectl says, if it could not be deleted. */
static bool
delete_item(KubectlCommand *command, const KubectlItem *item)
{
	LeaseKey	key;

	if (item->type == KUBECTL_NODE)
		return !is_busy(command, item, kubectl_remove_node(command, item->name));
	key.namespace = cstring_to_text(item->namespace);
	key.name = cstring_to_text(item->name);
	return !kubectl_is_refused(command, lease_api_delete(command->funcid, &key, NULL, NULL), "");
}

void
kubectl_delete_command(KubectlCommand *command)
{
	bool		forced = is_forced(command);
	const char *dry_run;
	bool		dry = kubectl_is_dry_run(command, &dry_run);
	bool		by_name;
	List	   *items;
	ListCell   *lc;

	if (command->args == NIL)
		kubectl_usage_error("error: You must provide one or more resources by argument or filename.");
	by_name = list_length(command->args) > 1 || strchr(linitial(command->args), '/') != NULL;
	items = kubectl_find(command, kubectl_requests(command, command->args, false), false);
	if (forced && !dry)
		appendStringInfoString(&command->err, "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.\n");
	foreach(lc, items)
	{
		const KubectlItem *item = lfirst(lc);

		if (!dry && !delete_item(command, item))
			continue;
		if (command->flags.output != NULL && strcmp(command->flags.output, "name") == 0)
			kubectl_say(command, "%s\n", kubectl_qualified_name(item));
		else
			kubectl_say(command, "%s \"%s\" %sdeleted%s\n", kubectl_resources[item->type].singular,
						item->name, forced ? "force " : "", dry_run);
	}
	if (items == NIL && !by_name)
		kubectl_say(command, "No resources found\n");
}
