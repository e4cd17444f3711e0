/*
 * memory.c
 *		Renewals that stay in shared memory (lease.heartbeat_storage).
 *
 * The table decides who holds a lease; an entry here only says when its holder last
 * renewed it.  What an entry says goes for one version of the row, the one with its
 * fencing_token and resource_version: as soon as another version is committed, it
 * says nothing.  Nothing has to be undone when a transaction is rolled back.  Until
 * then somebody may still read the row before, so an entry stays until it is of no
 * use to him either.
 *
 * While an entry is open, its holder renews the lease with it alone: no row lock, no
 * snapshot, no transaction ID, no WAL.
 *
 * Locking.  An entry is opened by a renewal that has the row locked.  Who is about to
 * decide or write anything about a lease locks its row first, and then closes the
 * entry, in one step with reading it.  So while the row is locked nobody else opens
 * the entry, and once it is closed no renewal goes past the row.  It stays closed
 * until the next renewal that locks the row, whatever becomes of the transaction.
 *
 * Writing a renewal, as in writing back, does not change who holds the lease and may
 * leave the entry open: until the transaction ends, the entry goes for the version
 * before, which must be a committed one, and for the new one.
 *
 * Times are those of the steady clock.  When the server crashes all entries are lost;
 * that is what the recovery grace is for, without which none is opened.
 *
 * Each entry belongs to one of the partitions of the table, whose lock protects it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(lease_heartbeat_memory);
PG_FUNCTION_INFO_V1(lease_renewed_at);

#define TRANCHE_NAME "LeaseMemory"
#define PARTITIONS 16

/* Longer names and holders do without: namespace and name together, and the holder. */
#define MAX_NAME 152
#define MAX_HOLDER 128

/* If there is no room, and none can be made, look again after so long. */
#define FULL_FOR USECS_PER_SEC

typedef struct EntryKey
{
	Oid			database;
	Oid			relid;			/* of the table */
	uint32		namespace_len;
	uint32		name_len;
	char		texts[MAX_NAME];	/* one after the other, filled up with zeros */
} EntryKey;

typedef struct Entry
{
	EntryKey	key;
	bool		open;			/* renewals need not look at the row */
	bool		owned;			/* the lease has an owner */
	Oid			filenode;		/* of the table; TRUNCATE changes it */
	int64		fencing_token;
	int64		version;		/* resource_version of the row that this goes for ... */
	int64		next_version;	/* ... and of the one that is being written back */
	int64		renewed;		/* steady time */
	int64		written;		/* what of it was written back */
	int32		duration_seconds;
	int32		lease_transitions;
	uint32		holder_len;
	char		holder[MAX_HOLDER];
} Entry;

typedef struct Shared
{
	LWLockPadded *locks;		/* one a partition */
	pg_atomic_uint32 used;		/* entries */
	pg_atomic_uint64 full_until;	/* steady time */
} Shared;

typedef enum Storage
{
	STORAGE_TABLE,
	STORAGE_MEMORY
} Storage;

static const struct config_enum_entry storages[] = {
	{"table", STORAGE_TABLE, false},
	{"memory", STORAGE_MEMORY, false},
	{NULL, 0, false}
};

/* lease.heartbeat_storage, lease.heartbeat_entries and lease.heartbeat_flush_interval */
static int	storage = STORAGE_TABLE;
static int	max_entries = 0;
static int	flush_interval;

static Shared *shared = NULL;
static HTAB *entries;

/*
 * ---------- Settings and shared memory ----------
 */

static bool
check_storage(int *newval, void **extra, GucSource source)
{
	if (*newval == STORAGE_TABLE || shared != NULL || process_shared_preload_libraries_in_progress)
		return true;
	GUC_check_errdetail("\"%s\" must be loaded at server start.", "lease");
	GUC_check_errhint("Add it to \"shared_preload_libraries\".");
	return false;
}

