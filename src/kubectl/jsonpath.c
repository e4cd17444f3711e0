/*
 * jsonpath.c
 *		Kubernetes' JSONPath templates: text with paths in braces, as
 *		k8s.io/client-go/util/jsonpath runs them.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "object.h"
#include "jsonpath.h"
#include "jsonpath_node.h"
#include "kubectl.h"
#include "printers.h"

PG_FUNCTION_INFO_V1(kubectl_jsonpath);

typedef struct Runner
{
	bool		allow_missing;
	char	   *error;
} Runner;

static JsonbContainer *
container_of(const JsonbValue *value)
{
	return value->type == jbvBinary ? value->val.binary.data : NULL;
}

static List *
append_value(List *values, const JsonbValue *value)
{
	JsonbValue *copy = palloc(sizeof(JsonbValue));

	*copy = *value;
	return lappend(values, copy);
}

/* The values of an object, in the order of its keys, or the elements of an array. */
static List *
children_of(const JsonbValue *value)
{
	JsonbContainer *container = container_of(value);
	List	   *children = NIL;

	if (container == NULL)
		return NIL;
	if (JsonContainerIsObject(container))
	{
		ListCell   *lc;

		foreach(lc, kubectl_member_list(container))
			children = append_value(children, &((KubectlMember *) lfirst(lc))->value);
	}
	else
	{
		JsonbIterator *it = JsonbIteratorInit(container);
		JsonbIteratorToken token;
		JsonbValue	v;

		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token == WJB_ELEM)
				children = append_value(children, &v);
		}
	}
	return children;
}

static bool
is_array(const JsonbValue *value)
{
	return container_of(value) != NULL && JsonContainerIsArray(container_of(value));
}

static List *
run_field(Runner *runner, const PathNode *node, List *input)
{
	List	   *found = NIL;
	ListCell   *lc;

	foreach(lc, input)
	{
		JsonbContainer *container = container_of(lfirst(lc));
		JsonbValue *value;

		if (container == NULL || !JsonContainerIsObject(container))
			continue;
		value = getKeyJsonValueFromContainer(container, node->text, strlen(node->text), NULL);
		if (value != NULL)
			found = append_value(found, value);
	}
	if (input != NIL && found == NIL && !runner->allow_missing)
		runner->error = psprintf("%s is not found", node->text);
	return found;
}

static void
out_of_bounds(Runner *runner, int index, int length)
{
	runner->error = psprintf("array index out of bounds: index %d, length %d", index, length);
}

static List *
slice(Runner *runner, const PathNode *node, List *elements)
{
	int			length = list_length(elements);
	int64		from = node->known[0] ? node->index[0] : 0;
	int64		to = node->known[1] ? node->index[1] : length;
	int			step = node->known[2] ? node->index[2] : 1;
	List	   *found = NIL;

	if (from < 0)
		from += length;
	if (to < 0 || (to == 0 && node->derived_end))
		to += length;
	if (from == to)
		return NIL;
	if (from >= length || from < 0)
		out_of_bounds(runner, from, length);
	else if (to > length || to < 0)
		out_of_bounds(runner, to - 1, length);
	else if (from > to)
		runner->error = psprintf("starting index " INT64_FORMAT " is greater than ending index " INT64_FORMAT, from, to);
	else if (step <= 0)
		runner->error = "step must be > 0";
	else
	{
		for (int64 i = from; i < to; i += step)
			found = lappend(found, list_nth(elements, i));
	}
	return found;
}

