/*
 * lease.c
 *		The module itself: what happens when the library is loaded, and the
 *		shared memory that it gets if the server loads it at its start.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/guc.h"

#include "lease.h"
#include "compat.h"

PG_MODULE_MAGIC_EXT(
					.name = "lease",
					.version = LEASE_VERSION
);

void		_PG_init(void);

static shmem_request_hook_type previous_shmem_request_hook;
static shmem_startup_hook_type previous_shmem_startup_hook;

static void
request_shmem(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	lease_queue_request_shmem();
	lease_stat_request_shmem();
	lease_mailbox_request_shmem();
	lease_launcher_request_shmem();
	lease_incarnation_request_shmem();
	lease_clock_request_shmem();
	lease_memory_request_shmem();
}

static void
startup_shmem(void)
{
	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	lease_queue_startup_shmem();
	lease_stat_startup_shmem();
	lease_mailbox_startup_shmem();
	lease_incarnation_startup_shmem();
	lease_clock_startup_shmem();
	lease_memory_startup_shmem();
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	lease_clock_init();
	lease_memory_init();
	lease_guard_init();
	lease_gc_init();
	lease_node_status_init();
	lease_apiserver_init();
	lease_worker_init();
	lease_stat_init();

	/* A misspelled lease.* shall not pass. */
	MarkGUCPrefixReserved("lease");

	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	lease_extension_init();
	lease_launcher_init();
}
