/*
 * stat_view.c
 *		The SQL functions behind the views lease_stat and lease_stat_database.
 *
 * Who may read the statistics of others (pg_read_all_stats) sees everything.
 * Everybody else sees the numbers of the namespaces in which he sees leases.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "stat.h"

PG_FUNCTION_INFO_V1(lease_stat_namespaces);
PG_FUNCTION_INFO_V1(lease_stat_databases);

/* Who looks. */
typedef struct Viewer
{
	bool		all_databases;
	bool		all_namespaces; /* of this database */
	LeaseStore *store;			/* to look into, or NULL */
} Viewer;

static Viewer
begin_view(Oid funcid)
{
	Viewer		viewer = {0};

	viewer.all_databases = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	viewer.all_namespaces = viewer.all_databases;
	if (viewer.all_databases)
		return viewer;

	viewer.store = lease_store_open(funcid, false);
	if (viewer.store == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not tell which leases there are because the table is locked"),
				 errhint("Try again when the command that locks the table has ended.")));
	viewer.all_namespaces = !lease_store_is_filtered(viewer.store);

	/* an error if he may not look at leases at all */
	if (!viewer.all_namespaces)
		(void) lease_store_has_namespace(viewer.store, cstring_to_text(""));
	return viewer;
}

static bool
may_see_namespace(const Viewer *viewer, const LeaseStatNamespace *n)
{
	if (n->database != MyDatabaseId)
		return viewer->all_databases;
	return viewer->all_namespaces ||
		lease_store_has_namespace(viewer->store, cstring_to_text(n->namespace));
}

/* How many wait, for the row of a namespace. */
static int64
waiting_in(const LeaseStatNamespace *n)
{
	return lease_queue_count(n->database, n->namespace);
}

static double
milliseconds(int64 microseconds)
{
	return microseconds / 1000.0;
}

/* The name of a database, or false if it was dropped. */
static bool
get_datname(Oid database, Datum *datname)
{
	char	   *s = get_database_name(database);

	if (s == NULL)
		return false;
	*datname = DirectFunctionCall1(namein, CStringGetDatum(s));
	return true;
}

static void
put_namespace(ReturnSetInfo *rsinfo, const LeaseStatNamespace *n)
{
	bool		has_name = n->namespace[0] != '\0';
	Datum		values[LEASE_STAT_COUNTERS + 3];
	bool		nulls[LEASE_STAT_COUNTERS + 3] = {false};

	if (!get_datname(n->database, &values[0]))
		return;
	nulls[1] = nulls[2] = !has_name;
	values[1] = CStringGetTextDatum(n->namespace);
	values[2] = Int64GetDatum(has_name ? waiting_in(n) : 0);
	for (int i = 0; i < LEASE_STAT_WAIT_TIME; i++)
		values[i + 3] = Int64GetDatum((int64) n->counts[i]);
	values[LEASE_STAT_WAIT_TIME + 3] =
		Float8GetDatum(milliseconds(n->counts[LEASE_STAT_WAIT_TIME]));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * SQL: lease_stat_namespaces()
 */
Datum
lease_stat_namespaces(PG_FUNCTION_ARGS)
{
	Viewer		viewer = begin_view(fcinfo->flinfo->fn_oid);
	LeaseStatNumbers numbers = lease_stat_copy();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < numbers.namespace_count; i++)
	{
		if (may_see_namespace(&viewer, &numbers.namespaces[i]))
			put_namespace((ReturnSetInfo *) fcinfo->resultinfo, &numbers.namespaces[i]);
	}
	lease_store_close(viewer.store);
	return (Datum) 0;
}

/*
 * The message, in this database's encoding.  Of a message from a database with
 * another one only what is ASCII.
 */
static Datum
last_error(const LeaseStatDatabase *d)
{
	char	   *message = pstrdup(d->last_error);

	for (char *p = message; d->encoding != GetDatabaseEncoding() && *p != '\0'; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	}
	return CStringGetTextDatum(message);
}

static void
put_database(ReturnSetInfo *rsinfo, const LeaseStatDatabase *d, bool with_error)
{
	bool		no_gc = d->gc_last_time == LEASE_NO_TIME;
	bool		no_error = d->last_error_time == LEASE_NO_TIME || !with_error;
	Datum		values[] = {
		(Datum) 0,
		Int64GetDatum(lease_queue_count(d->database, NULL)),
		Int64GetDatum(d->gc_runs),
		Float8GetDatum(milliseconds(d->gc_time)),
		TimestampTzGetDatum(d->gc_last_time),
		Float8GetDatum(milliseconds(d->gc_last_duration)),
		last_error(d),
		TimestampTzGetDatum(d->last_error_time),
		TimestampTzGetDatum(d->stats_reset),
	};
	bool		nulls[] = {false, false, false, false, no_gc, no_gc, no_error, no_error, false};

	if (get_datname(d->database, &values[0]))
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * SQL: lease_stat_databases()
 */
Datum
lease_stat_databases(PG_FUNCTION_ARGS)
{
	Viewer		viewer = begin_view(fcinfo->flinfo->fn_oid);
	LeaseStatNumbers numbers = lease_stat_copy();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < numbers.database_count; i++)
	{
		const LeaseStatDatabase *d = &numbers.databases[i];

		if (d->database == MyDatabaseId || viewer.all_databases)
			put_database((ReturnSetInfo *) fcinfo->resultinfo, d, viewer.all_namespaces);
	}
	lease_store_close(viewer.store);
	return (Datum) 0;
}
