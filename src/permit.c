/*
 * permit.c
 *		What the functions are about to write, so that the triggers can tell it
 *		from what is written by hand, and know why.
 *
 * A permit is good for one row, and until the statement that it was given for
 * is over.
 */
#include "postgres.h"

#include "access/xact.h"

#include "lease.h"

static bool permitted = false;
static LeaseReason current_reason = LEASE_BY_HAND;

static void
end_at_xact_end(XactEvent event, void *arg)
{
	lease_permit_end();
}

static void
end_at_subxact_abort(SubXactEvent event, SubTransactionId mine,
					 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		lease_permit_end();
}

/*
 * The next row of the table is written by us.
 */
void
lease_permit_begin(LeaseReason reason)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(end_at_xact_end, NULL);
		RegisterSubXactCallback(end_at_subxact_abort, NULL);
		registered = true;
	}
	permitted = true;
	current_reason = reason;
}

/*
 * The statement is over.  An error ends it, too.
 */
void
lease_permit_end(void)
{
	permitted = false;
	current_reason = LEASE_BY_HAND;
}

/*
 * Is the row about to be written by us?  True once.
 */
bool
lease_permit_take(void)
{
	bool		result = permitted;

	permitted = false;
	return result;
}

/*
 * Why a row was written.
 */
LeaseReason
lease_permit_reason(void)
{
	return current_reason;
}
