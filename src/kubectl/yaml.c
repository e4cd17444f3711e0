/*
 * yaml.c
 *		YAML as sigs.k8s.io/yaml prints it, that is as go-yaml's version 2 does.
 *
 * Its emitter is a port of libyaml's, and so is this one, as far as it is needed:
 * block style, and flow style for what is empty.  What decides between plain and
 * quoted text besides the syntax is go-yaml's resolver: whatever would not come
 * back as a string is put in double quotes.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "print.h"

PG_FUNCTION_INFO_V1(kubectl_yaml);

#define BEST_WIDTH 80
#define BEST_INDENT 2
#define MAX_SIMPLE_KEY 128

typedef struct Emitter
{
	StringInfo	out;
	int			indent;
	int			column;
	bool		whitespace;		/* the last character was a blank */
	bool		indention;		/* only indentation so far on this line */
} Emitter;

/*
 * ---------- Characters ----------
 */

static bool
is_break(const char *s, const char *end)
{
	if (s >= end)
		return false;
	if (*s == '\n' || *s == '\r')
		return true;
	if (end - s >= 2 && memcmp(s, "\xc2\x85", 2) == 0)
		return true;			/* next line */
	return end - s >= 3 && (memcmp(s, "\xe2\x80\xa8", 3) == 0 || memcmp(s, "\xe2\x80\xa9", 3) == 0);
}

static bool
is_space(const char *s, const char *end)
{
	return s < end && *s == ' ';
}

static bool
is_blank_or_end(const char *s, const char *end)
{
	return s >= end || *s == ' ' || *s == '\t';
}

/* What libyaml takes for printable: not all of Unicode's that is. */
static bool
is_printable(const char *s)
{
	const unsigned char *u = (const unsigned char *) s;

	if (u[0] < 0x80)
		return u[0] == '\n' || (u[0] >= 0x20 && u[0] <= 0x7e);
	if (u[0] == 0xc2)
		return u[1] >= 0xa0;
	if (u[0] == 0xed)
		return u[1] < 0xa0;
	if (u[0] == 0xef)
		return !(u[1] == 0xbb && u[2] == 0xbf) && !(u[1] == 0xbf && u[2] >= 0xbe);
	return u[0] > 0xc2 && u[0] < 0xf0;
}

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

/* Writes a character; returns what comes after it. */
static const char *
write_char(Emitter *e, const char *s)
{
	int			len = pg_mblen(s);

	appendBinaryStringInfo(e->out, s, len);
	e->column++;
	return s + len;
}

static const char *
write_break(Emitter *e, const char *s)
{
	s = write_char(e, s);
	e->column = 0;
	return s;
}

static void
write_indent(Emitter *e)
{
	int			indent = Max(e->indent, 0);

	if (!e->indention || e->column > indent || (e->column == indent && !e->whitespace))
		put_break(e);
	while (e->column < indent)
		put(e, ' ');
	e->whitespace = true;
	e->indention = true;
}

static void
write_indicator(Emitter *e, const char *indicator, bool needs_whitespace, bool is_indention)
{
	if (needs_whitespace && !e->whitespace)
		put(e, ' ');
	for (; *indicator != '\0'; indicator++)
		put(e, *indicator);
	e->whitespace = false;
	e->indention = e->indention && is_indention;
}

/*
 * ---------- Would a plain text be read as something else? ----------
 */

