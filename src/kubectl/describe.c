/*
 * describe.c
 *		Objects as kubectl describe prints them: nodes in a way of their own, all
 *		others field by field.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "describe.h"
#include "kubectl.h"
#include "printers.h"
#include "tabwriter.h"

PG_FUNCTION_INFO_V1(kubectl_describe);

#define MAX_ANNOTATION 140

/*
 * ---------- Parts of objects ----------
 */

static JsonbValue *
get(const JsonbContainer *object, const char *key)
{
	if (object == NULL || !JsonContainerIsObject(object))
		return NULL;
	return getKeyJsonValueFromContainer(unconstify(JsonbContainer *, object), key, strlen(key), NULL);
}

/* A member that is an object or an array; NULL if it is none. */
static JsonbContainer *
get_container(const JsonbContainer *object, const char *key, bool array)
{
	JsonbValue *value = get(object, key);

	if (value == NULL || value->type != jbvBinary ||
		(array ? !JsonContainerIsArray(value->val.binary.data) :
		 !JsonContainerIsObject(value->val.binary.data)))
		return NULL;
	return value->val.binary.data;
}

/* A member as text; empty if it is missing. */
static char *
get_text(const JsonbContainer *object, const char *key)
{
	JsonbValue *value = get(object, key);
	StringInfoData text;

	if (value == NULL || value->type == jbvNull)
		return "";
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	initStringInfo(&text);
	kubectl_print_compact_json(&text, value);
	return text.data;
}

static List *
elements_of(JsonbContainer *array)
{
	List	   *elements = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (array == NULL)
		return NIL;
	it = JsonbIteratorInit(array);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
		{
			JsonbValue *copy = palloc(sizeof(JsonbValue));

			*copy = v;
			elements = lappend(elements, copy);
		}
	}
	return elements;
}

static List *
members_of(JsonbContainer *object)
{
	return object == NULL || !JsonContainerIsObject(object) ? NIL : kubectl_member_list(object);
}

static char *
key_of(const KubectlMember *member)
{
	return pnstrdup(member->key.val.string.val, member->key.val.string.len);
}

static char *
value_of(const KubectlMember *member)
{
	StringInfoData text;

	if (member->value.type == jbvString)
		return pnstrdup(member->value.val.string.val, member->value.val.string.len);
	initStringInfo(&text);
	kubectl_print_compact_json(&text, &member->value);
	return text.data;
}

/*
 * ---------- Writing ----------
 */

static void write_at(KubectlTable *table, int level, const char *fmt,...) pg_attribute_printf(3, 4);

/* Indented by two blanks a level; what could drive the terminal is escaped. */
static void
write_at(KubectlTable *table, int level, const char *fmt,...)
{
	StringInfoData text;
	StringInfoData escaped;

	initStringInfo(&text);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&text, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	initStringInfo(&escaped);
	appendStringInfoSpaces(&escaped, 2 * level);
	for (char *p = text.data; *p != '\0'; p++)
	{
		if (*p == '\033')
			appendStringInfoString(&escaped, "^[");
		else if (*p == '\r')
			appendStringInfoString(&escaped, "\\r");
		else
			appendStringInfoChar(&escaped, *p);
	}
	kubectl_table_write(table, escaped.data);
	pfree(text.data);
	pfree(escaped.data);
}

static void
write_labels(KubectlTable *table, JsonbContainer *labels)
{
	List	   *members = members_of(labels);
	ListCell   *lc;

	write_at(table, 0, "Labels:\t");
	if (members == NIL)
		write_at(table, 0, "<none>\n");
	foreach(lc, members)
		write_at(table, 0, "%s%s=%s\n", lc == list_head(members) ? "" : "\t",
				 key_of(lfirst(lc)), value_of(lfirst(lc)));
}

static char *
shortened(const char *s, int max)
{
	return strlen(s) <= max ? pstrdup(s) : psprintf("%.*s...", pg_mbcliplen(s, strlen(s), max), s);
}

