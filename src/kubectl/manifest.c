/*
 * manifest.c
 *		Objects in YAML or JSON, as kubectl reads them: libyaml, with go-yaml's
 *		resolution of plain scalars.
 */
#include "postgres.h"

#include <yaml.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "kubectl.h"
#include "print.h"

PG_FUNCTION_INFO_V1(kubectl_manifest);

/*
 * Aliases can make a short text a long one.  A manifest has no use for so many
 * values.
 */
#define MAX_VALUES 1000000

typedef struct Reader
{
	yaml_document_t *document;
	JsonbParseState *state;
	int			values;
} Reader;

static void
syntax_error(const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("error: error parsing STDIN: error converting YAML to JSON: yaml: %s", reason)));
}

/* go-yaml's message */
static void
report_problem(const yaml_parser_t *parser)
{
	size_t		line = parser->problem_mark.line;
	const char *problem = parser->problem ? parser->problem : "unknown problem parsing YAML content";

	if (line != 0 && parser->error == YAML_SCANNER_ERROR)
		line++;
	else if (line == 0)
		line = parser->context_mark.line;
	if (line != 0)
		problem = psprintf("line %zu: %s", line, problem);
	syntax_error(problem);
}

static void
set_string(JsonbValue *value, const char *s, int len)
{
	value->type = jbvString;
	value->val.string.val = pnstrdup(s, len);
	value->val.string.len = len;
}

static void
set_scalar(JsonbValue *value, const yaml_node_t *node)
{
	const char *s = (const char *) node->data.scalar.value;
	int			len = node->data.scalar.length;
	KubectlScalar scalar = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ?
		kubectl_resolve_scalar(s) : KUBECTL_STRING;

	if (memchr(s, '\0', len) != NULL)
		syntax_error("control characters are not allowed");
	switch (scalar)
	{
		case KUBECTL_STRING:
			set_string(value, s, len);
			break;
		case KUBECTL_NULL:
			value->type = jbvNull;
			break;
		case KUBECTL_TRUE:
		case KUBECTL_FALSE:
			value->type = jbvBool;
			value->val.boolean = scalar == KUBECTL_TRUE;
			break;
		case KUBECTL_INTEGER:
		case KUBECTL_FLOAT:
			value->type = jbvNumeric;
			value->val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in,
																	 CStringGetDatum(kubectl_scalar_number(s)),
																	 ObjectIdGetDatum(InvalidOid),
																	 Int32GetDatum(-1)));
			break;
		case KUBECTL_NOT_FINITE:
			syntax_error(psprintf("unsupported value: %s", s));
	}
}

/* A key is a string in JSON, whatever it is in YAML. */
static void
set_key(JsonbValue *key, const yaml_node_t *node)
{
	JsonbValue	value;
	StringInfoData text;

	if (node->type != YAML_SCALAR_NODE)
		syntax_error("invalid map key");
	set_scalar(&value, node);
	if (value.type == jbvString)
	{
		*key = value;
		return;
	}
	initStringInfo(&text);
	kubectl_print_compact_json(&text, &value);
	set_string(key, text.data, text.len);
}

static JsonbValue *read_node(Reader *reader, int index, JsonbIteratorToken token);

static bool
is_merge(const yaml_node_t *key)
{
	return key->type == YAML_SCALAR_NODE && key->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
		strcmp((const char *) key->data.scalar.value, "<<") == 0;
}

static void read_pairs(Reader *reader, const yaml_node_t *node);

/* << : the members of a mapping, or of several */
static void
merge(Reader *reader, int index)
{
	const yaml_node_t *node = yaml_document_get_node(reader->document, index);

	if (node->type == YAML_MAPPING_NODE)
		read_pairs(reader, node);
	else if (node->type == YAML_SEQUENCE_NODE)
	{
		/* the first counts, and in jsonb the last does */
		for (yaml_node_item_t *item = node->data.sequence.items.top; item-- > node->data.sequence.items.start;)
			merge(reader, *item);
	}
	else
		syntax_error("map merge requires map or sequence of maps as the value");
}

