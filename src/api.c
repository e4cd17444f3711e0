/*
 * api.c
 *		The SQL functions that acquire, renew, release and ask.
 *
 * Each checks its arguments, calls one function of election.c, and forms the
 * result.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_acquire);
PG_FUNCTION_INFO_V1(lease_await);
PG_FUNCTION_INFO_V1(lease_renew);
PG_FUNCTION_INFO_V1(lease_renew_all);
PG_FUNCTION_INFO_V1(lease_release);
PG_FUNCTION_INFO_V1(lease_handover);
PG_FUNCTION_INFO_V1(lease_expires_at);
PG_FUNCTION_INFO_V1(lease_not_before);
PG_FUNCTION_INFO_V1(lease_holder);
PG_FUNCTION_INFO_V1(lease_is_held);

static LeaseTerms
get_terms_args(FunctionCallInfo fcinfo, int holder, int duration,
			   int hold_at_least, int lock_delay)
{
	LeaseTerms	terms;

	terms.holder = lease_arg_holder(fcinfo, holder);
	terms.duration_seconds =
		lease_ttl_duration(lease_arg_interval(fcinfo, duration, "lease duration"));
	terms.hold_at_least =
		lease_ttl_microseconds(lease_arg_interval(fcinfo, hold_at_least, "minimum hold time"),
							   "minimum hold time");
	terms.lock_delay_seconds =
		lease_ttl_seconds(lease_arg_interval(fcinfo, lock_delay, "lock delay"), "lock delay");
	return terms;
}

/* What lease_acquire() and lease_await() are asked for. */
typedef struct AcquireArgs
{
	LeaseKey	key;
	LeaseTerms	terms;
	int64		wait;			/* microseconds */
	bool		session;
} AcquireArgs;

static AcquireArgs
get_acquire_args(FunctionCallInfo fcinfo)
{
	AcquireArgs args;

	args.key = lease_arg_key(fcinfo, 0, 3);
	args.terms = get_terms_args(fcinfo, 1, 2, 5, 6);
	args.wait = lease_ttl_microseconds(lease_arg_interval(fcinfo, 4, "wait"), "wait");
	if (PG_ARGISNULL(7))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("session must not be null")));
	args.session = PG_GETARG_BOOL(7);
	return args;
}

/*
 * Acquires, and waits if asked to.  row and time are set as by
 * lease_election_acquire().
 */
static LeaseStatus
acquire(FunctionCallInfo fcinfo, const AcquireArgs *args, bool atomic,
		LeaseRow *row, LeaseTime *time)
{
	Oid			funcid = fcinfo->flinfo->fn_oid;
	LeaseStatus status;

	if (args->wait > 0)
		status = lease_wait_acquire(funcid, &args->key, &args->terms, args->wait,
									atomic, row, time);
	else
	{
		LeaseStore *store = lease_store_open(funcid, true);

		status = lease_election_acquire(store, &args->key, &args->terms, row, time);
		lease_store_close(store);
	}
	lease_stat_answer(args->key.namespace, status, LEASE_STAT_REFUSED);
	if (args->session && (status == LEASE_ACQUIRED || status == LEASE_RENEWED))
		lease_session_bind(funcid, &args->key, row);
	return status;
}

/*
 * SQL: lease_acquire(name, holder, duration, namespace, wait, hold_at_least,
 *		lock_delay, session)
 */
Datum
lease_acquire(PG_FUNCTION_ARGS)
{
	static const LeaseResultColumn columns[] = {
		{"acquired", BOOLOID},
		{"status", TEXTOID},
		{"holder_identity", TEXTOID},
		{"fencing_token", INT8OID},
		{"expires_at", TIMESTAMPTZOID},
		{"expires_in", INTERVALOID},
		{"lease_transitions", INT4OID},
	};
	static TupleDesc tupdesc = NULL;
	AcquireArgs args = get_acquire_args(fcinfo);
	LeaseStatus status;
	LeaseRow	row;
	LeaseTime	time;
	TimestampTz expires_at;
	bool		acquired;
	Datum		values[lengthof(columns)];
	bool		nulls[lengthof(columns)] = {false};

	lease_require_writable("lease_acquire()");
	status = acquire(fcinfo, &args, true, &row, &time);

	acquired = status == LEASE_ACQUIRED || status == LEASE_RENEWED;
	values[0] = BoolGetDatum(acquired);
	values[1] = PointerGetDatum(lease_status_text(status));
	if (status == LEASE_BUSY)
		memset(&nulls[2], true, lengthof(columns) - 2);
	else
	{
		expires_at = status == LEASE_RESERVED ?
			lease_ttl_available_at(&row, args.terms.holder, &time) : lease_ttl_expires_at(&row, &time);
		nulls[2] = row.holder_identity == NULL;
		values[2] = PointerGetDatum(row.holder_identity);
		/* a loser has no business with the holder's token */
		nulls[3] = !acquired;
		values[3] = Int64GetDatum(row.fencing_token);
		values[4] = TimestampTzGetDatum(expires_at);
		values[5] = lease_result_expires_in(expires_at, time.now, &nulls[5]);
		nulls[6] = row.lease_transitions == LEASE_NO_TRANSITIONS;
		values[6] = Int32GetDatum(row.lease_transitions);
	}
	return lease_result_form(lease_result_type(&tupdesc, columns, lengthof(columns)), values, nulls);
}

