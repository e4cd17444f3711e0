/*
 * store.c
 *		The lease table: finds it, and chooses the way to its rows.
 *
 * There are two ways with the same results.  The executor (store_sql.c) is
 * right always.  The direct one (store_heap.c) saves most of the cost, and each
 * step takes it only where nothing is bypassed by it:
 *
 * - Rows are found, read and locked directly.  Where row-level security applies
 *	 to the caller, or he has privileges on columns only, the executor is asked
 *	 first whether he may.
 * - Renewals are written directly unless somebody added triggers, rules,
 *	 generated columns, or constraints on what a renewal changes.
 * - At isolation levels above READ COMMITTED the executor locks and writes: it
 *	 raises the serialization failures that PostgreSQL users expect.
 * - All other writing is the executor's.
 *
 * Reading uses the newest snapshot, in a REPEATABLE READ transaction too: who
 * holds a lease is a question about now.
 *
 * Locking: rows are locked by lease_store_lock() without ever waiting, and
 * stay locked until the transaction ends.  The table, the history, their indexes
 * and the sequence of the tokens are locked without waiting as well; if DDL has
 * them, lease_store_open() returns NULL, or lease_store_lock() says busy.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/nodes.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "store.h"
#include "compat.h"

/* More often a row that was written while we read it is not read anew. */
#define MAX_READS 3

/* How long a guard may wait where it cannot skip, in milliseconds. */
#define GUARD_LOCK_TIMEOUT 100

static LeaseTable table_cache;

/* How often something has changed on which a LeaseAccess rests. */
static uint64 catalog_changes = 1;

/* The last one: mostly the same caller calls the same function again. */
static LeaseAccess last_access;

static const char *const column_names[LEASE_COLUMNS] = {
	[COL_NAMESPACE] = "namespace",
	[COL_NAME] = "name",
	[COL_LABELS] = "labels",
	[COL_OWNER_REFERENCES] = "owner_references",
	[COL_FINALIZERS] = "finalizers",
	[COL_HOLDER_IDENTITY] = "holder_identity",
	[COL_LEASE_DURATION_SECONDS] = "lease_duration_seconds",
	[COL_ACQUIRE_TIME] = "acquire_time",
	[COL_RENEW_TIME] = "renew_time",
	[COL_LEASE_TRANSITIONS] = "lease_transitions",
	[COL_LOCK_DELAY_SECONDS] = "lock_delay_seconds",
	[COL_NOT_BEFORE] = "not_before",
	[COL_RESERVED_FOR] = "reserved_for",
	[COL_FENCING_TOKEN] = "fencing_token",
	[COL_RESOURCE_VERSION] = "resource_version",
};

static void
relation_changed(Datum arg, Oid relid)
{
	catalog_changes++;
	if (relid == InvalidOid || relid == table_cache.relid)
		table_cache.valid = false;
}

static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	catalog_changes++;
	if (cacheid == NAMESPACEOID)
		table_cache.valid = false;	/* it has the schema's name */
}

/*
 * Sees to it that we hear of everything that what we remember rests on.
 */
static void
watch_catalogs(void)
{
	static bool watching = false;

	if (watching)
		return;
	watching = true;
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_changed, (Datum) 0);
	/* Who is what, and whose roles he has; a database's owner has one more. */
	CacheRegisterSyscacheCallback(AUTHOID, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, catalog_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, catalog_changed, (Datum) 0);
}

static bool
is_own_trigger(const Trigger *trigger)
{
	return strcmp(trigger->tgname, LEASE_TRIGGER_BEFORE) == 0 ||
		strcmp(trigger->tgname, LEASE_TRIGGER_AFTER) == 0;
}

/* Are our own triggers the only ones on the table?  They ignore renewals. */
static bool
only_own_triggers(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (!is_own_trigger(&triggers->triggers[i]))
			return false;
	}
	return true;
}

/* Do our triggers see to it that what is written by hand ends renewals in memory? */
static bool
is_watched(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;
	int			watching = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (is_own_trigger(trigger) &&
			(trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN || trigger->tgenabled == TRIGGER_FIRES_ALWAYS))
			watching++;
	}
	return watching == 2;
}

