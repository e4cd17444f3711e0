/*
 * jsonpath.c
 *		Kubernetes' JSONPath templates: text with paths in braces, as
 *		k8s.io/client-go/util/jsonpath reads and runs them.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "object.h"
#include "jsonpath.h"
#include "kubectl.h"
#include "printers.h"

PG_FUNCTION_INFO_V1(kubectl_jsonpath);

typedef enum NodeType
{
	NODE_TEXT,
	NODE_LIST,					/* one after the other, each on what the last found */
	NODE_FIELD,
	NODE_WILDCARD,
	NODE_RECURSIVE,
	NODE_SLICE,
	NODE_UNION,
	NODE_FILTER,
	NODE_NUMBER,
	NODE_BOOL,
	NODE_RANGE,
	NODE_END,
	NODE_UNKNOWN				/* a word that is none of these */
} NodeType;

typedef struct PathNode
{
	NodeType	type;
	char	   *text;			/* of text, field */
	List	   *children;		/* PathNode *; of list, union */
	bool		known[3];		/* of a slice */
	int			index[3];
	bool		derived_end;
	struct PathNode *left;			/* of a filter */
	struct PathNode *right;
	char	   *operator;
	JsonbValue	value;			/* of number, bool */
} PathNode;

struct KubectlPath
{
	char	   *template;
	List	   *nodes;			/* PathNode * */
};

/*
 * ---------- Reading a template ----------
 */

typedef struct Parser
{
	const char *p;
	const char *end;
	char	   *error;			/* the first */
} Parser;

static PathNode *
make_node(NodeType type)
{
	PathNode	   *node = palloc0(sizeof(PathNode));

	node->type = type;
	return node;
}

static void
fail(Parser *parser, char *error)
{
	if (parser->error == NULL)
		parser->error = error;
	parser->p = parser->end;
}

static bool
starts_with(const Parser *parser, const char *prefix)
{
	return parser->end - parser->p >= strlen(prefix) &&
		strncmp(parser->p, prefix, strlen(prefix)) == 0;
}

static bool
is_word_char(char c)
{
	return c == '_' || isalnum((unsigned char) c) || IS_HIGHBIT_SET(c);
}

static bool
ends_field(char c)
{
	return strchr(" \t\r\n.,[]$@{}", c) != NULL;
}

static void
parse_field(Parser *parser, PathNode *list)
{
	StringInfoData name;
	PathNode	   *node;

	initStringInfo(&name);
	while (parser->p < parser->end && !ends_field(*parser->p))
	{
		if (*parser->p == '\\' && parser->p + 1 < parser->end)
			parser->p++;
		appendStringInfoChar(&name, *parser->p++);
	}
	node = make_node(strcmp(name.data, "*") == 0 ? NODE_WILDCARD : NODE_FIELD);
	node->text = name.data;
	list->children = lappend(list->children, node);
}

static PathNode *parse_action(Parser *outer, char *text);

static bool
parse_index(Parser *parser, const char *s, int len, int *result)
{
	char	   *text = pnstrdup(s, len);
	char	   *end;
	long		value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || value > PG_INT32_MAX || value < PG_INT32_MIN)
	{
		fail(parser, psprintf("array index %s is not a number", text));
		return false;
	}
	*result = value;
	return true;
}

/* from, from:to, from:to:step; each but the first colon may be missing */
static void
parse_slice(Parser *parser, PathNode *list, char *text)
{
	PathNode	   *node = make_node(NODE_SLICE);
	char	   *p = text;

	for (int i = 0; i < 3; i++)
	{
		int			len;

		if (i > 0 && *p == '\0')
		{
			if (i == 1)
			{
				node->known[1] = node->derived_end = true;
				node->index[1] = node->index[0] + 1;
			}
			continue;
		}
		p += i > 0;
		len = strspn(p, "-") > 0 ? 1 + strspn(p + 1, "0123456789") : strspn(p, "0123456789");
		if (p[len] != '\0' && (p[len] != ':' || i == 2))
		{
			fail(parser, psprintf("invalid array index %s", text));
			return;
		}
		node->known[i] = len > 0;
		if (len > 0 && !parse_index(parser, p, len, &node->index[i]))
			return;
		p += len;
	}
	list->children = lappend(list->children, node);
}

static void
parse_union(Parser *parser, PathNode *list, char *text)
{
	PathNode	   *node = make_node(NODE_UNION);
	char	   *part = text;

	while (part != NULL)
	{
		char	   *comma = strchr(part, ',');
		int			len = comma == NULL ? strlen(part) : comma - part;

		while (len > 0 && *part == ' ')
			part++, len--;
		while (len > 0 && part[len - 1] == ' ')
			len--;
		node->children = lappend(node->children, parse_action(parser, psprintf("[%.*s]", len, part)));
		part = comma == NULL ? NULL : comma + 1;
	}
	list->children = lappend(list->children, node);
}

