/*
 * subxact.c
 *		Work in a subtransaction, so that its locks can be given back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "lease.h"

/*
 * Runs work(arg) in a subtransaction, which commits if that returns true, and
 * is rolled back if it returns false.  What it allocates stays.
 */
bool
lease_in_subtransaction(bool (*work) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool		result = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		result = work(arg);
		if (result)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	return result;
}
