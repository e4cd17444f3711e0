/*
 * event.c
 *		Events of leases, as a watch in Kubernetes has them: a lease was added,
 *		modified, deleted, or has expired.
 *
 * A transaction that changes who holds a lease notes it here.  When it has
 * committed, its events go to the worker of the database (mailbox.c), which sends
 * them with NOTIFY.  Not the transaction itself: of those that have used NOTIFY
 * only one at a time can commit, and none can be prepared.
 *
 * A renewal is no event; only if it makes a lease expire earlier, the worker has
 * to know.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "lease.h"

/* Of a holder's name.  A payload must be shorter than 8000 bytes. */
#define MAX_HOLDER 4000
#define MAX_PAYLOAD 7999

/* More than a mailbox takes: not worth remembering */
#define MAX_PENDING 10000

static const char *const type_names[] = {
	[LEASE_EVENT_RENEWED] = "MODIFIED", /* not sent */
	[LEASE_EVENT_ADDED] = "ADDED",
	[LEASE_EVENT_MODIFIED] = "MODIFIED",
	[LEASE_EVENT_DELETED] = "DELETED",
	[LEASE_EVENT_EXPIRED] = "EXPIRED",
};

/* Events of this transaction, in order; in TopTransactionContext */
static List *pending = NIL;
static bool too_many_pending = false;

static void
at_xact_end(XactEvent xact_event, void *arg)
{
	if (xact_event != XACT_EVENT_COMMIT && xact_event != XACT_EVENT_ABORT &&
		xact_event != XACT_EVENT_PREPARE)
		return;
	if (xact_event == XACT_EVENT_COMMIT && pending != NIL)
		lease_mailbox_post(pending, too_many_pending);
	pending = NIL;				/* the memory goes with the transaction */
	too_many_pending = false;
}

/*
 * What happened since the subtransaction began is at the end of the list.
 */
static void
at_subxact_end(SubXactEvent subxact_event, SubTransactionId mine,
			   SubTransactionId parent, void *arg)
{
	if (subxact_event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (pending != NIL && ((LeaseEvent *) llast(pending))->subxact >= mine)
		pending = list_delete_last(pending);
}

static char *
append(char *to, const text *t, int len)
{
	memcpy(to, VARDATA_ANY(t), len);
	return to + len;
}

/*
 * Makes an event, in the current memory context.
 */
LeaseEvent *
lease_event_make(LeaseEventType type, const LeaseKey *key, const LeaseRow *row)
{
	const text *holder = row->holder_identity;
	int			namespace_len = VARSIZE_ANY_EXHDR(key->namespace);
	int			name_len = VARSIZE_ANY_EXHDR(key->name);
	int			holder_len = holder == NULL ? 0 :
		pg_mbcliplen(VARDATA_ANY(holder), VARSIZE_ANY_EXHDR(holder), MAX_HOLDER);
	LeaseTime	time = lease_clock_read();
	Size		size = MAXALIGN(offsetof(LeaseEvent, texts) + namespace_len + name_len + holder_len);
	LeaseEvent *event = palloc0(size);
	char	   *to = event->texts;

	event->size = size;
	event->type = type;
	event->expires_at = lease_ttl_expires_at(row, &time);
	event->fencing_token = row->fencing_token;
	event->resource_version = row->resource_version;
	event->namespace_len = namespace_len;
	event->name_len = name_len;
	event->holder_len = holder == NULL ? -1 : holder_len;
	to = append(to, key->namespace, namespace_len);
	to = append(to, key->name, name_len);
	if (holder != NULL)
		append(to, holder, holder_len);
	return event;
}

/*
 * Notes an event of this transaction.
 */
void
lease_event_note(LeaseEventType type, const LeaseKey *key, const LeaseRow *row)
{
	static bool registered = false;
	MemoryContext old;
	LeaseEvent *event;

	if (!lease_mailbox_exists())
		return;
	if (list_length(pending) == MAX_PENDING)
	{
		too_many_pending = true;
		return;
	}
	if (!registered)
	{
		RegisterXactCallback(at_xact_end, NULL);
		RegisterSubXactCallback(at_subxact_end, NULL);
		registered = true;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	event = lease_event_make(type, key, row);
	event->subxact = GetCurrentSubTransactionId();
	pending = lappend(pending, event);
	MemoryContextSwitchTo(old);
}

static void
append_string(StringInfo json, const char *member, const char *s, int len)
{
	appendStringInfo(json, ", \"%s\": ", member);
	escape_json(json, pnstrdup(s, len));
}

static char *
payload(const LeaseEvent *event, int holder_len)
{
	StringInfoData json;
	const char *namespace = event->texts;
	const char *name = namespace + event->namespace_len;
	const char *holder = name + event->name_len;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"type\": \"%s\"", type_names[event->type]);
	append_string(&json, "namespace", namespace, event->namespace_len);
	append_string(&json, "name", name, event->name_len);
	if (event->holder_len < 0)
		appendStringInfoString(&json, ", \"holderIdentity\": null");
	else
		append_string(&json, "holderIdentity", holder, holder_len);
	appendStringInfo(&json, ", \"fencingToken\": " INT64_FORMAT, event->fencing_token);
	appendStringInfo(&json, ", \"resourceVersion\": \"" INT64_FORMAT "\"}", event->resource_version);
	return json.data;
}

/*
 * The event as JSON, short enough for NOTIFY: a holder's name that is too long
 * for that is cut off.
 */
char *
lease_event_payload(const LeaseEvent *event)
{
	int			holder_len = Max(event->holder_len, 0);
	const char *holder = event->texts + event->namespace_len + event->name_len;
	char	   *json = payload(event, holder_len);

	while (strlen(json) > MAX_PAYLOAD)
	{
		holder_len = pg_mbcliplen(holder, holder_len, holder_len / 2);
		json = payload(event, holder_len);
	}
	return json;
}

/*
 * What is sent when events were lost: who follows them must read the table anew,
 * as with Kubernetes' "410 Gone" in a watch.
 */
const char *
lease_event_lost_payload(void)
{
	return "{\"type\": \"ERROR\", \"code\": 410, \"reason\": \"Expired\","
		" \"message\": \"events were lost; list the leases again\"}";
}