static const struct
{
	const char *text;
	KubectlScalar scalar;
}			words[] = {
	{"y", KUBECTL_TRUE}, {"Y", KUBECTL_TRUE}, {"yes", KUBECTL_TRUE}, {"Yes", KUBECTL_TRUE},
	{"YES", KUBECTL_TRUE}, {"true", KUBECTL_TRUE}, {"True", KUBECTL_TRUE}, {"TRUE", KUBECTL_TRUE},
	{"on", KUBECTL_TRUE}, {"On", KUBECTL_TRUE}, {"ON", KUBECTL_TRUE},
	{"n", KUBECTL_FALSE}, {"N", KUBECTL_FALSE}, {"no", KUBECTL_FALSE}, {"No", KUBECTL_FALSE},
	{"NO", KUBECTL_FALSE}, {"false", KUBECTL_FALSE}, {"False", KUBECTL_FALSE}, {"FALSE", KUBECTL_FALSE},
	{"off", KUBECTL_FALSE}, {"Off", KUBECTL_FALSE}, {"OFF", KUBECTL_FALSE},
	{"", KUBECTL_NULL}, {"~", KUBECTL_NULL}, {"null", KUBECTL_NULL}, {"Null", KUBECTL_NULL},
	{"NULL", KUBECTL_NULL},
	{".nan", KUBECTL_NOT_FINITE}, {".NaN", KUBECTL_NOT_FINITE}, {".NAN", KUBECTL_NOT_FINITE},
	{".inf", KUBECTL_NOT_FINITE}, {".Inf", KUBECTL_NOT_FINITE}, {".INF", KUBECTL_NOT_FINITE},
	{"+.inf", KUBECTL_NOT_FINITE}, {"+.Inf", KUBECTL_NOT_FINITE}, {"+.INF", KUBECTL_NOT_FINITE},
	{"-.inf", KUBECTL_NOT_FINITE}, {"-.Inf", KUBECTL_NOT_FINITE}, {"-.INF", KUBECTL_NOT_FINITE},
};

static const char *
skip_digits(const char *s)
{
	return s + strspn(s, "0123456789");
}

/*
 * Go's strconv.ParseInt or ParseUint for base 0.  The value without its sign, if
 * this is one.
 */
static bool
parse_integer(const char *s, uint64 *value)
{
	static const struct
	{
		const char *prefix;
		const char *digits;
		int			base;
	}			bases[] = {
		{"0x", "0123456789abcdefABCDEF", 16}, {"0X", "0123456789abcdefABCDEF", 16},
		{"0o", "01234567", 8}, {"0O", "01234567", 8},
		{"0b", "01", 2}, {"0B", "01", 2},
	};
	bool		is_signed = *s == '+' || *s == '-';
	bool		negative = *s == '-';
	const char *digits = "0123456789";
	int			base = 10;

	s += is_signed;
	if (*s == '0' && s[1] != '\0')
	{
		digits = "01234567";
		base = 8;
		for (int i = 0; i < lengthof(bases); i++)
		{
			if (strncmp(s, bases[i].prefix, 2) == 0)
			{
				digits = bases[i].digits;
				base = bases[i].base;
				s += 2;
				break;
			}
		}
	}
	if (*s == '\0' || s[strspn(s, digits)] != '\0')
		return false;
	errno = 0;
	*value = strtou64(s, NULL, base);
	return errno == 0 &&
		(!is_signed || *value <= (uint64) PG_INT64_MAX + (negative ? 1 : 0));
}

static bool
is_integer(const char *s)
{
	uint64		value;

	return parse_integer(s, &value);
}

/* A finite number that go-yaml's regular expression lets through. */
static bool
is_float(const char *s)
{
	const char *p = s + (*s == '+' || *s == '-');
	const char *after = skip_digits(p);
	bool		digits = after > p;

	p = after;
	if (*p == '.')
	{
		after = skip_digits(++p);
		if (!digits && after == p)
			return false;
		p = after;
	}
	else if (!digits)
		return false;
	if (*p == 'e' || *p == 'E')
	{
		p++;
		p += *p == '+' || *p == '-';
		after = skip_digits(p);
		if (after == p)
			return false;
		p = after;
	}
	return *p == '\0' && !isinf(strtod(s, NULL));
}

/* One or two digits; NULL if there are none. */
static const char *
short_number(const char *s, int *number)
{
	int			len = Min(skip_digits(s) - s, 2);

	if (len == 0)
		return NULL;
	*number = atoi(pnstrdup(s, len));
	return s + len;
}