void
lease_memory_init(void)
{
	DefineCustomEnumVariable("lease.heartbeat_storage",
							 "Where the holder of a lease keeps its renewals.",
							 "With \"memory\" a renewal writes nothing; the background worker writes the last one to the table now and then.",
							 &storage,
							 STORAGE_TABLE,
							 storages,
							 PGC_USERSET,
							 0,
							 check_storage, NULL, NULL);
	DefineCustomIntVariable("lease.heartbeat_flush_interval",
							"How often the background worker writes renewals from memory to the table.",
							"0 leaves that to the shutdown of the server, unless room is needed.",
							&flush_interval,
							10, 0, SECS_PER_DAY,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("lease.heartbeat_entries",
							"For how many leases renewals can stay in memory.",
							"The renewals of further leases go to the table.",
							&max_entries,
							10000, 0, 10000000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
}

void
lease_memory_request_shmem(void)
{
	Size		size = MAXALIGN(sizeof(Shared));

	RequestAddinShmemSpace(add_size(size, hash_estimate_size(Max(max_entries, 1), sizeof(Entry))));
	RequestNamedLWLockTranche(TRANCHE_NAME, PARTITIONS);
}

void
lease_memory_startup_shmem(void)
{
	HASHCTL		info = {
		.keysize = sizeof(EntryKey),
		.entrysize = sizeof(Entry),
		.num_partitions = PARTITIONS,
	};
	long		size = Max(max_entries, 1);
	bool		found;

	shared = ShmemInitStruct("lease renewals", sizeof(Shared), &found);
	if (!found)
	{
		shared->locks = GetNamedLWLockTranche(TRANCHE_NAME);
		pg_atomic_init_u32(&shared->used, 0);
		pg_atomic_init_u64(&shared->full_until, 0);
	}
	entries = ShmemInitHash("lease renewals of leases", size, size, &info,
							HASH_ELEM | HASH_BLOBS | HASH_PARTITION | HASH_FIXED_SIZE);
}

/*
 * Shall renewals stay in memory, as far as this session is concerned?
 */
bool
lease_memory_wanted(void)
{
	return storage == STORAGE_MEMORY && shared != NULL && max_entries > 0 && lease_clock_gives_grace();
}

/*
 * How often renewals are to be written back, in microseconds; 0: not at all.
 */
int64
lease_memory_flush_interval(void)
{
	return flush_interval * USECS_PER_SEC;
}

/*
 * ---------- Entries ----------
 */

/* An entry that has been looked up, and its partition is locked. */
typedef struct Place
{
	EntryKey	key;
	uint32		hash;
	LWLock	   *lock;
	Entry	   *entry;			/* NULL: there is none */
} Place;

/*
 * Locks the partition and looks the entry up.  False if there cannot be one, and
 * then nothing is locked.
 */
static bool
begin_look(Place *place, Oid relid, const LeaseKey *key, LWLockMode mode)
{
	uint32		namespace_len = VARSIZE_ANY_EXHDR(key->namespace);
	uint32		name_len = VARSIZE_ANY_EXHDR(key->name);

	if (shared == NULL || namespace_len + name_len > MAX_NAME)
		return false;
	memset(&place->key, 0, sizeof(EntryKey));
	place->key.database = MyDatabaseId;
	place->key.relid = relid;
	place->key.namespace_len = namespace_len;
	place->key.name_len = name_len;
	memcpy(place->key.texts, VARDATA_ANY(key->namespace), namespace_len);
	memcpy(place->key.texts + namespace_len, VARDATA_ANY(key->name), name_len);

	place->hash = get_hash_value(entries, &place->key);
	place->lock = &shared->locks[place->hash % PARTITIONS].lock;
	LWLockAcquire(place->lock, mode);
	place->entry = hash_search_with_hash_value(entries, &place->key, place->hash, HASH_FIND, NULL);
	return true;
}

static void
end_look(const Place *place)
{
	LWLockRelease(place->lock);
}

/*
 * As long as nobody has made an entry, nobody has to look for one.
 */
bool
lease_memory_is_empty(void)
{
	return shared == NULL || pg_atomic_read_u32(&shared->used) == 0;
}

/* Does the entry go for this version of the row? */
static bool
goes_for(const Entry *entry, const LeaseRow *row)
{
	return entry->fencing_token == row->fencing_token &&
		(entry->version == row->resource_version || entry->next_version == row->resource_version);
}

/*
 * Sets the later of the times in the row and in the entry.  A time that is still to
 * come may be one of a clock ahead of ours; that one does not count.
 */
static void
complete(const Entry *entry, LeaseRow *row)
{
	TimestampTz renewed = lease_clock_at(entry->renewed);

	if (row->renew_time > renewed)
	{
		LeaseTime	time = lease_clock_read();

		if (!lease_ttl_is_ahead(row, &time))
			return;
	}
	row->renew_time = renewed;
}

/*
 * Completes a row that was read.  False if the entry goes for another version that is
 * later: the row has been written since, and what was renewed in memory before that is
 * in there.
 */
bool
lease_memory_see(Oid relid, const LeaseKey *key, LeaseRow *row)
{
	Place		place;
	bool		current = true;

	if (lease_memory_is_empty() || !begin_look(&place, relid, key, LW_SHARED))
		return true;
	if (place.entry != NULL)
	{
		if (goes_for(place.entry, row))
			complete(place.entry, row);
		else
			current = place.entry->version < row->resource_version;
	}
	end_look(&place);
	return current;
}

/*
 * Completes a row that the caller has locked, and makes renewals look at it from now
 * on, for there may be another version of it when he is done.
 */
void
lease_memory_close(Oid relid, const LeaseKey *key, LeaseRow *row)
{
	Place		place;

	if (lease_memory_is_empty() || !begin_look(&place, relid, key, LW_EXCLUSIVE))
		return;
	if (place.entry != NULL)
	{
		place.entry->open = false;
		if (goes_for(place.entry, row))
		{
			complete(place.entry, row);

			/* A version that was rolled back is forgotten; one of our own is not. */
			if (row->resource_version == place.entry->version)
				place.entry->next_version = place.entry->version;
		}
	}
	end_look(&place);
}

/* May this claim renew the lease of an open entry?  Sets row to what it is based on. */
static bool
allows(const Entry *entry, Oid filenode, const LeaseClaim *claim, LeaseRow *row, LeaseTime *time)
{
	if (!entry->open || entry->filenode != filenode ||
		entry->holder_len != VARSIZE_ANY_EXHDR(claim->holder) ||
		memcmp(entry->holder, VARDATA_ANY(claim->holder), entry->holder_len) != 0 ||
		(claim->token != 0 && claim->token != entry->fencing_token) ||
		(claim->duration_seconds != LEASE_NO_DURATION && claim->duration_seconds != entry->duration_seconds))
		return false;

	memset(row, 0, sizeof(*row));
	row->holder_identity = claim->holder;
	row->lease_duration_seconds = entry->duration_seconds;
	row->acquire_time = row->not_before = LEASE_NO_TIME;
	row->renew_time = lease_clock_at(entry->renewed);
	row->lease_transitions = entry->lease_transitions;
	row->fencing_token = entry->fencing_token;
	row->resource_version = entry->version;
	*time = lease_clock_read();
	return lease_ttl_is_valid(row, time) && (!claim->acquires || time->now >= time->grants_from);
}

/*
 * Renews a lease here, if it is the claimant's and its entry is open.  Sets of the
 * row what election.c returns, and whether the lease has an owner.  False means that
 * the row decides.
 *
 * The caller has the table locked, and looks at its filenode after that.
 */
bool
lease_memory_renew(Oid relid, Oid filenode, const LeaseKey *key, const LeaseClaim *claim,
				   LeaseRow *row, LeaseTime *time, bool *owned)
{
	Place		place;
	bool		renewed;

	if (lease_memory_is_empty() || !begin_look(&place, relid, key, LW_EXCLUSIVE))
		return false;
	renewed = place.entry != NULL && allows(place.entry, filenode, claim, row, time);
	if (renewed)
	{
		place.entry->renewed = Max(place.entry->renewed, lease_steady_now());
		row->renew_time = time->now;
		*owned = place.entry->owned;
	}
	end_look(&place);
	return renewed;
}

/*
 * ---------- Room ----------
 */

static void
lock_all(LWLockMode mode)
{
	for (int i = 0; i < PARTITIONS; i++)
		LWLockAcquire(&shared->locks[i].lock, mode);
}

static void
unlock_all(void)
{
	for (int i = PARTITIONS; --i >= 0;)
		LWLockRelease(&shared->locks[i].lock);
}

static void
remove_entry(Entry *entry)
{
	(void) hash_search(entries, &entry->key, HASH_REMOVE, NULL);
	pg_atomic_fetch_sub_u32(&shared->used, 1);
}

static bool
is_full(void)
{
	return pg_atomic_read_u32(&shared->used) >= max_entries;
}

/*
 * Is there no more room?
 */
bool
lease_memory_is_full(void)
{
	return shared != NULL && max_entries > 0 && is_full();
}

/*
 * Removes entries of leases that have expired, when all that they say is in the table,
 * or goes for no row any more.
 */
static void
make_room(void)
{
	HASH_SEQ_STATUS scan;
	Entry	   *entry;

	if (lease_steady_now() < (int64) pg_atomic_read_u64(&shared->full_until))
		return;
	lock_all(LW_EXCLUSIVE);
	if (is_full() && lease_steady_now() >= (int64) pg_atomic_read_u64(&shared->full_until))
	{
		int64		now = lease_steady_now();

		hash_seq_init(&scan, entries);
		while ((entry = hash_seq_search(&scan)) != NULL)
		{
			if (entry->renewed <= entry->written &&
				entry->renewed + entry->duration_seconds * USECS_PER_SEC < now)
				remove_entry(entry);
		}
		if (is_full())
			pg_atomic_write_u64(&shared->full_until, lease_steady_now() + FULL_FOR);
	}
	unlock_all();
}

/*
 * Removes what a database of this OID has left that is not there any more.
 */
void
lease_memory_forget_database(Oid database)
{
	HASH_SEQ_STATUS scan;
	Entry	   *entry;

	if (lease_memory_is_empty())
		return;
	lock_all(LW_EXCLUSIVE);
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database == database)
			remove_entry(entry);
	}
	unlock_all();
}

