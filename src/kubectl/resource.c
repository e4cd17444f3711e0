/*
 * resource.c
 *		What the arguments of a command name, and finding it: cli-runtime's
 *		resource builder.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "object.h"
#include "kubectl.h"

#define GROUP "coordination.k8s.io"

const KubectlResource kubectl_resources[] = {
	[KUBECTL_LEASE] = {"leases." GROUP, "lease." GROUP, "Lease." GROUP, GROUP "/v1, Resource=leases", true},
	[KUBECTL_NODE] = {"nodes", "node", "Node", "/v1, Resource=nodes", false},
};

/* The namespace that is meant; NULL: all. */
const char *
kubectl_namespace(const KubectlCommand *command)
{
	if (command->flags.all_namespaces)
		return NULL;
	return command->flags.namespace == NULL || command->flags.namespace[0] == '\0' ? "default" :
		command->flags.namespace;
}

/* As kubectl's messages and its NAME with the kind have it. */
char *
kubectl_qualified_name(const KubectlItem *item)
{
	return psprintf("%s/%s", kubectl_resources[item->type].singular, item->name);
}

/*
 * ---------- Arguments ----------
 */

pg_noreturn static void
unknown_type(const char *base)
{
	static const char *const known[] = {"ns", "namespace", "namespaces", "leasecandidate", "leasecandidates"};

	for (int i = 0; i < lengthof(known); i++)
	{
		if (pg_strcasecmp(base, known[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("kubectl() knows leases and nodes only"),
					 errdetail("There are no objects of type \"%s\".  A namespace exists when a lease is in it.", base)));
	}
	kubectl_usage_error("error: the server doesn't have a resource type \"%s\"", base);
}

/*
 * The type, in any spelling: lease, LEASES, lease.coord, Lease.v1.coordination.k8s.io
 */
static KubectlType
parse_type(const char *word)
{
	static const char *const lease_names[] = {"lease", "leases"};
	static const char *const node_names[] = {"node", "nodes", "no"};
	const char *dot = strchr(word, '.');
	const char *group = dot == NULL ? "" : dot + 1;
	char	   *base = dot == NULL ? pstrdup(word) : pnstrdup(word, dot - word);
	bool		of_group;

	if (pg_strncasecmp(group, "v1." GROUP, strlen(group)) == 0 && strlen(group) == strlen("v1." GROUP))
		of_group = true;
	else
		of_group = pg_strncasecmp(group, GROUP, strlen(group)) == 0 && (dot == NULL || group[0] != '\0');

	for (int i = 0; of_group && i < lengthof(lease_names); i++)
	{
		if (pg_strcasecmp(base, lease_names[i]) == 0)
			return KUBECTL_LEASE;
	}
	for (int i = 0; (dot == NULL || strcmp(group, "v1.") == 0) && i < lengthof(node_names); i++)
	{
		if (pg_strcasecmp(base, node_names[i]) == 0)
			return KUBECTL_NODE;
	}
	unknown_type(base);
}

static List *
add_request(List *requests, KubectlType type, char *name)
{
	KubectlRequest *request = palloc(sizeof(KubectlRequest));

	request->type = type;
	request->name = name;
	return lappend(requests, request);
}

/* type/name ... */
static List *
combined_requests(List *args)
{
	List	   *requests = NIL;
	ListCell   *lc;

	foreach(lc, args)
	{
		char	   *arg = lfirst(lc);
		char	   *slash = strchr(arg, '/');

		if (slash == NULL)
			kubectl_usage_error("error: there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'");
	}
	foreach(lc, args)
	{
		char	   *arg = lfirst(lc);
		char	   *slash = strchr(arg, '/');
		char	   *type = pnstrdup(arg, slash - arg);

		if (strchr(slash + 1, '/') != NULL)
			kubectl_usage_error("error: arguments in resource/name form may not have more than one slash");
		if (type[0] == '\0' || slash[1] == '\0' || strchr(type, ',') != NULL)
			kubectl_usage_error("error: arguments in resource/name form must have a single resource and name");
		requests = add_request(requests, parse_type(type), slash + 1);
	}
	return requests;
}

/* type[,type ...]: each once */
static List *
parse_types(char *word)
{
	List	   *types = NIL;

	for (char *type = strtok(pstrdup(word), ","); type != NULL; type = strtok(NULL, ","))
		types = list_append_unique_int(types, parse_type(type));
	return types;
}

static void
check_selection(const KubectlCommand *command, bool names)
{
	const KubectlFlags *flags = &command->flags;
	bool		selector = flags->selector != NULL || flags->field_selector != NULL;

	if (flags->all && flags->selector != NULL && flags->selector[0] != '\0')
		kubectl_usage_error(strcmp(command->verb, "delete") == 0 ?
							"error: setting 'all' parameter but found a non empty selector. " :
							"error: cannot set --all and --selector at the same time");
	if (names && (selector || flags->all))
		kubectl_usage_error("error: name cannot be provided when a selector is specified");
	if (names && flags->all_namespaces)
		kubectl_usage_error("error: a resource cannot be retrieved by name across all namespaces");
}

/*
 * What the arguments name.  Without names and a selector, everything of a type,
 * if may_list.
 */
List *
kubectl_requests(KubectlCommand *command, List *args, bool may_list)
{
	List	   *requests = NIL;
	ListCell   *lc;
	bool		combined = false;

	foreach(lc, args)
	{
		if (((char *) lfirst(lc))[0] == '\0')
			kubectl_usage_error("error: resource name may not be empty");
		combined = combined || strchr(lfirst(lc), '/') != NULL;
	}
	check_selection(command, combined || list_length(args) > 1);
	if (combined)
		return combined_requests(args);

	foreach(lc, parse_types(linitial(args)))
	{
		ListCell   *name;

		if (list_length(args) == 1)
		{
			if (!may_list && !command->flags.all && command->flags.selector == NULL &&
				command->flags.field_selector == NULL)
				kubectl_usage_error("error: resource(s) were provided, but no name was specified");
			requests = add_request(requests, lfirst_int(lc), NULL);
		}
		for_each_from(name, args, 1)
			requests = add_request(requests, lfirst_int(lc), lfirst(name));
	}
	return requests;
}

/*
 * ---------- Finding ----------
 */

/* What the server says to a selector that it cannot read. */
pg_noreturn static void
bad_selector(const KubectlCommand *command, KubectlType type, const char *error)
{
	const char *labels = command->flags.selector ? command->flags.selector : "";
	const char *fields = command->flags.field_selector ? command->flags.field_selector : "";

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("Error from server (BadRequest): Unable to find %s that match label selector %s, field selector %s: %s",
					lease_go_quote(kubectl_resources[type].gvr, strlen(kubectl_resources[type].gvr)),
					lease_go_quote(labels, strlen(labels)), lease_go_quote(fields, strlen(fields)),
					error)));
}

