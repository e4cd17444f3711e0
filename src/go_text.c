/*
 * go_text.c
 *		Texts as Go's standard library makes them, where Kubernetes' messages show it.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "object.h"

/* Would Go print this character as it is?  The rest stands here. */
static bool
is_printable(uint32 c)
{
	static const struct
	{
		uint32		first;
		uint32		last;
	}			hidden[] = {
		{0, 0x1f}, {0x7f, 0xa0}, {0xad, 0xad}, {0x600, 0x605}, {0x61c, 0x61c},
		{0x6dd, 0x6dd}, {0x70f, 0x70f}, {0x890, 0x891}, {0x8e2, 0x8e2},
		{0x1680, 0x1680}, {0x180e, 0x180e}, {0x2000, 0x200f}, {0x2028, 0x202f},
		{0x205f, 0x206f}, {0x3000, 0x3000}, {0xd800, 0xf8ff}, {0xfeff, 0xfeff},
		{0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0x110bd, 0x110bd}, {0x110cd, 0x110cd},
		{0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
		{0xe0000, 0xe00ff}, {0xe01f0, 0x10ffff},
	};

	for (int i = 0; i < lengthof(hidden); i++)
	{
		if (c >= hidden[i].first && c <= hidden[i].last)
			return false;
	}
	return true;
}

/* The character at s, and its length in bytes. */
static uint32
get_character(const char *s, int *len)
{
	if (GetDatabaseEncoding() != PG_UTF8 || (unsigned char) *s < 0x80)
	{
		*len = 1;
		/* in another encoding we cannot tell: let it pass */
		return (unsigned char) *s < 0x80 ? (unsigned char) *s : 'x';
	}
	*len = pg_utf_mblen((const unsigned char *) s);
	return utf8_to_unicode((const unsigned char *) s);
}

static void
append_escaped(StringInfo out, uint32 c)
{
	static const char plain[] = "\a\b\f\n\r\t\v";
	const char *found = c == 0 || c > 0x7f ? NULL : strchr(plain, (int) c);

	if (found != NULL)
		appendStringInfo(out, "\\%c", "abfnrtv"[found - plain]);
	else if (c < ' ' || c == 0x7f)
		appendStringInfo(out, "\\x%02x", c);
	else
		appendStringInfo(out, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

/*
 * A string as Go's %q prints it.
 */
char *
lease_go_quote(const char *s, int len)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '"');
	for (int i = 0; i < len;)
	{
		int			width;
		uint32		c = get_character(s + i, &width);

		if (s[i] == '"' || s[i] == '\\')
			appendStringInfo(&out, "\\%c", s[i]);
		else if (is_printable(c))
			appendBinaryStringInfo(&out, s + i, width);
		else
			append_escaped(&out, c);
		i += width;
	}
	appendStringInfoChar(&out, '"');
	return out.data;
}

/*
 * Would Go print all of these characters as they are?
 */
bool
lease_go_prints(const char *s)
{
	int			width;

	for (; *s; s += width)
	{
		if (!is_printable(get_character(s, &width)))
			return false;
	}
	return true;
}

/*
 * strings.Join()
 */
char *
lease_join(List *texts, const char *separator)
{
	StringInfoData s;
	ListCell   *lc;

	initStringInfo(&s);
	foreach(lc, texts)
		appendStringInfo(&s, "%s%s", lc == list_head(texts) ? "" : separator, (char *) lfirst(lc));
	return s.data;
}
