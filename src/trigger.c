/*
 * trigger.c
 *		What happens with every row of the table that the executor writes.
 *
 * Before: keeps rows honest that are written by hand, which is this extension's
 * kubectl edit and kubectl apply.  After: records a holding that has ended, tells
 * the worker, and sees to it that who waits for the lease is woken.
 *
 * What Kubernetes' API server decides, not the client, is decided here: uid and
 * creation_timestamp never change, resource_version moves with every change.
 * And what fencing rests on: the token changes with the holder, and is never
 * a number that somebody made up.  Who holds the lease and until when is
 * written by the functions, or by the owner of the table.
 *
 * Renewals that go around the executor need none of this and fire no trigger.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "lease.h"
#include "compat.h"

/* Half of all tokens shall be left, whatever is restored. */
#define MAX_RESTORED_TOKEN (PG_INT64_MAX / 2)

PG_FUNCTION_INFO_V1(lease_on_write);
PG_FUNCTION_INFO_V1(lease_after_write);

/*
 * Errors out unless this is our trigger, and on our table.  Anybody may create a
 * trigger with these functions on a table of his own, with columns of other types.
 */
static void
check_called_by(FunctionCallInfo fcinfo, const char *function, bool right_event)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);

	if (!right_event)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called by the trigger of that name", function)));
	if (RelationGetRelid(((TriggerData *) fcinfo->context)->tg_relation) !=
		get_relname_relid(LEASE_TABLE, schema))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" belongs to table \"%s\" of the extension only",
						function, LEASE_TABLE)));
}

/* One column of the row that is about to be written. */
typedef struct Column
{
	int			attnum;
	Datum		value;
	bool		isnull;
} Column;

static bool
is_owner(Relation rel)
{
	return object_ownercheck(RelationRelationId, RelationGetRelid(rel), GetUserId());
}

static Column
get_column(Relation rel, HeapTuple tuple, const char *name)
{
	Column		c;

	c.attnum = attnameAttNum(rel, name, false);
	if (c.attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist",
						name, RelationGetRelationName(rel)),
				 errhint("Undo what was done by hand to the objects of the extension \"lease\".")));
	c.value = heap_getattr(tuple, c.attnum, RelationGetDescr(rel), &c.isnull);
	return c;
}

static bool
columns_equal(Relation rel, Column a, Column b)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), a.attnum - 1);

	if (a.isnull || b.isnull)
		return a.isnull && b.isnull;
	return datum_image_eq(a.value, b.value, att->attbyval, att->attlen);
}

/* Errors out if the column differs between the two rows. */
static void
check_immutable(Relation rel, HeapTuple old, HeapTuple new, const char *name)
{
	Column		a = get_column(rel, old, name);
	Column		b = get_column(rel, new, name);

	if (!columns_equal(rel, a, b))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("column \"%s\" of a lease is immutable", name),
				 errhint("Delete the lease and create another."),
				 errtablecol(rel, a.attnum)));
}

static void
check_finite(Relation rel, HeapTuple tuple, const char *name)
{
	Column		c = get_column(rel, tuple, name);

	if (!c.isnull && TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(c.value)))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("column \"%s\" of a lease must be finite", name),
				 errhint("For a lease that is not held, set the column to NULL."),
				 errtablecol(rel, c.attnum)));
}

/* What decides who holds a lease, and until when. */
static const char *const holding_columns[] = {
	"holder_identity",
	"lease_duration_seconds",
	"acquire_time",
	"renew_time",
	"lease_transitions",
	"lock_delay_seconds",
	"not_before",
	"reserved_for",
	"held_since",
};

/* That an object is being deleted, which cannot be taken back. */
static const char *const deletion_columns[] = {
	"deletion_timestamp",
	"deletion_grace_period_seconds",
};

/* Errors out if one of the columns has been written.  old is NULL in an INSERT. */
static void
check_unchanged(Relation rel, HeapTuple old, HeapTuple new,
				const char *const *columns, int count, const char *hint)
{
	for (int i = 0; i < count; i++)
	{
		Column		c = get_column(rel, new, columns[i]);

		if (old == NULL ? c.isnull : columns_equal(rel, c, get_column(rel, old, columns[i])))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set column \"%s\" of a lease", columns[i]),
				 errdetail("Only the owner of the table may write it by hand."),
				 errhint("%s", hint),
				 errtablecol(rel, c.attnum)));
	}
}

