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

static const LeasePermit none = {false, LEASE_BY_HAND};
static LeasePermit current = {false, LEASE_BY_HAND};

static void
end_at_xact_end(XactEvent event, void *arg)
{
	current = none;
}

static void
end_at_subxact_abort(SubXactEvent event, SubTransactionId mine,
					 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		current = none;
}

/*
 * The next row of the table is written by us.  Returns what to give to
 * lease_permit_end(): a user's trigger may call us from within a statement of ours.
 */
LeasePermit
lease_permit_begin(LeaseReason reason)
{
	static bool registered = false;
	LeasePermit outer = current;

	if (!registered)
	{
		RegisterXactCallback(end_at_xact_end, NULL);
		RegisterSubXactCallback(end_at_subxact_abort, NULL);
		registered = true;
	}
	current.permitted = true;
	current.reason = reason;
	return outer;
}

/*
 * The statement is over.  An error ends it, too.
 */
void
lease_permit_end(LeasePermit outer)
{
	current = outer;
}

/*
 * Is the row about to be written by us?  True once.
 */
bool
lease_permit_take(void)
{
	bool		result = current.permitted;

	current.permitted = false;
	return result;
}

/*
 * Why a row was written.
 */
LeaseReason
lease_permit_reason(void)
{
	return current.reason;
}
