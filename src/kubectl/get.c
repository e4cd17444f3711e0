/*
 * get.c
 *		kubectl get, and printing objects in its formats.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "object.h"
#include "columns.h"
#include "jsonpath.h"
#include "kubectl.h"
#include "printers.h"
#include "sort.h"
#include "tabwriter.h"

/*
 * ---------- Tables ----------
 */

static const char *const lease_headers[] = {"HOLDER", "AGE"};
static const char *const node_headers[] = {
	"STATUS", "ROLES", "AGE", "VERSION",
	"INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"
};

#define NARROW_NODE_HEADERS 4

/* A table of one type of resource. */
typedef struct TableStyle
{
	bool		with_namespace;
	bool		with_kind;
	const char *const *headers;
	int			nheaders;
} TableStyle;

static void
set_headers(const KubectlCommand *command, KubectlType type, TableStyle *style)
{
	bool		wide = command->flags.output != NULL;

	style->headers = type == KUBECTL_LEASE ? lease_headers : node_headers;
	style->nheaders = type == KUBECTL_LEASE ? lengthof(lease_headers) :
		wide ? lengthof(node_headers) : NARROW_NODE_HEADERS;
}

/* -L key: what follows the last slash, in capitals. */
static char *
label_header(const char *key)
{
	const char *slash = strrchr(key, '/');
	char	   *header = pstrdup(slash == NULL ? key : slash + 1);

	for (char *p = header; *p != '\0'; p++)
		*p = pg_ascii_toupper(*p);
	return header;
}

static void
write_headers(const KubectlCommand *command, const TableStyle *style, KubectlTable *table)
{
	ListCell   *lc;

	if (style->with_namespace)
		kubectl_table_write(table, "NAMESPACE\t");
	kubectl_table_write(table, "NAME");
	for (int i = 0; i < style->nheaders; i++)
		kubectl_table_write(table, psprintf("\t%s", style->headers[i]));
	foreach(lc, command->flags.label_columns)
		kubectl_table_write(table, psprintf("\t%s", label_header(lfirst(lc))));
	if (command->flags.show_labels)
		kubectl_table_write(table, "\tLABELS");
	kubectl_table_write(table, "\n");
}

/* A cell ends where a line would, and cannot drive the terminal. */
static void
write_cell(KubectlTable *table, const char *text)
{
	int			length = strcspn(text, "\f\n\r");
	StringInfoData cell;

	initStringInfo(&cell);
	for (int i = 0; i < length; i++)
	{
		if (text[i] == '\033')
			appendStringInfoString(&cell, "^[");
		else
			appendStringInfoChar(&cell, text[i]);
	}
	if (text[length] != '\0')
		appendStringInfoString(&cell, "...");
	kubectl_table_write(table, cell.data);
	pfree(cell.data);
}

static int
compare_cells(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* key=value, sorted as these texts are */
static List *
label_texts(const Jsonb *labels)
{
	List	   *texts = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *key = NULL;

	if (labels == NULL || !JB_ROOT_IS_OBJECT(labels))
		return NIL;
	it = JsonbIteratorInit(&unconstify(Jsonb *, labels)->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && v.type == jbvString)
			texts = lappend(texts, psprintf("%s=%.*s", key, v.val.string.len, v.val.string.val));
	}
	list_sort(texts, compare_cells);
	return texts;
}

static void
write_labels(KubectlTable *table, const Jsonb *labels)
{
	List	   *texts = label_texts(labels);
	ListCell   *lc;

	kubectl_table_write(table, texts == NIL ? "\t<none>" : "\t");
	foreach(lc, texts)
	{
		if (lc != list_head(texts))
			kubectl_table_write(table, ",");
		write_cell(table, lfirst(lc));
	}
}

static void
write_row(const KubectlCommand *command, const TableStyle *style, const KubectlItem *item,
		  KubectlTable *table)
{
	ListCell   *lc;

	if (style->with_namespace)
	{
		write_cell(table, item->namespace == NULL ? "" : item->namespace);
		kubectl_table_write(table, "\t");
	}
	write_cell(table, style->with_kind ? kubectl_qualified_name(item) : item->name);
	for (int i = 0; i < style->nheaders; i++)
	{
		kubectl_table_write(table, "\t");
		write_cell(table, item->cells[i]);
	}
	foreach(lc, command->flags.label_columns)
	{
		char	   *value = lease_label(item->labels, lfirst(lc));

		kubectl_table_write(table, "\t");
		write_cell(table, value == NULL ? "" : value);
	}
	if (command->flags.show_labels)
		write_labels(table, item->labels);
	kubectl_table_write(table, "\n");
}

static bool
is_namespaced(List *requests)
{
	ListCell   *lc;

	foreach(lc, requests)
	{
		if (kubectl_resources[((KubectlRequest *) lfirst(lc))->type].namespaced)
			return true;
	}
	return false;
}