/*
 * Errors out if somebody who may not do so decides who holds the lease, or that
 * it is being deleted.
 */
static void
check_may_decide(Relation rel, HeapTuple old, HeapTuple new)
{
	if (lease_permit_take() || is_owner(rel))
		return;

	check_unchanged(rel, old, new, holding_columns, lengthof(holding_columns),
					"Call lease_acquire(), lease_renew(), lease_release() or lease_handover().");
	check_unchanged(rel, old, new, deletion_columns, lengthof(deletion_columns),
					"Delete the lease; it is marked so while it has finalizers.");
}

/* A new token, in the row that is being written and so nowhere else. */
static int64
issue_and_take(Oid relid, int64 floor)
{
	int64		token = lease_token_issue(relid, floor);

	(void) lease_token_take(token);
	return token;
}

/*
 * The token of a row that is inserted.  The owner of the table may bring one
 * along, as when a dump is restored; tokens issued later will be greater.
 * Everybody else gets a new one, like uids in Kubernetes.
 */
static int64
token_for_insert(Relation rel, Column token)
{
	Oid			relid = RelationGetRelid(rel);

	if (!token.isnull)
	{
		int64		value = DatumGetInt64(token.value);

		if (lease_token_take(value))
			return value;
		if (is_owner(rel))
		{
			if (value > MAX_RESTORED_TOKEN)
				ereport(ERROR,
						(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						 errmsg("column \"fencing_token\" of a lease is out of range"),
						 errhint("There would be no greater ones left to issue."),
						 errtablecol(rel, token.attnum)));
			if (value > 0)
				lease_token_raise(relid, value);
			return value;		/* the CHECK constraint refuses the rest */
		}
	}
	return issue_and_take(relid, 0);
}

/*
 * The token of a row that is updated: a new one if the holder changes, or one
 * that was issued for this very change; otherwise it stays.
 */
static int64
token_for_update(Relation rel, HeapTuple old, HeapTuple new)
{
	Column		old_token = get_column(rel, old, "fencing_token");
	Column		new_token = get_column(rel, new, "fencing_token");

	if (!columns_equal(rel, old_token, new_token))
	{
		if (!new_token.isnull && lease_token_take(DatumGetInt64(new_token.value)))
			return DatumGetInt64(new_token.value);
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("column \"fencing_token\" of a lease cannot be set"),
				 errhint("It changes by itself whenever \"holder_identity\" changes."),
				 errtablecol(rel, new_token.attnum)));
	}
	if (columns_equal(rel, get_column(rel, old, "holder_identity"),
					  get_column(rel, new, "holder_identity")))
		return DatumGetInt64(old_token.value);
	return issue_and_take(RelationGetRelid(rel), DatumGetInt64(old_token.value));
}

/*
 * An object that is inserted has a time of creation.  Only the owner may load
 * one without, as there are in Kubernetes.
 */
static HeapTuple
with_creation_timestamp(Relation rel, HeapTuple tuple)
{
	Column		created = get_column(rel, tuple, "creation_timestamp");
	bool		isnull = false;

	if (!created.isnull || is_owner(rel))
		return tuple;
	created.value = TimestampTzGetDatum(lease_whole_seconds(GetCurrentTimestamp()));
	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1, &created.attnum,
									 &created.value, &isnull);
}

/*
 * The row with what it gets whether it was asked for or not.
 */
static HeapTuple
with_ours(Relation rel, HeapTuple tuple, int64 version, int64 token, Datum held_since,
		  bool not_held)
{
	int			columns[] = {
		get_column(rel, tuple, "resource_version").attnum,
		get_column(rel, tuple, "fencing_token").attnum,
		get_column(rel, tuple, "held_since").attnum,
	};
	Datum		values[] = {Int64GetDatum(version), Int64GetDatum(token), held_since};
	bool		nulls[] = {false, false, not_held};

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), lengthof(columns),
									 columns, values, nulls);
}

static bool
is_held_by_nobody(Relation rel, HeapTuple tuple)
{
	Column		holder = get_column(rel, tuple, "holder_identity");

	return holder.isnull || VARSIZE_ANY_EXHDR(DatumGetTextPP(holder.value)) == 0;
}