/*
 * Does any CHECK constraint look at what a renewal changes?  The table's own
 * ones do not.
 */
static bool
renewal_is_constrained(Relation rel, const AttrNumber *attnum)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		Bitmapset  *columns = NULL;

		pull_varattnos(stringToNode(constr->check[i].ccbin), 1, &columns);
		if (bms_is_member(attnum[COL_RENEW_TIME] - FirstLowInvalidHeapAttributeNumber, columns) ||
			bms_is_member(attnum[COL_RESOURCE_VERSION] - FirstLowInvalidHeapAttributeNumber, columns) ||
			bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, columns))
			return true;
	}
	return false;
}

/*
 * Is there a plain index on (namespace, name) that finds the one row, and no
 * exclusion constraint?  Sets pkey.
 */
static bool
indexes_are_plain(Relation rel, const AttrNumber *attnum, Oid *pkey)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	bool		plain = true;

	*pkey = RelationGetPrimaryKeyIndex(rel, false);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisexclusion)
			plain = false;
		if (lfirst_oid(lc) == *pkey &&
			(index->rd_index->indnkeyatts != 2 ||
			 index->rd_index->indkey.values[0] != attnum[COL_NAMESPACE] ||
			 index->rd_index->indkey.values[1] != attnum[COL_NAME]))
			*pkey = InvalidOid;
		index_close(index, NoLock);
	}
	list_free(indexes);
	return plain;
}

/*
 * Fills table_cache.  The caller has the table locked.
 */
static void
describe_table(Relation rel)
{
	LeaseTable	t = {0};
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	bool		plain_indexes;

	/*
	 * Valid from now on, not at the end: should an invalidation come in while
	 * we look, it must not be lost.
	 */
	t.valid = true;
	t.relid = RelationGetRelid(rel);
	table_cache = t;

	namestrcpy(&t.schema, get_namespace_name(RelationGetNamespace(rel)));
	for (int i = 0; i < LEASE_COLUMNS; i++)
	{
		t.attnum[i] = get_attnum(t.relid, column_names[i]);
		if (t.attnum[i] == InvalidAttrNumber)
		{
			table_cache.valid = false;
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist",
							column_names[i], RelationGetRelationName(rel)),
					 errhint("Undo what was done by hand to the objects of the extension \"lease\".")));
		}
	}
	plain_indexes = indexes_are_plain(rel, t.attnum, &t.pkey);
	t.plain = OidIsValid(t.pkey) && plain_indexes &&
		only_own_triggers(rel) &&
		!rel->rd_rel->relhasrules && !rel->rd_rel->relhassubclass &&
		!(constr != NULL && (constr->has_generated_stored || constr->has_generated_virtual)) &&
		!renewal_is_constrained(rel, t.attnum);

	t.watched = is_watched(rel);

	t.valid = table_cache.valid;
	table_cache = t;
}

/*
 * Could the caller lock the table like this with a query of his own?
 */
static bool
may_lock_table(Oid relid, bool for_write)
{
	Oid			user = GetUserId();
	AclMode		any = for_write ? ACL_INSERT | ACL_UPDATE | ACL_DELETE : ACL_SELECT;
	AclMode		any_column = for_write ? ACL_INSERT | ACL_UPDATE : ACL_SELECT;

	return pg_class_aclmask(relid, user, any, ACLMASK_ANY) != 0 ||
		pg_attribute_aclcheck_all(relid, user, any_column, ACLMASK_ANY) == ACLCHECK_OK;
}

/*
 * Says what the executor would say, and what to do.
 */
static void
report_no_privilege(bool for_write)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for table %s", LEASE_TABLE),
			 for_write ? errhint("Ask its owner to GRANT SELECT, INSERT, UPDATE ON lease.") :
			 errhint("Ask its owner to GRANT SELECT ON lease.")));
}

/*
 * Is it up to the executor which of the rows he may use?
 */
