/*
 * relation.c
 *		The extension's relations: found in its schema, locked without waiting.
 */
#include "postgres.h"

#include "access/relation.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "lease.h"
#include "compat.h"

pg_noreturn static void
report_missing(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("relation \"%s\" does not exist in the schema of the extension", name),
			 errhint("Undo what was done by hand to the objects of the extension \"lease\".")));
}

/*
 * A relation of the extension.  Errors out if there is none.
 */
Oid
lease_relation_find(const char *name, Oid schema)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		report_missing(name);
	return relid;
}

/*
 * Opens a table, locked with all its indexes, or a sequence, without waiting.
 * NULL if DDL has one of them; what was locked until then stays so until the
 * transaction ends.
 */
Relation
lease_relation_open(const char *name, Oid relid, LOCKMODE lockmode)
{
	Relation	rel;
	List	   *indexes;
	ListCell   *lc;
	bool		locked = true;

	if (!ConditionalLockRelationOid(relid, lockmode))
		return NULL;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		report_missing(name);	/* dropped since it was found */

	indexes = RelationGetIndexList(rel);
	foreach(lc, indexes)
		locked = locked && ConditionalLockRelationOid(lfirst_oid(lc), lockmode);
	list_free(indexes);
	if (!locked)
	{
		relation_close(rel, NoLock);
		return NULL;
	}
	return rel;
}

/*
 * Likewise, but only locks it.  False if DDL has it.
 */
bool
lease_relation_lock(const char *name, Oid relid, LOCKMODE lockmode)
{
	Relation	rel = lease_relation_open(name, relid, lockmode);

	if (rel != NULL)
		relation_close(rel, NoLock);
	return rel != NULL;
}
