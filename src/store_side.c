/*
 * store_side.c
 *		The tables besides that of the leases, through the executor: the history, the
 *		policies of the collection, and the nodes.
 *
 * As in store_sql.c: constant statements, operators qualified.  Who runs them is for
 * the caller to decide, as the history is the owner's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store.h"
#include "statement.h"

/*
 * ---------- The history ----------
 */

static Oid	history_parameters[] = {TEXTOID, TEXTOID, INT8OID, TEXTOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
static Oid	expiry_parameters[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
static Oid	trim_parameters[] = {TIMESTAMPTZOID, INT8OID};
static Oid	holder_parameters[] = {TEXTOID, TEXTOID, TEXTOID};

static LeaseStatement insert_history =
LEASE_STATEMENT(LEASE_HISTORY, lengthof(history_parameters), history_parameters,
				"WITH known AS (SELECT held_until FROM %1$s" LEASE_BY_KEY
				" AND fencing_token OPERATOR(pg_catalog.=) $3)"
				" INSERT INTO %1$s AS h (namespace, name, fencing_token, holder_identity,"
				" held_from, held_until, end_reason) VALUES ($1, $2, $3, $4, $5, $6, $7)"
				" ON CONFLICT (namespace, name, fencing_token)"
				" DO UPDATE SET held_from = LEAST(h.held_from, EXCLUDED.held_from),"
				" held_until = EXCLUDED.held_until, end_reason = EXCLUDED.end_reason"
				" WHERE h.held_until OPERATOR(pg_catalog.<) EXCLUDED.held_until"
				" OR EXCLUDED.end_reason OPERATOR(pg_catalog.<>) 'expired'"
				" RETURNING NOT EXISTS (SELECT FROM known AS k WHERE k.held_until OPERATOR(pg_catalog.>=) $6)");

static LeaseStatement insert_expiry =
LEASE_STATEMENT(LEASE_HISTORY, lengthof(expiry_parameters), expiry_parameters,
				"INSERT INTO %1$s AS h (namespace, name, fencing_token, holder_identity,"
				" held_from, held_until, end_reason) SELECT l.namespace, l.name, l.fencing_token, l.holder_identity,"
				" LEAST(COALESCE(l.held_since, l.renew_time), $3), $3, 'expired' FROM ONLY %2$s AS l"
				" WHERE l.namespace OPERATOR(pg_catalog.=) $1 AND l.name OPERATOR(pg_catalog.=) $2"
				" ON CONFLICT (namespace, name, fencing_token)"
				" DO UPDATE SET held_until = EXCLUDED.held_until"
				" WHERE h.held_until OPERATOR(pg_catalog.<) EXCLUDED.held_until");

/*
 * A row that is locked stays where it is; and one whose token is the lease's
 * still, because the end of the holding may have to be written there.  That
 * is not a join: of many leases, it would read all.
 */
static LeaseStatement trim_history =
LEASE_STATEMENT(LEASE_HISTORY, lengthof(trim_parameters), trim_parameters,
				"DELETE FROM %1$s WHERE ctid OPERATOR(pg_catalog.=) ANY"
				" (ARRAY(SELECT h.ctid FROM %1$s AS h WHERE h.held_until OPERATOR(pg_catalog.<) $1"
				" AND COALESCE((SELECT l.fencing_token FROM ONLY %2$s AS l WHERE l.namespace OPERATOR(pg_catalog.=) h.namespace"
				" AND l.name OPERATOR(pg_catalog.=) h.name)"
				" OPERATOR(pg_catalog.<>) h.fencing_token, true)"
				" LIMIT $2 FOR UPDATE OF h SKIP LOCKED))");

static LeaseStatement history_has_holder =
LEASE_STATEMENT(LEASE_HISTORY, lengthof(holder_parameters), holder_parameters,
				"SELECT name FROM %s" LEASE_BY_KEY
				" AND holder_identity OPERATOR(pg_catalog.=) $3 LIMIT 1");

/*
 * Records that a holding has ended.  False if it was known to have ended then.
 */
bool
lease_sql_insert_history(const char *schema, const LeaseKey *key, const LeaseRow *row,
						 TimestampTz from, TimestampTz until, const char *reason)
{
	Datum		values[] = {
		PointerGetDatum(key->namespace),
		PointerGetDatum(key->name),
		Int64GetDatum(row->fencing_token),
		PointerGetDatum(row->holder_identity),
		TimestampTzGetDatum(from),
		TimestampTzGetDatum(until),
		PointerGetDatum(cstring_to_text(reason)),
	};
	SPIPlanPtr	plan = lease_statement_begin(&insert_history, schema);
	bool		isnull;
	bool		news;

	lease_statement_check(SPI_execute_plan(plan, values, NULL, false, 0), SPI_OK_INSERT_RETURNING);
	news = SPI_processed > 0 &&
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return news;
}

/*
 * Records that a holding ran out.  False if that was known.
 */
bool
lease_sql_insert_expiry(const char *schema, const LeaseKey *key, TimestampTz expired_at)
{
	Datum		values[] = {
		PointerGetDatum(key->namespace),
		PointerGetDatum(key->name),
		TimestampTzGetDatum(expired_at),
	};

	return lease_statement_write(&insert_expiry, schema, values, NULL, SPI_OK_INSERT) > 0;
}

/*
 * Deletes holdings that ended before then, as many as limit.  Returns how many.
 */
int64
lease_sql_trim_history(const char *schema, TimestampTz before, int64 limit)
{
	Datum		values[] = {TimestampTzGetDatum(before), Int64GetDatum(limit)};
	int64		removed = lease_statement_write(&trim_history, schema, values, NULL, SPI_OK_DELETE);

	return Max(removed, 0);
}

/*
 * Has a holding of this holder ended?
 */
bool
lease_sql_history_has_holder(const char *schema, const LeaseKey *key, text *holder)
{
	Datum		values[] = {PointerGetDatum(key->namespace), PointerGetDatum(key->name),
	PointerGetDatum(holder)};
	bool		found = lease_statement_select_newest(&history_has_holder, schema, values, NULL, 1);

	SPI_finish();
	return found;
}

/*
 * ---------- The policies ----------
 */

static Oid	policy_parameters[] = {TEXTOID};

static LeaseStatement gc_policies =
LEASE_STATEMENT(LEASE_GC_POLICY, 0, NULL,
				"SELECT namespace, selector, expired_for, batch_size FROM %s WHERE enabled ORDER BY name");

static LeaseStatement delete_gc_policy =
LEASE_STATEMENT(LEASE_GC_POLICY, lengthof(policy_parameters), policy_parameters,
				"DELETE FROM %s WHERE name OPERATOR(pg_catalog.=) $1");

/*
 * Reads the policies that are enabled, in the order of their names.  Returns how many.
 */
int
lease_sql_gc_policies(const char *schema, LeaseGcPolicy **policies)
{
	MemoryContext context = CurrentMemoryContext;
	int			count;

	(void) lease_statement_select_newest(&gc_policies, schema, NULL, NULL, 0);
	count = SPI_processed;
	*policies = MemoryContextAllocZero(context, Max(count, 1) * sizeof(LeaseGcPolicy));
	for (int i = 0; i < count; i++)
	{
		LeaseGcPolicy *policy = &(*policies)[i];
		MemoryContext old = MemoryContextSwitchTo(context);
		Datum		values[4];
		bool		nulls[4];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		policy->namespace = nulls[0] ? NULL : DatumGetTextPCopy(values[0]);
		policy->selector = TextDatumGetCString(values[1]);
		policy->expired_for = lease_ttl_microseconds(DatumGetIntervalP(values[2]), "expired_for");
		policy->batch_size = DatumGetInt32(values[3]);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return count;
}

/*
 * Deletes the policy of that name, if there is one.
 */
void
lease_sql_delete_gc_policy(const char *schema, text *name)
{
	Datum		values[] = {PointerGetDatum(name)};

	(void) lease_statement_write(&delete_gc_policy, schema, values, NULL, SPI_OK_DELETE);
}

/*
 * ---------- The nodes ----------
 */

/* as lease_ttl_next_resource_version() counts */
#define NOW_AS_VERSION "CAST(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())" \
	" OPERATOR(pg_catalog.*) 1000000 AS pg_catalog.int8)"

static Oid	node_parameters[NODE_COLUMNS] = {
	[NODE_NAME] = TEXTOID,
	[NODE_UID] = UUIDOID,
	[NODE_CREATION_TIMESTAMP] = TIMESTAMPTZOID,
	[NODE_RESOURCE_VERSION] = INT8OID,
	[NODE_LABELS] = JSONBOID,
	[NODE_ANNOTATIONS] = JSONBOID,
	[NODE_METADATA] = JSONBOID,
	[NODE_UNSCHEDULABLE] = BOOLOID,
	[NODE_SPEC] = JSONBOID,
	[NODE_STATUS] = JSONBOID,
};

static LeaseStatement read_node =
LEASE_STATEMENT(LEASE_NODE, 1, node_parameters,
				"SELECT uid FROM %s WHERE name OPERATOR(pg_catalog.=) $1");

static LeaseStatement lock_node =
LEASE_STATEMENT(LEASE_NODE, 1, node_parameters,
				"SELECT uid FROM %s WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED");

static LeaseStatement write_node =
LEASE_STATEMENT(LEASE_NODE, NODE_COLUMNS, node_parameters,
				"INSERT INTO %s AS n (name, uid, creation_timestamp, resource_version, labels,"
				" annotations, metadata, unschedulable, spec, status)"
				" VALUES ($1, COALESCE($2, pg_catalog.gen_random_uuid()),"
				" COALESCE($3, pg_catalog.date_trunc('second', pg_catalog.clock_timestamp())),"
				" COALESCE($4, " NOW_AS_VERSION "), $5, $6, $7, $8, $9, $10)"
				" ON CONFLICT (name) DO UPDATE SET uid = COALESCE($2, n.uid),"
				" creation_timestamp = COALESCE($3, n.creation_timestamp),"
				" resource_version = COALESCE($4, GREATEST(n.resource_version OPERATOR(pg_catalog.+) 1, " NOW_AS_VERSION ")),"
				" labels = $5, annotations = $6, metadata = $7, unschedulable = $8, spec = $9, status = $10");

static LeaseStatement delete_node =
LEASE_STATEMENT(LEASE_NODE, 1, node_parameters,
				"DELETE FROM %s WHERE name OPERATOR(pg_catalog.=) $1");

/*
 * The uid of a registered node, as far as the caller may see it, or NULL.  With
 * lock, its row is locked; NULL then also if somebody else has it locked.
 */
pg_uuid_t *
lease_sql_node_uid(const char *schema, text *name, bool lock)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[] = {PointerGetDatum(name)};
	pg_uuid_t  *uid = NULL;
	bool		found;

	/* To lock, it takes the transaction's snapshot. */
	if (lock)
		found = lease_statement_select(&lock_node, schema, values, NULL, InvalidSnapshot, 1);
	else
		found = lease_statement_select_newest(&read_node, schema, values, NULL, 1);
	if (found)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										  1, &isnull);

		uid = MemoryContextAlloc(context, sizeof(pg_uuid_t));
		*uid = *DatumGetUUIDP(value);
	}
	SPI_finish();
	return uid;
}

/*
 * Registers a node, or writes anew what is known of it.  values and nulls are
 * indexed by LeaseNodeColumn.  False if something suppressed it.
 */
bool
lease_sql_write_node(const char *schema, const Datum *values, const bool *nulls)
{
	Datum		parameters[NODE_COLUMNS];
	char		isnull[NODE_COLUMNS];

	for (int i = 0; i < NODE_COLUMNS; i++)
	{
		parameters[i] = values[i];
		isnull[i] = nulls[i] ? 'n' : ' ';
	}
	return lease_statement_write(&write_node, schema, parameters, isnull, SPI_OK_INSERT) > 0;
}

/*
 * Deletes a node whose row is locked.
 */
void
lease_sql_delete_node(const char *schema, text *name)
{
	Datum		values[] = {PointerGetDatum(name)};

	if (lease_statement_write(&delete_node, schema, values, NULL, SPI_OK_DELETE) <= 0)
		lease_statement_suppressed("node");
}