static HeapTuple
on_insert(Relation rel, HeapTuple tuple)
{
	Column		version = get_column(rel, tuple, "resource_version");
	Column		token = get_column(rel, tuple, "fencing_token");
	Column		since = get_column(rel, tuple, "held_since");
	int64		new_version = version.isnull ? 0 : DatumGetInt64(version.value);

	check_may_decide(rel, NULL, tuple);

	/* A row that the owner restores keeps its version. */
	if (new_version <= 0 || !is_owner(rel))
		new_version = lease_ttl_next_resource_version(0, lease_clock_now());
	tuple = with_creation_timestamp(rel, tuple);
	return with_ours(rel, tuple, new_version, token_for_insert(rel, token),
					 since.isnull ? TimestampTzGetDatum(lease_clock_now()) : since.value,
					 is_held_by_nobody(rel, tuple));
}

static int32
duration_of(Relation rel, HeapTuple tuple)
{
	Column		duration = get_column(rel, tuple, "lease_duration_seconds");

	return duration.isnull ? LEASE_NO_DURATION : DatumGetInt32(duration.value);
}

/* The row as the functions see it, as far as the end of a holding needs it. */
static LeaseRow
get_row(Relation rel, HeapTuple tuple)
{
	Column		holder = get_column(rel, tuple, "holder_identity");
	Column		renew_time = get_column(rel, tuple, "renew_time");
	Column		reserved_for = get_column(rel, tuple, "reserved_for");
	LeaseRow	row = {0};

	row.holder_identity = holder.isnull ? NULL : DatumGetTextPP(holder.value);
	row.lease_duration_seconds = duration_of(rel, tuple);
	row.renew_time = renew_time.isnull ? LEASE_NO_TIME :
		DatumGetTimestampTz(renew_time.value);
	row.reserved_for = reserved_for.isnull ? NULL : DatumGetTextPP(reserved_for.value);
	row.fencing_token = DatumGetInt64(get_column(rel, tuple, "fencing_token").value);
	row.resource_version = DatumGetInt64(get_column(rel, tuple, "resource_version").value);
	return row;
}

static LeaseKey
get_key(Relation rel, HeapTuple tuple)
{
	LeaseKey	key = {
		.namespace = DatumGetTextPP(get_column(rel, tuple, "namespace").value),
		.name = DatumGetTextPP(get_column(rel, tuple, "name").value),
	};

	return key;
}

static HeapTuple
with_renew_time(Relation rel, HeapTuple tuple, TimestampTz renew_time)
{
	int			column = get_column(rel, tuple, "renew_time").attnum;
	Datum		value = TimestampTzGetDatum(renew_time);
	bool		isnull = false;

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1, &column, &value, &isnull);
}

/*
 * Takes into both rows what was renewed in memory only.  From here on that counts no
 * more, unless the transaction is rolled back, so it must not be lost.
 *
 * Who changes something else may have read a renew_time from a view, while the holder
 * went on: such a time does not take a renewal back.  One with which the lease has
 * expired is meant.
 */
static void
take_renewals(Relation rel, HeapTuple *old, HeapTuple *new)
{
	LeaseKey	key;
	LeaseRow	row;
	LeaseRow	wanted;
	TimestampTz old_time;
	LeaseTime	time;

	if (lease_memory_is_empty())
		return;
	key = get_key(rel, *old);
	row = get_row(rel, *old);
	wanted = get_row(rel, *new);
	old_time = row.renew_time;
	lease_memory_close(RelationGetRelid(rel), &key, &row);
	if (row.renew_time == old_time)
		return;
	*old = with_renew_time(rel, *old, row.renew_time);

	time = lease_clock_read();
	if (wanted.renew_time == old_time ||
		(wanted.renew_time > old_time && wanted.renew_time < row.renew_time && lease_ttl_is_valid(&wanted, &time)))
		*new = with_renew_time(rel, *new, row.renew_time);
}

static HeapTuple
on_update(Relation rel, HeapTuple old, HeapTuple new)
{
	int64		old_version = DatumGetInt64(get_column(rel, old, "resource_version").value);
	int64		old_token = DatumGetInt64(get_column(rel, old, "fencing_token").value);
	Column		since = get_column(rel, new, "held_since");
	int64		token;

	check_immutable(rel, old, new, "namespace");
	check_immutable(rel, old, new, "name");
	check_immutable(rel, old, new, "uid");
	check_immutable(rel, old, new, "creation_timestamp");
	take_renewals(rel, &old, &new);
	check_may_decide(rel, old, new);

	/* After a crash only the duration that was on disk would count. */
	if (duration_of(rel, new) > duration_of(rel, old))
		ForceSyncCommit();
	token = token_for_update(rel, old, new);
	if (token != old_token)
	{
		since.value = TimestampTzGetDatum(lease_clock_now());
		since.isnull = is_held_by_nobody(rel, new);
	}
	return with_ours(rel, new,
					 lease_ttl_next_resource_version(old_version, lease_clock_now()),
					 token, since.value, since.isnull);
}