/* Long ones, and those of several lines, stand below their key. */
static void
write_annotation(KubectlTable *table, const char *key, char *value)
{
	int			len = strlen(value);

	if (len > 0 && value[len - 1] == '\n')
		value[--len] = '\0';
	if (len + strlen(key) + 2 <= MAX_ANNOTATION && strchr(value, '\n') == NULL)
	{
		write_at(table, 0, "%s: %s\n", key, value);
		return;
	}
	write_at(table, 0, "%s:\n", key);
	for (char *line = value; line != NULL;)
	{
		char	   *end = strchr(line, '\n');

		if (end != NULL)
			*end = '\0';
		write_at(table, 0, "\t  %s\n", shortened(line, MAX_ANNOTATION - 2));
		line = end == NULL ? NULL : end + 1;
	}
}

static void
write_annotations(KubectlTable *table, JsonbContainer *annotations)
{
	bool		first = true;
	ListCell   *lc;

	write_at(table, 0, "Annotations:\t");
	foreach(lc, members_of(annotations))
	{
		char	   *key = key_of(lfirst(lc));

		if (strcmp(key, KUBECTL_LAST_APPLIED) == 0)
			continue;
		if (!first)
			write_at(table, 0, "\t");
		first = false;
		write_annotation(table, key, value_of(lfirst(lc)));
	}
	if (first)
		write_at(table, 0, "<none>\n");
}

/*
 * ---------- Any object ----------
 */

/* Appends a part of a name, with a capital, or all of them if it is an acronym. */
static void
append_part(StringInfo label, const char *part, int len)
{
	static const char *const acronyms[] = {"API", "URL", "UID", "OSB", "GUID"};
	char	   *text = pnstrdup(part, len);

	if (label->len > 0)
		appendStringInfoChar(label, ' ');
	for (int i = 0; i < lengthof(acronyms); i++)
	{
		if (pg_strcasecmp(text, acronyms[i]) == 0)
		{
			appendStringInfoString(label, acronyms[i]);
			return;
		}
	}
	text[0] = pg_ascii_toupper(text[0]);
	appendStringInfoString(label, text);
}

/* leaseDurationSeconds: Lease Duration Seconds */
static char *
label_for(const char *field)
{
	StringInfoData label;
	const char *start = field;

	for (const char *p = field; *p != '\0'; p++)
	{
		if (!isalpha((unsigned char) *p) && *p != '-')
			return pstrdup(field);
	}
	initStringInfo(&label);
	for (const char *p = field; *p != '\0'; p++)
	{
		bool		upper = isupper((unsigned char) p[0]);
		bool		next_lower = islower((unsigned char) p[1]);
		bool		next_upper = isupper((unsigned char) p[1]);
		bool		ends = p[1] == '\0' || (*p == '-') != (p[1] == '-') ||
			(!upper && next_upper) || (upper && next_upper && islower((unsigned char) p[2]));

		/* of several capitals the last begins the next part */
		if (upper && next_lower && p > start)
			ends = false;
		if (ends)
		{
			append_part(&label, start, p + 1 - start);
			start = p + 1;
		}
	}
	return label.data;
}

/* A value as Go's %v prints it; objects and arrays do not come here. */
static char *
scalar_text(const JsonbValue *value)
{
	StringInfoData text;

	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvNull)
		return "<nil>";
	initStringInfo(&text);
	kubectl_print_compact_json(&text, value);
	return text.data;
}

static bool
is_skipped(const char *path)
{
	static const char *const skipped[] = {
		".metadata.managedFields", ".metadata.name", ".metadata.namespace",
		".metadata.labels", ".metadata.annotations"
	};

	for (int i = 0; i < lengthof(skipped); i++)
	{
		if (strcmp(skipped[i], path) == 0)
			return true;
	}
	return false;
}

