/*
 * yaml.c
 *		Objects as YAML, as sigs.k8s.io/yaml writes it: what kubectl prints with
 *		-o yaml.
 *
 * That library turns JSON into YAML by reading it as YAML, so what its reader
 * does to strings and numbers is done here, too.  Its emitter descends from
 * libyaml, whose own cannot be used: it chooses other styles, and writes other
 * characters as they are.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "kubectl/printers.h"
#include "kubectl/resolve.h"

PG_FUNCTION_INFO_V1(kubectl_yaml);

#define INDENT 2
#define WIDTH 80
#define SIMPLE_KEY 128			/* bytes; a longer key gets a line of its own, after "? " */

/* Where a node stands. */
typedef enum Place
{
	IN_ROOT,
	IN_LIST,
	IN_MAP,						/* a value, or a key that is not simple */
	IN_SIMPLE_KEY
} Place;

typedef enum Style
{
	PLAIN,
	SINGLE_QUOTED,
	DOUBLE_QUOTED,
	LITERAL
} Style;

typedef struct Emitter
{
	StringInfo	out;
	int			indent;			/* of the innermost map or list */
	int			column;			/* in characters */
	bool		at_space;		/* the last character separates: no space needed */
	bool		at_indent;		/* nothing but indentation and "-", "?", ":" in this line */
} Emitter;

/* What a string needs. */
typedef struct Scalar
{
	const char *s;
	int			length;
	bool		multiline;
	bool		plain_allowed;
	bool		single_quoted_allowed;
	bool		literal_allowed;
} Scalar;

static void emit_node(Emitter *e, const JsonbValue *value, Place place);

/* --- characters, in UTF-8 --- */

/* A character of s at i; all of it is there. */
static inline int
width(const Scalar *scalar, int i)
{
	return Min(pg_utf_mblen((const unsigned char *) scalar->s + i), scalar->length - i);
}

static inline bool
is_space(const Scalar *scalar, int i)
{
	return i < scalar->length && scalar->s[i] == ' ';
}

/* A space or a tab, or the end. */
static inline bool
is_blank_or_end(const Scalar *scalar, int i)
{
	return i >= scalar->length || scalar->s[i] == ' ' || scalar->s[i] == '\t';
}

/* CR, LF, NEL, LS and PS break lines. */
static bool
is_break(const Scalar *scalar, int i)
{
	const unsigned char *s = (const unsigned char *) scalar->s + i;
	int			left = scalar->length - i;

	switch (s[0])
	{
		case '\n':
		case '\r':
			return true;
		case 0xC2:
			return left >= 2 && s[1] == 0x85;
		case 0xE2:
			return left >= 3 && s[1] == 0x80 && (s[2] == 0xA8 || s[2] == 0xA9);
		default:
			return false;
	}
}

static bool
is_bom(const unsigned char *s, int left)
{
	return left >= 3 && s[0] == 0xEF && s[1] == 0xBB && s[2] == 0xBF;
}

/* Line feeds, but no other control characters; no byte order mark; nothing beyond 16 bits. */
static bool
is_printable(const Scalar *scalar, int i)
{
	const unsigned char *s = (const unsigned char *) scalar->s + i;
	int			left = scalar->length - i;

	if (s[0] < 0x80)
		return s[0] == '\n' || (s[0] >= 0x20 && s[0] <= 0x7E);
	if (s[0] == 0xC2)
		return left >= 2 && s[1] >= 0xA0;
	if (s[0] == 0xED)
		return left >= 2 && s[1] < 0xA0;
	if (s[0] == 0xEF)
		return left >= 3 && !is_bom(s, left) &&
			!(s[1] == 0xBF && (s[2] == 0xBE || s[2] == 0xBF));
	return s[0] > 0xC2 && s[0] < 0xEF;
}

/* --- the output --- */

static void
put(Emitter *e, char c)
{
	appendStringInfoChar(e->out, c);
	e->column++;
}

static void
put_break(Emitter *e)
{
	appendStringInfoChar(e->out, '\n');
	e->column = 0;
}