/* Are there several types, lists that were asked for counting even if empty? */
static bool
has_several_types(List *requests, List *items)
{
	List	   *types = NIL;
	ListCell   *lc;

	foreach(lc, requests)
	{
		KubectlRequest *request = lfirst(lc);

		if (request->name == NULL)
			types = list_append_unique_int(types, request->type);
	}
	foreach(lc, items)
		types = list_append_unique_int(types, ((KubectlItem *) lfirst(lc))->type);
	return list_length(types) > 1;
}

/*
 * One table after the other, each of one type, in the order in which the items
 * come.
 */
static void
print_tables(KubectlCommand *command, List *requests, List *items)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "kubectl table",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		several = has_several_types(requests, items);
	TableStyle	style = {
		.with_namespace = command->flags.all_namespaces && is_namespaced(requests),
		.with_kind = command->flags.show_kind || several,
	};
	KubectlTable *table = NULL;
	KubectlType type = KUBECTL_LEASE;
	ListCell   *lc;

	foreach(lc, items)
	{
		const KubectlItem *item = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (table == NULL || item->type != type)
		{
			if (table != NULL)
			{
				kubectl_table_flush(table, &command->out);
				if (!command->flags.no_headers)
					appendStringInfoChar(&command->out, '\n');
			}
			table = kubectl_table_new(6, 3);
			type = item->type;
			set_headers(command, type, &style);
			if (!command->flags.no_headers)
				write_headers(command, &style, table);
		}
		write_row(command, &style, item, table);
	}
	if (table != NULL)
		kubectl_table_flush(table, &command->out);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * ---------- Objects ----------
 */

static void
push_jsonb(JsonbParseState **state, JsonbIteratorToken token, const Jsonb *jsonb)
{
	JsonbValue	v;

	v.type = jbvBinary;
	v.val.binary.data = &unconstify(Jsonb *, jsonb)->root;
	v.val.binary.len = VARSIZE_ANY_EXHDR(jsonb);
	pushJsonbValue(state, token, &v);
}

/* kubectl's own List of what it got. */
static Jsonb *
make_list(List *objects)
{
	JsonbParseState *state = NULL;
	ListCell   *lc;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	lease_json_push_member(&state, "apiVersion", "v1");
	lease_json_push_key(&state, "items");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, objects)
		push_jsonb(&state, WJB_ELEM, lfirst(lc));
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	lease_json_push_member(&state, "kind", "List");
	lease_json_push_key(&state, "metadata");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	lease_json_push_member(&state, "resourceVersion", "");
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Jsonb *
without_managed_fields(Jsonb *object)
{
	return kubectl_delete_path(object, list_make2("metadata", "managedFields"));
}

static void
print_jsonpath(KubectlCommand *command, const char *template, const Jsonb *object)
{
	JsonbValue	value;
	char	   *error = NULL;
	KubectlPath *path;

	if (template[0] == '\0')
		kubectl_usage_error("error: template format specified but no template given");
	path = kubectl_parse_path(template);
	JsonbToJsonbValue(unconstify(Jsonb *, object), &value);
	if (!kubectl_print_path(&command->out, path, &value,
							command->flags.allow_missing_template_keys, &error))
		kubectl_say_error(command, ERRCODE_INVALID_PARAMETER_VALUE, "%s", error);
}

/* What a template finds, as a JSON array. */
static void
print_found(KubectlCommand *command, const char *template, const Jsonb *object)
{
	JsonbParseState *state = NULL;
	JsonbValue	value;
	ListCell   *lc;

	if (template[0] == '\0')
		kubectl_usage_error("error: template format specified but no template given");
	JsonbToJsonbValue(unconstify(Jsonb *, object), &value);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, kubectl_find_path(kubectl_parse_path(template), &value))
		pushJsonbValue(&state, WJB_ELEM, lfirst(lc));
	kubectl_print_json(&command->out, JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

static void
print_names(KubectlCommand *command, List *items)
{
	ListCell   *lc;

	foreach(lc, items)
		kubectl_say(command, "%s\n", kubectl_qualified_name(lfirst(lc)));
}

/* The part of -o jsonpath=... after the name of the format; NULL: not this one. */
static const char *
template_of(const char *format, const char *name)
{
	int			length = strlen(name);

	if (strncmp(format, name, length) != 0)
		return NULL;
	return format[length] == '=' ? format + length + 1 : format[length] == '\0' ? "" : NULL;
}

pg_noreturn static void
refuse_format(const char *format)
{
	static const char *const unsupported[] = {
		"go-template", "go-template-file", "template", "templatefile", "jsonpath-file",
		"custom-columns-file"
	};

	for (int i = 0; i < lengthof(unsupported); i++)
	{
		if (template_of(format, unsupported[i]) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("output format \"%s\" is not supported by kubectl()", unsupported[i])));
	}
	kubectl_usage_error("error: unable to match a printer suitable for the output format \"%s\", allowed formats are: custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,wide,yaml",
						format);
}