/* A value as Go's %v prints what was decoded from JSON. */
void
kubectl_print_go_value(StringInfo out, const JsonbValue *value)
{
	JsonbContainer *container = value->type == jbvBinary ? value->val.binary.data : NULL;
	bool		first = true;

	check_stack_depth();
	if (value->type == jbvString)
		appendBinaryStringInfo(out, value->val.string.val, value->val.string.len);
	else if (value->type == jbvNull)
		appendStringInfoString(out, "<nil>");
	else if (container == NULL)
		kubectl_print_compact_json(out, value);
	else if (JsonContainerIsObject(container))
	{
		ListCell   *lc;

		appendStringInfoString(out, "map[");
		foreach(lc, kubectl_member_list(container))
		{
			const KubectlMember *member = lfirst(lc);

			appendStringInfo(out, "%s%.*s:", first ? "" : " ", member->key.val.string.len,
							 member->key.val.string.val);
			kubectl_print_go_value(out, &member->value);
			first = false;
		}
		appendStringInfoChar(out, ']');
	}
	else
	{
		JsonbIterator *it = JsonbIteratorInit(container);
		JsonbIteratorToken token;
		JsonbValue	v;

		appendStringInfoChar(out, '[');
		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token != WJB_ELEM)
				continue;
			appendStringInfoString(out, first ? "" : " ");
			kubectl_print_go_value(out, &v);
			first = false;
		}
		appendStringInfoChar(out, ']');
	}
}

static char *
compact(const JsonbValue *value)
{
	StringInfoData text;

	initStringInfo(&text);
	kubectl_print_compact_json(&text, value);
	return text.data;
}

/* The type that Go's JSON decoder gives a value. */
static const char *
go_type(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return "string";
		case jbvBool:
			return "bool";
		case jbvNumeric:
			return strchr(compact(value), '.') == NULL ? "int64" : "float64";
		default:
			return "map[string]interface {}";
	}
}

static List *
run_slice(Runner *runner, const PathNode *node, List *input)
{
	List	   *found = NIL;
	ListCell   *lc;

	foreach(lc, input)
	{
		const JsonbValue *value = lfirst(lc);

		if (value->type == jbvNull)
			continue;
		if (!is_array(value))
		{
			runner->error = psprintf("%s is not array or slice", go_type(value));
			return NIL;
		}
		found = list_concat(found, slice(runner, node, children_of(value)));
	}
	return found;
}

/* Whatever has something in it, from the outside to the inside. */
static List *
run_recursive(List *input)
{
	List	   *found = NIL;
	ListCell   *lc;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	foreach(lc, input)
	{
		List	   *children = children_of(lfirst(lc));

		if (children == NIL)
			continue;
		found = lappend(found, lfirst(lc));
		found = list_concat(found, run_recursive(children));
	}
	return found;
}

static List *run_node(Runner *runner, const PathNode *node, List *input);

static int
compare_values(const JsonbValue *a, const JsonbValue *b, bool *comparable)
{
	*comparable = a->type == b->type;
	if (!*comparable)
		return 0;
	switch (a->type)
	{
		case jbvNumeric:
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->val.numeric),
													 NumericGetDatum(b->val.numeric)));
		case jbvString:
			return lease_json_compare(a, b);
		case jbvBool:
			return a->val.boolean - b->val.boolean;
		case jbvNull:
			return 0;
		default:
			*comparable = false;
			return 0;
	}
}

static bool
passes(Runner *runner, const PathNode *node, const JsonbValue *a, const JsonbValue *b)
{
	const char *operator = node->operator;
	bool		comparable;
	int			result = compare_values(a, b, &comparable);

	if (!comparable)
	{
		if (strcmp(operator, "!=") == 0)
			return true;
		if (strcmp(operator, "==") != 0)
			runner->error = "incompatible types for comparison";
		return false;
	}
	if (strcmp(operator, "==") == 0)
		return result == 0;
	if (strcmp(operator, "!=") == 0)
		return result != 0;
	if (strcmp(operator, "<") == 0)
		return result < 0;
	if (strcmp(operator, ">") == 0)
		return result > 0;
	if (strcmp(operator, "<=") == 0)
		return result <= 0;
	if (strcmp(operator, ">=") == 0)
		return result >= 0;
	runner->error = psprintf("unrecognized filter operator %s", operator);
	return false;
}