/* What is in brackets, but for filters. */
static void
parse_array(Parser *parser, PathNode *list)
{
	const char *close = memchr(parser->p, ']', parser->end - parser->p);
	char	   *text;
	int			len;

	if (close == NULL)
	{
		fail(parser, "unterminated array");
		return;
	}
	len = close - parser->p;
	text = pnstrdup(parser->p, len);
	parser->p = close + 1;

	if (strcmp(text, "*") == 0)
		text = ":";
	if (strchr(text, ',') != NULL)
		parse_union(parser, list, text);
	else if (len >= 2 && text[0] == '\'' && strchr(text + 1, '\'') == text + len - 1)
	{
		PathNode	   *inner = parse_action(parser, psprintf(".%.*s", len - 2, text + 1));

		list->children = list_concat(list->children, inner->children);
	}
	else
		parse_slice(parser, list, text);
}

/* The parenthesis that closes a filter; NULL if there is none. */
static const char *
end_of_filter(const Parser *parser)
{
	char		quote = '\0';

	for (const char *p = parser->p; p < parser->end; p++)
	{
		if (*p == '\\' && quote != '\0')
			p++;
		else if (quote != '\0')
			quote = *p == quote ? '\0' : quote;
		else if (*p == '"' || *p == '\'')
			quote = *p;
		else if (*p == ')' && p + 1 < parser->end && p[1] == ']')
			return p;
	}
	return NULL;
}

static char *
find_operator(char *text, int *length)
{
	char		quote = '\0';

	for (char *p = text; *p != '\0'; p++)
	{
		if (quote != '\0')
			quote = *p == quote ? '\0' : quote;
		else if (*p == '"' || *p == '\'')
			quote = *p;
		else if (strchr("!=<>", *p) != NULL)
		{
			*length = p[1] == '=' ? 2 : 1;
			return p;
		}
	}
	return NULL;
}

static void
parse_filter(Parser *parser, PathNode *list)
{
	const char *close;
	PathNode	   *node = make_node(NODE_FILTER);
	char	   *text;
	char	   *operator;
	int			len = 0;

	parser->p += strlen("[?(");
	close = end_of_filter(parser);
	if (close == NULL)
	{
		fail(parser, "unterminated filter");
		return;
	}
	text = pnstrdup(parser->p, close - parser->p);
	parser->p = close + 2;
	operator = find_operator(text, &len);
	if (operator == NULL)
	{
		node->operator = "exists";
		node->left = parse_action(parser, text);
	}
	else
	{
		node->operator = pnstrdup(operator, len);
		node->left = parse_action(parser, pnstrdup(text, operator - text));
		node->right = parse_action(parser, operator + len);
	}
	list->children = lappend(list->children, node);
}

static void
parse_quote(Parser *parser, PathNode *list)
{
	char		quote = *parser->p++;
	PathNode	   *node = make_node(NODE_TEXT);
	StringInfoData text;

	initStringInfo(&text);
	while (parser->p < parser->end && *parser->p != quote)
	{
		if (*parser->p == '\\' && parser->p + 1 < parser->end)
		{
			static const char letters[] = "ntrabfv\\'\"";
			static const char meant[] = "\n\t\r\a\b\f\v\\'\"";
			const char *letter = strchr(letters, *++parser->p);

			if (letter == NULL)
			{
				fail(parser, "unable to unquote");
				return;
			}
			appendStringInfoChar(&text, meant[letter - letters]);
			parser->p++;
		}
		else
			appendStringInfoChar(&text, *parser->p++);
	}
	if (parser->p >= parser->end)
	{
		fail(parser, "unterminated quoted string");
		return;
	}
	parser->p++;
	node->text = text.data;
	list->children = lappend(list->children, node);
}

static void
parse_number(Parser *parser, PathNode *list)
{
	PathNode	   *node = make_node(NODE_NUMBER);
	const char *start = parser->p;
	char	   *text;
	char	   *end;

	parser->p += *parser->p == '+' || *parser->p == '-';
	while (parser->p < parser->end && (isdigit((unsigned char) *parser->p) || *parser->p == '.'))
		parser->p++;
	text = pnstrdup(start, parser->p - start);
	(void) strtod(text, &end);
	if (end == text || *end != '\0')
	{
		fail(parser, psprintf("cannot parse number %s", text));
		return;
	}
	node->value.type = jbvNumeric;
	node->value.val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
																  ObjectIdGetDatum(InvalidOid),
																  Int32GetDatum(-1)));
	list->children = lappend(list->children, node);
}

