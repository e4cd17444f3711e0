/*
 * columns.c
 *		-o custom-columns: a table of paths.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/jsonb.h"

#include "columns.h"
#include "jsonpath.h"
#include "kubectl.h"
#include "printers.h"
#include "tabwriter.h"

typedef struct Column
{
	char	   *header;
	KubectlPath *path;
} Column;

static List *
parse_columns(const char *spec)
{
	List	   *columns = NIL;
	const char *part = spec;

	while (part != NULL)
	{
		const char *comma = strchr(part, ',');
		char	   *text = comma == NULL ? pstrdup(part) : pnstrdup(part, comma - part);
		char	   *colon = strchr(text, ':');
		Column	   *column = palloc(sizeof(Column));

		if (colon == NULL || strchr(colon + 1, ':') != NULL)
			kubectl_usage_error("error: unexpected custom-columns spec: %s, expected <header>:<json-path-expr>", text);
		column->header = pnstrdup(text, colon - text);
		column->path = kubectl_parse_path(kubectl_relaxed_path(colon + 1));
		columns = lappend(columns, column);
		part = comma == NULL ? NULL : comma + 1;
	}
	return columns;
}

static void
write_cells(KubectlTable *table, List *columns, const JsonbValue *object)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		List	   *values = kubectl_find_path(((Column *) lfirst(lc))->path, object);
		StringInfoData cell;
		ListCell   *value;

		initStringInfo(&cell);
		appendStringInfoString(&cell, lc == list_head(columns) ? "" : "\t");
		if (values == NIL)
			appendStringInfoString(&cell, "<none>");
		foreach(value, values)
		{
			const JsonbValue *v = lfirst(value);

			appendStringInfoString(&cell, value == list_head(values) ? "" : ",");
			kubectl_print_go_value(&cell, v);
		}
		kubectl_table_write(table, cell.data);
		pfree(cell.data);
	}
	kubectl_table_write(table, "\n");
}

/*
 * Prints a row for each object, Jsonb *.
 */
void
kubectl_print_columns(StringInfo out, const char *spec, bool no_headers, List *objects)
{
	List	   *columns = parse_columns(spec);
	KubectlTable *table = kubectl_table_new(6, 3);
	ListCell   *lc;

	if (!no_headers)
	{
		foreach(lc, columns)
			kubectl_table_write(table, psprintf("%s%s", lc == list_head(columns) ? "" : "\t",
												((Column *) lfirst(lc))->header));
		kubectl_table_write(table, "\n");
	}
	foreach(lc, objects)
	{
		JsonbValue	value;

		CHECK_FOR_INTERRUPTS();
		JsonbToJsonbValue(lfirst(lc), &value);
		write_cells(table, columns, &value);
	}
	kubectl_table_flush(table, out);
}