/* Writes the character at *i and goes on to the next. */
static void
write_char(Emitter *e, const Scalar *scalar, int *i)
{
	int			n = width(scalar, *i);

	if (n == 1)
		appendStringInfoChar(e->out, scalar->s[*i]);
	else
		appendBinaryStringInfo(e->out, scalar->s + *i, n);
	e->column++;
	*i += n;
}

static void
write_break(Emitter *e, const Scalar *scalar, int *i)
{
	write_char(e, scalar, i);
	e->column = 0;
}

/* Goes to the indentation, in a new line unless this one has nothing yet. */
static void
write_indent(Emitter *e)
{
	int			indent = Max(e->indent, 0);

	if (!e->at_indent || e->column > indent || (e->column == indent && !e->at_space))
		put_break(e);
	if (e->column < indent)
	{
		appendStringInfoSpaces(e->out, indent - e->column);
		e->column = indent;
	}
	e->at_space = true;
	e->at_indent = true;
}

static void
write_indicator(Emitter *e, const char *indicator, bool needs_space, bool is_indent)
{
	if (needs_space && !e->at_space)
		put(e, ' ');
	for (; *indicator; indicator++)
		put(e, *indicator);
	e->at_space = false;
	e->at_indent = e->at_indent && is_indent;
}

/* --- scalars --- */

/* Which styles can hold the string?  Its meaning is not looked at. */
static void
analyze(Scalar *scalar)
{
	const char *s = scalar->s;
	int			length = scalar->length;
	bool		indicators = false;
	bool		special = false;
	bool		space_at_edge = false;
	bool		break_at_edge = false;
	bool		trailing_space = false;
	bool		break_space = false;
	bool		space_break = false;
	bool		after_space = false;
	bool		after_break = false;
	bool		after_blank = true;

	scalar->multiline = false;
	if (length >= 3 && (strncmp(s, "---", 3) == 0 || strncmp(s, "...", 3) == 0))
		indicators = true;

	for (int i = 0, w; i < length; i += w)
	{
		bool		first = i == 0;
		bool		last;

		w = width(scalar, i);
		last = i + w == length;
		if (first && strchr("#,[]{}&*!|>'\"%@`", s[i]))
			indicators = true;
		else if (s[i] == ':' || (first && (s[i] == '?' || s[i] == '-')))
			indicators |= is_blank_or_end(scalar, i + w);
		else if (s[i] == '#')
			indicators |= after_blank;

		special |= !is_printable(scalar, i);
		if (is_space(scalar, i))
		{
			space_at_edge |= first || last;
			trailing_space |= last;
			break_space |= after_break;
			after_space = true;
			after_break = false;
		}
		else if (is_break(scalar, i))
		{
			scalar->multiline = true;
			break_at_edge |= first || last;
			space_break |= after_space;
			after_space = false;
			after_break = true;
		}
		else
			after_space = after_break = false;
		after_blank = after_break || is_blank_or_end(scalar, i);
	}

	scalar->plain_allowed = !(indicators || special || space_at_edge || break_at_edge ||
							  break_space || space_break || scalar->multiline);
	scalar->single_quoted_allowed = !(special || break_space || space_break);
	scalar->literal_allowed = length > 0 && !(special || space_break || trailing_space);
}

/* Unquoted, it shall be read as a string. */
static bool
means_a_string(const Scalar *scalar)
{
	return kubectl_resolve_yaml(scalar->s, scalar->length).type == YAML_STRING &&
		!kubectl_is_yaml_base_60(scalar->s);
}

static Style
choose_style(const Scalar *scalar, bool is_string, Place place)
{
	Style		style = PLAIN;

	if (is_string && memchr(scalar->s, '\n', scalar->length))
		style = LITERAL;
	else if (is_string && !means_a_string(scalar))
		style = DOUBLE_QUOTED;

	if (style == PLAIN && !scalar->plain_allowed)
		style = SINGLE_QUOTED;
	if (style == SINGLE_QUOTED && !scalar->single_quoted_allowed)
		style = DOUBLE_QUOTED;
	if (style == LITERAL && (!scalar->literal_allowed || place == IN_SIMPLE_KEY))
		style = DOUBLE_QUOTED;
	return style;
}