static void
parse_identifier(Parser *parser, PathNode *list)
{
	const char *start = parser->p;
	char	   *word;
	PathNode	   *node;

	while (parser->p < parser->end && is_word_char(*parser->p))
		parser->p++;
	word = pnstrdup(start, parser->p - start);
	if (strcmp(word, "range") == 0)
		node = make_node(NODE_RANGE);
	else if (strcmp(word, "end") == 0)
		node = make_node(NODE_END);
	else if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0)
	{
		node = make_node(NODE_BOOL);
		node->value.type = jbvBool;
		node->value.val.boolean = word[0] == 't';
	}
	else
	{
		node = make_node(NODE_UNKNOWN);
		node->text = word;
	}
	list->children = lappend(list->children, node);
}

/* What is between braces, without them. */
static void
parse_inside(Parser *parser, PathNode *list)
{
	while (parser->p < parser->end)
	{
		char		c = *parser->p;

		if (starts_with(parser, "[?("))
			parse_filter(parser, list);
		else if (starts_with(parser, ".."))
		{
			parser->p += 2;
			list->children = lappend(list->children, make_node(NODE_RECURSIVE));
			if (parser->p < parser->end && (is_word_char(*parser->p) || *parser->p == '*'))
				parse_field(parser, list);
		}
		else if (c == ' ' || c == '@' || c == '$')
			parser->p++;
		else if (c == '[')
		{
			parser->p++;
			parse_array(parser, list);
		}
		else if (c == '"' || c == '\'')
			parse_quote(parser, list);
		else if (c == '.')
		{
			parser->p++;
			parse_field(parser, list);
		}
		else if (c == '+' || c == '-' || isdigit((unsigned char) c))
			parse_number(parser, list);
		else if (is_word_char(c))
			parse_identifier(parser, list);
		else
			fail(parser, psprintf("unrecognized character in action: U+%04X '%c'", c, c));
	}
}

static PathNode *
parse_action(Parser *outer, char *text)
{
	Parser		parser = {text, text + strlen(text), NULL};
	PathNode	   *list = make_node(NODE_LIST);

	check_stack_depth();
	parse_inside(&parser, list);
	if (parser.error != NULL)
		fail(outer, parser.error);
	return list;
}

/* The brace that closes the one before p; NULL if there is none. */
static const char *
closing_brace(const char *p)
{
	char		quote = '\0';

	for (; *p != '\0'; p++)
	{
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (quote != '\0')
			quote = *p == quote ? '\0' : quote;
		else if (*p == '"' || *p == '\'')
			quote = *p;
		else if (*p == '}')
			return p;
	}
	return NULL;
}

/*
 * Errors out, as kubectl does, if the template is wrong.
 */
KubectlPath *
kubectl_parse_path(const char *template)
{
	KubectlPath *path = palloc0(sizeof(KubectlPath));
	Parser		parser = {"", "", NULL};
	const char *p = template;

	path->template = pstrdup(template);
	while (*p != '\0' && parser.error == NULL)
	{
		int			len = strcspn(p, "{");
		const char *close;

		if (len > 0)
		{
			PathNode	   *node = make_node(NODE_TEXT);

			node->text = pnstrdup(p, len);
			path->nodes = lappend(path->nodes, node);
			p += len;
			continue;
		}
		close = closing_brace(++p);
		if (close == NULL)
		{
			/* unless something in it is wrong before */
			(void) parse_action(&parser, pstrdup(p));
			fail(&parser, "unclosed action");
		}
		else
		{
			path->nodes = lappend(path->nodes, parse_action(&parser, pnstrdup(p, close - p)));
			p = close + 1;
		}
	}
	if (parser.error != NULL)
		kubectl_usage_error("error: error parsing jsonpath %s, %s", template, parser.error);
	return path;
}

/*
 * Paths of --sort-by and custom-columns may come without braces and without the
 * dot: cli-runtime's RelaxedJSONPathExpression().
 */
char *
kubectl_relaxed_path(const char *path)
{
	int			len = strlen(path);

	if (len == 0)
		return pstrdup("");
	if (path[0] == '{' || path[len - 1] == '}')
	{
		if (len < 2 || path[0] != '{' || path[len - 1] != '}')
			kubectl_usage_error("error: unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'");
		path = pnstrdup(path + 1, len - 2);
	}
	return psprintf("{%s%s}", path[0] == '.' || path[0] == '[' ? "" : ".", path);
}

/*
 * ---------- Running it ----------
 */

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
