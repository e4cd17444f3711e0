/*
 * api.c
 *		The SQL functions that acquire, renew, release and ask.
 *
 * Each checks its arguments, calls one function of election.c, and forms the
 * result.  What the statuses are called is decided here and nowhere else.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(lease_acquire);
PG_FUNCTION_INFO_V1(lease_renew);
PG_FUNCTION_INFO_V1(lease_renew_all);
PG_FUNCTION_INFO_V1(lease_release);
PG_FUNCTION_INFO_V1(lease_holder);
PG_FUNCTION_INFO_V1(lease_is_held);

static const char *const status_names[] = {
	[LEASE_ACQUIRED] = "acquired",
	[LEASE_RENEWED] = "renewed",
	[LEASE_RELEASED] = "released",
	[LEASE_HELD] = "held",
	[LEASE_EXPIRED] = "expired",
	[LEASE_FREE] = "free",
	[LEASE_MISSING] = "missing",
	[LEASE_BUSY] = "busy",
};

/* A result column, in the order of the OUT arguments in lease.sql. */
typedef struct ResultColumn
{
	const char *name;
	Oid			type;
} ResultColumn;

#define MAX_RESULT_COLUMNS 7

/*
 * The row type of a result.  It is made once a session: looking it up in the
 * catalogs would be a noticeable part of a renewal.
 */
static TupleDesc
result_type(TupleDesc *cache, const ResultColumn *columns, int ncolumns)
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

static Datum
form_result(TupleDesc tupdesc, Datum *values, bool *nulls)
{
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}

static text *
status_text(LeaseStatus status)
{
	return cstring_to_text(status_names[status]);
}

/*
 * Time left at this moment; NULL if there is no end.
 */
static Datum
expires_in(TimestampTz expires_at, TimestampTz now, bool *isnull)
{
	Interval   *left = palloc0(sizeof(Interval));

	*isnull = TIMESTAMP_NOT_FINITE(expires_at);
	if (!*isnull)
		left->time = expires_at - now;
	return IntervalPGetDatum(left);
}

/*
 * SQL: lease_acquire(name, holder, duration, namespace)
 */
Datum
lease_acquire(PG_FUNCTION_ARGS)
{
	static const ResultColumn columns[] = {
		{"acquired", BOOLOID},
		{"status", TEXTOID},
		{"holder_identity", TEXTOID},
		{"fencing_token", INT8OID},
		{"expires_at", TIMESTAMPTZOID},
		{"expires_in", INTERVALOID},
		{"lease_transitions", INT4OID},
	};
	static TupleDesc tupdesc = NULL;
	LeaseKey	key = lease_arg_key(fcinfo, 0, 3);
	text	   *holder = lease_arg_holder(fcinfo, 1);
	int32		duration_seconds;
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;
	TimestampTz now;
	TimestampTz expires_at;
	bool		acquired;
	Datum		values[lengthof(columns)];
	bool		nulls[lengthof(columns)] = {false};

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("lease duration must not be null")));
	duration_seconds = lease_ttl_seconds(PG_GETARG_INTERVAL_P(2));
	lease_require_writable("lease_acquire()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_acquire(store, &key, holder, duration_seconds, &row, &now);
	lease_store_close(store);

	acquired = status == LEASE_ACQUIRED || status == LEASE_RENEWED;
	values[0] = BoolGetDatum(acquired);
	values[1] = PointerGetDatum(status_text(status));
	if (status == LEASE_BUSY)
		memset(&nulls[2], true, lengthof(columns) - 2);
	else
	{
		expires_at = lease_ttl_expires_at(&row);
		values[2] = PointerGetDatum(row.holder_identity);
		/* a loser has no business with the holder's token */
		nulls[3] = !acquired;
		values[3] = Int64GetDatum(row.fencing_token);
		values[4] = TimestampTzGetDatum(expires_at);
		values[5] = expires_in(expires_at, now, &nulls[5]);
		nulls[6] = row.lease_transitions == LEASE_NO_TRANSITIONS;
		values[6] = Int32GetDatum(row.lease_transitions);
	}
	return form_result(result_type(&tupdesc, columns, lengthof(columns)), values, nulls);
}