/* What is merged first, so that what stands here counts. */
static void
read_pairs(Reader *reader, const yaml_node_t *node)
{
	check_stack_depth();
	for (int pass = 0; pass < 2; pass++)
	{
		for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
		{
			const yaml_node_t *key = yaml_document_get_node(reader->document, pair->key);
			JsonbValue	name;

			if (is_merge(key) != (pass == 0))
				continue;
			if (pass == 0)
			{
				if (++reader->values > MAX_VALUES)
					syntax_error("document contains excessive aliasing");
				merge(reader, pair->value);
				continue;
			}
			set_key(&name, key);
			pushJsonbValue(&reader->state, WJB_KEY, &name);
			(void) read_node(reader, pair->value, WJB_VALUE);
		}
	}
}

static JsonbValue *
read_node(Reader *reader, int index, JsonbIteratorToken token)
{
	const yaml_node_t *node = yaml_document_get_node(reader->document, index);
	JsonbValue	value;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (++reader->values > MAX_VALUES)
		syntax_error("document contains excessive aliasing");
	switch (node->type)
	{
		case YAML_SCALAR_NODE:
			set_scalar(&value, node);
			return pushJsonbValue(&reader->state, token, &value);
		case YAML_SEQUENCE_NODE:
			pushJsonbValue(&reader->state, WJB_BEGIN_ARRAY, NULL);
			for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++)
				(void) read_node(reader, *item, WJB_ELEM);
			return pushJsonbValue(&reader->state, WJB_END_ARRAY, NULL);
		case YAML_MAPPING_NODE:
			pushJsonbValue(&reader->state, WJB_BEGIN_OBJECT, NULL);
			read_pairs(reader, node);
			return pushJsonbValue(&reader->state, WJB_END_OBJECT, NULL);
		default:
			elog(ERROR, "unexpected type %d of a YAML node", node->type);
	}
}

/* NULL if there is nothing in the document. */
static Jsonb *
read_document(yaml_document_t *document)
{
	Reader		reader = {.document = document};
	const yaml_node_t *root = yaml_document_get_root_node(document);
	JsonbValue	value;

	if (root->type != YAML_SCALAR_NODE)
		return JsonbValueToJsonb(read_node(&reader, 1, WJB_ELEM));
	set_scalar(&value, root);
	return value.type == jbvNull ? NULL : JsonbValueToJsonb(&value);
}

/* Reads the next document into *object.  False at the end. */
static bool
read_next(yaml_parser_t *parser, Jsonb **object)
{
	yaml_document_t document;
	volatile bool found;

	if (!yaml_parser_load(parser, &document))
		report_problem(parser);
	PG_TRY();
	{
		found = yaml_document_get_root_node(&document) != NULL;
		*object = found ? read_document(&document) : NULL;
	}
	PG_FINALLY();
	{
		yaml_document_delete(&document);
	}
	PG_END_TRY();
	return found;
}

/*
 * Returns the documents, Jsonb *, without the empty ones.
 */
List *
kubectl_read_manifest(const char *text)
{
	const char *first = text + strspn(text, " \t\r\n");
	List	   *volatile objects = NIL;
	yaml_parser_t parser;
	Jsonb	   *object;

	/* kubectl takes it for JSON, in which tabs may indent */
	if (*first == '{')
		return list_make1(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text))));

	if (!yaml_parser_initialize(&parser))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	PG_TRY();
	{
		yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
		yaml_parser_set_input_string(&parser, (const unsigned char *) text, strlen(text));
		while (read_next(&parser, &object))
		{
			if (object != NULL)
				objects = lappend(objects, object);
		}
	}
	PG_FINALLY();
	{
		yaml_parser_delete(&parser);
	}
	PG_END_TRY();
	return objects;
}

/*
 * SQL: kubectl_manifest(manifest)
 */
Datum
kubectl_manifest(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	foreach(lc, kubectl_read_manifest(text_to_cstring(PG_GETARG_TEXT_PP(0))))
	{
		Datum		value = JsonbPGetDatum(lfirst(lc));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