static Entry *
enter(const Place *place)
{
	Entry	   *entry;

	/* of those who come here at the same time, each may take one too many */
	if (is_full())
		return NULL;
	entry = hash_search_with_hash_value(entries, &place->key, place->hash, HASH_ENTER_NULL, NULL);
	if (entry != NULL)
		pg_atomic_fetch_add_u32(&shared->used, 1);
	return entry;
}

/*
 * Renews a lease and opens its entry, so that further renewals need not look at the
 * row.  False if there is no room.  The caller has the row locked, in a version that
 * was committed, and has completed it.
 */
bool
lease_memory_open(Oid relid, Oid filenode, const LeaseKey *key, const LeaseRow *row, bool owned)
{
	uint32		holder_len = VARSIZE_ANY_EXHDR(row->holder_identity);
	Place		place;
	Entry	   *entry;

	if (holder_len > MAX_HOLDER)
		return false;
	if (is_full())
		make_room();
	if (!begin_look(&place, relid, key, LW_EXCLUSIVE))
		return false;

	entry = place.entry != NULL ? place.entry : enter(&place);
	if (entry != NULL)
	{
		int64		renewed = lease_steady_now();

		if (entry == place.entry && goes_for(entry, row))
			renewed = Max(renewed, entry->renewed);
		entry->filenode = filenode;
		entry->fencing_token = row->fencing_token;
		entry->version = entry->next_version = row->resource_version;
		entry->renewed = renewed;
		entry->written = 0;
		entry->owned = owned;
		entry->duration_seconds = row->lease_duration_seconds;
		entry->lease_transitions = row->lease_transitions;
		entry->holder_len = holder_len;
		memcpy(entry->holder, VARDATA_ANY(row->holder_identity), holder_len);
		entry->open = true;
	}
	end_look(&place);
	return entry != NULL;
}

