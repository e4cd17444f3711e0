/*
 * jsonpath_parse.c
 *		Reads Kubernetes' JSONPath templates, as k8s.io/client-go/util/jsonpath does.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "jsonpath.h"
#include "jsonpath_node.h"
#include "kubectl.h"

typedef struct Parser
{
	const char *p;
	const char *end;
	char	   *error;			/* the first */
} Parser;

static PathNode *
make_node(NodeType type)
{
	PathNode   *node = palloc0(sizeof(PathNode));

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
	PathNode   *node;

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
	PathNode   *node = make_node(NODE_SLICE);
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
	PathNode   *node = make_node(NODE_UNION);
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
		PathNode   *inner = parse_action(parser, psprintf(".%.*s", len - 2, text + 1));

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
	PathNode   *node = make_node(NODE_FILTER);
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
	PathNode   *node = make_node(NODE_TEXT);
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
	PathNode   *node = make_node(NODE_NUMBER);
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
	PathNode   *node;

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
	PathNode   *list = make_node(NODE_LIST);

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
			PathNode   *node = make_node(NODE_TEXT);

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
