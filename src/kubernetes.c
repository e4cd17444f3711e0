/*
 * kubernetes.c
 *		Words of Kubernetes that people recognise, and its times.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_age);

/*
 * A duration in the words of k8s.io/apimachinery's HumanDuration: two units
 * while the first is small, then one.
 */
static char *
human_duration(int64 seconds)
{
	static const struct
	{
		int64		below;		/* seconds */
		int64		unit;
		char		letter;
		int64		subunit;	/* 0: shown without */
		char		subletter;
	}			steps[] = {
		{2 * SECS_PER_MINUTE, 1, 's', 0, 0},
		{10 * SECS_PER_MINUTE, SECS_PER_MINUTE, 'm', 1, 's'},
		{3 * SECS_PER_HOUR, SECS_PER_MINUTE, 'm', 0, 0},
		{8 * SECS_PER_HOUR, SECS_PER_HOUR, 'h', SECS_PER_MINUTE, 'm'},
		{2 * SECS_PER_DAY, SECS_PER_HOUR, 'h', 0, 0},
		{8 * SECS_PER_DAY, SECS_PER_DAY, 'd', SECS_PER_HOUR, 'h'},
		{INT64CONST(2) * 365 * SECS_PER_DAY, SECS_PER_DAY, 'd', 0, 0},
		{INT64CONST(8) * 365 * SECS_PER_DAY, INT64CONST(365) * SECS_PER_DAY, 'y', SECS_PER_DAY, 'd'},
		{PG_INT64_MAX, INT64CONST(365) * SECS_PER_DAY, 'y', 0, 0},
	};
	int			i = 0;
	int64		rest;

	if (seconds < -1)
		return pstrdup("<invalid>");
	if (seconds < 0)
		seconds = 0;

	while (seconds >= steps[i].below)
		i++;
	rest = steps[i].subunit == 0 ? 0 : seconds % steps[i].unit / steps[i].subunit;
	if (rest == 0)
		return psprintf(INT64_FORMAT "%c", seconds / steps[i].unit, steps[i].letter);
	return psprintf(INT64_FORMAT "%c" INT64_FORMAT "%c", seconds / steps[i].unit,
					steps[i].letter, rest, steps[i].subletter);
}

/*
 * The time from since to at, as kubectl's column AGE has it.  since may be
 * LEASE_NO_TIME.
 */
char *
lease_age_text(TimestampTz since, TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(since))
		return pstrdup("<unknown>");

	/* Division truncates towards zero, as Go's does. */
	return human_duration((at - since) / USECS_PER_SEC);
}

/*
 * SQL: lease_age(since, at)
 */
Datum
lease_age(PG_FUNCTION_ARGS)
{
	TimestampTz since = PG_ARGISNULL(0) ? LEASE_NO_TIME : PG_GETARG_TIMESTAMPTZ(0);

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(lease_age_text(since, PG_GETARG_TIMESTAMPTZ(1))));
}

/* Is s like the pattern, in which 0 stands for any digit? */
static bool
is_like(const char *s, const char *pattern)
{
	for (; *pattern != '\0'; s++, pattern++)
	{
		if (*pattern == '0' ? !(*s >= '0' && *s <= '9') : *s != *pattern)
			return false;
	}
	return true;
}

/* Two digits */
static int
two(const char *s)
{
	return (s[0] - '0') * 10 + s[1] - '0';
}

/*
 * A time of RFC 3339, as the API writes them, for example 2022-11-30T15:42:41.472898Z.
 * False if the text is something else.
 */
bool
lease_parse_time(const char *text, int len, TimestampTz *result)
{
	const char *s = pnstrdup(text, len);
	struct pg_tm tm = {0};
	fsec_t		fsec = 0;
	int			offset = 0;

	if (!is_like(s, "0000-00-00T00:00:00"))
		return false;
	tm.tm_year = two(s) * 100 + two(s + 2);
	tm.tm_mon = two(s + 5);
	tm.tm_mday = two(s + 8);
	tm.tm_hour = two(s + 11);
	tm.tm_min = two(s + 14);
	tm.tm_sec = two(s + 17);
	s += 19;
	if (is_like(s, ".0"))
	{
		s++;
		for (int unit = USECS_PER_SEC / 10; *s >= '0' && *s <= '9'; unit /= 10)
			fsec += (*s++ - '0') * unit;
	}
	if (is_like(s, "+00:00") || is_like(s, "-00:00"))
	{
		/* PostgreSQL counts westwards */
		offset = (two(s + 1) * SECS_PER_HOUR + two(s + 4) * SECS_PER_MINUTE) * (*s == '-' ? 1 : -1);
		if (two(s + 1) > 23 || two(s + 4) > 59)
			return false;
		s += 6;
	}
	else if (*s++ != 'Z')
		return false;

	return *s == '\0' && tm.tm_year > 0 && tm.tm_mon > 0 && tm.tm_mon <= MONTHS_PER_YEAR &&
		tm.tm_mday > 0 && tm.tm_mday <= day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] &&
		tm.tm_hour < HOURS_PER_DAY && tm.tm_min < MINS_PER_HOUR && tm.tm_sec < SECS_PER_MINUTE &&
		tm2timestamp(&tm, fsec, &offset, result) == 0;
}