/*
 * ---------- Writing back ----------
 */

/*
 * The leases of a table that were renewed since they were written back.
 */
int
lease_memory_unwritten(Oid relid, LeaseUnwritten **leases)
{
	HASH_SEQ_STATUS scan;
	Entry	   *entry;
	Entry	   *found;
	int			count = 0;
	int			room;

	if (lease_memory_is_empty())
		return 0;
	room = pg_atomic_read_u32(&shared->used);
	found = MemoryContextAllocHuge(CurrentMemoryContext, room * sizeof(Entry));
	lock_all(LW_SHARED);
	hash_seq_init(&scan, entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database == MyDatabaseId && entry->key.relid == relid &&
			entry->renewed > entry->written && count < room)
			found[count++] = *entry;
	}
	unlock_all();

	*leases = MemoryContextAllocHuge(CurrentMemoryContext, Max(count, 1) * sizeof(LeaseUnwritten));
	for (int i = 0; i < count; i++)
	{
		EntryKey   *key = &found[i].key;

		(*leases)[i].key.namespace = cstring_to_text_with_len(key->texts, key->namespace_len);
		(*leases)[i].key.name = cstring_to_text_with_len(key->texts + key->namespace_len, key->name_len);
		(*leases)[i].renewed = found[i].renewed;
	}
	pfree(found);
	return count;
}