typedef struct Selection
{
	LeaseSelector *labels;
	KubectlFieldSelector *fields;
} Selection;

static Selection
parse_selection(const KubectlCommand *command, KubectlType type)
{
	const char *fields = command->flags.field_selector ? command->flags.field_selector : "";
	const char *labels = command->flags.selector ? command->flags.selector : "";
	Selection	selection;
	char	   *error;

	selection.labels = lease_selector_parse(labels, &error);
	if (error != NULL)
		bad_selector(command, type, error);
	selection.fields = kubectl_parse_field_selector(fields, type == KUBECTL_NODE, &error);
	if (error != NULL)
		bad_selector(command, type, error);
	return selection;
}

static List *
select_items(const Selection *selection, List *items)
{
	List	   *selected = NIL;
	ListCell   *lc;

	foreach(lc, items)
	{
		KubectlItem *item = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (lease_selector_matches(selection->labels, item->labels) &&
			kubectl_field_selector_matches(selection->fields, item->name, item->namespace,
										   item->unschedulable))
			selected = lappend(selected, item);
	}
	return selected;
}

/* All of a type that the selectors let pass. */
static List *
list_items(const KubectlCommand *command, KubectlType type, bool with_object)
{
	Selection	selection = parse_selection(command, type);

	return select_items(&selection, type == KUBECTL_LEASE ?
						kubectl_query_leases(command, kubectl_namespace(command), NULL,
											 lease_selector_labels(selection.labels), with_object) :
						kubectl_query_nodes(command, NULL, with_object));
}

void
kubectl_say_not_found(KubectlCommand *command, const KubectlRequest *request)
{
	kubectl_say_error(command, ERRCODE_NO_DATA_FOUND, "Error from server (NotFound): %s \"%s\" not found",
					  kubectl_resources[request->type].plural, request->name);
}

/*
 * The objects that were asked for, in that order.  Those that are not there are
 * reported, and the command has failed, unless --ignore-not-found.
 */
List *
kubectl_find(KubectlCommand *command, List *requests, bool with_object)
{
	const char *namespace = kubectl_namespace(command);
	List	   *found = NIL;
	ListCell   *lc;

	foreach(lc, requests)
	{
		const KubectlRequest *request = lfirst(lc);
		List	   *items;

		if (request->name == NULL)
			items = list_items(command, request->type, with_object);
		else if (request->type == KUBECTL_LEASE)
			items = kubectl_query_leases(command, namespace, request->name, NULL, with_object);
		else
			items = kubectl_query_nodes(command, request->name, with_object);
		if (request->name != NULL && items == NIL && !command->flags.ignore_not_found)
			kubectl_say_not_found(command, request);
		found = list_concat(found, items);
	}
	return found;
}