/* Plain and single quoted scalars break lines in the same way. */
static void
write_flow(Emitter *e, const Scalar *scalar, bool quoted, bool may_break)
{
	bool		spaces = false;
	bool		breaks = false;

	if (quoted)
		write_indicator(e, "'", true, false);
	else if (!e->at_space)
		put(e, ' ');
	for (int i = 0; i < scalar->length;)
	{
		if (is_space(scalar, i))
		{
			if (may_break && !spaces && e->column > WIDTH && !is_space(scalar, i + 1) &&
				!(quoted && (i == 0 || i == scalar->length - 1)))
			{
				write_indent(e);
				i++;
			}
			else
				write_char(e, scalar, &i);
			spaces = true;
		}
		else if (is_break(scalar, i))
		{
			if (!breaks && scalar->s[i] == '\n')
				put_break(e);
			write_break(e, scalar, &i);
			e->at_indent = true;
			breaks = true;
		}
		else
		{
			if (breaks)
				write_indent(e);
			if (quoted && scalar->s[i] == '\'')
				put(e, '\'');
			write_char(e, scalar, &i);
			e->at_indent = false;
			spaces = breaks = false;
		}
	}
	if (quoted)
		write_indicator(e, "'", false, false);
	e->at_space = false;
	e->at_indent = false;
}

static void
write_escape(Emitter *e, pg_wchar c)
{
	static const char names[] = "\0" "0\a" "a\b" "b\t" "t\n" "n\v" "v\f" "f\r" "r\033" "e\"" "\"\\" "\\";
	char		escape[16];

	for (int i = 0; i < sizeof(names) - 1; i += 2)
		if (c == (unsigned char) names[i])
		{
			put(e, '\\');
			put(e, names[i + 1]);
			return;
		}
	if (c == 0xA0 || c == 0x85 || c == 0x2028 || c == 0x2029)
		snprintf(escape, sizeof(escape), "\\%c",
				 c == 0xA0 ? '_' : c == 0x85 ? 'N' : c == 0x2028 ? 'L' : 'P');
	else
		snprintf(escape, sizeof(escape), c <= 0xFF ? "\\x%02X" : c <= 0xFFFF ? "\\u%04X" : "\\U%08X", c);
	for (const char *p = escape; *p; p++)
		put(e, *p);
}

static void
write_double_quoted(Emitter *e, const Scalar *scalar, bool may_break)
{
	/* A bug to be kept: after a byte order mark everything is escaped. */
	bool		all = is_bom((const unsigned char *) scalar->s, scalar->length);
	bool		spaces = false;

	write_indicator(e, "\"", true, false);
	for (int i = 0; i < scalar->length;)
	{
		if (all || !is_printable(scalar, i) || is_break(scalar, i) ||
			scalar->s[i] == '"' || scalar->s[i] == '\\')
		{
			write_escape(e, utf8_to_unicode((const unsigned char *) scalar->s + i));
			i += width(scalar, i);
			spaces = false;
		}
		else if (is_space(scalar, i))
		{
			if (may_break && !spaces && e->column > WIDTH && i > 0 && i < scalar->length - 1)
			{
				write_indent(e);
				if (is_space(scalar, i + 1))
					put(e, '\\');
				i++;
			}
			else
				write_char(e, scalar, &i);
			spaces = true;
		}
		else
		{
			write_char(e, scalar, &i);
			spaces = false;
		}
	}
	write_indicator(e, "\"", false, false);
}

/* Where the last character before end begins. */
static int
previous_char(const Scalar *scalar, int end)
{
	do
		end--;
	while (end > 0 && (scalar->s[end] & 0xC0) == 0x80);
	return end;
}