static void
write_content(KubectlTable *table, int level, JsonbContainer *object, const char *path)
{
	ListCell   *lc;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	foreach(lc, members_of(object))
	{
		const KubectlMember *member = lfirst(lc);
		char	   *key = key_of(member);
		char	   *member_path = psprintf("%s.%s", path, key);
		ListCell   *element;

		if (is_skipped(member_path))
			continue;
		if (member->value.type != jbvBinary)
		{
			write_at(table, level, "%s:\t%s\n", label_for(key), scalar_text(&member->value));
			continue;
		}
		write_at(table, level, "%s:\n", label_for(key));
		if (JsonContainerIsObject(member->value.val.binary.data))
			write_content(table, level + 1, member->value.val.binary.data, member_path);
		else
			foreach(element, elements_of(member->value.val.binary.data))
			{
				const JsonbValue *value = lfirst(element);

				if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
					write_content(table, level + 1, value->val.binary.data, member_path);
				else
					write_at(table, level + 1, "%s\n", scalar_text(value));
			}
	}
}

/*
 * An object of any type but Node.
 */
void
kubectl_describe_object(StringInfo out, const Jsonb *object, bool show_events)
{
	KubectlTable *table = kubectl_table_new(0, 2);
	JsonbContainer *root = &unconstify(Jsonb *, object)->root;
	JsonbContainer *metadata = get_container(root, "metadata", false);

	write_at(table, 0, "Name:\t%s\n", get_text(metadata, "name"));
	write_at(table, 0, "Namespace:\t%s\n", get_text(metadata, "namespace"));
	write_labels(table, get_container(metadata, "labels", false));
	write_annotations(table, get_container(metadata, "annotations", false));
	write_content(table, 0, root, "");
	if (show_events)
		write_at(table, 0, "Events:\t<none>\n");
	kubectl_table_flush(table, out);
}

/*
 * ---------- Nodes ----------
 */