/*
 * SQL: lease_renew(name, holder, namespace, fencing_token)
 */
Datum
lease_renew(PG_FUNCTION_ARGS)
{
	static const ResultColumn columns[] = {
		{"renewed", BOOLOID},
		{"status", TEXTOID},
		{"holder_identity", TEXTOID},
		{"fencing_token", INT8OID},
		{"expires_at", TIMESTAMPTZOID},
		{"expires_in", INTERVALOID},
	};
	static TupleDesc tupdesc = NULL;
	LeaseKey	key = lease_arg_key(fcinfo, 0, 2);
	text	   *holder = lease_arg_holder(fcinfo, 1);
	int64		token = lease_arg_token(fcinfo, 3);
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;
	TimestampTz now;
	TimestampTz expires_at;
	Datum		values[lengthof(columns)];
	bool		nulls[lengthof(columns)] = {false};

	lease_require_writable("lease_renew()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_renew(store, &key, holder, token, &row, &now);
	lease_store_close(store);

	values[0] = BoolGetDatum(status == LEASE_RENEWED);
	values[1] = PointerGetDatum(status_text(status));
	if (status == LEASE_BUSY || status == LEASE_MISSING)
		memset(&nulls[2], true, lengthof(columns) - 2);
	else
	{
		expires_at = lease_ttl_expires_at(&row);
		nulls[2] = row.holder_identity == NULL;
		values[2] = PointerGetDatum(row.holder_identity);
		nulls[3] = status != LEASE_RENEWED;
		values[3] = Int64GetDatum(row.fencing_token);
		nulls[4] = expires_at == LEASE_NO_TIME;
		values[4] = TimestampTzGetDatum(expires_at);
		values[5] = expires_in(expires_at, now, &nulls[5]);
	}
	return form_result(result_type(&tupdesc, columns, lengthof(columns)), values, nulls);
}

/*
 * SQL: lease_release(name, holder, namespace, fencing_token)
 */
Datum
lease_release(PG_FUNCTION_ARGS)
{
	static const ResultColumn columns[] = {
		{"released", BOOLOID},
		{"status", TEXTOID},
		{"holder_identity", TEXTOID},
	};
	static TupleDesc tupdesc = NULL;
	LeaseKey	key = lease_arg_key(fcinfo, 0, 2);
	text	   *holder = lease_arg_holder(fcinfo, 1);
	int64		token = lease_arg_token(fcinfo, 3);
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;
	Datum		values[lengthof(columns)];
	bool		nulls[lengthof(columns)] = {false};

	lease_require_writable("lease_release()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_release(store, &key, holder, token, &row);
	lease_store_close(store);

	values[0] = BoolGetDatum(status == LEASE_RELEASED);
	values[1] = PointerGetDatum(status_text(status));
	nulls[2] = status == LEASE_BUSY || status == LEASE_MISSING ||
		row.holder_identity == NULL;
	if (!nulls[2])
		values[2] = PointerGetDatum(row.holder_identity);
	return form_result(result_type(&tupdesc, columns, lengthof(columns)), values, nulls);
}

static int
compare_texts(const void *a, const void *b)
{
	const text *x = *(text *const *) a;
	const text *y = *(text *const *) b;
	int			xlen = VARSIZE_ANY_EXHDR(x);
	int			ylen = VARSIZE_ANY_EXHDR(y);
	int			result = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), Min(xlen, ylen));

	return result != 0 ? result : (xlen > ylen) - (xlen < ylen);
}

/*
 * The names in an array, checked, sorted as the primary key sorts them, each
 * once.
 */
static int
get_names_arg(FunctionCallInfo fcinfo, int n, text ***names)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(n);
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	int			unique = 0;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("array of lease names must have one dimension")));

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	*names = palloc(Max(count, 1) * sizeof(text *));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("lease name must not be null")));
		(*names)[i] = DatumGetTextPP(elements[i]);
		lease_validate_name((*names)[i]);
	}

	qsort(*names, count, sizeof(text *), compare_texts);
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || !lease_text_equal((*names)[i], (*names)[unique - 1]))
			(*names)[unique++] = (*names)[i];
	}
	return unique;
}