static List *
run_filter(Runner *runner, const PathNode *node, List *input)
{
	List	   *found = NIL;
	ListCell   *lc;

	foreach(lc, input)
	{
		const JsonbValue *value = lfirst(lc);
		ListCell   *element;

		if (!is_array(value))
		{
			StringInfoData text;

			initStringInfo(&text);
			kubectl_print_go_value(&text, value);
			runner->error = psprintf("%s is not array or slice and cannot be filtered", text.data);
			return NIL;
		}
		foreach(element, children_of(value))
		{
			List	   *self = list_make1(lfirst(element));
			List	   *left = run_node(runner, node->left, self);
			List	   *right = node->right == NULL ? NIL : run_node(runner, node->right, self);
			bool		pass;

			if (node->right == NULL)
				pass = left != NIL;
			else if (list_length(left) > 1 || list_length(right) > 1)
			{
				runner->error = "can only compare one element at a time";
				return NIL;
			}
			else
				pass = left != NIL && right != NIL &&
					passes(runner, node, linitial(left), linitial(right));
			if (runner->error != NULL)
				return NIL;
			if (pass)
				found = lappend(found, lfirst(element));
		}
	}
	return found;
}

/*
 * What a node finds in each of the values.
 */
static List *
run_node(Runner *runner, const PathNode *node, List *input)
{
	List	   *found = NIL;
	ListCell   *lc;
	JsonbValue	text;

	check_stack_depth();
	if (runner->error != NULL)
		return NIL;
	switch (node->type)
	{
		case NODE_LIST:
			found = input;
			foreach(lc, node->children)
				found = run_node(runner, lfirst(lc), found);
			return found;
		case NODE_TEXT:
			text.type = jbvString;
			text.val.string.val = node->text;
			text.val.string.len = strlen(node->text);
			return append_value(NIL, &text);
		case NODE_NUMBER:
		case NODE_BOOL:
			return append_value(NIL, &node->value);
		case NODE_FIELD:
			return run_field(runner, node, input);
		case NODE_WILDCARD:
			foreach(lc, input)
				found = list_concat(found, children_of(lfirst(lc)));
			return found;
		case NODE_RECURSIVE:
			return run_recursive(input);
		case NODE_SLICE:
			return run_slice(runner, node, input);
		case NODE_UNION:
			foreach(lc, node->children)
				found = list_concat(found, run_node(runner, lfirst(lc), input));
			return found;
		case NODE_FILTER:
			return run_filter(runner, node, input);
		case NODE_RANGE:
		case NODE_END:
			return input;
		case NODE_UNKNOWN:
			runner->error = psprintf("unrecognized identifier %s", node->text);
			return NIL;
	}
	return NIL;
}

static void
print_values(StringInfo out, List *values)
{
	ListCell   *lc;

	foreach(lc, values)
	{
		const JsonbValue *value = lfirst(lc);

		if (lc != list_head(values))
			appendStringInfoChar(out, ' ');
		if (value->type == jbvString)
			appendBinaryStringInfo(out, value->val.string.val, value->val.string.len);
		else
			kubectl_print_compact_json(out, value);
	}
}

/* Is it {range ...} or {end}?  The node itself, or NULL. */
static bool
begins_with(const PathNode *node, NodeType type)
{
	return node->type == NODE_LIST && node->children != NIL &&
		((PathNode *) linitial(node->children))->type == type;
}

/* The {end} that belongs to the {range} at i. */
static int
end_of_range(List *nodes, int i)
{
	int			depth = 0;

	for (; i < list_length(nodes); i++)
	{
		const PathNode *node = list_nth(nodes, i);

		if (begins_with(node, NODE_RANGE))
			depth++;
		else if (begins_with(node, NODE_END) && --depth == 0)
			break;
	}
	return i;
}

