/*
 * args.c
 *		Arguments of the SQL functions: checked here, each in one way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"

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

text *
lease_arg_text(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return PG_GETARG_TEXT_PP(n);
}

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

text *
lease_arg_holder(FunctionCallInfo fcinfo, int n)
{
	text	   *holder = lease_arg_text(fcinfo, n, "lease holder");

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
