/*
 * read_yaml.c
 *		A document in YAML, as sigs.k8s.io/yaml reads it.
 *
 * libyaml finds the structure.  What scalars, anchors and merge keys mean is
 * decided here.
 */
#include "postgres.h"

#include <math.h>
#include <yaml.h>

#include "common/base64.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "kubectl/printers.h"
#include "kubectl/resolve.h"

/* Above that many nodes, what aliases may add gets less, down to a tenth. */
#define FEW_NODES 400000.0
#define MANY_NODES 4000000.0

#define YAML_TAG "tag:yaml.org,2002:"

typedef struct YamlNode
{
	yaml_event_type_t type;		/* of the event it starts with */
	const char *tag;			/* or NULL */
	const char *value;			/* of a scalar; name of the anchor of an alias */
	int			length;
	bool		implicit;		/* a scalar that is neither quoted nor has a tag */
	bool		being_expanded; /* an alias, at this moment */
	struct YamlNode *target;	/* of an alias */
	List	   *children;		/* of maps key, value, key, value, ... */
} YamlNode;

typedef struct Anchor
{
	const char *name;
	YamlNode   *node;
} Anchor;

typedef struct Reader
{
	yaml_parser_t parser;
	yaml_event_t event;
	bool		has_event;
	List	   *anchors;
} Reader;

/* The decoding of one document. */
typedef struct Decoder
{
	JsonbParseState *state;
	JsonbValue *result;
	int			nodes;
	int			alias_nodes;	/* those of them that an alias brought */
	int			alias_depth;
} Decoder;

static YamlNode *read_node(Reader *reader);
static void decode_node(Decoder *d, YamlNode *node, JsonbIteratorToken token);

pg_noreturn static void
refuse_yaml(const char *problem)
{
	kubectl_refuse_manifest(psprintf("error converting YAML to JSON: yaml: %s", problem));
}

/* --- from text to nodes --- */

