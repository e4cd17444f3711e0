/*
 * compat.h
 *		Differences between PostgreSQL 15 and later versions, and nothing else.
 *
 * The rest of the code uses the newest spelling.  Include this after
 * PostgreSQL's headers: it redefines the calls that they declare.
 */
#ifndef LEASE_COMPAT_H
#define LEASE_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "lease requires PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM < 160000
/* table_tuple_update() told only whether indexes need entries, not which. */
typedef bool TU_UpdateIndexes;
#define TU_None false
#define ExecInsertIndexTuples(rri, slot, estate, update, noDupErr, conflict, arbiters, summarizing) \
	ExecInsertIndexTuples(rri, slot, estate, update, noDupErr, conflict, arbiters)
#define object_ownercheck(classid, objectid, roleid) \
	pg_class_ownercheck(objectid, roleid)
#define rd_firstRelfilelocatorSubid rd_firstRelfilenodeSubid
#define pgstat_get_local_beentry_by_index(i) pgstat_fetch_stat_local_beentry(i)
#endif

#if PG_VERSION_NUM < 170000
/* Intervals had no infinity. */
#define INTERVAL_NOT_FINITE(i) false
#define MyProcNumber (MyProc->pgprocno)
/* Extensions could name LWLocks, at server start, but no wait events. */
#define lease_wait_event(name, preloaded) \
	((preloaded) ? PG_WAIT_LWLOCK | GetNamedLWLockTranche(name)->lock.tranche : PG_WAIT_EXTENSION)
#else
#define lease_wait_event(name, preloaded) WaitEventExtensionNew(name)
#endif

#if PG_VERSION_NUM < 180000
#define RelationGetPrimaryKeyIndex(rel, deferrable_ok) \
	RelationGetPrimaryKeyIndex(rel)
#define index_beginscan(heap, index, snapshot, instrument, nkeys, norderbys) \
	index_beginscan(heap, index, snapshot, nkeys, norderbys)
/* Generated columns were all stored. */
#define has_generated_virtual has_generated_stored
#define pg_b64_decode(src, len, dst, dstlen) pg_b64_decode(src, len, (char *) (dst), dstlen)
#define pg_noreturn pg_attribute_noreturn()
/* Modules had no name and no version. */
#define PG_MODULE_MAGIC_EXT(...) PG_MODULE_MAGIC
#endif

#ifndef DATCONNLIMIT_INVALID_DB
/* 15.4 began to mark databases whose DROP was interrupted. */
#define database_is_invalid_form(datform) false
#endif

/* libpq/libpq.h needs the headers of all libraries that the server was built with. */
extern bool pq_check_connection(void);

#endif							/* LEASE_COMPAT_H */