static bool
is_filtered(Oid relid, bool for_write)
{
	AclMode		wanted = for_write ? ACL_SELECT | ACL_UPDATE : ACL_SELECT;

	return pg_class_aclmask(relid, GetUserId(), wanted, ACLMASK_ALL) != wanted ||
		check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED;
}

/*
 * What the caller may do with the table in this schema.  Asking the catalogs would
 * be a noticeable part of a renewal, so they are asked when they have changed.
 */
static LeaseAccess
get_access(Oid schema, bool for_write)
{
	LeaseAccess access = last_access;

	/* Within a foreign key's action, row-level security is not what it is elsewhere. */
	bool		remember = !InNoForceRLSOperation();

	if (remember && access.as_of == catalog_changes && access.schema == schema &&
		access.user == GetUserId() && access.for_write == for_write)
		return access;

	/* First: should they change while we ask, the next call shall ask again. */
	access.as_of = catalog_changes;
	access.schema = schema;
	access.user = GetUserId();
	access.for_write = for_write;
	access.relid = lease_relation_find(LEASE_TABLE, schema);
	access.may_lock = may_lock_table(access.relid, for_write);
	access.filtered = is_filtered(access.relid, for_write);
	if (remember)
		last_access = access;
	return access;
}

/*
 * Opens the table in this schema.  NULL if DDL has it locked.
 */
LeaseStore *
lease_store_open_in(Oid schema, bool for_write)
{
	LeaseAccess access;
	LeaseStore *store;
	Relation	rel;

	watch_catalogs();
	access = get_access(schema, for_write);
	if (!access.may_lock && !may_lock_table(access.relid, false))
		report_no_privilege(for_write);
	rel = lease_relation_open(LEASE_TABLE, access.relid,
							  access.may_lock && for_write ? RowExclusiveLock : AccessShareLock);
	if (rel == NULL)
		return NULL;
	if (!table_cache.valid || table_cache.relid != access.relid)
		describe_table(rel);

	store = palloc0(sizeof(LeaseStore));
	store->table = &table_cache;
	if (!access.may_lock)
	{
		table_close(rel, AccessShareLock);
		return store;
	}

	store->rel = rel;
	store->probe = OidIsValid(table_cache.pkey);
	/* With the lock we have heard of what changed until then. */
	store->filtered = access.as_of == catalog_changes ?
		access.filtered : is_filtered(access.relid, for_write);
	store->write_direct = for_write && !store->filtered && table_cache.plain &&
		!IsolationUsesXactSnapshot();
	return store;
}

/*
 * Opens the table that belongs to the SQL function funcid: the one in the same
 * schema, whatever the search_path says.  NULL if DDL has it locked.
 */
LeaseStore *
lease_store_open(Oid funcid, bool for_write)
{
	return lease_store_open_in(get_func_namespace(funcid), for_write);
}

/*
 * Closes the table, if it was opened.  Its locks stay until the transaction
 * ends.
 */
void
lease_store_close(LeaseStore *store)
{
	if (store == NULL)
		return;
	if (store->probe)
		lease_heap_end(store);
	if (store->rel != NULL)
		table_close(store->rel, NoLock);
	pfree(store);
}

/*
 * Could a row be there that the caller may see, but not change?  Then busy may
 * mean that.
 */
bool
lease_store_is_filtered(LeaseStore *store)
{
	return store != NULL && (!store->probe || store->filtered);
}

static bool
read_row(LeaseStore *store, const LeaseKey *key, LeaseRow *row)
{
	if (!store->probe)
		return lease_sql_read(store, key, row);
	return lease_heap_read(store, key, row) &&
		(!store->filtered || lease_sql_may_read(store, key));
}

/*
 * Reads the newest committed version of a lease, or this transaction's own,
 * without a lock, and when it was last renewed.  False if there is none.
 */
bool
lease_store_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row)
{
	for (int i = 0; i < MAX_READS; i++)
	{
		if (!read_row(store, key, row))
			return false;
		if (lease_memory_see(store->table->relid, key, row))
			break;
	}
	return true;
}

