/*
 * store.h
 *		What the two ways to the rows of the table share.  For store*.c only.
 */
#ifndef LEASE_STORE_H
#define LEASE_STORE_H

#include "access/genam.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "lease.h"
#include "compat.h"

/* Columns of the table that this code reads or writes: the key, metadata and a LeaseRow. */
typedef enum LeaseColumn
{
	COL_NAMESPACE,
	COL_NAME,
	COL_LABELS,
	COL_OWNER_REFERENCES,
	COL_FINALIZERS,
	COL_HOLDER_IDENTITY,
	COL_LEASE_DURATION_SECONDS,
	COL_ACQUIRE_TIME,
	COL_RENEW_TIME,
	COL_LEASE_TRANSITIONS,
	COL_LOCK_DELAY_SECONDS,
	COL_NOT_BEFORE,
	COL_RESERVED_FOR,
	COL_FENCING_TOKEN,
	COL_RESOURCE_VERSION,
	LEASE_COLUMNS
} LeaseColumn;

#define FIRST_ROW_COLUMN COL_HOLDER_IDENTITY

/* What this session knows about the table until its relcache entry changes. */
typedef struct LeaseTable
{
	bool		valid;
	Oid			relid;
	Oid			pkey;			/* index on (namespace, name), or none */
	NameData	schema;
	AttrNumber	attnum[LEASE_COLUMNS];
	bool		plain;			/* writing a renewal directly bypasses nothing */
	bool		watched;		/* our triggers are at work */
} LeaseTable;

/* Where the table is, and what a caller may do there: what the catalogs said. */
typedef struct LeaseAccess
{
	uint64		as_of;			/* how often they had changed until then */
	Oid			schema;
	Oid			user;
	bool		for_write;
	Oid			relid;
	bool		may_lock;		/* the table, with a query of his own */
	bool		filtered;		/* which rows to use, only the executor knows */
} LeaseAccess;

/*
 * One call's access to the table.
 *
 * rel is NULL if the caller wants to write and may read only: then the executor
 * reads for him.
 */
struct LeaseStore
{
	const LeaseTable *table;
	Relation	rel;
	bool		probe;			/* rows can be found without the executor */
	bool		filtered;		/* which ones to use, only the executor knows */
	bool		write_direct;	/* renewals can be written without it */

	/*
	 * For store_heap.c, valid with probe.  The version read last keeps its
	 * buffer pinned and its snapshot registered, so that its tuple identifier
	 * still names it when it is locked or updated.
	 */
	Snapshot	snapshot;
	TupleTableSlot *read;
	TupleTableSlot *locked;
	TupleTableSlot *renewed;
};

/* store.c */
typedef bool (*LeaseInsert) (LeaseStore *store, const LeaseKey *key, void *arg);

extern LeaseLockResult lease_store_insert_by(LeaseStore *store, const LeaseKey *key,
											 LeaseInsert insert, void *arg);

/* store_heap.c */
extern void lease_heap_end(LeaseStore *store);
extern bool lease_heap_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row);
extern LeaseLockResult lease_heap_lock(LeaseStore *store, LockTupleMode mode,
									   LeaseRow *row);
extern void lease_heap_renew(LeaseStore *store, const LeaseRow *row);
extern bool lease_heap_locked_is_committed(LeaseStore *store);
extern bool lease_heap_may_skip_lock(void);
extern bool lease_heap_may_update_unlocked(HeapTuple tuple);
extern bool lease_heap_renew_unlocked(LeaseStore *store, const LeaseRow *row);
extern bool lease_heap_in_progress(LeaseStore *store, const LeaseKey *key);
extern void lease_heap_scan(LeaseStore *store, const LeaseTime *time, TimestampTz before,
							LeaseVisitor visit, void *arg);
extern void lease_heap_read_metadata(LeaseStore *store, LeaseFound *found);
extern void lease_heap_missing_metadata(LeaseStore *store, Jsonb *labels,
										bool *labels_missing, bool *owner_missing);
extern HeapTuple lease_heap_form_renewed(LeaseStore *store, HeapTuple old, const LeaseRow *row);
extern void lease_heap_insert_index_entries(Relation rel, TupleTableSlot *slot,
											 TU_UpdateIndexes update_indexes);

/* store_row.c */
extern void lease_row_set(LeaseRow *row, const Datum *values, const bool *nulls);
extern void lease_metadata_set(LeaseFound *found, const Datum *values, const bool *nulls);

/* store_sql.c */
extern bool lease_sql_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row);
extern bool lease_sql_may_read(LeaseStore *store, const LeaseKey *key);
extern bool lease_sql_may_lock(LeaseStore *store, const LeaseKey *key, LockTupleMode mode);
extern LeaseLockResult lease_sql_lock(LeaseStore *store, const LeaseKey *key,
									  LockTupleMode mode, LeaseRow *row);
extern void lease_sql_renew(LeaseStore *store, const LeaseKey *key, const LeaseRow *row);
extern void lease_sql_update(LeaseStore *store, const LeaseKey *key, const LeaseRow *row,
							 LeaseReason reason);
extern void lease_sql_delete(LeaseStore *store, const LeaseKey *key, LeaseReason reason);
extern bool lease_sql_insert(LeaseStore *store, const LeaseKey *key, const LeaseRow *row,
							 const LeaseMetadata *metadata);
extern void lease_sql_add_metadata(LeaseStore *store, const LeaseKey *key,
								   const LeaseMetadata *metadata);
extern bool lease_sql_is_owned_by(LeaseStore *store, const LeaseKey *key, Jsonb *owner);
extern bool lease_sql_has_namespace(LeaseStore *store, text *namespace);
extern int	lease_sql_keys_of_holder(LeaseStore *store, text *namespace, text *holder,
									 LeaseKey **keys);
extern void lease_sql_read_metadata(LeaseStore *store, const LeaseKey *key, LeaseFound *found);
extern void lease_sql_scan(LeaseStore *store, const LeaseTime *time, TimestampTz before,
						   LeaseVisitor visit, void *arg);

/* store_side.c */
extern void lease_sql_delete_gc_policy(const char *schema, text *name);
extern int	lease_sql_gc_policies(const char *schema, LeaseGcPolicy **policies);
extern bool lease_sql_insert_history(const char *schema, const LeaseKey *key,
									 const LeaseRow *row, TimestampTz from,
									 TimestampTz until, const char *reason);
extern bool lease_sql_insert_expiry(const char *schema, const LeaseKey *key,
									TimestampTz expired_at);
extern int64 lease_sql_trim_history(const char *schema, TimestampTz before, int64 limit);
extern bool lease_sql_history_has_holder(const char *schema, const LeaseKey *key, text *holder);

/* What a Node object consists of, in the order of the statements' parameters. */
typedef enum LeaseNodeColumn
{
	NODE_NAME,
	NODE_UID,
	NODE_CREATION_TIMESTAMP,
	NODE_RESOURCE_VERSION,
	NODE_LABELS,
	NODE_ANNOTATIONS,
	NODE_METADATA,
	NODE_UNSCHEDULABLE,
	NODE_SPEC,
	NODE_STATUS,
	NODE_COLUMNS
} LeaseNodeColumn;

extern pg_uuid_t *lease_sql_node_uid(const char *schema, text *name, bool lock);
extern bool lease_sql_write_node(const char *schema, const Datum *values, const bool *nulls);
extern void lease_sql_delete_node(const char *schema, text *name);

#endif							/* LEASE_STORE_H */
