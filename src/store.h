/*
 * store.h
 *		What the two ways to the rows of the table share.  For store*.c only.
 */
#ifndef LEASE_STORE_H
#define LEASE_STORE_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "lease.h"

/* Columns of the table that this code reads or writes: the key and a LeaseRow. */
typedef enum LeaseColumn
{
	COL_NAMESPACE,
	COL_NAME,
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
} LeaseTable;

/*
 * One call's access to the table.
 *
 * rel is NULL if the caller may not lock the table at all: then the executor is
 * there to say so.
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
	 * still names it when it is locked.
	 */
	Snapshot	snapshot;
	TupleTableSlot *read;
	TupleTableSlot *locked;
};

/* store.c */
typedef bool (*LeaseInsert) (LeaseStore *store, const LeaseKey *key, void *arg);

extern void lease_row_set(LeaseRow *row, const Datum *values, const bool *nulls);
extern LeaseLockResult lease_store_insert_by(LeaseStore *store, const LeaseKey *key,
											 LeaseInsert insert, void *arg);

/* store_heap.c */
extern void lease_heap_begin(LeaseStore *store);
extern void lease_heap_end(LeaseStore *store);
extern bool lease_heap_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row);
extern LeaseLockResult lease_heap_lock(LeaseStore *store, LockTupleMode mode,
									   LeaseRow *row);
extern void lease_heap_renew(LeaseStore *store, const LeaseRow *row);
extern bool lease_heap_in_progress(LeaseStore *store, const LeaseKey *key);

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
extern bool lease_sql_insert(LeaseStore *store, const LeaseKey *key, const LeaseRow *row);
extern int	lease_sql_keys_of_holder(LeaseStore *store, text *namespace, text *holder,
									 LeaseKey **keys);
extern int	lease_sql_collectable(LeaseStore *store, LeaseKey **keys);
extern void lease_sql_insert_history(const char *schema, const LeaseKey *key,
									 const LeaseRow *row, TimestampTz from,
									 TimestampTz until, const char *reason);
extern int64 lease_sql_trim_history(const char *schema, TimestampTz before);

#endif							/* LEASE_STORE_H */
