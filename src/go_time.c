/*
 * go_time.c
 *		Times in Kubernetes' JSON, as Go's package time reads and writes them.
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/datetime.h"

#include "lease.h"

#define MICRO_TIME_LAYOUT "2006-01-02T15:04:05.000000Z07:00"
#define TIME_LAYOUT "2006-01-02T15:04:05Z07:00"

/*
 * metav1.Time is written without its fraction.
 */
TimestampTz
lease_whole_seconds(TimestampTz time)
{
	return time - (time % USECS_PER_SEC + USECS_PER_SEC) % USECS_PER_SEC;
}

/*
 * A time in UTC, as metav1.Time or metav1.MicroTime.
 */
char *
lease_time_text(TimestampTz time, bool micro)
{
	int64		days = time / USECS_PER_DAY;
	int64		left = time % USECS_PER_DAY;
	int			year;
	int			month;
	int			day;
	char	   *text = palloc(MAXDATELEN + 1);
	int			len;

	if (left < 0)
	{
		left += USECS_PER_DAY;
		days--;
	}
	j2date((int) days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	len = snprintf(text, MAXDATELEN + 1, "%04d-%02d-%02dT%02d:%02d:%02d", year, month, day,
				   (int) (left / USECS_PER_HOUR),
				   (int) (left / USECS_PER_MINUTE % MINS_PER_HOUR),
				   (int) (left / USECS_PER_SEC % SECS_PER_MINUTE));
	if (micro)
		len += snprintf(text + len, MAXDATELEN + 1 - len, ".%06d", (int) (left % USECS_PER_SEC));
	snprintf(text + len, MAXDATELEN + 1 - len, "Z");
	return text;
}

/* Two digits, or without fixed also one.  NULL if they are not there. */
static const char *
two_digits(const char *s, bool fixed, int *n)
{
	if (!isdigit((unsigned char) s[0]))
		return NULL;
	*n = s[0] - '0';
	if (!isdigit((unsigned char) s[1]))
		return fixed ? NULL : s + 1;
	*n = *n * 10 + s[1] - '0';
	return s + 2;
}

/* As package time quotes: everything but printable ASCII in hex. */
static char *
quote_time(const char *s)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '"');
	for (; *s; s++)
	{
		unsigned char c = *s;

		if (c == '"' || c == '\\')
			appendStringInfo(&out, "\\%c", c);
		else if (c < ' ' || c >= 0x80)
			appendStringInfo(&out, "\\x%02x", c);
		else
			appendStringInfoChar(&out, c);
	}
	appendStringInfoChar(&out, '"');
	return out.data;
}

static char *
cannot_parse(const char *s, const char *layout, const char *rest, const char *element)
{
	return psprintf("parsing time %s as %s: cannot parse %s as %s", quote_time(s),
					quote_time(layout), quote_time(rest), quote_time(element));
}

static char *
out_of_range(const char *s, const char *what)
{
	return psprintf("parsing time %s: %s out of range", quote_time(s), what);
}

/* .123456 or, as in Go, ,123456.  NULL if it is none. */
static const char *
micro_fraction(const char *p, int *micros)
{
	if (*p != '.' && *p != ',')
		return NULL;
	*micros = 0;
	for (int i = 1; i <= 6; i++)
	{
		if (!isdigit((unsigned char) p[i]))
			return NULL;
		*micros = *micros * 10 + p[i] - '0';
	}
	return p + 7;
}

/* Go takes any fraction of seconds where the layout has none, or no fraction. */
static const char *
any_fraction(const char *p, int *micros)
{
	int			unit = USECS_PER_SEC / 10;

	*micros = 0;
	if ((*p != '.' && *p != ',') || !isdigit((unsigned char) p[1]))
		return p;
	for (p++; isdigit((unsigned char) *p); p++, unit /= 10)
		*micros += (*p - '0') * unit;
	return p;
}

/* Z or +09:00.  NULL if it is none; *range names what is out of range. */
static const char *
zone_offset(const char *p, int *offset, const char **range)
{
	int			hours;
	int			minutes;

	*offset = 0;
	if (*p == 'Z')
		return p + 1;
	if (strlen(p) < 6 || p[3] != ':')
		return NULL;
	if (two_digits(p + 1, true, &hours) == NULL)
		return NULL;
	if (hours > 24)
		*range = "time zone offset hour";
	if (two_digits(p + 4, true, &minutes) == NULL)
		return *range ? p : NULL;
	if (minutes > 60)
		*range = "time zone offset minute";
	*offset = (hours * MINS_PER_HOUR + minutes) * SECS_PER_MINUTE;
	if (*p == '-')
		*offset = -*offset;
	else if (*p != '+')
		return *range ? p : NULL;
	return p + 6;
}

/* The parts of a time up to its seconds, with what stands before each. */
static const struct TimePart
{
	const char *before;
	const char *element;
	bool		fixed;
	int			min;
	int			max;
	const char *name;
}			time_parts[] = {
	{"-", "01", true, 1, 12, "month"},
	{"-", "02", true, 0, 99, "day"},
	{"T", "15", false, 0, 23, "hour"},
	{":", "04", true, 0, 59, "minute"},
	{":", "05", true, 0, 59, "second"},
};

/*
 * time.Parse(), in the layout of metav1.MicroTime or of metav1.Time.  Returns what is
 * wrong with it, or NULL and sets *time.
 */
char *
lease_parse_time(const char *s, bool micro, TimestampTz *time)
{
	const char *layout = micro ? MICRO_TIME_LAYOUT : TIME_LAYOUT;
	const char *p = s;
	const char *next;
	const char *range = NULL;
	int			year = 0;
	int			n[lengthof(time_parts)];
	int			micros;
	int			offset;

	for (int i = 0; i < 4; i++)
	{
		if (!isdigit((unsigned char) s[i]))
			return cannot_parse(s, layout, s, "2006");
		year = year * 10 + s[i] - '0';
	}
	p += 4;
	for (int i = 0; i < lengthof(time_parts); i++)
	{
		const struct TimePart *part = &time_parts[i];

		if (*p != part->before[0])
			return cannot_parse(s, layout, p, part->before);
		p++;
		next = two_digits(p, part->fixed, &n[i]);
		if (next == NULL)
			return cannot_parse(s, layout, p, part->element);
		if (n[i] < part->min || n[i] > part->max)
			return out_of_range(s, part->name);
		p = next;
	}
	if (micro)
	{
		next = micro_fraction(p, &micros);
		if (next == NULL)
			return cannot_parse(s, layout, p, ".000000");
		p = next;
	}
	else
		p = any_fraction(p, &micros);

	next = zone_offset(p, &offset, &range);
	if (range != NULL)
		return out_of_range(s, range);
	if (next == NULL)
		return cannot_parse(s, layout, p, "Z07:00");
	if (*next != '\0')
		return psprintf("parsing time %s: extra text: %s", quote_time(s), quote_time(next));
	if (n[1] < 1 || n[1] > day_tab[isleap(year)][n[0] - 1])
		return out_of_range(s, "day");

	*time = (date2j(year, n[0], n[1]) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		(((int64) n[2] * MINS_PER_HOUR + n[3]) * SECS_PER_MINUTE + n[4] - offset) * USECS_PER_SEC +
		micros;
	return NULL;
}