static LeaseLockResult
lock_row(LeaseStore *store, const LeaseKey *key, LockTupleMode mode, LeaseRow *row)
{
	/* The end of a holding takes a token and goes into the history. */
	if (mode == LockTupleExclusive &&
		(!lease_token_lock(store->table->relid) || !lease_history_lock(store->table->relid)))
		return LEASE_LOCK_BUSY;
	if (!store->probe || IsolationUsesXactSnapshot())
		return lease_sql_lock(store, key, mode, row);
	if (store->filtered && !lease_sql_may_lock(store, key, mode))
		return lease_store_read(store, key, row) ? LEASE_LOCK_BUSY : LEASE_LOCK_STALE;
	return lease_heap_lock(store, mode, row);
}

/*
 * Locks the version that lease_store_read() has just read, if it still is the
 * newest.  Never waits.  With LEASE_LOCK_OK, row is current; it may then differ
 * from what was read, so decide again.
 *
 * LockTupleKeyShare to guard: keeps the key, and so the token, as it is; when the
 * lease was last renewed says lease_store_read().
 * LockTupleNoKeyExclusive to renew: goes together with LockTupleKeyShare.
 * LockTupleExclusive for all that ends a holding, and so takes a new token.
 */
LeaseLockResult
lease_store_lock(LeaseStore *store, const LeaseKey *key, LockTupleMode mode,
				 LeaseRow *row)
{
	LeaseLockResult result;
	int			lock_timeout = LockTimeout;

	if (store->rel == NULL)
		report_no_privilege(true);
	if (mode != LockTupleKeyShare)
	{
		result = lock_row(store, key, mode, row);
		if (result == LEASE_LOCK_OK)
			lease_memory_close(store->table->relid, key, row);
		return result;
	}

	/*
	 * A guard locks the version that a renewal in progress is writing, too.
	 * Skipping does not extend to that: if a third transaction is just ending
	 * the holding there, heap_lock_tuple() waits for it.  Not for long.
	 */
	if (LockTimeout == 0 || LockTimeout > GUARD_LOCK_TIMEOUT)
		LockTimeout = GUARD_LOCK_TIMEOUT;
	PG_TRY();
	{
		result = lock_row(store, key, mode, row);
	}
	PG_FINALLY();
	{
		LockTimeout = lock_timeout;
	}
	PG_END_TRY();
	return result;
}

/*
 * Is lease_store_renew_unlocked() worth trying?  To open an entry in memory takes a
 * lock.
 */
bool
lease_store_may_skip_lock(LeaseStore *store)
{
	return store->write_direct && !lease_memory_wanted() && lease_heap_may_skip_lock();
}

/*
 * Writes renew_time over the version that lease_store_read() has just read (before), without
 * a lock on the row.  False, and nothing is written, if that is not possible:
 * somebody has changed or locked it, or may have.  Never waits.
 */
bool
lease_store_renew_unlocked(LeaseStore *store, const LeaseKey *key, LeaseRow *before,
						   const LeaseRow *row)
{
	if (!lease_heap_renew_unlocked(store, row))
		return false;
	/* An entry may be open, and stays so. */
	(void) lease_memory_follow(store->table->relid, key, before, row->resource_version);
	return true;
}

/*
 * Writes renew_time and lease_duration_seconds of a lease that is locked.  Only
 * the executor checks constraints on a duration that changes.
 */
void
lease_store_renew(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
				  bool new_duration)
{
	if (store->write_direct && !new_duration)
		lease_heap_renew(store, row);
	else
		lease_sql_renew(store, key, row);
}

static bool
may_use_memory(LeaseStore *store)
{
	return store->write_direct && store->table->watched && lease_memory_wanted();
}

/*
 * Renews a lease in memory, if it is the claimant's.  False means that the row
 * decides, which is to be read then.  *owned: it has an owner.
 */
bool
lease_store_renew_in_memory(LeaseStore *store, const LeaseKey *key, const LeaseClaim *claim,
							LeaseRow *row, LeaseTime *time, bool *owned)
{
	return store != NULL && may_use_memory(store) &&
		lease_memory_renew(store->table->relid, store->rel->rd_rel->relfilenode, key, claim,
						   row, time, owned);
}