/* What tells a reader about leading spaces and trailing line breaks. */
static void
write_hints(Emitter *e, const Scalar *scalar)
{
	int			last = previous_char(scalar, scalar->length);

	if (is_space(scalar, 0) || is_break(scalar, 0))
		write_indicator(e, "2", false, false);
	if (!is_break(scalar, last))
		write_indicator(e, "-", false, false);
	else if (last == 0 || is_break(scalar, previous_char(scalar, last)))
		write_indicator(e, "+", false, false);
}

static void
write_literal(Emitter *e, const Scalar *scalar)
{
	bool		breaks = true;

	write_indicator(e, "|", true, false);
	write_hints(e, scalar);
	put_break(e);
	e->at_indent = true;
	e->at_space = true;
	for (int i = 0; i < scalar->length;)
	{
		if (is_break(scalar, i))
		{
			write_break(e, scalar, &i);
			e->at_indent = true;
			breaks = true;
		}
		else
		{
			if (breaks)
				write_indent(e);
			write_char(e, scalar, &i);
			e->at_indent = false;
			breaks = false;
		}
	}
}

static void
emit_scalar(Emitter *e, const Scalar *scalar, bool is_string, Place place)
{
	int			indent = e->indent;
	bool		may_break = place != IN_SIMPLE_KEY;

	CHECK_FOR_INTERRUPTS();
	e->indent = Max(e->indent, 0) + INDENT;
	switch (choose_style(scalar, is_string, place))
	{
		case PLAIN:
			write_flow(e, scalar, false, may_break);
			break;
		case SINGLE_QUOTED:
			write_flow(e, scalar, true, may_break);
			break;
		case DOUBLE_QUOTED:
			write_double_quoted(e, scalar, may_break);
			break;
		case LITERAL:
			write_literal(e, scalar);
			break;
	}
	e->indent = indent;
}

/* --- values --- */

/*
 * YAML's reader refuses some characters that JSON need not escape, and takes
 * NEL for a line break, which it folds.  The result is terminated.
 */
static Scalar
read_string(const char *string, int length)
{
	const unsigned char *s;
	const unsigned char *end;
	StringInfoData folded;

	s = (const unsigned char *) kubectl_to_utf8(string, &length);
	end = s + length;
	initStringInfo(&folded);
	enlargeStringInfo(&folded, length);
	while (s < end)
	{
		const unsigned char *start = s;
		int			breaks = 0;

		while (s < end && *s != 0x7F && *s != 0xC2 && *s != 0xEF)
			s++;
		appendBinaryStringInfo(&folded, (const char *) start, s - start);
		if (s == end)
			break;
		if (*s == 0x7F ||
			(end - s >= 2 && *s == 0xC2 && s[1] < 0xA0 && s[1] != 0x85) ||
			(end - s >= 3 && *s == 0xEF && s[1] == 0xBF && s[2] >= 0xBE))
			ereport(ERROR,
					(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
					 errmsg("error: yaml: control characters are not allowed")));
		while (end - s >= 2 && s[0] == 0xC2 && s[1] == 0x85)
		{
			breaks++;
			for (s += 2; s < end && *s == ' '; s++)
				;
		}
		if (breaks == 0)
		{
			appendStringInfoChar(&folded, *s++);
			continue;
		}
		while (folded.len > 0 && folded.data[folded.len - 1] == ' ')
			folded.len--;
		appendStringInfoChar(&folded, breaks == 1 ? ' ' : '\n');
		for (int i = 2; i < breaks; i++)
			appendStringInfoChar(&folded, '\n');
	}
	return (Scalar) {.s = folded.data, .length = folded.len};
}

static void
emit_word(Emitter *e, const char *word, Place place)
{
	Scalar		scalar = {.s = word, .length = strlen(word)};

	analyze(&scalar);
	emit_scalar(e, &scalar, false, place);
}

static void
emit_string(Emitter *e, const JsonbValue *string, Place place)
{
	Scalar		scalar = read_string(string->val.string.val, string->val.string.len);

	analyze(&scalar);
	emit_scalar(e, &scalar, true, place);
	pfree(unconstify(char *, scalar.s));
}