/* Go's time.RFC1123Z, in UTC.  A time that is missing is Go's zero. */
static char *
long_time(const char *text)
{
	static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	TimestampTz time;
	struct pg_tm tm;
	fsec_t		fsec;

	if (lease_parse_time(text, false, &time) != NULL ||
		timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		return "Mon, 01 Jan 0001 00:00:00 +0000";
	return psprintf("%s, %02d %s %04d %02d:%02d:%02d +0000",
					day_names[j2day(date2j(tm.tm_year, tm.tm_mon, tm.tm_mday))],
					tm.tm_mday, months[tm.tm_mon - 1], tm.tm_year,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static int
compare_texts(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

static char *
roles_of(JsonbContainer *labels)
{
	static const char prefix[] = "node-role.kubernetes.io/";
	List	   *roles = NIL;
	StringInfoData text;
	ListCell   *lc;

	foreach(lc, members_of(labels))
	{
		char	   *key = key_of(lfirst(lc));
		char	   *value = value_of(lfirst(lc));

		if (strncmp(key, prefix, strlen(prefix)) == 0 && key[strlen(prefix)] != '\0')
			roles = lappend(roles, key + strlen(prefix));
		else if (strcmp(key, "kubernetes.io/role") == 0 && value[0] != '\0')
			roles = lappend(roles, value);
	}
	if (roles == NIL)
		return "<none>";
	list_sort(roles, compare_texts);
	initStringInfo(&text);
	foreach(lc, roles)
	{
		if (lc == list_head(roles) || strcmp(lfirst(lc), list_nth(roles, foreach_current_index(lc) - 1)) != 0)
			appendStringInfo(&text, "%s%s", text.len == 0 ? "" : ",", (char *) lfirst(lc));
	}
	return text.data;
}

/* key=value:effect; sorted by effect and key, which comes first in the text here. */
static void
write_taints(KubectlTable *table, JsonbContainer *taints)
{
	List	   *texts = NIL;
	ListCell   *lc;

	foreach(lc, elements_of(taints))
	{
		const JsonbValue *taint = lfirst(lc);
		JsonbContainer *object = taint->type == jbvBinary ? taint->val.binary.data : NULL;
		char	   *key = get_text(object, "key");
		char	   *value = get_text(object, "value");
		char	   *effect = get_text(object, "effect");

		texts = lappend(texts, psprintf("%s,%s\n%s%s%s%s%s", effect, key, key,
										value[0] == '\0' ? "" : "=", value,
										effect[0] == '\0' && value[0] == '\0' ? "" : ":", effect));
	}
	list_sort(texts, compare_texts);
	write_at(table, 0, "Taints:\t");
	if (texts == NIL)
		write_at(table, 0, "<none>\n");
	foreach(lc, texts)
		write_at(table, 0, "%s%s\n", lc == list_head(texts) ? "" : "\t", strchr(lfirst(lc), '\n') + 1);
}

static void
write_lease_time(KubectlTable *table, const char *label, JsonbContainer *spec, const char *key)
{
	char	   *text = get_text(spec, key);
	TimestampTz time;
	bool		set = text[0] != '\0' && lease_parse_time(text, false, &time) == NULL;

	write_at(table, 1, "%s:\t%s\n", label, set ? long_time(text) : "<unset>");
}

static void
write_lease(KubectlTable *table, const char *node, const Jsonb *lease)
{
	JsonbContainer *spec;

	if (lease == NULL)
	{
		write_at(table, 0, "Lease:\tFailed to get lease: leases.coordination.k8s.io \"%s\" not found\n", node);
		return;
	}
	spec = get_container(&unconstify(Jsonb *, lease)->root, "spec", false);
	write_at(table, 0, "Lease:\n");
	write_at(table, 1, "HolderIdentity:\t%s\n",
			 get(spec, "holderIdentity") == NULL ? "<unset>" : get_text(spec, "holderIdentity"));
	write_lease_time(table, "AcquireTime", spec, "acquireTime");
	write_lease_time(table, "RenewTime", spec, "renewTime");
}

static void
write_conditions(KubectlTable *table, JsonbContainer *conditions)
{
	List	   *elements = elements_of(conditions);
	ListCell   *lc;

	if (elements == NIL)
		return;
	write_at(table, 0, "Conditions:\n  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage\n");
	write_at(table, 1, "----\t------\t-----------------\t------------------\t------\t-------\n");
	foreach(lc, elements)
	{
		const JsonbValue *value = lfirst(lc);
		JsonbContainer *c = value->type == jbvBinary ? value->val.binary.data : NULL;

		write_at(table, 1, "%s \t%s \t%s \t%s \t%s \t%s\n", get_text(c, "type"), get_text(c, "status"),
				 long_time(get_text(c, "lastHeartbeatTime")),
				 long_time(get_text(c, "lastTransitionTime")),
				 get_text(c, "reason"), get_text(c, "message"));
	}
}

static void
write_quantities(KubectlTable *table, const char *title, JsonbContainer *quantities)
{
	List	   *members = members_of(quantities);
	ListCell   *lc;

	if (members == NIL)
		return;
	write_at(table, 0, "%s:\n", title);
	foreach(lc, members)
		write_at(table, 1, "%s:\t%s\n", key_of(lfirst(lc)), value_of(lfirst(lc)));
}

static void
write_system_info(KubectlTable *table, JsonbContainer *info)
{
	static const struct
	{
		const char *label;
		const char *key;
	}			lines[] = {
		{"Machine ID", "machineID"}, {"System UUID", "systemUUID"}, {"Boot ID", "bootID"},
		{"Kernel Version", "kernelVersion"}, {"OS Image", "osImage"},
		{"Operating System", "operatingSystem"}, {"Architecture", "architecture"},
		{"Container Runtime Version", "containerRuntimeVersion"},
		{"Kubelet Version", "kubeletVersion"}, {"Kube-Proxy Version", "kubeProxyVersion"},
	};

	write_at(table, 0, "System Info:\n");
	for (int i = 0; i < lengthof(lines); i++)
		write_at(table, 1, "%s:\t%s\n", lines[i].label, get_text(info, lines[i].key));
}

static void
write_pod_network(KubectlTable *table, JsonbContainer *spec)
{
	StringInfoData cidrs;
	ListCell   *lc;

	if (get_text(spec, "podCIDR")[0] != '\0')
		write_at(table, 0, "PodCIDR:\t%s\n", get_text(spec, "podCIDR"));
	initStringInfo(&cidrs);
	foreach(lc, elements_of(get_container(spec, "podCIDRs", true)))
		appendStringInfo(&cidrs, "%s%s", cidrs.len == 0 ? "" : ",", scalar_text(lfirst(lc)));
	if (cidrs.len > 0)
		write_at(table, 0, "PodCIDRs:\t%s\n", cidrs.data);
	if (get_text(spec, "providerID")[0] != '\0')
		write_at(table, 0, "ProviderID:\t%s\n", get_text(spec, "providerID"));
}

/* There are no pods here. */
static void
write_no_pods(KubectlTable *table)
{
	static const char *const resources[] = {"cpu", "memory", "ephemeral-storage"};

	write_at(table, 0, "Non-terminated Pods:\t(0 in total)\n");
	write_at(table, 1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge\n");
	write_at(table, 1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---\n");
	write_at(table, 0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)\n");
	write_at(table, 1, "Resource\tRequests\tLimits\n");
	write_at(table, 1, "--------\t--------\t------\n");
	for (int i = 0; i < lengthof(resources); i++)
		write_at(table, 1, "%s\t0 (0%%)\t0 (0%%)\n", resources[i]);
}

/*
 * lease is NULL if the node has none.
 */
void
kubectl_describe_node(StringInfo out, const Jsonb *node, const Jsonb *lease, bool show_events)
{
	KubectlTable *table = kubectl_table_new(0, 2);
	JsonbContainer *root = &unconstify(Jsonb *, node)->root;
	JsonbContainer *metadata = get_container(root, "metadata", false);
	JsonbContainer *spec = get_container(root, "spec", false);
	JsonbContainer *status = get_container(root, "status", false);
	JsonbValue *unschedulable = get(spec, "unschedulable");
	ListCell   *lc;

	write_at(table, 0, "Name:\t%s\n", get_text(metadata, "name"));
	write_at(table, 0, "Roles:\t%s\n", roles_of(get_container(metadata, "labels", false)));
	write_labels(table, get_container(metadata, "labels", false));
	write_annotations(table, get_container(metadata, "annotations", false));
	write_at(table, 0, "CreationTimestamp:\t%s\n", long_time(get_text(metadata, "creationTimestamp")));
	write_taints(table, get_container(spec, "taints", true));
	write_at(table, 0, "Unschedulable:\t%s\n",
			 unschedulable != NULL && unschedulable->type == jbvBool && unschedulable->val.boolean ?
			 "true" : "false");
	write_lease(table, get_text(metadata, "name"), lease);
	write_conditions(table, get_container(status, "conditions", true));
	write_at(table, 0, "Addresses:\n");
	foreach(lc, elements_of(get_container(status, "addresses", true)))
	{
		const JsonbValue *value = lfirst(lc);
		JsonbContainer *address = value->type == jbvBinary ? value->val.binary.data : NULL;

		write_at(table, 1, "%s:\t%s\n", get_text(address, "type"), get_text(address, "address"));
	}
	write_quantities(table, "Capacity", get_container(status, "capacity", false));
	write_quantities(table, "Allocatable", get_container(status, "allocatable", false));
	write_system_info(table, get_container(status, "nodeInfo", false));
	write_pod_network(table, spec);
	write_no_pods(table);
	if (show_events)
		write_at(table, 0, "Events:\t<none>\n");
	kubectl_table_flush(table, out);
}

/*
 * SQL: kubectl_describe(object, lease)
 */
Datum
kubectl_describe(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	Jsonb	   *object;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	object = PG_GETARG_JSONB_P(0);
	initStringInfo(&out);
	if (JB_ROOT_IS_OBJECT(object) && strcmp(get_text(&object->root, "kind"), "Node") == 0)
		kubectl_describe_node(&out, object, PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), true);
	else
		kubectl_describe_object(&out, object, true);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