static const char *
expect(const char *s, char c)
{
	return s != NULL && *s == c ? s + 1 : NULL;
}

static bool
is_zone(const char *s)
{
	if (*s == 'Z')
		return s[1] == '\0';
	return (*s == '+' || *s == '-') && strspn(s + 1, "0123456789") == 2 && s[3] == ':' &&
		strspn(s + 4, "0123456789") == 2 && s[6] == '\0' && atoi(s + 1) <= 24 && atoi(s + 4) < 60;
}

/* The four layouts that go-yaml tries. */
static bool
is_timestamp(const char *s)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			n[6] = {0};
	int			year;
	bool		leap;
	char		separator;

	if (skip_digits(s) != s + 4)
		return false;
	year = atoi(pnstrdup(s, 4));
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	s = expect(s + 4, '-');
	s = s ? short_number(s, &n[1]) : NULL;
	s = expect(s, '-');
	s = s ? short_number(s, &n[2]) : NULL;
	if (s == NULL || n[1] < 1 || n[1] > 12 || n[2] < 1 ||
		n[2] > days[n[1] - 1] + (n[1] == 2 && leap ? 1 : 0))
		return false;
	if (*s == '\0')
		return true;

	separator = *s++;
	if (separator != 'T' && separator != 't' && separator != ' ')
		return false;
	for (int i = 3; i < 6; i++)
	{
		if (i > 3)
			s = expect(s, ':');
		s = s ? short_number(s, &n[i]) : NULL;
		if (s == NULL || n[i] > (i == 3 ? 23 : 59))
			return false;
	}
	if ((*s == '.' || *s == ',') && isdigit((unsigned char) s[1]))
		s = skip_digits(s + 1);
	return separator == ' ' ? *s == '\0' : is_zone(s);
}

/* [-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)? */
static bool
is_base60(const char *s)
{
	bool		colon = false;

	s += *s == '+' || *s == '-';
	if (!isdigit((unsigned char) *s))
		return false;
	s += strspn(s, "0123456789_");
	while (*s == ':')
	{
		int			len;

		s++;
		len = skip_digits(s) - s;
		if (len < 1 || len > 2 || (len == 2 && *s > '5'))
			return false;
		s += len;
		colon = true;
	}
	if (*s == '.')
		s += 1 + strspn(s + 1, "0123456789_");
	return colon && *s == '\0';
}

static char *
without_underscores(const char *s)
{
	char	   *result = palloc(strlen(s) + 1);
	char	   *p = result;

	for (; *s != '\0'; s++)
	{
		if (*s != '_')
			*p++ = *s;
	}
	*p = '\0';
	return result;
}

static bool
resolves_to_string(const char *s)
{
	return kubectl_resolve_scalar(s) == KUBECTL_STRING && !is_timestamp(s) && !is_base60(s);
}

/*
 * What go-yaml reads a plain scalar as.  Times come back as strings.
 */
KubectlScalar
kubectl_resolve_scalar(const char *s)
{
	char	   *plain;

	if (*s == '\0' || strchr("yYnNtTfFoO~.+-", *s) != NULL)
	{
		for (int i = 0; i < lengthof(words); i++)
		{
			if (strcmp(words[i].text, s) == 0)
				return words[i].scalar;
		}
	}
	if (*s == '.')
		return is_float(s) ? KUBECTL_FLOAT : KUBECTL_STRING;
	if (*s == '\0' || strchr("+-0123456789", *s) == NULL || is_timestamp(s))
		return KUBECTL_STRING;
	plain = without_underscores(s);
	return is_integer(plain) ? KUBECTL_INTEGER : is_float(plain) ? KUBECTL_FLOAT : KUBECTL_STRING;
}

/*
 * The number that a scalar stands for, in a way that numeric_in() reads.
 */
char *
kubectl_scalar_number(const char *s)
{
	char	   *plain = without_underscores(s);
	uint64		value;

	if (parse_integer(plain, &value))
		return psprintf("%s" UINT64_FORMAT, *plain == '-' ? "-" : "", value);
	return plain;
}