/*
 * Renews a lease that is locked without writing it, and from now on in memory.  False
 * if it has to be written.
 */
bool
lease_store_keep_in_memory(LeaseStore *store, const LeaseKey *key, LeaseRow *row)
{
	bool		no_labels;
	bool		no_owner;

	/* A table that this transaction has made or rewritten can be truncated in place. */
	if (!may_use_memory(store) || !lease_heap_locked_is_committed(store) ||
		store->rel->rd_createSubid != InvalidSubTransactionId ||
		store->rel->rd_firstRelfilelocatorSubid != InvalidSubTransactionId)
		return false;
	lease_heap_missing_metadata(store, NULL, &no_labels, &no_owner);
	return lease_memory_open(store->table->relid, store->rel->rd_rel->relfilenode, key, row, !no_owner);
}

/*
 * The leases that were renewed in memory since they were written back, and the table.
 */
int
lease_store_unwritten(LeaseStore *store, Oid *relid, LeaseUnwritten **leases)
{
	*relid = store->table->relid;
	return lease_memory_unwritten(*relid, leases);
}

/*
 * Writes the last renewal in memory to the row, as if its holder had done it.  False
 * if that has to be done another time: somebody has the row locked, or what users
 * have put on the table wants the executor, which may fail.
 */
bool
lease_store_write_back(LeaseStore *store, const LeaseKey *key)
{
	LeaseRow	row;
	int64		next_version;

	if (!store->write_direct)
		return false;
	if (!read_row(store, key, &row))
		return true;
	if (lock_row(store, key, LockTupleNoKeyExclusive, &row) != LEASE_LOCK_OK)
		return false;
	next_version = lease_ttl_next_resource_version(row.resource_version, lease_clock_now());
	if (lease_memory_follow(store->table->relid, key, &row, next_version))
	{
		row.resource_version = next_version;
		lease_store_renew(store, key, &row, false);
	}
	return true;
}

/*
 * Writes everything that says who holds a lease that is locked.
 */
void
lease_store_update(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
				   LeaseReason reason)
{
	lease_sql_update(store, key, row, reason);
}

/*
 * Deletes a lease that is locked.
 */
void
lease_store_delete(LeaseStore *store, const LeaseKey *key, LeaseReason reason)
{
	lease_sql_delete(store, key, reason);
}

/*
 * Runs insert(store, key, arg), which makes the object and returns true, or
 * false if it exists.  LEASE_LOCK_STALE if it exists by now, LEASE_LOCK_BUSY if
 * another transaction has made it and not committed yet: the unique index would
 * wait for that one, so look before.
 *
 * The lock is on the name and makes looking and inserting one step among all
 * who come this way.  It is given back at once: from then on others find the
 * row in progress.  A row inserted by hand between the two steps, and not
 * committed, is waited for.
 */
LeaseLockResult
lease_store_insert_by(LeaseStore *store, const LeaseKey *key, LeaseInsert insert, void *arg)
{
	LeaseLockResult result;
	LOCKTAG		tag;
	uint64		hash = hash_combine64(lease_text_hash(key->namespace), lease_text_hash(key->name));

	if (store->rel == NULL)
		report_no_privilege(true);
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, store->table->relid,
					   (uint32) hash, (uint16) (hash >> 32));
	if (!lease_token_lock(store->table->relid) ||
		LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return LEASE_LOCK_BUSY;

	if (store->probe && lease_heap_in_progress(store, key))
		result = LEASE_LOCK_BUSY;
	else
		result = insert(store, key, arg) ? LEASE_LOCK_OK : LEASE_LOCK_STALE;

	LockRelease(&tag, ExclusiveLock, false);
	return result;
}

typedef struct InsertedRow
{
	LeaseRow   *row;
	const LeaseMetadata *metadata;
} InsertedRow;

static bool
insert_row(LeaseStore *store, const LeaseKey *key, void *arg)
{
	InsertedRow *inserted = arg;

	inserted->row->fencing_token = lease_store_issue_token(store, 0);
	return lease_sql_insert(store, key, inserted->row, inserted->metadata);
}

