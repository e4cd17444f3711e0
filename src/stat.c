/*
 * stat.c
 *		Numbers: what happens to leases, counted in shared memory.
 *
 * As the server's own statistics do, they count what was done, also by
 * transactions that are rolled back.  They outlive a restart, but not a crash.
 *
 * Each namespace of each database has counters.  A backend looks them up once and
 * keeps their address, so that counting is one atomic addition without a lock.
 * When counters are taken away, the generation changes, and everybody looks
 * again.  Who has looked already and is just about to add may then add to what is
 * somebody else's by now: off by one, once.
 *
 * Who finds no room for a namespace counts for the database, as if for a
 * namespace without a name.
 *
 * Locking: one lock protects the two tables, and all in them but the counters.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "stat.h"

PG_FUNCTION_INFO_V1(lease_stat_reset);

#define TRANCHE_NAME "LeaseStat"

/* Who found no room looks again after so long. */
#define LOOK_AGAIN USECS_PER_MINUTE

/* Addresses that a backend keeps. */
#define KEPT 16

/* lease.stat_namespaces */
static int	max_namespaces;

typedef struct NamespaceKey
{
	Oid			database;
	char		namespace[LEASE_MAX_LABEL + 1];	/* filled up with zeros */
} NamespaceKey;

typedef struct NamespaceEntry
{
	NamespaceKey key;
	pg_atomic_uint64 counts[LEASE_STAT_COUNTERS];
} NamespaceEntry;

typedef struct DatabaseEntry
{
	LeaseStatDatabase info;		/* its first member is the key */
	pg_atomic_uint64 counts[LEASE_STAT_COUNTERS];	/* of namespaces without an entry */
} DatabaseEntry;

typedef struct Shared
{
	LWLock	   *lock;
	pg_atomic_uint32 generation;
} Shared;

static Shared *shared = NULL;
static HTAB *namespaces;
static HTAB *databases;

/* Where the counters of a namespace of this database are. */
typedef struct KeptAddress
{
	uint32		generation;		/* 0: nothing is here */
	int			len;
	char		namespace[LEASE_MAX_LABEL + 1];
	pg_atomic_uint64 *counts;
} KeptAddress;

static KeptAddress kept[KEPT];

static void save(int code, Datum arg);
static void restore(void);

/* We found no room, and look again at that time, or when the generation changes. */
static uint32 full_generation = 0;
static TimestampTz full_until;

/*
 * ---------- Shared memory ----------
 */

static HTAB *
create_table(const char *name, long size, Size keysize, Size entrysize)
{
	HASHCTL		info = {.keysize = keysize, .entrysize = entrysize};

	return ShmemInitHash(name, size, size, &info, HASH_ELEM | HASH_BLOBS);
}