/*
 * ---------- Styles ----------
 */

typedef enum Style
{
	PLAIN,
	SINGLE_QUOTED,
	DOUBLE_QUOTED,
	LITERAL
} Style;

/* What libyaml's analysis finds out about a text. */
typedef struct Analysis
{
	bool		multiline;
	bool		plain_allowed;
	bool		single_quoted_allowed;
	bool		block_allowed;
} Analysis;

static bool
is_indicator(const char *s, const char *start, const char *end)
{
	bool		blank_follows = is_blank_or_end(s + 1, end);

	if (s == start)
		return strchr("#,[]{}&*!|>'\"%@`", *s) != NULL ||
			(strchr("?:-", *s) != NULL && blank_follows);
	return (*s == ':' && blank_follows) || (*s == '#' && is_blank_or_end(s - 1, end));
}

static Analysis
analyze(const char *s, int len)
{
	Analysis	a = {false, true, true, true};
	const char *end = s + len;
	bool		after_space = false;
	bool		after_break = false;
	bool		indicators = len >= 3 && (memcmp(s, "---", 3) == 0 || memcmp(s, "...", 3) == 0);
	bool		outer_blank = false;
	bool		break_space = false;
	bool		space_break = false;
	bool		special = false;

	if (len == 0)
	{
		a.block_allowed = false;
		return a;
	}
	for (const char *p = s; p < end; p += pg_mblen(p))
	{
		bool		outermost = p == s || p + pg_mblen(p) >= end;

		indicators = indicators || is_indicator(p, s, end);
		special = special || !is_printable(p);
		if (is_space(p, end))
		{
			outer_blank = outer_blank || outermost;
			if (p + 1 == end)
				a.block_allowed = false;
			break_space = break_space || after_break;
			after_space = true;
			after_break = false;
		}
		else if (is_break(p, end))
		{
			a.multiline = true;
			outer_blank = outer_blank || outermost;
			space_break = space_break || after_space;
			after_space = false;
			after_break = true;
		}
		else
			after_space = after_break = false;
	}
	if (outer_blank || break_space || space_break || special || a.multiline || indicators)
		a.plain_allowed = false;
	if (break_space || space_break || special)
		a.single_quoted_allowed = false;
	if (space_break || special)
		a.block_allowed = false;
	return a;
}

static Style
choose_style(const char *s, const Analysis *a, bool simple_key)
{
	Style		style = strchr(s, '\n') != NULL ? LITERAL :
		resolves_to_string(s) ? PLAIN : DOUBLE_QUOTED;

	if (simple_key && a->multiline)
		style = DOUBLE_QUOTED;
	if (style == PLAIN && (!a->plain_allowed || (s[0] == '\0' && simple_key)))
		style = SINGLE_QUOTED;
	if (style == SINGLE_QUOTED && !a->single_quoted_allowed)
		style = DOUBLE_QUOTED;
	if (style == LITERAL && (!a->block_allowed || simple_key))
		style = DOUBLE_QUOTED;
	return style;
}

/*
 * ---------- Scalars ----------
 */

/* Plain, or between single quotes. */
static void
write_flowing(Emitter *e, const char *s, int len, bool quoted, bool allow_breaks)
{
	const char *start = s;
	const char *end = s + len;
	bool		spaces = false;
	bool		breaks = false;

	if (quoted)
		write_indicator(e, "'", true, false);
	else if (!e->whitespace)
		put(e, ' ');
	while (s < end)
	{
		if (is_space(s, end))
		{
			if (allow_breaks && !spaces && e->column > BEST_WIDTH && !is_space(s + 1, end) &&
				(!quoted || (s > start && s < end - 1)))
			{
				write_indent(e);
				s++;
			}
			else
				s = write_char(e, s);
			spaces = true;
		}
		else if (is_break(s, end))
		{
			if (!breaks && *s == '\n')
				put_break(e);
			s = write_break(e, s);
			e->indention = true;
			breaks = true;
		}
		else
		{
			if (breaks)
				write_indent(e);
			if (quoted && *s == '\'')
				put(e, '\'');
			s = write_char(e, s);
			e->indention = false;
			spaces = breaks = false;
		}
	}
	if (quoted)
		write_indicator(e, "'", false, false);
	e->whitespace = false;
	e->indention = false;
}