pg_noreturn static void
refuse_syntax(yaml_parser_t *parser)
{
	int			line = parser->problem_mark.line;
	const char *problem = parser->problem ? parser->problem : "unknown problem parsing YAML content";

	if (parser->error == YAML_MEMORY_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	/* The numbers are go-yaml's, which are off by one for some errors. */
	if (line != 0 && parser->error == YAML_SCANNER_ERROR)
		line++;
	if (line == 0)
		line = parser->context_mark.line;
	refuse_yaml(line == 0 ? problem : psprintf("line %d: %s", line, problem));
}

static yaml_event_type_t
peek(Reader *reader)
{
	if (!reader->has_event)
	{
		CHECK_FOR_INTERRUPTS();
		if (!yaml_parser_parse(&reader->parser, &reader->event))
			refuse_syntax(&reader->parser);
		reader->has_event = true;
	}
	return reader->event.type;
}

static void
skip(Reader *reader)
{
	peek(reader);
	yaml_event_delete(&reader->event);
	reader->has_event = false;
}

static void
add_anchor(Reader *reader, const yaml_char_t *name, YamlNode *node)
{
	Anchor	   *anchor;

	if (!name)
		return;
	anchor = palloc(sizeof(Anchor));
	anchor->name = pstrdup((const char *) name);
	anchor->node = node;
	reader->anchors = lappend(reader->anchors, anchor);
}

/* The latest of that name, as names can be used again. */
static YamlNode *
find_anchor(Reader *reader, const char *name)
{
	for (int i = list_length(reader->anchors) - 1; i >= 0; i--)
	{
		Anchor	   *anchor = list_nth(reader->anchors, i);

		if (strcmp(anchor->name, name) == 0)
			return anchor->node;
	}
	refuse_yaml(psprintf("unknown anchor '%s' referenced", name));
}

static void
read_children(Reader *reader, YamlNode *node, yaml_event_type_t end)
{
	skip(reader);
	while (peek(reader) != end)
		node->children = lappend(node->children, read_node(reader));
	skip(reader);
}

static YamlNode *
read_node(Reader *reader)
{
	YamlNode   *node = palloc0(sizeof(YamlNode));
	yaml_event_t *event = &reader->event;

	check_stack_depth();
	node->type = peek(reader);
	switch (node->type)
	{
		case YAML_SCALAR_EVENT:
			node->length = event->data.scalar.length;
			node->value = pnstrdup((const char *) event->data.scalar.value, node->length);
			if (event->data.scalar.tag)
				node->tag = pstrdup((const char *) event->data.scalar.tag);
			node->implicit = event->data.scalar.plain_implicit;
			add_anchor(reader, event->data.scalar.anchor, node);
			skip(reader);
			break;
		case YAML_ALIAS_EVENT:
			node->value = pstrdup((const char *) event->data.alias.anchor);
			node->target = find_anchor(reader, node->value);
			skip(reader);
			break;
		case YAML_SEQUENCE_START_EVENT:
			add_anchor(reader, event->data.sequence_start.anchor, node);
			read_children(reader, node, YAML_SEQUENCE_END_EVENT);
			break;
		case YAML_MAPPING_START_EVENT:
			add_anchor(reader, event->data.mapping_start.anchor, node);
			read_children(reader, node, YAML_MAPPING_END_EVENT);
			break;
		default:
			elog(ERROR, "unexpected event %d of a YAML parser", (int) node->type);
	}
	return node;
}

/* The first document, or NULL if there is none. */
static YamlNode *
read_document(Reader *reader)
{
	YamlNode   *node;

	skip(reader);				/* start of the stream */
	if (peek(reader) == YAML_STREAM_END_EVENT)
		return NULL;
	skip(reader);
	node = read_node(reader);
	peek(reader);				/* its end, which may be an error */
	return node;
}

/* libyaml's memory is freed whatever happens. */
static YamlNode *
parse_yaml(const char *text, int length)
{
	Reader	   *reader = palloc0(sizeof(Reader));
	YamlNode   *node = NULL;

	if (!yaml_parser_initialize(&reader->parser))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	PG_TRY();
	{
		yaml_parser_set_input_string(&reader->parser, (const unsigned char *) text, length);
		node = read_document(reader);
	}
	PG_FINALLY();
	{
		if (reader->has_event)
			yaml_event_delete(&reader->event);
		yaml_parser_delete(&reader->parser);
	}
	PG_END_TRY();
	return node;
}

/* --- from nodes to JSON --- */

static bool
has_tag(const YamlNode *node, const char *name)
{
	return node->tag && strncmp(node->tag, YAML_TAG, strlen(YAML_TAG)) == 0 &&
		strcmp(node->tag + strlen(YAML_TAG), name) == 0;
}

static const char *
tag_name(KubectlYamlType type)
{
	switch (type)
	{
		case YAML_NULL:
			return "null";
		case YAML_TRUE:
		case YAML_FALSE:
			return "bool";
		case YAML_INTEGER:
			return "int";
		case YAML_REAL:
		case YAML_INFINITY:
		case YAML_MINUS_INFINITY:
		case YAML_NAN:
			return "float";
		case YAML_TIMESTAMP:
			return "timestamp";
		default:
			return "str";
	}
}

/* What a scalar stands for, by its tag or else by its look. */
static KubectlYamlScalar
resolve(const YamlNode *node)
{
	static const char *const known[] = {"bool", "int", "float", "null", "timestamp"};
	KubectlYamlScalar scalar = {YAML_STRING};
	int			i;

	if (!node->tag)
		return node->implicit ? kubectl_resolve_yaml(node->value, node->length) : scalar;
	for (i = 0; i < lengthof(known); i++)
		if (has_tag(node, known[i]))
			break;
	if (i == lengthof(known))
		return scalar;

	scalar = kubectl_resolve_yaml(node->value, node->length);
	if (scalar.type == YAML_TIMESTAMP && !has_tag(node, "timestamp"))
		scalar.type = YAML_STRING;
	if (scalar.type == YAML_INTEGER && has_tag(node, "float"))
	{
		scalar.type = YAML_REAL;
		scalar.real = scalar.negative ? -(double) scalar.integer : (double) scalar.integer;
	}
	if (!has_tag(node, tag_name(scalar.type)))
		refuse_yaml(psprintf("cannot decode !!%s `%s` as a !!%s", tag_name(scalar.type), node->value, known[i]));
	return scalar;
}

/* As Go's JSON has it: what is not UTF-8 becomes U+FFFD. */
static char *
clean_utf8(const unsigned char *s, int length)
{
	StringInfoData clean;

	initStringInfo(&clean);
	while (length > 0)
	{
		int			n = pg_utf_mblen(s);

		if (n <= length && pg_utf8_islegal(s, n))
			appendBinaryStringInfo(&clean, (const char *) s, n);
		else
		{
			n = 1;
			appendStringInfoString(&clean, "\xEF\xBF\xBD");
		}
		s += n;
		length -= n;
	}
	if (memchr(clean.data, '\0', clean.len))
		return NULL;
	return clean.data;
}

static char *
decode_base64(const YamlNode *node)
{
	char	   *digits = palloc(node->length + 1);
	int			n = 0;
	int			size = pg_b64_dec_len(node->length) + 1;
	uint8	   *bytes = palloc(size);

	for (int i = 0; i < node->length; i++)
		if (node->value[i] != '\n' && node->value[i] != '\r')
			digits[n++] = node->value[i];
	n = pg_b64_decode(digits, n, bytes, size);
	if (n < 0)
		refuse_yaml("!!binary value contains invalid base64 data");
	return clean_utf8(bytes, n);
}

static void
string_value(JsonbValue *value, const char *s, int length)
{
	if (!s || memchr(s, '\0', length))
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("unsupported Unicode escape sequence"),
				 errdetail("\\u0000 cannot be converted to text.")));
	value->type = jbvString;
	value->val.string.val = pg_any_to_server(s, length, PG_UTF8);
	value->val.string.len = value->val.string.val == s ? length : strlen(value->val.string.val);
}