/*
 * SQL: procedure lease_await(name, holder, duration, namespace, wait,
 *		hold_at_least, lock_delay, session)
 */
Datum
lease_await(PG_FUNCTION_ARGS)
{
	AcquireArgs args = get_acquire_args(fcinfo);
	LeaseRow	row;
	LeaseTime	time;
	bool		atomic = fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;

	lease_require_writable("lease_await()");
	(void) acquire(fcinfo, &args, atomic, &row, &time);
	PG_RETURN_VOID();
}

/*
 * SQL: lease_renew(name, holder, namespace, fencing_token)
 */
Datum
lease_renew(PG_FUNCTION_ARGS)
{
	LeaseKey	key = lease_arg_key(fcinfo, 0, 2);
	text	   *holder = lease_arg_holder(fcinfo, 1);
	int64		token = lease_arg_token(fcinfo, 3);
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;
	LeaseTime	time;

	lease_require_writable("lease_renew()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_renew(store, &key, holder, token, &row, &time);
	lease_store_close(store);
	lease_stat_answer(key.namespace, status, LEASE_STAT_LOST);

	return lease_result_renewal(status, &row, &time);
}

/* history.c counts what has been given up. */
static void
count_busy(const LeaseKey *key, LeaseStatus status)
{
	if (status == LEASE_BUSY)
		lease_stat_count(LEASE_STAT_BUSY, key->namespace, 1);
}

/*
 * The result of a call that gives a lease up.
 */
static Datum
form_given_up(TupleDesc tupdesc, bool given_up, LeaseStatus status, const LeaseRow *row)
{
	bool		known = status != LEASE_BUSY && status != LEASE_MISSING &&
		row->holder_identity != NULL;
	Datum		values[] = {
		BoolGetDatum(given_up),
		PointerGetDatum(lease_status_text(status)),
		PointerGetDatum(known ? row->holder_identity : NULL),
	};
	bool		nulls[] = {false, false, !known};

	return lease_result_form(tupdesc, values, nulls);
}

/*
 * SQL: lease_release(name, holder, namespace, fencing_token)
 */
Datum
lease_release(PG_FUNCTION_ARGS)
{
	static const LeaseResultColumn columns[] = {
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

	lease_require_writable("lease_release()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_release(store, &key, holder, token, LEASE_ON_RELEASE, &row);
	lease_store_close(store);
	count_busy(&key, status);

	return form_given_up(lease_result_type(&tupdesc, columns, lengthof(columns)),
						 status == LEASE_RELEASED, status, &row);
}

/*
 * SQL: lease_handover(name, holder, successor, namespace, fencing_token, reserve)
 */
Datum
lease_handover(PG_FUNCTION_ARGS)
{
	static const LeaseResultColumn columns[] = {
		{"handed_over", BOOLOID},
		{"status", TEXTOID},
		{"holder_identity", TEXTOID},
	};
	static TupleDesc tupdesc = NULL;
	LeaseKey	key = lease_arg_key(fcinfo, 0, 3);
	text	   *holder = lease_arg_holder(fcinfo, 1);
	text	   *successor = lease_arg_holder(fcinfo, 2);
	int64		token = lease_arg_token(fcinfo, 4);
	int64		reserve = lease_ttl_microseconds(lease_arg_interval(fcinfo, 5, "reserve"),
												 "reserve");
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;

	if (lease_text_equal(holder, successor))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease cannot be handed over to its own holder"),
				 errhint("To keep it, call lease_renew(); to give it up for everybody, lease_release().")));
	lease_require_writable("lease_handover()");

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	status = lease_election_handover(store, &key, holder, token, successor, reserve, &row);
	lease_store_close(store);
	count_busy(&key, status);

	return form_given_up(lease_result_type(&tupdesc, columns, lengthof(columns)),
						 status == LEASE_HANDED_OVER, status, &row);
}

/* What lease_renew_all() has done so far. */
typedef struct Renewals
{
	LeaseStore *store;
	LeaseBatch *batch;			/* NULL: one by one */
	text	   *holder;
	LeaseTime	time;
	MemoryContext each;
	int64		renewed;
	List	   *refused;		/* of Refusal */
} Renewals;

typedef struct Refusal
{
	LeaseStatus status;
	text	   *name;
} Refusal;

/*
 * Renews a lease.  They come in the order of their names.
 */
static void
renew_next(Renewals *r, const LeaseKey *key)
{
	MemoryContext old = MemoryContextSwitchTo(r->each);
	LeaseStatus status;

	CHECK_FOR_INTERRUPTS();
	status = lease_election_renew_next(r->store, r->batch, key, r->holder, &r->time);
	lease_stat_answer(key->namespace, status, LEASE_STAT_LOST);
	MemoryContextSwitchTo(old);
	MemoryContextReset(r->each);

	if (status == LEASE_RENEWED)
		r->renewed++;
	else
	{
		Refusal    *refusal = palloc(sizeof(Refusal));

		refusal->status = status;
		refusal->name = lease_text_copy(key->name);
		r->refused = lappend(r->refused, refusal);
	}
}

/*
 * Where many leases of the namespace are the holder's, to go past all of them is the
 * quickest way to find his.  If it turns out that they are not, the executor searches
 * for the rest.
 */
static void
renew_all_of_holder(Renewals *r, text *namespace)
{
	LeaseKey	key = {namespace, cstring_to_text("")};
	LeaseKey   *rest;
	int			count;

	if (r->batch != NULL)
	{
		bool		passed;

		while (lease_batch_next_of_holder(r->batch, r->holder, &key, &passed))
		{
			if (passed)
				r->time = lease_clock_read();
			renew_next(r, &key);
		}
		if (lease_batch_is_at_end(r->batch))
			return;
	}
	count = lease_store_keys_of_holder(r->store, namespace, r->holder, &rest);
	r->time = lease_clock_read();
	for (int i = 0; i < count; i++)
	{
		if (lease_text_compare(rest[i].name, key.name) > 0)
			renew_next(r, &rest[i]);
	}
}

/*
 * SQL: lease_renew_all(holder, names, namespace)
 */
Datum
lease_renew_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	text	   *namespace = lease_arg_text(fcinfo, 2, "lease namespace");
	bool		by_name = !PG_ARGISNULL(1);
	Renewals	r = {.holder = lease_arg_holder(fcinfo, 0)};
	LeaseKey   *keys;
	int			count = 0;
	ListCell   *lc;

	lease_validate_namespace(namespace);
	if (by_name)
		count = lease_arg_names(fcinfo, 1, namespace, &keys);
	lease_require_writable("lease_renew_all()");
	InitMaterializedSRF(fcinfo, 0);

	r.store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	if (r.store == NULL && !by_name)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not find the leases of the holder because the table is locked"),
				 errhint("Try again, or pass the names.")));

	r.each = AllocSetContextCreate(CurrentMemoryContext, "lease_renew_all", ALLOCSET_SMALL_SIZES);
	r.time = lease_clock_read();
	r.batch = by_name && count <= 1 ? NULL : lease_batch_begin(r.store);
	for (int i = 0; i < count; i++)
		renew_next(&r, &keys[i]);
	if (!by_name)
		renew_all_of_holder(&r, namespace);
	lease_batch_end(r.batch);
	MemoryContextDelete(r.each);
	lease_store_close(r.store);

	lease_result_put_count(rsinfo, LEASE_RENEWED, r.renewed, NULL);
	foreach(lc, r.refused)
	{
		Refusal    *refusal = lfirst(lc);

		lease_result_put_count(rsinfo, refusal->status, 1, refusal->name);
	}
	return (Datum) 0;
}

