/*
 * owner.c
 *		Acts on behalf of the owner of the extension, where the caller needs no
 *		privilege of his own.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/syscache.h"

#include "lease.h"

/*
 * Acts as the owner of a relation of ours until lease_owner_end().  An error in
 * between ends it, too.
 */
LeaseIdentity
lease_owner_begin(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	LeaseIdentity caller;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	GetUserIdAndSecContext(&caller.userid, &caller.security_context);
	SetUserIdAndSecContext(((Form_pg_class) GETSTRUCT(tuple))->relowner,
						   caller.security_context | SECURITY_LOCAL_USERID_CHANGE);
	ReleaseSysCache(tuple);
	return caller;
}

/*
 * Acts as the caller again.
 */
void
lease_owner_end(LeaseIdentity caller)
{
	SetUserIdAndSecContext(caller.userid, caller.security_context);
}
