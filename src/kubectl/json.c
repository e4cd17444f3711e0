/*
 * json.c
 *		Objects as JSON, as Go's encoding/json writes it: what kubectl prints with
 *		-o json, and in jsonpath.
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "lease.h"
#include "kubectl/printers.h"

PG_FUNCTION_INFO_V1(kubectl_json);

#define INDENT 4
#define COMPACT (-1)			/* instead of a level */

static void print_value(StringInfo out, const JsonbValue *value, int level);

/* The bytes of s in UTF-8, which Go's strings are; adjusts length. */
const char *
kubectl_to_utf8(const char *s, int *length)
{
	char	   *utf8;

	if (GetDatabaseEncoding() == PG_UTF8)
		return s;
	utf8 = pg_server_to_any(s, *length, PG_UTF8);
	if (utf8 != s)
		*length = strlen(utf8);
	return utf8;
}

/* What was appended to out since start, from UTF-8 to the database's encoding. */
void
kubectl_from_utf8(StringInfo out, int start)
{
	char	   *text;

	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	text = pg_any_to_server(out->data + start, out->len - start, PG_UTF8);
	if (text == out->data + start)
		return;
	out->len = start;
	appendStringInfoString(out, text);
}

/* A whole jsonb as a value: a map or a list as binary, a scalar as what it is. */
void
kubectl_root(const Jsonb *value, JsonbValue *root)
{
	if (JB_ROOT_IS_SCALAR(value))
		JsonbExtractScalar(unconstify(JsonbContainer *, &value->root), root);
	else
	{
		root->type = jbvBinary;
		root->val.binary.data = unconstify(JsonbContainer *, &value->root);
		root->val.binary.len = VARSIZE(value) - VARHDRSZ;
	}
}

/* Members in Go's order of strings */
int
kubectl_compare_keys(const void *a, const void *b)
{
	return lease_json_compare(&((const KubectlMember *) a)->key, &((const KubectlMember *) b)->key);
}

/* Members of a map, or elements of a list, in jsonb's order. */
int
kubectl_members(const JsonbValue *value, KubectlMember **members)
{
	JsonbContainer *container;
	JsonbIterator *it;
	JsonbValue	v;
	int			n = 0;

	if (value->type != jbvBinary)
	{
		Jsonb	   *jsonb = JsonbValueToJsonb(unconstify(JsonbValue *, value));

		container = &jsonb->root;
	}
	else
		container = value->val.binary.data;

	/* Not all of a list's at once in one more JsonbValue each: it is long. */
	*members = MemoryContextAllocHuge(CurrentMemoryContext,
									  Max(JsonContainerSize(container), 1) * sizeof(KubectlMember));
	it = JsonbIteratorInit(container);
	JsonbIteratorNext(&it, &v, true);
	for (;;)
	{
		switch (JsonbIteratorNext(&it, &v, true))
		{
			case WJB_KEY:
				(*members)[n].key = v;
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				(*members)[n++].value = v;
				break;
			default:
				return n;
		}
	}
}

static int
compare_members(const ListCell *a, const ListCell *b)
{
	return kubectl_compare_keys(lfirst(a), lfirst(b));
}

/*
 * The members of an object, KubectlMember *, in the order of the bytes of their
 * keys.  An array or a scalar has none.
 */
List *
kubectl_member_list(JsonbContainer *object)
{
	JsonbValue	value;
	KubectlMember *members;
	List	   *list = NIL;
	int			n;

	if (!JsonContainerIsObject(object))
		return NIL;
	value.type = jbvBinary;
	value.val.binary.data = object;
	n = kubectl_members(&value, &members);
	for (int i = 0; i < n; i++)
		list = lappend(list, &members[i]);
	list_sort(list, compare_members);
	return list;
}

/*
 * Kubernetes reads a number as an integer if it is written as one and fits
 * into 64 bits; then true.  Else as a double, possibly infinite.
 */