/*
 * SQL: lease_expires_at(holder_identity, renew_time, lease_duration_seconds,
 *		resource_version)
 */
Datum
lease_expires_at(PG_FUNCTION_ARGS)
{
	LeaseTime	time = lease_clock_read();
	LeaseRow	row = {0};
	TimestampTz expires_at;

	row.holder_identity = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	row.renew_time = PG_ARGISNULL(1) ? LEASE_NO_TIME : PG_GETARG_TIMESTAMPTZ(1);
	row.lease_duration_seconds = PG_ARGISNULL(2) ? LEASE_NO_DURATION : PG_GETARG_INT32(2);
	row.resource_version = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);

	expires_at = lease_ttl_expires_at(&row, &time);
	if (expires_at == LEASE_NO_TIME)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(expires_at);
}

/*
 * SQL: lease_not_before(not_before, renew_time, resource_version)
 */
Datum
lease_not_before(PG_FUNCTION_ARGS)
{
	LeaseTime	time = lease_clock_read();
	LeaseRow	row = {0};

	if (PG_ARGISNULL(0) || TIMESTAMP_IS_NOBEGIN(PG_GETARG_TIMESTAMPTZ(0)))
		PG_RETURN_NULL();
	row.not_before = PG_GETARG_TIMESTAMPTZ(0);
	row.renew_time = PG_ARGISNULL(1) ? LEASE_NO_TIME : PG_GETARG_TIMESTAMPTZ(1);
	row.resource_version = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	PG_RETURN_TIMESTAMPTZ(lease_ttl_not_before(&row, &time));
}

/*
 * Who holds the lease at this moment?  NULL if nobody does.
 */
static text *
current_holder(FunctionCallInfo fcinfo, const LeaseKey *key)
{
	LeaseStore *store = lease_store_open(fcinfo->flinfo->fn_oid, false);
	LeaseRow	row;
	LeaseTime	time;
	text	   *holder = NULL;

	if (store == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not tell who holds the lease because the table is locked"),
				 errhint("Try again when the command that locks the table has ended.")));

	if (lease_election_read(store, key, &row, &time) && lease_ttl_is_valid(&row, &time))
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
