/*
 * store_object.c
 *		Whole objects in the table, through the executor: what Kubernetes' requests
 *		read and write.
 *
 * As in store_sql.c: constant statements but for the name of the table, run with the
 * caller's privileges.  What is written here is written by hand, so the triggers
 * ask who may say who holds a lease.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "object.h"
#include "store.h"
#include "statement.h"
#include "compat.h"

/* Parameter $n of all statements is field n - 1. */
#define OBJECT "SELECT name, generate_name, namespace, uid, resource_version, generation," \
	" creation_timestamp, deletion_timestamp, deletion_grace_period_seconds, labels," \
	" annotations, owner_references, finalizers, managed_fields, holder_identity," \
	" lease_duration_seconds, acquire_time, renew_time, lease_transitions, strategy," \
	" preferred_holder, fencing_token FROM ONLY %s" BY_KEY
#define BY_KEY " WHERE namespace OPERATOR(pg_catalog.=) $3 AND name OPERATOR(pg_catalog.=) $1"
#define METADATA " generate_name = $2, labels = $10, annotations = $11," \
	" owner_references = $12, finalizers = $13, managed_fields = $14"

typedef enum Statement
{
	READ,
	LOCK_NO_KEY,
	LOCK_EXCLUSIVE,
	INSERT,
	INSERT_AS_GIVEN,
	UPDATE_METADATA,
	UPDATE,
	MARK_DELETED,
	STATEMENTS
} Statement;

/* Their parameters are the fields of an object; fill_types() says of which types. */
static Oid	types[LEASE_FIELDS];

#define ON_LEASE(text) LEASE_STATEMENT(LEASE_TABLE, LEASE_FIELDS, types, text)

static LeaseStatement statements[STATEMENTS] = {
	[READ] = ON_LEASE(OBJECT),
	[LOCK_NO_KEY] = ON_LEASE(OBJECT " FOR NO KEY UPDATE SKIP LOCKED"),
	[LOCK_EXCLUSIVE] = ON_LEASE(OBJECT " FOR UPDATE SKIP LOCKED"),
	[INSERT] = ON_LEASE(
		"INSERT INTO %s (name, generate_name, namespace, generation, labels,"
		" annotations, owner_references, finalizers, managed_fields, holder_identity,"
		" lease_duration_seconds, acquire_time, renew_time, lease_transitions, strategy,"
		" preferred_holder)"
		" VALUES ($1, $2, $3, $6, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
		" ON CONFLICT (namespace, name) DO NOTHING"),
	/* uid: one that cannot be kept is made anew */
	[INSERT_AS_GIVEN] = ON_LEASE(
		"INSERT INTO %s (name, generate_name, namespace, uid,"
		" resource_version, generation, creation_timestamp, deletion_timestamp,"
		" deletion_grace_period_seconds, labels, annotations, owner_references, finalizers,"
		" managed_fields, holder_identity, lease_duration_seconds, acquire_time, renew_time,"
		" lease_transitions, strategy, preferred_holder)"
		" VALUES ($1, $2, $3, coalesce($4, pg_catalog.gen_random_uuid()), $5, $6, $7, $8, $9,"
		" $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
		" ON CONFLICT (namespace, name) DO NOTHING"),
	[UPDATE_METADATA] = ON_LEASE("UPDATE ONLY %s SET" METADATA BY_KEY),
	[UPDATE] = ON_LEASE(
		"UPDATE ONLY %s SET" METADATA ", holder_identity = $15,"
		" lease_duration_seconds = $16, acquire_time = $17, renew_time = $18,"
		" lease_transitions = $19, strategy = $20, preferred_holder = $21" BY_KEY),
	[MARK_DELETED] = ON_LEASE(
		"UPDATE ONLY %s SET deletion_timestamp = $8,"
		" deletion_grace_period_seconds = $9, generation = $6" BY_KEY),
};

static void
fill_types(void)
{
	for (LeaseField f = 0; f < LEASE_FIELDS; f++)
		types[f] = lease_field_type(f);
}

/*
 * Copies the object that SPI has found to the caller's memory.
 */
static void
fill_object(MemoryContext context, LeaseObject *object)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	memset(object, 0, sizeof(*object));
	for (LeaseField f = 0; f < LEASE_FIELDS; f++)
	{
		int16		len;
		bool		by_value;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										  f + 1, &object->nulls[f]);

		get_typlenbyval(lease_field_type(f), &len, &by_value);
		if (object->nulls[f])
			continue;
		object->values[f] = len == -1 ?
			PointerGetDatum(PG_DETOAST_DATUM_COPY(value)) : datumCopy(value, by_value, len);
	}
	MemoryContextSwitchTo(old);
}

/*
 * Is the caller the owner of the table, or may he do what the owner may?
 */
bool
lease_store_is_owner(LeaseStore *store)
{
	return object_ownercheck(RelationRelationId, store->table->relid, GetUserId());
}

/*
 * An object with finalizers is marked instead of deleted, by an UPDATE; who does
 * that must be allowed to delete all the same.
 */
