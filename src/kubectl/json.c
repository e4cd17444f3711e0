/*
 * json.c
 *		JSON as Go's encoding/json prints it: keys in the order of their bytes, and
 *		escapes that are safe within HTML.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "print.h"

PG_FUNCTION_INFO_V1(kubectl_json);

#define COMPACT (-1)

#define LINE_SEPARATOR "\xe2\x80\xa8"
#define PARAGRAPH_SEPARATOR "\xe2\x80\xa9"

static int
compare_members(const ListCell *a, const ListCell *b)
{
	const JsonbValue *x = &((KubectlMember *) lfirst(a))->key;
	const JsonbValue *y = &((KubectlMember *) lfirst(b))->key;
	int			result = memcmp(x->val.string.val, y->val.string.val,
								Min(x->val.string.len, y->val.string.len));

	return result != 0 ? result : x->val.string.len - y->val.string.len;
}

/*
 * The members of an object, KubectlMember *, in the order of the bytes of their
 * keys; jsonb has another one.
 */
List *
kubectl_members(JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	List	   *members = NIL;
	KubectlMember *member = NULL;
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			member = palloc(sizeof(KubectlMember));
			member->key = v;
			members = lappend(members, member);
		}
		else if (token == WJB_VALUE)
			member->value = v;
	}
	list_sort(members, compare_members);
	return members;
}

static void
print_string(StringInfo out, const char *s, int len)
{
	appendStringInfoChar(out, '"');
	for (int i = 0; i < len; i++)
	{
		unsigned char c = s[i];

		switch (c)
		{
			case '"':
			case '\\':
				appendStringInfo(out, "\\%c", c);
				break;
			case '\b':
				appendStringInfoString(out, "\\b");
				break;
			case '\f':
				appendStringInfoString(out, "\\f");
				break;
			case '\n':
				appendStringInfoString(out, "\\n");
				break;
			case '\r':
				appendStringInfoString(out, "\\r");
				break;
			case '\t':
				appendStringInfoString(out, "\\t");
				break;
			default:
				if (c < ' ' || c == '<' || c == '>' || c == '&')
					appendStringInfo(out, "\\u%04x", c);
				else if (i + 2 < len && (memcmp(s + i, LINE_SEPARATOR, 3) == 0 ||
										 memcmp(s + i, PARAGRAPH_SEPARATOR, 3) == 0))
				{
					/* They end lines in JavaScript. */
					appendStringInfoString(out, s[i + 2] == LINE_SEPARATOR[2] ? "\\u2028" : "\\u2029");
					i += 2;
				}
				else
					appendStringInfoChar(out, c);
		}
	}
	appendStringInfoChar(out, '"');
}

/* A number as Go prints it. */
char *
kubectl_number_text(Numeric number)
{
	Datum		trimmed = DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(number));

	return DatumGetCString(DirectFunctionCall1(numeric_out, trimmed));
}

static void
new_line(StringInfo out, int indent)
{
	if (indent == COMPACT)
		return;
	appendStringInfoChar(out, '\n');
	appendStringInfoSpaces(out, 4 * indent);
}

static void print_value(StringInfo out, const JsonbValue *value, int indent);

static void
print_container(StringInfo out, JsonbContainer *container, int indent)
{
	bool		is_object = JsonContainerIsObject(container);
	int			inner = indent == COMPACT ? COMPACT : indent + 1;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (JsonContainerSize(container) == 0)
	{
		appendStringInfoString(out, is_object ? "{}" : "[]");
		return;
	}
	appendStringInfoChar(out, is_object ? '{' : '[');
	if (is_object)
	{
		List	   *members = kubectl_members(container);
		ListCell   *lc;

		foreach(lc, members)
		{
			const KubectlMember *member = lfirst(lc);

			if (lc != list_head(members))
				appendStringInfoChar(out, ',');
			new_line(out, inner);
			print_string(out, member->key.val.string.val, member->key.val.string.len);
			appendStringInfoString(out, indent == COMPACT ? ":" : ": ");
			print_value(out, &member->value, inner);
		}
		list_free_deep(members);
	}
	else
	{
		JsonbIterator *it = JsonbIteratorInit(container);
		JsonbIteratorToken token;
		JsonbValue	v;
		bool		first = true;

		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		{
			if (token != WJB_ELEM)
				continue;
			if (!first)
				appendStringInfoChar(out, ',');
			first = false;
			new_line(out, inner);
			print_value(out, &v, inner);
		}
	}
	new_line(out, indent);
	appendStringInfoChar(out, is_object ? '}' : ']');
}

static void
print_value(StringInfo out, const JsonbValue *value, int indent)
{
	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(out, "null");
			break;
		case jbvBool:
			appendStringInfoString(out, value->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			appendStringInfoString(out, kubectl_number_text(value->val.numeric));
			break;
		case jbvString:
			print_string(out, value->val.string.val, value->val.string.len);
			break;
		case jbvBinary:
			print_container(out, value->val.binary.data, indent);
			break;
		default:
			elog(ERROR, "unexpected type %d of a jsonb value", value->type);
	}
}

/*
 * As json.Marshal, on one line.
 */
void
kubectl_print_compact_json(StringInfo out, const JsonbValue *value)
{
	print_value(out, value, COMPACT);
}

/*
 * As -o json.
 */
void
kubectl_print_json(StringInfo out, const Jsonb *value)
{
	JsonbValue	v;

	JsonbToJsonbValue(unconstify(Jsonb *, value), &v);
	if (JB_ROOT_IS_SCALAR(value))
		JsonbExtractScalar(&unconstify(Jsonb *, value)->root, &v);
	print_value(out, &v, 0);
	appendStringInfoChar(out, '\n');
}

/*
 * SQL: kubectl_json(object)
 */
Datum
kubectl_json(PG_FUNCTION_ARGS)
{
	StringInfoData out;

	initStringInfo(&out);
	kubectl_print_json(&out, PG_GETARG_JSONB_P(0));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