/*
 * Makes the object, with a new token.
 */
LeaseLockResult
lease_store_insert(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
				   const LeaseMetadata *metadata)
{
	InsertedRow inserted = {row, metadata};

	return lease_store_insert_by(store, key, insert_row, &inserted);
}

/*
 * Does the version read last lack one of these labels, or any owner?  Where that
 * can only be found out with a query, it may be so: lease_store_add_metadata()
 * adds nothing twice.
 */
void
lease_store_missing_metadata(LeaseStore *store, Jsonb *labels,
							 bool *labels_missing, bool *owner_missing)
{
	*labels_missing = *owner_missing = true;
	if (store->probe)
		lease_heap_missing_metadata(store, labels, labels_missing, owner_missing);
}

/*
 * Adds labels, and owners if there are none, to a lease that is locked.
 */
void
lease_store_add_metadata(LeaseStore *store, const LeaseKey *key,
						 const LeaseMetadata *metadata)
{
	lease_sql_add_metadata(store, key, metadata);
}

/*
 * Does the lease have these owner references, and no others?
 */
bool
lease_store_is_owned_by(LeaseStore *store, const LeaseKey *key, Jsonb *owner)
{
	return lease_sql_is_owned_by(store, key, owner);
}

int64
lease_store_issue_token(LeaseStore *store, int64 floor)
{
	return lease_token_issue(store->table->relid, floor);
}

/*
 * Does the caller see a lease in this namespace?
 */
bool
lease_store_has_namespace(LeaseStore *store, text *namespace)
{
	return lease_sql_has_namespace(store, namespace);
}

/*
 * The leases in the namespace with this holder_identity, valid or not, in the
 * order of the primary key.
 */
int
lease_store_keys_of_holder(LeaseStore *store, text *namespace, text *holder,
						   LeaseKey **keys)
{
	return lease_sql_keys_of_holder(store, namespace, holder, keys);
}

/*
 * Sets labels and finalizers to those of the version read last; of one that is
 * locked, they are current.
 */
void
lease_store_read_metadata(LeaseStore *store, const LeaseKey *key, LeaseFound *found)
{
	if (store->probe)
		lease_heap_read_metadata(store, found);
	else
		lease_sql_read_metadata(store, key, found);
}

/*
 * Visits the leases whose time may run out before then, seen from this time, held
 * or not, in no order, by the newest committed state.  The visitor must not write.
 */
void
lease_store_scan(LeaseStore *store, const LeaseTime *time, TimestampTz before,
				 LeaseVisitor visit, void *arg)
{
	if (store->probe && !store->filtered)
		lease_heap_scan(store, time, before, visit, arg);
	else
		lease_sql_scan(store, time, before, visit, arg);
}

/*
 * Records that the holding of a lease that is locked ran out.  False if that was
 * known, or DDL has the history locked.
 */
bool
lease_store_record_expiry(LeaseStore *store, const LeaseKey *key, TimestampTz expired_at)
{
	return lease_history_record_expiry(store->table->relid, key, expired_at);
}

/*
 * What lease_gc() is to delete.  Read on behalf of the owner; none if DDL has
 * the table locked.
 */
int
lease_store_gc_policies(LeaseStore *store, LeaseGcPolicy **policies)
{
	Oid			relid = lease_relation_find(LEASE_GC_POLICY, get_rel_namespace(store->table->relid));
	LeaseIdentity caller;
	int			count;

	if (!lease_relation_lock(LEASE_GC_POLICY, relid, AccessShareLock))
		return 0;
	caller = lease_owner_begin(relid);
	count = lease_sql_gc_policies(NameStr(store->table->schema), policies);
	lease_owner_end(caller);
	return count;
}

/*
 * Deletes a policy, with the caller's privileges.
 */
void
lease_store_delete_gc_policy(Oid relid, text *name)
{
	lease_sql_delete_gc_policy(get_namespace_name(get_rel_namespace(relid)), name);
}