void
lease_stat_init(void)
{
	/* later, such a setting cannot be made */
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable("lease.stat_namespaces",
							"Of how many namespaces numbers are kept, in all databases together.",
							"What happens in others is counted for their database.",
							&max_namespaces,
							1000, 0, LEASE_STAT_MAX_NAMESPACES,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
}

void
lease_stat_request_shmem(void)
{
	Size		size = MAXALIGN(sizeof(Shared));

	size = add_size(size, hash_estimate_size(Max(max_namespaces, 1), sizeof(NamespaceEntry)));
	size = add_size(size, hash_estimate_size(LEASE_STAT_DATABASES, sizeof(DatabaseEntry)));
	RequestAddinShmemSpace(size);
	RequestNamedLWLockTranche(TRANCHE_NAME, 1);
}

void
lease_stat_startup_shmem(void)
{
	bool		found;

	shared = ShmemInitStruct("lease numbers", sizeof(Shared), &found);
	if (!found)
	{
		shared->lock = &GetNamedLWLockTranche(TRANCHE_NAME)->lock;
		pg_atomic_init_u32(&shared->generation, 1);
	}
	namespaces = create_table("lease numbers of namespaces", Max(max_namespaces, 1),
							  sizeof(NamespaceKey), sizeof(NamespaceEntry));
	databases = create_table("lease numbers of databases", LEASE_STAT_DATABASES,
							 sizeof(Oid), sizeof(DatabaseEntry));

	/* An upgrade that is given up shall not have used up the file. */
	if (IsUnderPostmaster || IsBinaryUpgrade)
		return;
	on_shmem_exit(save, (Datum) 0);
	if (!found)
		restore();
}

static void
init_counts(pg_atomic_uint64 *counts)
{
	for (int i = 0; i < LEASE_STAT_COUNTERS; i++)
		pg_atomic_init_u64(&counts[i], 0);
}

static void
clear_database(DatabaseEntry *entry)
{
	Oid			database = entry->info.database;

	memset(&entry->info, 0, sizeof(entry->info));
	entry->info.database = database;
	entry->info.gc_last_time = LEASE_NO_TIME;
	entry->info.last_error_time = LEASE_NO_TIME;
	entry->info.stats_reset = GetCurrentTimestamp();
	for (int i = 0; i < LEASE_STAT_COUNTERS; i++)
		pg_atomic_write_u64(&entry->counts[i], 0);
}

/*
 * The entry of a database, or NULL if there is none and no room.  Caller has the
 * lock exclusively.
 */
static DatabaseEntry *
make_database(Oid database)
{
	DatabaseEntry *entry = hash_search(databases, &database, HASH_FIND, NULL);

	if (entry != NULL || hash_get_num_entries(databases) >= LEASE_STAT_DATABASES)
		return entry;
	entry = hash_search(databases, &database, HASH_ENTER_NULL, NULL);
	if (entry != NULL)
	{
		init_counts(entry->counts);
		clear_database(entry);
	}
	return entry;
}

/*
 * The counters of a namespace.  If there is no room for them, *own is false, and
 * they are those of the database, or NULL.  Caller has the lock exclusively.
 */
static pg_atomic_uint64 *
make_counts(const NamespaceKey *key, bool *own)
{
	DatabaseEntry *database = make_database(key->database);
	NamespaceEntry *entry = hash_search(namespaces, key, HASH_FIND, NULL);

	if (entry == NULL && database != NULL && key->namespace[0] != '\0' &&
		hash_get_num_entries(namespaces) < max_namespaces)
	{
		entry = hash_search(namespaces, key, HASH_ENTER_NULL, NULL);
		if (entry != NULL)
			init_counts(entry->counts);
	}
	*own = entry != NULL;
	if (entry != NULL)
		return entry->counts;
	return database != NULL ? database->counts : NULL;
}

/*
 * Takes the counters of a database's namespaces away.  Caller has the lock
 * exclusively.
 */
static void
remove_namespaces(Oid database)
{
	HASH_SEQ_STATUS scan;
	NamespaceEntry *entry;

	pg_atomic_fetch_add_u32(&shared->generation, 1);
	hash_seq_init(&scan, namespaces);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database == database)
			hash_search(namespaces, &entry->key, HASH_REMOVE, NULL);
	}
}

/*
 * Makes room where databases have been dropped.
 */
