/*
 * query.c
 *		The queries of kubectl(): all its SQL text.
 *
 * They run with the caller's privileges.  Only the name of the schema is filled
 * in, and operators are qualified: the caller's search_path decides nothing.  A
 * table is printed from columns; whole objects are made only if they are asked
 * for, because that costs more than all the rest.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "kubectl.h"

/* %1$s is the schema. */
#define LEASE_COLUMNS_TEXT "SELECT l.namespace, l.name, l.holder_identity, l.creation_timestamp, l.labels"
#define LEASE_OBJECT_TEXT ", %1$s.lease_object(l)"
#define FROM_LEASE " FROM ONLY %1$s.lease AS l"

/* Kubernetes lists in the order of its keys, which are namespace/name. */
#define EVERYWHERE " WHERE ($3 IS NULL OR l.labels OPERATOR(pg_catalog.@>) $3) ORDER BY (l.namespace OPERATOR(pg_catalog.||) '/') COLLATE pg_catalog.\"C\", l.name"
#define IN_NAMESPACE " WHERE l.namespace OPERATOR(pg_catalog.=) $1" \
	" AND ($3 IS NULL OR l.labels OPERATOR(pg_catalog.@>) $3) ORDER BY l.name"
#define BY_NAME " WHERE l.namespace OPERATOR(pg_catalog.=) $1 AND l.name OPERATOR(pg_catalog.=) $2"

#define NODE_COLUMNS_TEXT \
	"SELECT n.name, n.unschedulable, n.labels, n.creation_timestamp," \
	" %1$s.lease_node_kubectl_status(p.ready, n.unschedulable,"\
	" %1$s.lease_renewed_at(l.namespace, l.name, l.fencing_token, l.resource_version, l.renew_time), p.last_heartbeat, $1)," \
	" %1$s.lease_node_roles(n.labels)," \
	" n.status OPERATOR(pg_catalog.#>>) '{nodeInfo,kubeletVersion}'," \
	" pg_catalog.jsonb_path_query_first(n.status, '$.addresses[*] ? (@.type == \"InternalIP\").address') OPERATOR(pg_catalog.#>>) '{}'," \
	" pg_catalog.jsonb_path_query_first(n.status, '$.addresses[*] ? (@.type == \"ExternalIP\").address') OPERATOR(pg_catalog.#>>) '{}'," \
	" n.status OPERATOR(pg_catalog.#>>) '{nodeInfo,osImage}'," \
	" n.status OPERATOR(pg_catalog.#>>) '{nodeInfo,kernelVersion}'," \
	" n.status OPERATOR(pg_catalog.#>>) '{nodeInfo,containerRuntimeVersion}'"
#define NODE_OBJECT_TEXT ", %1$s.lease_node_object(n)"
#define FROM_NODE \
	" FROM %1$s.lease_node AS n LEFT JOIN ONLY %1$s.lease AS l" \
	" ON l.namespace OPERATOR(pg_catalog.=) 'kube-node-lease' AND l.name OPERATOR(pg_catalog.=) n.name" \
	" LEFT JOIN LATERAL %1$s.lease_node_posted(n.status) AS p ON true"
#define ALL_NODES " ORDER BY n.name"
#define NODE_BY_NAME " WHERE n.name OPERATOR(pg_catalog.=) $2"

/*
 * Runs a query with parameters of the given types, as far as they are not NULL.
 */
static void
run(const KubectlCommand *command, const char *text, int nargs, Oid *types, Datum *values,
	const char *nulls)
{
	const char *schema = quote_identifier(get_namespace_name(get_func_namespace(command->funcid)));
	int			result = SPI_execute_with_args(psprintf(text, schema), nargs, types, values,
											   nulls, false, 0);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of a query: %s", SPI_result_code_string(result));
}

static bool
is_null(uint64 row, int column)
{
	bool		isnull;

	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	return isnull;
}

/* A column of a row that was found; NULL if it is. */
static char *
get_text(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : text_to_cstring(DatumGetTextPP(value));
}

static char *
get_text_or(uint64 row, int column, const char *otherwise)
{
	char	   *text = get_text(row, column);

	return text == NULL || text[0] == '\0' ? pstrdup(otherwise) : text;
}

static Jsonb *
get_jsonb(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

static char *
get_age(uint64 row, int column, TimestampTz at)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return lease_age_text(isnull ? LEASE_NO_TIME : DatumGetTimestampTz(value), at);
}

/* The API server sends null for a time that was never set. */
static Jsonb *
with_creation_time(Jsonb *object, bool created)
{
	return created ? object :
		kubectl_set_path(object, list_make2("metadata", "creationTimestamp"), kubectl_parse_jsonb("null"));
}

static KubectlItem *
lease_item(const KubectlCommand *command, uint64 row, bool with_object)
{
	KubectlItem *item = palloc0(sizeof(KubectlItem));

	item->type = KUBECTL_LEASE;
	item->namespace = get_text(row, 1);
	item->name = get_text(row, 2);
	item->cells = palloc(2 * sizeof(char *));
	item->cells[0] = get_text_or(row, 3, "");
	item->cells[1] = get_age(row, 4, command->at);
	item->labels = get_jsonb(row, 5);
	item->object = with_object ? with_creation_time(get_jsonb(row, 6), !is_null(row, 4)) : NULL;
	return item;
}