static List *
objects_of(const KubectlCommand *command, List *items, bool with_managed_fields)
{
	List	   *objects = NIL;
	ListCell   *lc;

	foreach(lc, items)
	{
		Jsonb	   *object = ((KubectlItem *) lfirst(lc))->object;

		objects = lappend(objects, with_managed_fields ? object : without_managed_fields(object));
	}
	return objects;
}

/*
 * Prints objects in a format other than a table.  single: one was asked for, and
 * is printed bare if it is there.
 */
void
kubectl_print_objects(KubectlCommand *command, const char *format, List *items, bool single)
{
	bool		as_json = pg_strcasecmp(format, "json") == 0;
	const char *template;
	const char *found_template;
	List	   *objects;

	if (strcmp(format, "name") == 0)
	{
		print_names(command, items);
		return;
	}
	template = template_of(format, "custom-columns");
	if (template != NULL)
	{
		if (template[0] == '\0')
			kubectl_usage_error("error: custom-columns format specified but no custom columns given");
		kubectl_print_columns(&command->out, template, command->flags.no_headers,
							  objects_of(command, items, true));
		return;
	}

	template = template_of(format, "jsonpath");
	found_template = template_of(format, "jsonpath-as-json");
	if (template == NULL && found_template == NULL && !as_json && pg_strcasecmp(format, "yaml") != 0)
		refuse_format(format);
	objects = objects_of(command, items, template != NULL || found_template != NULL ||
						 command->flags.show_managed_fields);
	if (single && objects == NIL)
		return;
	if (template != NULL)
		print_jsonpath(command, template, single ? linitial(objects) : make_list(objects));
	else if (found_template != NULL)
		print_found(command, found_template, single ? linitial(objects) : make_list(objects));
	else if (as_json)
		kubectl_print_json(&command->out, single ? linitial(objects) : make_list(objects));
	else
		kubectl_print_yaml(&command->out, single ? linitial(objects) : make_list(objects));
}

/*
 * ---------- The command ----------
 */

static void
require_arguments(const KubectlCommand *command)
{
	if (command->flags.filenames != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"kubectl %s -f\" is not supported by kubectl()", command->verb)));
	if (command->args != NIL)
		return;
	if (strcmp(command->verb, "get") == 0)
		kubectl_usage_error("You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n\n"
							"error: Required resource not specified.\n"
							"Use \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).\n"
							"See 'kubectl get -h' for help and examples");
	kubectl_usage_error("error: Required resource not specified.");
}

static bool
is_table(const KubectlCommand *command)
{
	const char *format = command->flags.output;

	return format == NULL || format[0] == '\0' || strcmp(format, "wide") == 0;
}

static void
say_nothing_found(KubectlCommand *command, List *requests)
{
	bool		namespaced = true;
	ListCell   *lc;

	if (command->failed || command->flags.ignore_not_found)
		return;
	foreach(lc, requests)
		namespaced = namespaced && kubectl_resources[((KubectlRequest *) lfirst(lc))->type].namespaced;
	if (namespaced && !command->flags.all_namespaces)
		appendStringInfo(&command->err, "No resources found in %s namespace.\n", kubectl_namespace(command));
	else
		appendStringInfoString(&command->err, "No resources found\n");
}

/* Items in the order of --sort-by. */
static List *
sort_items(KubectlCommand *command, List *items)
{
	char	   *error = NULL;
	List	   *objects = objects_of(command, items, true);
	List	   *sorted = kubectl_sort(objects, command->flags.sort_by, &error);
	List	   *result = NIL;
	ListCell   *lc;

	if (error != NULL)
	{
		/* kubectl says so of a table in which no row has the field */
		if (is_table(command))
			return NIL;
		kubectl_usage_error("%s", error);
	}
	foreach(lc, sorted)
		result = lappend(result, list_nth(items, lfirst_int(lc)));
	return result;
}

void
kubectl_get(KubectlCommand *command)
{
	const KubectlFlags *flags = &command->flags;
	bool		table = is_table(command);
	List	   *requests;
	List	   *items;

	if (flags->show_labels && !table)
		kubectl_usage_error("error: --show-labels option cannot be used with %s printer", flags->output);
	require_arguments(command);
	requests = kubectl_requests(command, command->args, true);
	items = kubectl_find(command, requests, !table || flags->sort_by != NULL);
	if (flags->sort_by != NULL && flags->sort_by[0] != '\0' && list_length(items) > 1)
		items = sort_items(command, items);

	if (table)
	{
		print_tables(command, requests, items);
		if (items == NIL)
			say_nothing_found(command, requests);
	}
	else
	{
		bool		single = list_length(requests) == 1 &&
			((KubectlRequest *) linitial(requests))->name != NULL;

		if (items != NIL || !flags->ignore_not_found)
			kubectl_print_objects(command, flags->output, items, single);
	}
}