/*
 * A renewal is about to be written, or just was, over this row, which is ours and a
 * committed version, with this resource_version: the entry goes for that one as well from now
 * on.  Completes the row.  False if the entry does not go for the row.
 */
bool
lease_memory_follow(Oid relid, const LeaseKey *key, LeaseRow *row, int64 next_version)
{
	Place		place;
	bool		result = false;

	if (lease_memory_is_empty() || !begin_look(&place, relid, key, LW_EXCLUSIVE))
		return false;
	if (place.entry != NULL && goes_for(place.entry, row))
	{
		place.entry->version = row->resource_version;
		place.entry->next_version = next_version;
		complete(place.entry, row);
		result = true;
	}
	end_look(&place);
	return result;
}

/*
 * What the lease was renewed then is in the table, and committed; or goes for no row.
 */
void
lease_memory_written(Oid relid, const LeaseUnwritten *lease)
{
	Place		place;

	if (!begin_look(&place, relid, &lease->key, LW_EXCLUSIVE))
		return;
	if (place.entry != NULL)
		place.entry->written = Max(place.entry->written, lease->renewed);
	end_look(&place);
}

/*
 * SQL: lease_heartbeat_memory()
 */
Datum
lease_heartbeat_memory(PG_FUNCTION_ARGS)
{
	Datum		values[2];
	bool		nulls[2] = {false};

	values[0] = Int32GetDatum(max_entries);
	values[1] = Int32GetDatum(shared == NULL ? 0 : pg_atomic_read_u32(&shared->used));
	return lease_result_row(fcinfo, values, nulls);
}

/* May the caller see at least some of the table? */
static bool
may_see(Oid relid)
{
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT, ACLMASK_ANY) == ACLCHECK_OK;
}

/*
 * SQL: lease_renewed_at(namespace, name, fencing_token, resource_version, renew_time)
 */
Datum
lease_renewed_at(PG_FUNCTION_ARGS)
{
	LeaseKey	key;
	LeaseRow	row;
	Oid			relid;

	if (PG_ARGISNULL(4))
		PG_RETURN_NULL();
	row.renew_time = PG_GETARG_TIMESTAMPTZ(4);
	if (lease_memory_is_empty() || PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_TIMESTAMPTZ(row.renew_time);

	key.namespace = PG_GETARG_TEXT_PP(0);
	key.name = PG_GETARG_TEXT_PP(1);
	row.fencing_token = PG_GETARG_INT64(2);
	row.resource_version = PG_GETARG_INT64(3);
	relid = lease_relation_find(LEASE_TABLE, get_func_namespace(fcinfo->flinfo->fn_oid));
	if (may_see(relid))
		(void) lease_memory_see(relid, &key, &row);
	PG_RETURN_TIMESTAMPTZ(row.renew_time);
}