static void
number_value(JsonbValue *value, const char *number)
{
	value->type = jbvNumeric;
	value->val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(number),
															 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static const char *
integer_text(const KubectlYamlScalar *scalar)
{
	return psprintf("%s" UINT64_FORMAT, scalar->negative ? "-" : "", scalar->integer);
}

static void
scalar_value(const YamlNode *node, JsonbValue *value)
{
	KubectlYamlScalar scalar = resolve(node);
	char		buffer[KUBECTL_FLOAT_SIZE];

	switch (scalar.type)
	{
		case YAML_NULL:
			value->type = jbvNull;
			break;
		case YAML_TRUE:
		case YAML_FALSE:
			value->type = jbvBool;
			value->val.boolean = scalar.type == YAML_TRUE;
			break;
		case YAML_INTEGER:
			number_value(value, integer_text(&scalar));
			break;
		case YAML_REAL:
			kubectl_format_float(buffer, scalar.real, 'j');
			number_value(value, buffer);
			break;
		case YAML_INFINITY:
		case YAML_MINUS_INFINITY:
		case YAML_NAN:
			kubectl_refuse_manifest(psprintf("error converting YAML to JSON: json: unsupported value: %s",
							scalar.type == YAML_NAN ? "NaN" : scalar.type == YAML_INFINITY ? "+Inf" : "-Inf"));
			break;
		default:
			if (has_tag(node, "binary"))
			{
				char	   *bytes = decode_base64(node);

				string_value(value, bytes, bytes ? strlen(bytes) : 0);
			}
			else
				string_value(value, node->value, node->length);
	}
}

/* A float as a key has the precision of 32 bits. */
static const char *
float_key(double real)
{
	char	   *key = palloc(KUBECTL_FLOAT_SIZE);
	char		decimal[32];

	if (isinf((float) real))
		return real > 0 ? ".inf" : "-.inf";
	for (int precision = 0; precision < 9; precision++)
	{
		snprintf(decimal, sizeof(decimal), "%.*e", precision, (double) (float) real);
		if (strtof(decimal, NULL) == (float) real)
			break;
	}
	kubectl_format_float(key, strtod(decimal, NULL), 'g');
	return key;
}

/* Keys are strings in JSON. */
static void
key_value(const YamlNode *node, JsonbValue *value)
{
	KubectlYamlScalar scalar = resolve(node);
	const char *key;

	switch (scalar.type)
	{
		case YAML_TRUE:
		case YAML_FALSE:
			key = scalar.type == YAML_TRUE ? "true" : "false";
			break;
		case YAML_INTEGER:
			if (!scalar.negative && scalar.integer > PG_INT64_MAX)
				kubectl_refuse_manifest(psprintf("error converting YAML to JSON: unsupported map key of type: uint64, key: 0x%llx", (unsigned long long) scalar.integer));
			key = integer_text(&scalar);
			break;
		case YAML_REAL:
			key = float_key(scalar.real);
			break;
		case YAML_INFINITY:
			key = ".inf";
			break;
		case YAML_MINUS_INFINITY:
			key = "-.inf";
			break;
		case YAML_NAN:
			key = ".nan";
			break;
		case YAML_NULL:
			kubectl_refuse_manifest("error converting YAML to JSON: unsupported map key of type: %!s(<nil>), key: <nil>");
		default:
			scalar_value(node, value);
			return;
	}
	string_value(value, key, strlen(key));
}

/* Each node that is decoded counts, so that aliases of aliases cannot add up to a bomb. */
static void
count_node(Decoder *d)
{
	double		allowed = 0.99;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	d->nodes++;
	if (d->alias_depth == 0)
		return;
	d->alias_nodes++;
	if (d->nodes >= MANY_NODES)
		allowed = 0.10;
	else if (d->nodes > FEW_NODES)
		allowed = 0.99 - 0.89 * (d->nodes - FEW_NODES) / (MANY_NODES - FEW_NODES);
	if (d->alias_nodes > 100 && d->nodes > 1000 && (double) d->alias_nodes / d->nodes > allowed)
		refuse_yaml("document contains excessive aliasing");
}

static void
enter_alias(Decoder *d, YamlNode *alias)
{
	if (alias->being_expanded)
		refuse_yaml(psprintf("anchor '%s' value contains itself", alias->value));
	alias->being_expanded = true;
	d->alias_depth++;
}

static void
leave_alias(Decoder *d, YamlNode *alias)
{
	d->alias_depth--;
	alias->being_expanded = false;
}

static void
decode_key(Decoder *d, YamlNode *node)
{
	JsonbValue	key;

	count_node(d);
	if (node->type == YAML_ALIAS_EVENT)
	{
		enter_alias(d, node);
		decode_key(d, node->target);
		leave_alias(d, node);
		return;
	}
	if (node->type != YAML_SCALAR_EVENT)
		refuse_yaml(node->type == YAML_MAPPING_START_EVENT ?
					"invalid map key: map[interface {}]interface {}{...}" : "invalid map key: []interface {}{...}");
	key_value(node, &key);
	d->result = pushJsonbValue(&d->state, WJB_KEY, &key);
}

static bool
is_merge(const YamlNode *node)
{
	return node->type == YAML_SCALAR_EVENT && node->length == 2 && memcmp(node->value, "<<", 2) == 0 &&
		(node->implicit || has_tag(node, "merge"));
}

static void merge(Decoder *d, YamlNode *node);

/* Later ones win, be they merged or not. */
static void
decode_members(Decoder *d, YamlNode *map)
{
	for (int i = 0; i + 1 < list_length(map->children); i += 2)
	{
		YamlNode   *key = list_nth(map->children, i);
		YamlNode   *value = list_nth(map->children, i + 1);

		if (is_merge(key))
			merge(d, value);
		else
		{
			decode_key(d, key);
			decode_node(d, value, WJB_VALUE);
		}
	}
}

static void
merge_map(Decoder *d, YamlNode *node)
{
	YamlNode   *map = node->type == YAML_ALIAS_EVENT ? node->target : node;

	if (map->type != YAML_MAPPING_START_EVENT)
		refuse_yaml("map merge requires map or sequence of maps as the value");
	count_node(d);
	if (node->type == YAML_ALIAS_EVENT)
	{
		enter_alias(d, node);
		count_node(d);
	}
	decode_members(d, map);
	if (node->type == YAML_ALIAS_EVENT)
		leave_alias(d, node);
}

/* Of several maps the earlier ones take precedence. */
static void
merge(Decoder *d, YamlNode *node)
{
	check_stack_depth();
	if (node->type != YAML_SEQUENCE_START_EVENT)
		merge_map(d, node);
	else
		for (int i = list_length(node->children) - 1; i >= 0; i--)
			merge_map(d, list_nth(node->children, i));
}

static void
decode_node(Decoder *d, YamlNode *node, JsonbIteratorToken token)
{
	JsonbValue	value;
	ListCell   *cell;

	count_node(d);
	switch (node->type)
	{
		case YAML_ALIAS_EVENT:
			enter_alias(d, node);
			decode_node(d, node->target, token);
			leave_alias(d, node);
			break;
		case YAML_MAPPING_START_EVENT:
			pushJsonbValue(&d->state, WJB_BEGIN_OBJECT, NULL);
			decode_members(d, node);
			d->result = pushJsonbValue(&d->state, WJB_END_OBJECT, NULL);
			break;
		case YAML_SEQUENCE_START_EVENT:
			pushJsonbValue(&d->state, WJB_BEGIN_ARRAY, NULL);
			foreach(cell, node->children)
				decode_node(d, lfirst(cell), WJB_ELEM);
			d->result = pushJsonbValue(&d->state, WJB_END_ARRAY, NULL);
			break;
		default:
			scalar_value(node, &value);
			d->result = pushJsonbValue(&d->state, token, &value);
	}
}

/*
 * Reads a document.  One that is empty, or null, is none: NULL.
 */
Jsonb *
kubectl_read_yaml(const char *text, int length)
{
	Decoder		d = {.nodes = 1};
	YamlNode   *root = parse_yaml(text, length);
	JsonbValue	scalar;

	if (!root)
		return NULL;
	if (root->type == YAML_SCALAR_EVENT)
	{
		scalar_value(root, &scalar);
		if (scalar.type == jbvNull)
			return NULL;
		d.result = &scalar;
	}
	else
		decode_node(&d, root, WJB_VALUE);
	return JsonbValueToJsonb(d.result);
}