/*
 * SQL: trigger lease_on_write, BEFORE INSERT OR UPDATE FOR EACH ROW
 */
Datum
lease_on_write(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;
	HeapTuple	tuple;

	check_called_by(fcinfo, LEASE_TRIGGER_BEFORE,
					CALLED_AS_TRIGGER(fcinfo) &&
					TRIGGER_FIRED_BEFORE(trigger->tg_event) &&
					TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
					!TRIGGER_FIRED_BY_DELETE(trigger->tg_event));

	rel = trigger->tg_relation;
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		tuple = on_insert(rel, trigger->tg_trigtuple);
	else
		tuple = on_update(rel, trigger->tg_trigtuple, trigger->tg_newtuple);

	check_finite(rel, tuple, "creation_timestamp");
	check_finite(rel, tuple, "deletion_timestamp");
	check_finite(rel, tuple, "acquire_time");
	check_finite(rel, tuple, "renew_time");
	check_finite(rel, tuple, "not_before");
	check_finite(rel, tuple, "held_since");
	return PointerGetDatum(tuple);
}

/*
 * Records the end of a holding.
 */
static void
record_end(Relation rel, HeapTuple tuple, const LeaseKey *key, const LeaseRow *row,
		   bool deleted)
{
	Column		since = get_column(rel, tuple, "held_since");
	LeaseReason reason = lease_permit_reason();

	if (reason == LEASE_BY_HAND && deleted)
		reason = LEASE_ON_DELETE;
	lease_history_record(rel, key, row,
						 since.isnull ? LEASE_NO_TIME : DatumGetTimestampTz(since.value),
						 reason);
}

static void
after_insert(const LeaseKey *key, const LeaseRow *new)
{
	lease_event_note(LEASE_EVENT_ADDED, key, new);
	lease_queue_wake_at_end(key, new->reserved_for);
}

static void
after_update(Relation rel, HeapTuple old_tuple, const LeaseKey *key,
			 const LeaseRow *old, const LeaseRow *new)
{
	bool		ended = new->fencing_token != old->fencing_token;

	if (!ended && lease_permit_reason() != LEASE_BY_HAND)
	{
		LeaseTime	time = lease_clock_read();

		/* a renewal */
		if (lease_ttl_expires_at(new, &time) < lease_ttl_expires_at(old, &time))
			lease_event_note(LEASE_EVENT_RENEWED, key, new);
		return;
	}
	if (ended)
		record_end(rel, old_tuple, key, old, false);
	lease_event_note(LEASE_EVENT_MODIFIED, key, new);

	/* What is edited may have freed the lease without changing its holder. */
	lease_queue_wake_at_end(key, new->reserved_for);
}

static void
after_delete(Relation rel, HeapTuple old_tuple, const LeaseKey *key, LeaseRow *old)
{
	record_end(rel, old_tuple, key, old, true);

	/* The deletion is a change, too. */
	old->resource_version = lease_ttl_next_resource_version(old->resource_version,
															lease_clock_now());
	lease_event_note(LEASE_EVENT_DELETED, key, old);
	lease_queue_wake_at_end(key, old->reserved_for);
}

/*
 * SQL: trigger lease_after_write, AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW
 */
Datum
lease_after_write(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;
	HeapTuple	tuple;
	LeaseKey	key;
	LeaseRow	row;

	check_called_by(fcinfo, LEASE_TRIGGER_AFTER,
					CALLED_AS_TRIGGER(fcinfo) &&
					TRIGGER_FIRED_AFTER(trigger->tg_event) &&
					TRIGGER_FIRED_FOR_ROW(trigger->tg_event));

	rel = trigger->tg_relation;
	tuple = trigger->tg_trigtuple;
	key = get_key(rel, tuple);
	row = get_row(rel, tuple);
	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		lease_memory_close(RelationGetRelid(rel), &key, &row);
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		after_insert(&key, &row);
	else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		after_delete(rel, tuple, &key, &row);
	else
	{
		LeaseRow	new = get_row(rel, trigger->tg_newtuple);

		after_update(rel, tuple, &key, &row, &new);
	}
	return PointerGetDatum(NULL);
}
