/*
 * extension.c
 *		The extension as the catalog has it, and what is done with it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "lease.h"

#define EXTENSION_NAME "lease"

static object_access_hook_type previous_object_access_hook;

/* Has this transaction created, altered or dropped one? */
static bool changed = false;

static void
at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && changed)
		lease_mailbox_announce();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		changed = false;
}

/*
 * Notices extensions coming and going, whichever: the name of a new one cannot be
 * seen yet.  And databases that get the OID of one that was dropped.
 */
static void
on_object_access(ObjectAccessType access, Oid classid, Oid objectid, int subid, void *arg)
{
	if (previous_object_access_hook)
		previous_object_access_hook(access, classid, objectid, subid, arg);
	if (classid == ExtensionRelationId &&
		(access == OAT_POST_CREATE || access == OAT_POST_ALTER || access == OAT_DROP))
		changed = true;
	if (classid == DatabaseRelationId && access == OAT_POST_CREATE)
		lease_memory_forget_database(objectid);
}

/*
 * For a library that is loaded at server start.
 */
void
lease_extension_init(void)
{
	previous_object_access_hook = object_access_hook;
	object_access_hook = on_object_access;
	RegisterXactCallback(at_xact_end, NULL);
}

/*
 * Finds the extension in this database: its schema and version.
 */
bool
lease_extension_find(Oid *schema, char **version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(EXTENSION_NAME));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		bool		isnull;

		*schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
		*version = TextDatumGetCString(heap_getattr(tuple, Anum_pg_extension_extversion,
													RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Does this library serve the SQL objects of this version?
 */
bool
lease_extension_is_served(const char *version)
{
	static const char *const versions[] = {LEASE_VERSIONS};

	for (int i = 0; i < lengthof(versions); i++)
	{
		if (strcmp(version, versions[i]) == 0)
			return true;
	}
	return false;
}
