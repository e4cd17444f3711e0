/*
 * result.c
 *		Results of the SQL functions.  What the statuses are called is decided
 *		here and nowhere else.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "lease.h"

static const char *const status_names[] = {
	[LEASE_ACQUIRED] = "acquired",
	[LEASE_RENEWED] = "renewed",
	[LEASE_RELEASED] = "released",
	[LEASE_HANDED_OVER] = "handed_over",
	[LEASE_HELD] = "held",
	[LEASE_EXPIRED] = "expired",
	[LEASE_FREE] = "free",
	[LEASE_MISSING] = "missing",
	[LEASE_RESERVED] = "reserved",
	[LEASE_BUSY] = "busy",
};

text *
lease_status_text(LeaseStatus status)
{
	return cstring_to_text(status_names[status]);
}

/*
 * The row type of a result.  It is made once a session: looking it up in the
 * catalogs would be a noticeable part of a renewal.
 */
TupleDesc
lease_result_type(TupleDesc *cache, const LeaseResultColumn *columns, int ncolumns)
{
	MemoryContext old;
	TupleDesc	tupdesc;

	if (*cache != NULL)
		return *cache;

	old = MemoryContextSwitchTo(TopMemoryContext);
	tupdesc = CreateTemplateTupleDesc(ncolumns);
	for (int i = 0; i < ncolumns; i++)
		TupleDescInitEntry(tupdesc, i + 1, columns[i].name, columns[i].type, -1, 0);
	*cache = BlessTupleDesc(tupdesc);
	MemoryContextSwitchTo(old);
	return *cache;
}

Datum
lease_result_form(TupleDesc tupdesc, Datum *values, bool *nulls)
{
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}

/*
 * A row of the type that the function is declared with, for calls that are rare.
 */
Datum
lease_result_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

/*
 * Time left at this moment; NULL if there is no end.
 */
Datum
lease_result_expires_in(TimestampTz expires_at, TimestampTz now, bool *isnull)
{
	Interval   *left = palloc0(sizeof(Interval));

	*isnull = TIMESTAMP_NOT_FINITE(expires_at);
	if (!*isnull)
		left->time = expires_at - now;
	return IntervalPGetDatum(left);
}

/*
 * The row of lease_renew(), and of a heartbeat, which also makes and takes.
 */
Datum
lease_result_renewal(LeaseStatus status, const LeaseRow *row, const LeaseTime *time)
{
	static const LeaseResultColumn columns[] = {
		{"renewed", BOOLOID},
		{"status", TEXTOID},
		{"holder_identity", TEXTOID},
		{"fencing_token", INT8OID},
		{"expires_at", TIMESTAMPTZOID},
		{"expires_in", INTERVALOID},
	};
	static TupleDesc tupdesc = NULL;
	bool		renewed = status == LEASE_RENEWED || status == LEASE_ACQUIRED;
	Datum		values[lengthof(columns)];
	bool		nulls[lengthof(columns)] = {false};

	values[0] = BoolGetDatum(renewed);
	values[1] = PointerGetDatum(lease_status_text(status));
	if (status == LEASE_BUSY || status == LEASE_MISSING)
		memset(&nulls[2], true, lengthof(columns) - 2);
	else
	{
		TimestampTz expires_at = lease_ttl_expires_at(row, time);

		nulls[2] = row->holder_identity == NULL;
		values[2] = PointerGetDatum(row->holder_identity);
		/* a loser has no business with the holder's token */
		nulls[3] = !renewed;
		values[3] = Int64GetDatum(row->fencing_token);
		nulls[4] = expires_at == LEASE_NO_TIME;
		values[4] = TimestampTzGetDatum(expires_at);
		values[5] = lease_result_expires_in(expires_at, time->now, &nulls[5]);
	}
	return lease_result_form(lease_result_type(&tupdesc, columns, lengthof(columns)),
							 values, nulls);
}

/*
 * One row of a function that works on many leases; name may be NULL.
 */
void
lease_result_put_count(ReturnSetInfo *rsinfo, LeaseStatus status, int64 count, text *name)
{
	Datum		values[] = {
		PointerGetDatum(lease_status_text(status)),
		Int64GetDatum(count),
		PointerGetDatum(name),
	};
	bool		nulls[] = {false, false, name == NULL};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}