static void
run_nodes(Runner *runner, StringInfo out, List *nodes, int from, int to, const JsonbValue *data)
{
	check_stack_depth();
	for (int i = from; i < to && runner->error == NULL; i++)
	{
		const PathNode *node = list_nth(nodes, i);
		List	   *found;

		CHECK_FOR_INTERRUPTS();
		if (begins_with(node, NODE_END))
		{
			runner->error = "not in range, nothing to end";
			return;
		}
		found = run_node(runner, node, append_value(NIL, data));
		if (begins_with(node, NODE_RANGE))
		{
			int			end = Min(end_of_range(nodes, i), to);
			ListCell   *lc;

			foreach(lc, found)
				run_nodes(runner, out, nodes, i + 1, end, lfirst(lc));
			i = end;
		}
		else if (runner->error == NULL)
			print_values(out, found);
	}
}

/* A value as Go's %#v prints what was decoded from JSON. */
static void
print_go_syntax(StringInfo out, const JsonbValue *value)
{
	JsonbContainer *container = container_of(value);
	ListCell   *lc;

	check_stack_depth();
	if (container == NULL)
	{
		if (value->type == jbvString)
			appendStringInfoString(out, lease_go_quote(value->val.string.val, value->val.string.len));
		else if (value->type == jbvNull)
			appendStringInfoString(out, "interface {}(nil)");
		else
			kubectl_print_compact_json(out, value);
	}
	else if (JsonContainerIsObject(container))
	{
		List	   *members = kubectl_member_list(container);

		appendStringInfoString(out, "map[string]interface {}{");
		foreach(lc, members)
		{
			const KubectlMember *member = lfirst(lc);

			appendStringInfo(out, "%s%s:", lc == list_head(members) ? "" : ", ",
							 lease_go_quote(member->key.val.string.val, member->key.val.string.len));
			print_go_syntax(out, &member->value);
		}
		appendStringInfoChar(out, '}');
	}
	else
	{
		List	   *elements = children_of(value);

		appendStringInfoString(out, "[]interface {}{");
		foreach(lc, elements)
		{
			appendStringInfoString(out, lc == list_head(elements) ? "" : ", ");
			print_go_syntax(out, lfirst(lc));
		}
		appendStringInfoChar(out, '}');
	}
}

/*
 * Prints what the template says.  False, with *error what kubectl says, if that
 * cannot be told of this object; nothing is printed then.
 */
bool
kubectl_print_path(StringInfo out, KubectlPath *path, const JsonbValue *data,
				   bool allow_missing, char **error)
{
	Runner		runner = {allow_missing, NULL};
	int			start = out->len;
	StringInfoData text;

	run_nodes(&runner, out, path->nodes, 0, list_length(path->nodes), data);
	if (runner.error == NULL)
		return true;

	out->len = start;
	out->data[start] = '\0';
	initStringInfo(&text);
	appendStringInfo(&text, "error: error executing jsonpath %s: Error executing template: %s."
					 " Printing more information for debugging the template:\n"
					 "\ttemplate was:\n\t\t%s\n"
					 "\tobject given to jsonpath engine was:\n\t\t",
					 lease_go_quote(path->template, strlen(path->template)), runner.error, path->template);
	print_go_syntax(&text, data);
	appendStringInfoString(&text, "\n\n");
	*error = text.data;
	return false;
}

/*
 * What a template of one path finds: JsonbValue *.  What is missing is no error.
 */
List *
kubectl_find_path(KubectlPath *path, const JsonbValue *data)
{
	Runner		runner = {true, NULL};
	List	   *found = NIL;
	ListCell   *lc;

	foreach(lc, path->nodes)
		found = list_concat(found, run_node(&runner, lfirst(lc), append_value(NIL, data)));
	if (runner.error != NULL)
		kubectl_usage_error("error: %s", runner.error);
	return found;
}

/*
 * SQL: kubectl_jsonpath(object, template)
 */
Datum
kubectl_jsonpath(PG_FUNCTION_ARGS)
{
	KubectlPath *path = kubectl_parse_path(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	StringInfoData out;
	JsonbValue	value;
	char	   *error;

	JsonbToJsonbValue(PG_GETARG_JSONB_P(0), &value);
	initStringInfo(&out);
	if (!kubectl_print_path(&out, path, &value, true, &error))
		kubectl_usage_error("%s", error);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