/* Returns what comes after the character. */
static const char *
write_escaped(Emitter *e, const char *s)
{
	static const struct
	{
		pg_wchar	code;
		char		letter;
	}			letters[] = {
		{0x07, 'a'}, {0x08, 'b'}, {0x09, 't'}, {0x0a, 'n'}, {0x0b, 'v'}, {0x0c, 'f'},
		{0x0d, 'r'}, {0x1b, 'e'}, {0x22, '"'}, {0x5c, '\\'}, {0x85, 'N'}, {0xa0, '_'},
		{0x2028, 'L'}, {0x2029, 'P'},
	};
	pg_wchar	code = utf8_to_unicode((const unsigned char *) s);
	char	   *text = NULL;

	for (int i = 0; i < lengthof(letters); i++)
	{
		if (letters[i].code == code)
			text = psprintf("\\%c", letters[i].letter);
	}
	if (text == NULL)
		text = psprintf(code <= 0xff ? "\\x%02X" : code <= 0xffff ? "\\u%04X" : "\\U%08X", code);
	for (; *text != '\0'; text++)
		put(e, *text);
	return s + pg_mblen(s);
}

static void
write_double_quoted(Emitter *e, const char *s, int len, bool allow_breaks)
{
	const char *start = s;
	const char *end = s + len;
	bool		spaces = false;

	/* go-yaml looks for a byte order mark at the beginning, whatever it writes */
	bool		all_escaped = len >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0;

	write_indicator(e, "\"", true, false);
	while (s < end)
	{
		if (all_escaped || !is_printable(s) || is_break(s, end) || *s == '"' || *s == '\\')
		{
			s = write_escaped(e, s);
			spaces = false;
		}
		else if (is_space(s, end))
		{
			if (allow_breaks && !spaces && e->column > BEST_WIDTH && s > start && s < end - 1)
			{
				write_indent(e);
				if (is_space(s + 1, end))
					put(e, '\\');
				s++;
			}
			else
				s = write_char(e, s);
			spaces = true;
		}
		else
		{
			s = write_char(e, s);
			spaces = false;
		}
	}
	write_indicator(e, "\"", false, false);
}

/* The last character before p. */
static const char *
character_before(const char *p)
{
	do
		p--;
	while ((*p & 0xc0) == 0x80);
	return p;
}

/* How to read the blanks at the ends of a block. */
static void
write_hints(Emitter *e, const char *s, const char *end)
{
	const char *last = character_before(end);

	if (is_space(s, end) || is_break(s, end))
		write_indicator(e, psprintf("%d", BEST_INDENT), false, false);
	if (!is_break(last, end))
		write_indicator(e, "-", false, false);
	else if (last == s || is_break(character_before(last), end))
		write_indicator(e, "+", false, false);
}

static void
write_literal(Emitter *e, const char *s, int len)
{
	const char *end = s + len;
	bool		breaks = true;

	write_indicator(e, "|", true, false);
	write_hints(e, s, end);
	put_break(e);
	e->indention = true;
	e->whitespace = true;
	while (s < end)
	{
		if (is_break(s, end))
		{
			s = write_break(e, s);
			e->indention = true;
			breaks = true;
		}
		else
		{
			if (breaks)
				write_indent(e);
			s = write_char(e, s);
			e->indention = false;
			breaks = false;
		}
	}
}

/*
 * sigs.k8s.io/yaml reads JSON with a YAML parser, and goes on from what that makes of
 * it.  It takes a next line (U+0085) for a line break, and folds it; and refuses
 * other control characters that JSON has without escapes.
 */