/* A number that JSON has written without point or exponent is an integer again. */
static void
emit_number(Emitter *e, const JsonbValue *number, Place place)
{
	int64		integer;
	double		real;
	char		buffer[KUBECTL_FLOAT_SIZE];

	if (kubectl_integer(number, &integer, &real))
		snprintf(buffer, sizeof(buffer), INT64_FORMAT, integer);
	else if (isinf(real))
	{
		emit_word(e, DatumGetCString(DirectFunctionCall1(numeric_out,
														 NumericGetDatum(number->val.numeric))), place);
		return;
	}
	else
	{
		KubectlYamlScalar scalar;

		kubectl_format_float(buffer, real, 'j');
		scalar = kubectl_resolve_yaml(buffer, strlen(buffer));
		if (scalar.type == YAML_REAL)
			kubectl_format_float(buffer, real, 'g');
		else if (scalar.integer == 0)
			strcpy(buffer, "0");
	}
	emit_word(e, buffer, place);
}

/* A key that is long or has line breaks stands behind "? ", its value behind ": ". */
static void
emit_member(Emitter *e, const KubectlMember *member)
{
	Scalar		key = read_string(member->key.val.string.val, member->key.val.string.len);

	analyze(&key);
	write_indent(e);
	if (key.length <= SIMPLE_KEY && !key.multiline)
	{
		emit_scalar(e, &key, true, IN_SIMPLE_KEY);
		write_indicator(e, ":", false, false);
	}
	else
	{
		write_indicator(e, "?", true, true);
		emit_scalar(e, &key, true, IN_MAP);
		write_indent(e);
		write_indicator(e, ":", true, true);
	}
	pfree(unconstify(char *, key.s));
	emit_node(e, &member->value, IN_MAP);
}

static void
emit_members(Emitter *e, const JsonbValue *value, Place place)
{
	bool		is_map = JsonContainerIsObject(value->val.binary.data);
	KubectlMember *members;
	int			n = kubectl_members(value, &members);
	int			indent = e->indent;

	if (n == 0)
		write_indicator(e, is_map ? "{}" : "[]", true, false);
	else if (e->indent < 0)
		e->indent = 0;
	else if (is_map || place != IN_MAP || e->at_indent)
		e->indent += INDENT;

	if (is_map)
		kubectl_sort_yaml_members(members, n);
	for (int i = 0; i < n; i++)
	{
		if (is_map)
			emit_member(e, &members[i]);
		else
		{
			write_indent(e);
			write_indicator(e, "-", true, true);
			emit_node(e, &members[i].value, IN_LIST);
		}
	}
	e->indent = indent;
	pfree(members);
}

static void
emit_node(Emitter *e, const JsonbValue *value, Place place)
{
	check_stack_depth();

	switch (value->type)
	{
		case jbvNull:
			emit_word(e, "null", place);
			break;
		case jbvBool:
			emit_word(e, value->val.boolean ? "true" : "false", place);
			break;
		case jbvNumeric:
			emit_number(e, value, place);
			break;
		case jbvString:
			emit_string(e, value, place);
			break;
		case jbvBinary:
			emit_members(e, value, place);
			break;
		default:
			elog(ERROR, "unexpected type %d of a JSON value", (int) value->type);
	}
}

/* As kubectl prints an object with -o yaml. */
void
kubectl_print_yaml(StringInfo out, const Jsonb *value)
{
	Emitter		e = {.out = out, .indent = -1, .at_space = true, .at_indent = true};
	JsonbValue	root;
	int			start = out->len;

	kubectl_root(value, &root);
	emit_node(&e, &root, IN_ROOT);
	write_indent(&e);
	kubectl_from_utf8(out, start);
}

/*
 * SQL: kubectl_yaml(object)
 */
Datum
kubectl_yaml(PG_FUNCTION_ARGS)
{
	Jsonb	   *object = PG_GETARG_JSONB_P(0);
	StringInfoData out;

	initStringInfo(&out);
	kubectl_print_yaml(&out, object);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