bool
kubectl_integer(const JsonbValue *number, int64 *integer, double *real)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out,
														   NumericGetDatum(number->val.numeric)));
	char	   *end;
	bool		fits;

	errno = 0;
	*integer = strtoi64(text, &end, 10);
	fits = errno == 0 && *end == '\0';
	if (!fits)
		*real = strtod(text, &end);
	pfree(text);
	return fits;
}

/*
 * The digits of a printed decimal, without point, and where the point is:
 * 0.DIGITS * 10^point.
 */
static int
decimal_digits(const char *decimal, char *digits, int *point)
{
	int			n = 0;
	bool		fraction = false;

	*point = 0;
	for (; *decimal && *decimal != 'e'; decimal++)
	{
		if (*decimal == '.')
			fraction = true;
		else if (n > 0 || *decimal != '0')
		{
			digits[n++] = *decimal;
			*point += !fraction;
		}
		else
			*point -= fraction;
	}
	if (*decimal == 'e')
		*point += atoi(decimal + 1);
	while (n > 1 && digits[n - 1] == '0')
		n--;
	digits[n] = '\0';
	return n;
}

/*
 * The fewest digits that identify a positive double.  PostgreSQL's algorithm
 * avoids decimals in the middle between two doubles; Go takes them for the even
 * one, as strtod() does, so there may be a shorter one.
 */
static int
shortest_digits(double value, char *digits, int *point)
{
	char		decimal[DOUBLE_SHORTEST_DECIMAL_LEN];
	char		shorter[DOUBLE_SHORTEST_DECIMAL_LEN];
	int			n;

	double_to_shortest_decimal_buf(value, decimal);
	n = decimal_digits(decimal, digits, point);
	for (int precision = 0; precision < n - 1; precision++)
	{
		snprintf(shorter, sizeof(shorter), "%.*e", precision, value);
		if (strtod(shorter, NULL) == value)
			return decimal_digits(shorter, digits, point);
	}
	return n;
}

/*
 * A finite number as Go's strconv.FormatFloat prints it with the fewest digits:
 * format 'g' as YAML has it, 'j' as encoding/json chooses.
 */
void
kubectl_format_float(char *buffer, double value, char format)
{
	char		digits[32];
	int			point;
	int			n;
	char	   *p = buffer;
	bool		exponent;

	if (value == 0)
	{
		strcpy(buffer, signbit(value) ? "-0" : "0");
		return;
	}
	if (value < 0)
		*p++ = '-';
	n = shortest_digits(fabs(value), digits, &point);
	if (format == 'g')
		exponent = point - 1 < -4 || point - 1 >= 6;
	else
		exponent = (fabs(value) < 1e-6 || fabs(value) >= 1e21);

	if (exponent)
	{
		*p++ = digits[0];
		if (n > 1)
			p += sprintf(p, ".%s", digits + 1);
		sprintf(p, format == 'j' && point <= 0 ? "e-%d" : "e%+03d",
				format == 'j' && point <= 0 ? 1 - point : point - 1);
	}
	else if (point <= 0)
		sprintf(p, "0.%.*s%s", -point, "00000000000000000000", digits);
	else if (point >= n)
	{
		memcpy(p, digits, n);
		memset(p + n, '0', point - n);
		p[point] = '\0';
	}
	else
		sprintf(p, "%.*s.%s", point, digits, digits + point);
}

static void
print_number(StringInfo out, const JsonbValue *number)
{
	int64		integer;
	double		real;
	char		buffer[KUBECTL_FLOAT_SIZE];

	if (kubectl_integer(number, &integer, &real))
		appendStringInfo(out, INT64_FORMAT, integer);
	else if (isinf(real))		/* Kubernetes has no such numbers */
		appendStringInfoString(out,
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   NumericGetDatum(number->val.numeric))));
	else
	{
		kubectl_format_float(buffer, real, 'j');
		appendStringInfoString(out, buffer);
	}
}

/*
 * How the character at s is escaped, and its width; NULL if it stands for itself.
 * Characters that would mean something in HTML or JavaScript are escaped, too.
 */