static char *
as_read_from_json(const char *s, int len)
{
	const char *end = s + len;
	StringInfoData text;

	initStringInfo(&text);
	while (s < end)
	{
		const unsigned char *u = (const unsigned char *) s;
		const char *p = s + strspn(s, " ");
		int			breaks = 0;

		while (end - p >= 2 && memcmp(p, "\xc2\x85", 2) == 0)
		{
			breaks++;
			p += 2;
			p += strspn(p, " ");
		}
		if (breaks > 0)
		{
			if (breaks == 1)
				appendStringInfoChar(&text, ' ');
			while (--breaks > 0)
				appendStringInfoChar(&text, '\n');
			s = p;
			continue;
		}
		if (u[0] == 0x7f || (u[0] == 0xc2 && u[1] < 0xa0) ||
			(u[0] == 0xef && u[1] == 0xbf && u[2] >= 0xbe))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("error: yaml: control characters are not allowed")));
		p = s + pg_mblen(s);
		appendBinaryStringInfo(&text, s, p - s);
		s = p;
	}
	return text.data;
}

static void
emit_string(Emitter *e, const JsonbValue *value, bool simple_key)
{
	char	   *s = as_read_from_json(pnstrdup(value->val.string.val, value->val.string.len),
									  value->val.string.len);
	int			len = strlen(s);
	Analysis	a = analyze(s, len);
	int			indent = e->indent;

	CHECK_FOR_INTERRUPTS();
	e->indent = indent < 0 ? BEST_INDENT : indent + BEST_INDENT;
	switch (choose_style(s, &a, simple_key))
	{
		case PLAIN:
			write_flowing(e, s, len, false, !simple_key);
			break;
		case SINGLE_QUOTED:
			write_flowing(e, s, len, true, !simple_key);
			break;
		case DOUBLE_QUOTED:
			write_double_quoted(e, s, len, !simple_key);
			break;
		case LITERAL:
			write_literal(e, s, len);
			break;
	}
	e->indent = indent;
	pfree(s);
}

/* Null, booleans and numbers are what they look like. */
static void
emit_bare(Emitter *e, const char *text)
{
	write_indicator(e, text, true, false);
}

/*
 * ---------- Collections ----------
 */

