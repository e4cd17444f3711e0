/*
 * describe_cmd.c
 *		kubectl describe
 */
#include "postgres.h"

#include "describe.h"
#include "kubectl.h"

static void
describe_item(KubectlCommand *command, const KubectlItem *item)
{
	if (item->type == KUBECTL_NODE)
	{
		List	   *leases = kubectl_query_leases(command, LEASE_NODE_NAMESPACE, item->name, NULL, true);

		kubectl_describe_node(&command->out, item->object,
							  leases == NIL ? NULL : ((KubectlItem *) linitial(leases))->object,
							  command->flags.show_events);
	}
	else
		kubectl_describe_object(&command->out, item->object, command->flags.show_events);
}

/*
 * A name that nothing has: kubectl describes whatever begins with it.
 */
static void
describe_by_prefix(KubectlCommand *command, const KubectlRequest *request)
{
	KubectlRequest all = {request->type, NULL};
	ListCell   *lc;
	bool		found = false;

	foreach(lc, kubectl_find(command, list_make1(&all), true))
	{
		const KubectlItem *item = lfirst(lc);

		if (strncmp(item->name, request->name, strlen(request->name)) != 0)
			continue;
		found = true;
		describe_item(command, item);
		appendStringInfoChar(&command->out, '\n');
	}
	if (!found)
		kubectl_say_not_found(command, request);
}

void
kubectl_describe_command(KubectlCommand *command)
{
	List	   *requests;
	List	   *items;
	ListCell   *lc;

	if (command->args == NIL)
		kubectl_usage_error("error: You must specify the type of resource to describe. Use \"kubectl api-resources\" for a complete list of supported resources.\n");
	requests = kubectl_requests(command, command->args, true);
	if (list_length(command->args) == 2 && list_length(requests) == 1)
	{
		/* one name: it may be the beginning of one */
		command->flags.ignore_not_found = true;
		items = kubectl_find(command, requests, true);
		if (items == NIL)
		{
			describe_by_prefix(command, linitial(requests));
			return;
		}
	}
	else
		items = kubectl_find(command, requests, true);

	foreach(lc, items)
	{
		if (lc != list_head(items))
			appendStringInfoString(&command->out, "\n\n");
		describe_item(command, lfirst(lc));
	}
	if (items == NIL && !command->failed)
	{
		if (command->flags.all_namespaces ||
			!kubectl_resources[((KubectlRequest *) linitial(requests))->type].namespaced)
			appendStringInfoString(&command->err, "No resources found\n");
		else
			appendStringInfo(&command->err, "No resources found in %s namespace.\n",
							 kubectl_namespace(command));
	}
}