/* One row of lease_renew_all(); name may be NULL. */
static void
put_count(ReturnSetInfo *rsinfo, LeaseStatus status, int64 count, text *name)
{
	Datum		values[] = {
		PointerGetDatum(status_text(status)),
		Int64GetDatum(count),
		PointerGetDatum(name),
	};
	bool		nulls[] = {false, false, name == NULL};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * Renews the leases one by one, with statuses[i] what became of names[i].
 * Returns how many were renewed.
 */
static int64
renew_names(LeaseStore *store, text *namespace, text *holder, int count,
			text **names, LeaseStatus *statuses)
{
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext,
											   "lease_renew_all", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(each);
	int64		renewed = 0;

	for (int i = 0; i < count; i++)
	{
		LeaseKey	key = {namespace, names[i]};
		LeaseRow	row;
		TimestampTz now;

		CHECK_FOR_INTERRUPTS();
		statuses[i] = lease_election_renew(store, &key, holder, 0, &row, &now);
		if (statuses[i] == LEASE_RENEWED)
			renewed++;
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(each);
	return renewed;
}

/*
 * SQL: lease_renew_all(holder, names, namespace)
 */
Datum
lease_renew_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	text	   *holder = lease_arg_holder(fcinfo, 0);
	text	   *namespace = lease_arg_text(fcinfo, 2, "lease namespace");
	LeaseStore *store;
	LeaseStatus *statuses;
	text	  **names = NULL;
	int			count = 0;
	int64		renewed;

	lease_validate_namespace(namespace);
	if (!PG_ARGISNULL(1))
		count = get_names_arg(fcinfo, 1, &names);
	lease_require_writable("lease_renew_all()");
	InitMaterializedSRF(fcinfo, 0);

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	if (PG_ARGISNULL(1))
	{
		if (store == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("could not find the leases of the holder because the table is locked"),
					 errhint("Try again, or pass the names.")));
		count = lease_store_names_of_holder(store, namespace, holder, &names);
	}

	statuses = palloc(Max(count, 1) * sizeof(LeaseStatus));
	renewed = renew_names(store, namespace, holder, count, names, statuses);
	lease_store_close(store);

	put_count(rsinfo, LEASE_RENEWED, renewed, NULL);
	for (int i = 0; i < count; i++)
	{
		if (statuses[i] != LEASE_RENEWED)
			put_count(rsinfo, statuses[i], 1, names[i]);
	}
	return (Datum) 0;
}

/*
 * Who holds the lease at this moment?  NULL if nobody does.
 */
static text *
current_holder(FunctionCallInfo fcinfo, const LeaseKey *key)
{
	LeaseStore *store = lease_store_open(fcinfo->flinfo->fn_oid, false);
	LeaseRow	row;
	TimestampTz now;
	text	   *holder = NULL;

	if (store == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not tell who holds the lease because the table is locked"),
				 errhint("Try again when the command that locks the table has ended.")));

	/* The clock first: see election.c. */
	now = GetCurrentTimestamp();
	if (lease_store_read(store, key, &row) && lease_ttl_is_valid(&row, now))
		holder = row.holder_identity;
	lease_store_close(store);
	return holder;
}

/*
 * SQL: lease_holder(name, namespace)
 */
Datum
lease_holder(PG_FUNCTION_ARGS)
{
	LeaseKey	key = lease_arg_key(fcinfo, 0, 1);
	text	   *holder = current_holder(fcinfo, &key);

	if (holder == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(holder);
}

/*
 * SQL: lease_is_held(name, holder, namespace)
 */
Datum
lease_is_held(PG_FUNCTION_ARGS)
{
	LeaseKey	key = lease_arg_key(fcinfo, 0, 2);
	text	   *wanted = PG_ARGISNULL(1) ? NULL : lease_arg_holder(fcinfo, 1);
	text	   *holder = current_holder(fcinfo, &key);

	PG_RETURN_BOOL(holder != NULL &&
				   (wanted == NULL || lease_text_equal(holder, wanted)));
}