void
lease_store_check_may_delete(LeaseStore *store)
{
	if (pg_class_aclcheck(store->table->relid, GetUserId(), ACL_DELETE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, LEASE_TABLE);
}

static void
key_parameters(const LeaseKey *key, Datum *values, char *nulls)
{
	memset(values, 0, LEASE_FIELDS * sizeof(Datum));
	memset(nulls, 'n', LEASE_FIELDS);
	values[FIELD_NAME] = PointerGetDatum(key->name);
	nulls[FIELD_NAME] = ' ';
	values[FIELD_NAMESPACE] = PointerGetDatum(key->namespace);
	nulls[FIELD_NAMESPACE] = ' ';
}

/*
 * Runs READ or one of the LOCK statements; the snapshot is as for
 * lease_statement_select().
 */
static bool
select_object(LeaseStore *store, Statement statement, Snapshot snapshot,
			  const LeaseKey *key, LeaseObject *object)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[LEASE_FIELDS];
	char		nulls[LEASE_FIELDS];
	bool		found;

	key_parameters(key, values, nulls);
	fill_types();
	found = lease_statement_select(&statements[statement], NameStr(store->table->schema),
								   values, nulls, snapshot, 1);
	if (found)
	{
		bool		isnull;

		fill_object(context, object);
		lease_object_see_renewals(object, store->table->relid,
								  DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
															  LEASE_FIELDS + 1, &isnull)));
	}
	SPI_finish();
	return found;
}

/*
 * Reads the newest committed version, or this transaction's own, without a lock.
 */
bool
lease_store_read_object(LeaseStore *store, const LeaseKey *key, LeaseObject *object)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = select_object(store, READ, snapshot, key, object);

	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Locks the newest version, whatever it is, and reads it.  Never waits.  STALE if
 * there is none.  Unlike an acquirer, who asks for something like this wants to
 * write in any case, so it does no harm to lock more than was read.
 *
 * LockTupleNoKeyExclusive goes together with guards; LockTupleExclusive is for
 * what ends a holding, and so takes a new token.
 */
LeaseLockResult
lease_store_lock_object(LeaseStore *store, const LeaseKey *key, LockTupleMode mode,
						LeaseObject *object)
{
	if (mode == LockTupleExclusive &&
		(!lease_token_lock(store->table->relid) || !lease_history_lock(store->table->relid)))
		return LEASE_LOCK_BUSY;
	if (select_object(store, mode == LockTupleExclusive ? LOCK_EXCLUSIVE : LOCK_NO_KEY,
					  InvalidSnapshot, key, object))
		return LEASE_LOCK_OK;

	/* Gone?  Or skipped because it was locked, or made after our snapshot? */
	if (!lease_store_read_object(store, key, object))
		return LEASE_LOCK_STALE;
	if (IsolationUsesXactSnapshot() && !select_object(store, READ, InvalidSnapshot, key, object))
		lease_statement_conflict();
	return LEASE_LOCK_BUSY;
}

/*
 * Runs a statement that writes an object.  Returns whether a row was written.
 */
static bool
write_object(LeaseStore *store, Statement statement, int expected, LeaseObject *object)
{
	char		nulls[LEASE_FIELDS];
	LeasePermit outer = {0};
	int64		written;

	for (LeaseField f = 0; f < LEASE_FIELDS; f++)
		nulls[f] = object->nulls[f] ? 'n' : ' ';
	fill_types();

	/* That it is being deleted is for nobody to write, but for a deletion. */
	if (statement == MARK_DELETED)
		outer = lease_permit_begin(LEASE_BY_HAND);
	written = lease_statement_write(&statements[statement], NameStr(store->table->schema),
									object->values, nulls, expected);
	if (statement == MARK_DELETED)
		lease_permit_end(outer);
	if (written == LEASE_REWRITTEN)
		lease_statement_suppressed("lease");
	return written > 0;
}

/* As lease_store_insert() needs it; with as_given, what the server decides comes along. */
typedef struct Insertion
{
	LeaseObject *object;
	bool		as_given;
} Insertion;

static bool
insert(LeaseStore *store, const LeaseKey *key, void *arg)
{
	Insertion  *insertion = arg;
	LeaseObject gone;

	if (IsolationUsesXactSnapshot() && select_object(store, READ, InvalidSnapshot, key, &gone))
		lease_statement_conflict();
	return write_object(store, insertion->as_given ? INSERT_AS_GIVEN : INSERT, SPI_OK_INSERT,
						insertion->object);
}

/*
 * Makes the object.  LEASE_LOCK_STALE and LEASE_LOCK_BUSY as for
 * lease_store_insert().
 */
LeaseLockResult
lease_store_insert_object(LeaseStore *store, LeaseObject *object, bool as_given)
{
	LeaseKey	key = {
		.namespace = DatumGetTextPP(object->values[FIELD_NAMESPACE]),
		.name = DatumGetTextPP(object->values[FIELD_NAME]),
	};
	Insertion	insertion = {object, as_given};

	return lease_store_insert_by(store, &key, insert, &insertion);
}

static void
update(LeaseStore *store, Statement statement, LeaseObject *object)
{
	/* The row is locked, so it is there. */
	if (!write_object(store, statement, SPI_OK_UPDATE, object))
		lease_statement_suppressed("lease");
}

/*
 * Writes what a request may change of an object that is locked; without
 * with_spec, in the metadata only, for which it takes no more privileges.
 */
void
lease_store_update_object(LeaseStore *store, LeaseObject *object, bool with_spec)
{
	update(store, with_spec ? UPDATE : UPDATE_METADATA, object);
}

/*
 * Writes that the object, which is locked, is being deleted.
 */
void
lease_store_mark_deleted(LeaseStore *store, LeaseObject *object)
{
	update(store, MARK_DELETED, object);
}
