/*
 * lease.c
 *		The module itself: what happens when the library is loaded.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "compat.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	/* There are no settings yet; a misspelled lease.* shall not pass. */
	MarkGUCPrefixReserved("lease");
}