static void
forget_dropped(void)
{
	LeaseStatNumbers numbers;

	if (!IsTransactionState())
		return;
	numbers = lease_stat_copy();
	for (int i = 0; i < numbers.database_count; i++)
	{
		Oid			database = numbers.databases[i].database;

		if (SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
			continue;
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		remove_namespaces(database);
		hash_search(databases, &database, HASH_REMOVE, NULL);
		LWLockRelease(shared->lock);
	}
	pfree(numbers.namespaces);
	pfree(numbers.databases);
}

/*
 * ---------- Counting ----------
 */

/*
 * The counters for a namespace of this database, or NULL.  *own: they are its.
 *
 * in_error: an error may be being dealt with, so do not look into catalogs
 */
static pg_atomic_uint64 *
find_counts(const NamespaceKey *key, uint32 generation, bool in_error, bool *own)
{
	NamespaceEntry *entry;
	DatabaseEntry *database;
	pg_atomic_uint64 *counts;

	LWLockAcquire(shared->lock, LW_SHARED);
	entry = hash_search(namespaces, key, HASH_FIND, NULL);
	database = hash_search(databases, &key->database, HASH_FIND, NULL);
	LWLockRelease(shared->lock);

	*own = entry != NULL;
	if (entry != NULL)
		return entry->counts;
	if (full_generation == generation && GetCurrentTimestamp() < full_until)
		return database != NULL ? database->counts : NULL;

	if (!in_error && (hash_get_num_entries(namespaces) >= max_namespaces || database == NULL))
		forget_dropped();
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	counts = make_counts(key, own);
	full_generation = *own ? 0 : pg_atomic_read_u32(&shared->generation);
	LWLockRelease(shared->lock);
	full_until = GetCurrentTimestamp() + LOOK_AGAIN;
	return counts;
}

static pg_atomic_uint64 *
counts_of(const text *namespace, bool in_error)
{
	const char *name = VARDATA_ANY(namespace);
	int			len = VARSIZE_ANY_EXHDR(namespace);
	KeptAddress *place = &kept[lease_text_hash(namespace) % KEPT];
	uint32		generation = pg_atomic_read_u32(&shared->generation);
	NamespaceKey key = {.database = MyDatabaseId};
	pg_atomic_uint64 *counts;
	bool		own;

	if (place->generation == generation && place->len == len &&
		memcmp(place->namespace, name, len) == 0)
		return place->counts;

	if (len < sizeof(key.namespace))
		memcpy(key.namespace, name, len);
	counts = find_counts(&key, generation, in_error, &own);
	if (own)
	{
		place->generation = generation;
		place->len = len;
		memcpy(place->namespace, name, len);
		place->counts = counts;
	}
	return counts;
}

static void
add(LeaseCounter counter, const text *namespace, int64 n, bool in_error)
{
	pg_atomic_uint64 *counts;

	if (shared == NULL || !OidIsValid(MyDatabaseId))
		return;
	counts = counts_of(namespace, in_error);
	if (counts != NULL && n != 0)
		pg_atomic_fetch_add_u64(&counts[counter], n);
}

/*
 * Counts something n times.  With 0 the namespace only becomes known.
 */
void
lease_stat_count(LeaseCounter counter, const text *namespace, int64 n)
{
	add(counter, namespace, n, false);
}

/*
 * Counts what was answered to somebody who wants a lease or wants to keep it.
 *
 * no: what it means if he does not have it
 */
void
lease_stat_answer(const text *namespace, LeaseStatus status, LeaseCounter no)
{
	switch (status)
	{
		case LEASE_ACQUIRED:
			lease_stat_count(LEASE_STAT_ACQUIRED, namespace, 1);
			break;
		case LEASE_RENEWED:
			lease_stat_count(LEASE_STAT_RENEWED, namespace, 1);
			break;
		case LEASE_BUSY:
			lease_stat_count(LEASE_STAT_BUSY, namespace, 1);
			break;
		default:
			lease_stat_count(no, namespace, 1);
	}
}

/*
 * Somebody has waited, with or without success; or until there was an error.
 */
void
lease_stat_wait(const text *namespace, int64 microseconds)
{
	add(LEASE_STAT_WAITS, namespace, 1, true);
	add(LEASE_STAT_WAIT_TIME, namespace, Max(microseconds, 0), true);
}

/*
 * Locks what is known of this database, for a change.  NULL, and nothing is
 * locked, if there is nothing.
 */
static DatabaseEntry *
lock_database(void)
{
	DatabaseEntry *entry;

	if (shared == NULL || !OidIsValid(MyDatabaseId))
		return NULL;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = make_database(MyDatabaseId);
	if (entry == NULL)
		LWLockRelease(shared->lock);
	return entry;
}

/*
 * A pass of the collection is over.
 */
void
lease_stat_gc_run(int64 microseconds)
{
	DatabaseEntry *entry = lock_database();

	if (entry == NULL)
		return;
	entry->info.gc_runs++;
	entry->info.gc_time += microseconds;
	entry->info.gc_last_time = GetCurrentTimestamp();
	entry->info.gc_last_duration = microseconds;
	LWLockRelease(shared->lock);
}

/*
 * Something went wrong that nobody hears of who called.
 */
void
lease_stat_error(const char *message)
{
	DatabaseEntry *entry = lock_database();
	LeaseStatDatabase *info;
	int			len;

	if (entry == NULL)
		return;
	info = &entry->info;
	len = pg_mbcliplen(message, strlen(message), sizeof(info->last_error) - 1);
	memcpy(info->last_error, message, len);
	info->last_error[len] = '\0';
	info->encoding = GetDatabaseEncoding();
	info->last_error_time = GetCurrentTimestamp();
	LWLockRelease(shared->lock);
}

/*
 * SQL: lease_stat_reset()
 */
Datum
lease_stat_reset(PG_FUNCTION_ARGS)
{
	DatabaseEntry *entry = lock_database();

	if (entry != NULL)
	{
		remove_namespaces(MyDatabaseId);
		clear_database(entry);
		LWLockRelease(shared->lock);
	}
	PG_RETURN_VOID();
}

/*
 * ---------- Copying, saving and restoring ----------
 */

/* False if they are all 0. */
static bool
copy_counts(uint64 *to, pg_atomic_uint64 *from)
{
	bool		result = false;

	for (int i = 0; i < LEASE_STAT_COUNTERS; i++)
	{
		to[i] = pg_atomic_read_u64(&from[i]);
		result = result || to[i] != 0;
	}
	return result;
}

/*
 * Copies all.  Caller has the lock, or is alone.
 */
static void
copy_all(LeaseStatNumbers *numbers)
{
	HASH_SEQ_STATUS scan;
	NamespaceEntry *namespace;
	DatabaseEntry *database;

	hash_seq_init(&scan, namespaces);
	while ((namespace = hash_seq_search(&scan)) != NULL)
	{
		LeaseStatNamespace *copy = &numbers->namespaces[numbers->namespace_count++];

		copy->database = namespace->key.database;
		memcpy(copy->namespace, namespace->key.namespace, sizeof(copy->namespace));
		(void) copy_counts(copy->counts, namespace->counts);
	}

	hash_seq_init(&scan, databases);
	while ((database = hash_seq_search(&scan)) != NULL)
	{
		LeaseStatNamespace *copy = &numbers->namespaces[numbers->namespace_count];

		numbers->databases[numbers->database_count++] = database->info;
		copy->database = database->info.database;
		if (copy_counts(copy->counts, database->counts))
			numbers->namespace_count++;
	}
}

static LeaseStatNumbers
allocate_numbers(void)
{
	LeaseStatNumbers numbers = {0};

	numbers.namespaces = palloc0((max_namespaces + LEASE_STAT_DATABASES) * sizeof(LeaseStatNamespace));
	numbers.databases = palloc0(LEASE_STAT_DATABASES * sizeof(LeaseStatDatabase));
	return numbers;
}

/*
 * A copy of all numbers, in the current memory context.
 */
LeaseStatNumbers
lease_stat_copy(void)
{
	LeaseStatNumbers numbers = {0};

	if (shared == NULL)
		return numbers;
	numbers = allocate_numbers();
	LWLockAcquire(shared->lock, LW_SHARED);
	copy_all(&numbers);
	LWLockRelease(shared->lock);
	return numbers;
}

/*
 * Callback on_shmem_exit of the postmaster.  Nobody else is there any more, but a
 * lock may have been left behind by who was killed.
 */
static void
save(int code, Datum arg)
{
	LeaseStatNumbers numbers;

	if (code != 0)
		return;					/* a crash */
	numbers = allocate_numbers();
	copy_all(&numbers);
	lease_stat_write_file(&numbers);
}

/*
 * Fills the empty tables with what was saved.  Nobody else is there yet.
 */
static void
restore(void)
{
	LeaseStatNumbers numbers;

	if (!lease_stat_read_file(&numbers))
		return;
	for (int i = 0; i < numbers.database_count; i++)
	{
		DatabaseEntry *entry = make_database(numbers.databases[i].database);

		if (entry != NULL)
			entry->info = numbers.databases[i];
	}
	for (int i = 0; i < numbers.namespace_count; i++)
	{
		const LeaseStatNamespace *saved = &numbers.namespaces[i];
		NamespaceKey key = {.database = saved->database};
		pg_atomic_uint64 *counts;
		bool		own;

		memcpy(key.namespace, saved->namespace, sizeof(key.namespace));
		counts = make_counts(&key, &own);
		for (int c = 0; counts != NULL && c < LEASE_STAT_COUNTERS; c++)
			pg_atomic_fetch_add_u64(&counts[c], saved->counts[c]);
	}
	pfree(numbers.namespaces);
	pfree(numbers.databases);
}