static bool
is_letter(pg_wchar c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static bool
is_digit(pg_wchar c)
{
	return c >= '0' && c <= '9';
}

/* The number that stands from i on; *i is then behind it. */
static int64
number_at(const pg_wchar *s, int len, int *i, int64 start)
{
	uint64		number = start;

	for (; *i < len && is_digit(s[*i]); (*i)++)
		number = number * 10 + (s[*i] - '0');
	return number;
}

/* go-yaml's order of keys: that of the letters, and numbers by their value. */
static int
compare_keys(const pg_wchar *a, int alen, const pg_wchar *b, int blen)
{
	for (int i = 0; i < alen && i < blen; i++)
	{
		int			ai = i;
		int			bi = i;
		int64		start = 0;
		int64		an;
		int64		bn;

		if (a[i] == b[i])
			continue;
		if (is_letter(a[i]) && is_letter(b[i]))
			return a[i] < b[i] ? -1 : 1;
		if (is_letter(a[i]) || is_letter(b[i]))
			return is_letter(b[i]) ? -1 : 1;
		if (a[i] == '0' || b[i] == '0')
		{
			for (int j = i - 1; j >= 0 && is_digit(a[j]); j--)
			{
				if (a[j] != '0')
					start = 1;
			}
		}
		an = number_at(a, alen, &ai, start);
		bn = number_at(b, blen, &bi, start);
		if (an != bn)
			return an < bn ? -1 : 1;
		if (ai != bi)
			return ai - bi;
		return a[i] < b[i] ? -1 : 1;
	}
	return alen - blen;
}

static int
compare_members(const ListCell *x, const ListCell *y)
{
	const JsonbValue *a = &((KubectlMember *) lfirst(x))->key;
	const JsonbValue *b = &((KubectlMember *) lfirst(y))->key;
	pg_wchar   *aw = palloc((a->val.string.len + 1) * sizeof(pg_wchar));
	pg_wchar   *bw = palloc((b->val.string.len + 1) * sizeof(pg_wchar));
	int			alen = pg_mb2wchar_with_len(a->val.string.val, aw, a->val.string.len);
	int			blen = pg_mb2wchar_with_len(b->val.string.val, bw, b->val.string.len);
	int			result = compare_keys(aw, alen, bw, blen);

	pfree(aw);
	pfree(bw);
	return result;
}

static void emit(Emitter *e, const JsonbValue *value, bool in_mapping);

static void
emit_key(Emitter *e, const JsonbValue *key)
{
	Analysis	a = analyze(key->val.string.val, key->val.string.len);

	write_indent(e);
	if (!a.multiline && key->val.string.len <= MAX_SIMPLE_KEY)
	{
		emit_string(e, key, true);
		write_indicator(e, ":", false, false);
		return;
	}
	write_indicator(e, "?", true, true);
	emit_string(e, key, false);
	write_indent(e);
	write_indicator(e, ":", true, true);
}

static void
emit_mapping(Emitter *e, JsonbContainer *object)
{
	int			indent = e->indent;
	List	   *members = kubectl_members(object);
	ListCell   *lc;

	list_sort(members, compare_members);
	e->indent = indent < 0 ? 0 : indent + BEST_INDENT;
	foreach(lc, members)
	{
		KubectlMember *member = lfirst(lc);

		emit_key(e, &member->key);
		emit(e, &member->value, true);
	}
	e->indent = indent;
	list_free_deep(members);
}

static void
emit_sequence(Emitter *e, JsonbContainer *array, bool in_mapping)
{
	int			indent = e->indent;
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	v;

	/* not indented within a mapping */
	if (!in_mapping || e->indention)
		e->indent = indent < 0 ? 0 : indent + BEST_INDENT;
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		write_indent(e);
		write_indicator(e, "-", true, true);
		emit(e, &v, false);
	}
	e->indent = indent;
}

static void
emit_container(Emitter *e, JsonbContainer *container, bool in_mapping)
{
	check_stack_depth();
	if (JsonContainerSize(container) == 0)
		emit_bare(e, JsonContainerIsObject(container) ? "{}" : "[]");
	else if (JsonContainerIsObject(container))
		emit_mapping(e, container);
	else
		emit_sequence(e, container, in_mapping);
}

static void
emit(Emitter *e, const JsonbValue *value, bool in_mapping)
{
	switch (value->type)
	{
		case jbvNull:
			emit_bare(e, "null");
			break;
		case jbvBool:
			emit_bare(e, value->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			emit_bare(e, kubectl_number_text(value->val.numeric));
			break;
		case jbvString:
			emit_string(e, value, false);
			break;
		case jbvBinary:
			emit_container(e, value->val.binary.data, in_mapping);
			break;
		default:
			elog(ERROR, "unexpected type %d of a jsonb value", value->type);
	}
}

/*
 * As -o yaml.
 */
void
kubectl_print_yaml(StringInfo out, const Jsonb *value)
{
	Emitter		e = {.out = out, .indent = -1, .whitespace = true, .indention = true};
	JsonbValue	v;

	if (JB_ROOT_IS_SCALAR(value))
		(void) JsonbExtractScalar(&unconstify(Jsonb *, value)->root, &v);
	else
		JsonbToJsonbValue(unconstify(Jsonb *, value), &v);
	emit(&e, &v, false);
	write_indent(&e);
}

/*
 * SQL: kubectl_yaml(object)
 */
Datum
kubectl_yaml(PG_FUNCTION_ARGS)
{
	StringInfoData out;

	initStringInfo(&out);
	kubectl_print_yaml(&out, PG_GETARG_JSONB_P(0));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