static KubectlItem *
node_item(const KubectlCommand *command, uint64 row, bool with_object)
{
	KubectlItem *item = palloc0(sizeof(KubectlItem));
	bool		isnull;
	Datum		unschedulable = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 2, &isnull);

	item->type = KUBECTL_NODE;
	item->name = get_text(row, 1);
	item->unschedulable = !isnull && DatumGetBool(unschedulable);
	item->labels = get_jsonb(row, 3);
	item->cells = palloc(9 * sizeof(char *));
	item->cells[0] = get_text(row, 5);
	item->cells[1] = get_text(row, 6);
	item->cells[2] = get_age(row, 4, command->at);
	item->cells[3] = get_text_or(row, 7, "");
	item->cells[4] = get_text_or(row, 8, "<none>");
	item->cells[5] = get_text_or(row, 9, "<none>");
	item->cells[6] = get_text_or(row, 10, "<unknown>");
	item->cells[7] = get_text_or(row, 11, "<unknown>");
	item->cells[8] = get_text_or(row, 12, "<unknown>");
	item->object = with_object ? get_jsonb(row, 13) : NULL;
	return item;
}

typedef KubectlItem *(*MakeItem) (const KubectlCommand *command, uint64 row, bool with_object);

/* Runs a query and makes items of its rows, in the caller's memory. */
static List *
query_items(const KubectlCommand *command, const char *text, int nargs, Oid *types,
			Datum *values, const char *nulls, MakeItem make_item, bool with_object)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	List	   *items = NIL;

	SPI_connect();
	run(command, text, nargs, types, values, nulls);
	old = MemoryContextSwitchTo(context);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		CHECK_FOR_INTERRUPTS();
		items = lappend(items, make_item(command, row, with_object));
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	return items;
}

/*
 * Leases in a namespace, or everywhere if it is NULL, or of one name.  labels, if
 * given, are those that they must have.
 */
List *
kubectl_query_leases(const KubectlCommand *command, const char *namespace,
					 const char *name, Jsonb *labels, bool with_object)
{
	Oid			types[] = {TEXTOID, TEXTOID, JSONBOID};
	Datum		values[] = {
		namespace == NULL ? (Datum) 0 : CStringGetTextDatum(namespace),
		name == NULL ? (Datum) 0 : CStringGetTextDatum(name),
		JsonbPGetDatum(labels),
	};
	char		nulls[] = {
		namespace == NULL ? 'n' : ' ',
		name == NULL ? 'n' : ' ',
		labels == NULL ? 'n' : ' ',
	};
	const char *text;

	if (namespace == NULL)
		text = with_object ? LEASE_COLUMNS_TEXT LEASE_OBJECT_TEXT FROM_LEASE EVERYWHERE :
			LEASE_COLUMNS_TEXT FROM_LEASE EVERYWHERE;
	else if (name == NULL)
		text = with_object ? LEASE_COLUMNS_TEXT LEASE_OBJECT_TEXT FROM_LEASE IN_NAMESPACE :
			LEASE_COLUMNS_TEXT FROM_LEASE IN_NAMESPACE;
	else
		text = with_object ? LEASE_COLUMNS_TEXT LEASE_OBJECT_TEXT FROM_LEASE BY_NAME :
			LEASE_COLUMNS_TEXT FROM_LEASE BY_NAME;
	return query_items(command, text, lengthof(types), types, values, nulls, lease_item, with_object);
}

/*
 * All registered nodes, or one.
 */
List *
kubectl_query_nodes(const KubectlCommand *command, const char *name, bool with_object)
{
	Oid			types[] = {TIMESTAMPTZOID, TEXTOID};
	Datum		values[2] = {TimestampTzGetDatum(command->at)};
	const char *text;

	if (name != NULL)
		values[1] = CStringGetTextDatum(name);
	if (name == NULL)
		text = with_object ? NODE_COLUMNS_TEXT NODE_OBJECT_TEXT FROM_NODE ALL_NODES :
			NODE_COLUMNS_TEXT FROM_NODE ALL_NODES;
	else
		text = with_object ? NODE_COLUMNS_TEXT NODE_OBJECT_TEXT FROM_NODE NODE_BY_NAME :
			NODE_COLUMNS_TEXT FROM_NODE NODE_BY_NAME;
	return query_items(command, text, name == NULL ? 1 : 2, types, values, NULL, node_item, with_object);
}

/* Calls a function of the extension that returns a text. */
static char *
call(const KubectlCommand *command, const char *text, Oid type, Datum value)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	char	   *result;

	SPI_connect();
	run(command, text, 1, &type, &value, NULL);
	old = MemoryContextSwitchTo(context);
	result = get_text(0, 1);
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}

/*
 * Returns what lease_node_remove() says.
 */
char *
kubectl_remove_node(const KubectlCommand *command, const char *name)
{
	return call(command, "SELECT %1$s.lease_node_remove($1)", TEXTOID, CStringGetTextDatum(name));
}

/*
 * Returns what lease_node_apply() says.
 */
char *
kubectl_write_node(const KubectlCommand *command, Jsonb *node)
{
	return call(command, "SELECT %1$s.lease_node_apply($1)", JSONBOID, JsonbPGetDatum(node));
}
