/*
 * read_json.c
 *		Values in JSON, one after another, as Go's encoding/json reads them: jsonb_in()
 *		would say something else about what is wrong.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "kubectl/printers.h"

/* A text of JSON values, one after another. */
typedef struct JsonText
{
	const char *start;
	const char *next;
	const char *end;
} JsonText;

/* In the words of Go's encoding/json. */
pg_noreturn static void
refuse_json(const JsonText *json, const char *where)
{
	unsigned char c;
	char		quoted[16];

	if (json->next == json->end)
		kubectl_refuse_manifest("unexpected EOF");
	c = *json->next;
	if (c == '\'' || c == '\\')
		snprintf(quoted, sizeof(quoted), "\\%c", c);
	else if (c == '\n' || c == '\r' || c == '\t')
		snprintf(quoted, sizeof(quoted), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
	else if (c < 0x20 || c == 0x7F)
		snprintf(quoted, sizeof(quoted), "\\x%02x", c);
	else if (c < 0x80)
		snprintf(quoted, sizeof(quoted), "%c", c);
	else if (c <= 0xA0 || c == 0xAD)
		snprintf(quoted, sizeof(quoted), "\\u%04x", c);
	else						/* the byte as a character of Latin-1 */
		snprintf(quoted, sizeof(quoted), "%c%c", 0xC0 | c >> 6, 0x80 | (c & 0x3F));
	kubectl_refuse_manifest(psprintf("json: offset %d: invalid character '%s' %s",
					(int) (json->next - json->start) + 1, quoted, where));
}

static bool
at(const JsonText *json, const char *chars)
{
	return json->next < json->end && *json->next && strchr(chars, *json->next);
}

static void
skip_space(JsonText *json)
{
	while (at(json, " \t\r\n"))
		json->next++;
}

#define DIGITS "0123456789"

static void
skip_digits(JsonText *json, const char *where)
{
	if (!at(json, DIGITS))
		refuse_json(json, where);
	while (at(json, DIGITS))
		json->next++;
}

static void
skip_number(JsonText *json)
{
	if (at(json, "-"))
		json->next++;
	if (at(json, "0"))
		json->next++;
	else
		skip_digits(json, "in numeric literal");
	if (at(json, "."))
	{
		json->next++;
		skip_digits(json, "after decimal point in numeric literal");
	}
	if (at(json, "eE"))
	{
		json->next++;
		if (at(json, "+-"))
			json->next++;
		skip_digits(json, "in exponent of numeric literal");
	}
}

static void
skip_string(JsonText *json)
{
	json->next++;
	while (!at(json, "\""))
	{
		if (json->next == json->end || (unsigned char) *json->next < 0x20)
			refuse_json(json, "in string literal");
		if (*json->next++ != '\\')
			continue;
		if (!at(json, "bfnrt\\/\"u"))
			refuse_json(json, "in string escape code");
		if (*json->next++ == 'u')
			for (int i = 0; i < 4; i++, json->next++)
				if (!at(json, DIGITS "abcdefABCDEF"))
					refuse_json(json, "in \\u hexadecimal character escape");
	}
	json->next++;
}

static void
skip_literal(JsonText *json, const char *literal)
{
	for (const char *p = literal; *p; p++, json->next++)
		if (json->next == json->end || *json->next != *p)
			refuse_json(json, psprintf("in literal %s (expecting '%c')", literal, *p));
}

static void skip_value(JsonText *json);

static void
skip_members(JsonText *json, bool is_map)
{
	const char *end = is_map ? "}" : "]";

	json->next++;
	skip_space(json);
	for (bool first = true; !(first && at(json, end)); first = false)
	{
		if (is_map)
		{
			if (!at(json, "\""))
				refuse_json(json, "looking for beginning of object key string");
			skip_string(json);
			skip_space(json);
			if (!at(json, ":"))
				refuse_json(json, "after object key");
			json->next++;
		}
		skip_value(json);
		skip_space(json);
		if (at(json, end))
			break;
		if (!at(json, ","))
			refuse_json(json, is_map ? "after object key:value pair" : "after array element");
		json->next++;
		skip_space(json);
	}
	json->next++;
}

static void
skip_value(JsonText *json)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	skip_space(json);
	if (at(json, "{["))
		skip_members(json, *json->next == '{');
	else if (at(json, "\""))
		skip_string(json);
	else if (at(json, "-" DIGITS))
		skip_number(json);
	else if (at(json, "tfn"))
		skip_literal(json, *json->next == 't' ? "true" : *json->next == 'f' ? "false" : "null");
	else
		refuse_json(json, "looking for beginning of value");
}

/*
 * Returns the values that are not null, Jsonb *.
 */
List *
kubectl_read_json(const char *text, int length)
{
	List	   *documents = NIL;
	JsonText	json = {.start = text, .next = text, .end = text + length};

	for (skip_space(&json); json.next < json.end; skip_space(&json))
	{
		const char *start = json.next;
		char	   *value;

		skip_value(&json);
		value = pg_any_to_server(pnstrdup(start, json.next - start), json.next - start, PG_UTF8);
		if (strcmp(value, "null") != 0)
			documents = lappend(documents,
								DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(value))));
	}
	return documents;
}
