/*
 * kubernetes.c
 *		Words of Kubernetes that people recognise.
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "utils/builtins.h"
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
	int64		age;

	if (TIMESTAMP_NOT_FINITE(since))
		return pstrdup("<unknown>");
	if (pg_sub_s64_overflow(at, since, &age))
		age = PG_INT64_MAX;		/* since lies before 2000, and at as late as can be */

	/* Division truncates towards zero, as Go's does. */
	return human_duration(age / USECS_PER_SEC);
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
