/*
 * args.c
 *		Arguments of the SQL functions: checked here, each in one way.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "lease.h"

/*
 * Refuses at once what would fail later, or worse, only sometimes.
 */
void
lease_require_writable(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", function),
				 errhint("Call it on the primary server.")));
	PreventCommandIfReadOnly(function);
}

/*
 * A text that must not be null.  what: as in "lease name must not be null".
 */
text *
lease_arg_text(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return PG_GETARG_TEXT_PP(n);
}

/*
 * The lease that two arguments name, with names that a lease can have.
 */
LeaseKey
lease_arg_key(FunctionCallInfo fcinfo, int name, int namespace)
{
	LeaseKey	key;

	key.name = lease_arg_text(fcinfo, name, "lease name");
	key.namespace = lease_arg_text(fcinfo, namespace, "lease namespace");
	lease_validate_name(key.name);
	lease_validate_namespace(key.namespace);
	return key;
}

/*
 * Who acquires or holds a lease.
 */
text *
lease_arg_holder(FunctionCallInfo fcinfo, int n)
{
	text	   *holder;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("lease holder must not be null"),
				 errhint(LEASE_HOLDER_HINT)));
	holder = PG_GETARG_TEXT_PP(n);
	lease_validate_holder(holder);
	return holder;
}

/*
 * The token a caller insists on, or 0.  Tokens are positive.
 */
int64
lease_arg_token(FunctionCallInfo fcinfo, int n)
{
	int64		token;

	if (PG_ARGISNULL(n))
		return 0;
	token = PG_GETARG_INT64(n);
	if (token <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("fencing token must be greater than zero"),
				 errhint("Pass the fencing_token that lease_acquire() returned.")));
	return token;
}

/* An interval that must not be null. */
const Interval *
lease_arg_interval(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return PG_GETARG_INTERVAL_P(n);
}

static int
compare_names(const void *a, const void *b)
{
	return lease_text_compare(((const LeaseKey *) a)->name, ((const LeaseKey *) b)->name);
}

/*
 * Leases of one namespace, in the order of the primary key
 */
void
lease_keys_sort(LeaseKey *keys, int count)
{
	qsort(keys, count, sizeof(LeaseKey), compare_names);
}

/*
 * The leases whose names are in an array, checked, in the order of the primary
 * key, each once.
 */
int
lease_arg_names(FunctionCallInfo fcinfo, int n, text *namespace, LeaseKey **keys)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(n);
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	int			unique = 0;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("array of lease names must have one dimension"),
				 errhint("Pass the names as in '{a,b,c}'.")));

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	*keys = palloc(Max(count, 1) * sizeof(LeaseKey));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("lease name must not be null")));
		(*keys)[i].namespace = namespace;
		(*keys)[i].name = DatumGetTextPP(elements[i]);
		lease_validate_name((*keys)[i].name);
	}

	lease_keys_sort(*keys, count);
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || !lease_text_equal((*keys)[i].name, (*keys)[unique - 1].name))
			(*keys)[unique++] = (*keys)[i];
	}
	return unique;
}
