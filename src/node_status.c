/*
 * node_status.c
 *		Which nodes are ready.
 *
 * That follows from their heartbeats by the rule of Kubernetes' node lifecycle
 * controller, at the moment somebody looks; nothing is written for it.
 *
 * That controller cannot compare a node's renewTime with its own clock.  So it
 * notes when it last saw the node's lease or status change (probeTimestamp), and
 * counts from there; it looks every 5 s, and when it is restarted every node has
 * a full grace period again.  Here one clock writes renew_time and judges it; but
 * when this server has recovered, every node has a full grace period, too.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "lease.h"

#define DEFAULT_MONITOR_GRACE 40	/* nodeMonitorGracePeriod up to 1.31 */
#define DEFAULT_STARTUP_GRACE 60	/* nodeStartupGracePeriod */

PG_FUNCTION_INFO_V1(lease_node_status);
PG_FUNCTION_INFO_V1(lease_node_status_since);
PG_FUNCTION_INFO_V1(lease_node_posted);

/* lease.node_monitor_grace_period and lease.node_startup_grace_period, seconds */
static int	monitor_grace = DEFAULT_MONITOR_GRACE;
static int	startup_grace = DEFAULT_STARTUP_GRACE;

void
lease_node_status_init(void)
{
	DefineCustomIntVariable("lease.node_monitor_grace_period",
							"How long a node may be silent before its status is Unknown.",
							NULL,
							&monitor_grace,
							DEFAULT_MONITOR_GRACE, 1, INT_MAX,
							PGC_USERSET,
							GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lease.node_startup_grace_period",
							"How long a node may take until it is first heard of.",
							NULL,
							&startup_grace,
							DEFAULT_STARTUP_GRACE, 1, INT_MAX,
							PGC_USERSET,
							GUC_UNIT_S,
							NULL, NULL, NULL);
}

/* What is known of a node: the arguments of both functions below. */
typedef struct NodeSigns
{
	TimestampTz created;
	char	   *ready;			/* the condition Ready that was posted, or NULL */
	TimestampTz posted_since;	/* its lastTransitionTime */
	TimestampTz last_heartbeat; /* of lease and posted condition, or LEASE_NO_TIME */
	TimestampTz beating_since;	/* since when there is a lease */
	TimestampTz at;
} NodeSigns;

static TimestampTz
get_time_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? LEASE_NO_TIME : PG_GETARG_TIMESTAMPTZ(n);
}

/*
 * Until when the node counts as alive if nothing more is heard of it.  How long
 * its lease is valid does not matter.
 */
static TimestampTz
silent_from(const NodeSigns *node)
{
	if (node->last_heartbeat != LEASE_NO_TIME)
	{
		TimestampTz counts_from = lease_clock_read().counts_from;
		TimestampTz heard = node->last_heartbeat;

		/* not if somebody asks about a time before */
		if (counts_from <= node->at)
			heard = Max(heard, counts_from);
		return lease_ttl_after(heard, monitor_grace * USECS_PER_SEC);
	}
	if (node->created == LEASE_NO_TIME)
		return LEASE_NO_TIME;
	return lease_ttl_after(node->created, startup_grace * USECS_PER_SEC);
}

/*
 * The rule of the node lifecycle controller, and since when it says so, as far
 * as that can be told without having been written down.
 */
static const char *
node_status(const NodeSigns *node, TimestampTz *since)
{
	*since = silent_from(node);
	if (node->at > *since)
		return "Unknown";

	/* Never heard of, but new.  Kubernetes taints it as not ready until then. */
	*since = node->created;
	if (node->last_heartbeat == LEASE_NO_TIME)
		return "NotReady";

	/* A lease that is renewed says that the node lives, not how it does. */
	*since = node->posted_since;
	if (node->ready != NULL && strcmp(node->ready, "True") != 0)
		return strcmp(node->ready, "False") == 0 ? "NotReady" : "Unknown";
	if (node->ready == NULL)
		*since = node->beating_since;
	return "Ready";
}

/*
 * SQL: lease_node_status(created, ready, last_heartbeat, at)
 */
Datum
lease_node_status(PG_FUNCTION_ARGS)
{
	NodeSigns	node = {0};
	TimestampTz since;

	if (PG_ARGISNULL(3))
		PG_RETURN_NULL();
	node.created = get_time_arg(fcinfo, 0);
	node.ready = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	node.last_heartbeat = get_time_arg(fcinfo, 2);
	node.at = PG_GETARG_TIMESTAMPTZ(3);
	PG_RETURN_TEXT_P(cstring_to_text(node_status(&node, &since)));
}

/*
 * SQL: lease_node_status_since(created, ready, last_heartbeat, posted_since,
 *		beating_since, at)
 */
Datum
lease_node_status_since(PG_FUNCTION_ARGS)
{
	NodeSigns	node;
	TimestampTz since;

	if (PG_ARGISNULL(5))
		PG_RETURN_NULL();
	node.created = get_time_arg(fcinfo, 0);
	node.ready = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	node.last_heartbeat = get_time_arg(fcinfo, 2);
	node.posted_since = get_time_arg(fcinfo, 3);
	node.beating_since = get_time_arg(fcinfo, 4);
	node.at = PG_GETARG_TIMESTAMPTZ(5);
	(void) node_status(&node, &since);
	if (since == LEASE_NO_TIME)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(since);
}

/* The condition of this type in status.conditions, or NULL */
static Jsonb *
find_condition(Jsonb *status, const char *type)
{
	JsonbValue *conditions = lease_json_member(&status->root, "conditions");
	uint32		count;

	if (conditions == NULL || conditions->type != jbvBinary ||
		!JsonContainerIsArray(conditions->val.binary.data))
		return NULL;

	count = JsonContainerSize(conditions->val.binary.data);
	for (uint32 i = 0; i < count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(conditions->val.binary.data, i);

		if (element->type == jbvBinary && lease_json_text_is(element->val.binary.data, "type", type))
			return JsonbValueToJsonb(element);
	}
	return NULL;
}

static Datum
condition_time(Jsonb *condition, const char *key, bool *isnull)
{
	char	   *text = lease_json_text(&condition->root, key);
	TimestampTz time = 0;

	*isnull = text == NULL || lease_parse_time(text, false, &time) != NULL;
	return TimestampTzGetDatum(time);
}

/*
 * SQL: lease_node_posted(status)
 */
Datum
lease_node_posted(PG_FUNCTION_ARGS)
{
	static const LeaseResultColumn columns[] = {
		{"ready", TEXTOID},
		{"last_heartbeat", TIMESTAMPTZOID},
		{"since", TIMESTAMPTZOID},
	};
	static TupleDesc tupdesc = NULL;
	Jsonb	   *condition = find_condition(PG_GETARG_JSONB_P(0), "Ready");
	Datum		values[lengthof(columns)] = {0};
	bool		nulls[lengthof(columns)] = {true, true, true};

	if (condition != NULL)
	{
		char	   *ready = lease_json_text(&condition->root, "status");

		nulls[0] = ready == NULL;
		if (ready != NULL)
			values[0] = CStringGetTextDatum(ready);
		values[1] = condition_time(condition, "lastHeartbeatTime", &nulls[1]);
		values[2] = condition_time(condition, "lastTransitionTime", &nulls[2]);
	}
	return lease_result_form(lease_result_type(&tupdesc, columns, lengthof(columns)), values, nulls);
}
