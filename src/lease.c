/*
 * lease.c
 *		The module itself: what happens when the library is loaded.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "lease.h"
#include "compat.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	lease_guard_init();
	lease_gc_init();
	lease_node_init();
	lease_apiserver_init();
	lease_wait_init();

	/* A misspelled lease.* shall not pass. */
	MarkGUCPrefixReserved("lease");
}