static const char *
escape_of(const char *s, const char *end, int *width)
{
	unsigned char c = *s;

	*width = 1;
	switch (c)
	{
		case '"':
			return "\\\"";
		case '\\':
			return "\\\\";
		case '\b':
			return "\\b";
		case '\f':
			return "\\f";
		case '\n':
			return "\\n";
		case '\r':
			return "\\r";
		case '\t':
			return "\\t";
		case 0xE2:				/* U+2028 and U+2029 */
			if (end - s < 3 || s[1] != '\x80' || (s[2] & 0xFE) != 0xA8)
				return NULL;
			*width = 3;
			return s[2] == '\xA8' ? "\\u2028" : "\\u2029";
		default:
			if (c >= 0x20 && c != '<' && c != '>' && c != '&')
				return NULL;
			return psprintf("\\u%04x", c);
	}
}

static void
print_string(StringInfo out, const char *s, int length)
{
	const char *start;
	const char *end;

	s = kubectl_to_utf8(s, &length);
	start = s;
	end = s + length;
	appendStringInfoChar(out, '"');
	while (s < end)
	{
		int			width;
		const char *escape = escape_of(s, end, &width);

		if (escape != NULL)
		{
			appendBinaryStringInfo(out, start, s - start);
			appendStringInfoString(out, escape);
			start = s + width;
		}
		s += width;
	}
	appendBinaryStringInfo(out, start, s - start);
	appendStringInfoChar(out, '"');
}

static void
print_break(StringInfo out, int level)
{
	if (level == COMPACT)
		return;
	appendStringInfoChar(out, '\n');
	appendStringInfoSpaces(out, level * INDENT);
}

static void
print_members(StringInfo out, const JsonbValue *value, int level)
{
	bool		is_map = value->type == jbvObject ||
		(value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data));
	KubectlMember *members;
	int			n = kubectl_members(value, &members);

	if (is_map)
		qsort(members, n, sizeof(KubectlMember), kubectl_compare_keys);
	appendStringInfoChar(out, is_map ? '{' : '[');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		print_break(out, level == COMPACT ? COMPACT : level + 1);
		if (is_map)
		{
			print_string(out, members[i].key.val.string.val, members[i].key.val.string.len);
			appendStringInfoString(out, level == COMPACT ? ":" : ": ");
		}
		print_value(out, &members[i].value, level == COMPACT ? COMPACT : level + 1);
	}
	if (n > 0)
		print_break(out, level);
	appendStringInfoChar(out, is_map ? '}' : ']');
	pfree(members);
}

static void
print_value(StringInfo out, const JsonbValue *value, int level)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(out, "null");
			break;
		case jbvBool:
			appendStringInfoString(out, value->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			print_number(out, value);
			break;
		case jbvString:
			print_string(out, value->val.string.val, value->val.string.len);
			break;
		case jbvArray:
		case jbvObject:
		case jbvBinary:
			print_members(out, value, level);
			break;
		default:
			elog(ERROR, "unexpected type %d of a JSON value", (int) value->type);
	}
}

/* As kubectl prints an object with -o json. */
void
kubectl_print_json(StringInfo out, const Jsonb *value)
{
	JsonbValue	root;
	int			start = out->len;

	kubectl_root(value, &root);
	print_value(out, &root, 0);
	appendStringInfoChar(out, '\n');
	kubectl_from_utf8(out, start);
}

/* Without white space: as jsonpath prints maps and lists. */
void
kubectl_print_compact_json(StringInfo out, const JsonbValue *value)
{
	int			start = out->len;

	print_value(out, value, COMPACT);
	kubectl_from_utf8(out, start);
}

/*
 * SQL: kubectl_json(object)
 */
Datum
kubectl_json(PG_FUNCTION_ARGS)
{
	Jsonb	   *object = PG_GETARG_JSONB_P(0);
	StringInfoData out;

	initStringInfo(&out);
	kubectl_print_json(&out, object);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
