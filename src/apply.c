/*
 * apply.c
 *		The SQL function lease_apply(): objects in Kubernetes' JSON, one or a list of
 *		them.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "object.h"

PG_FUNCTION_INFO_V1(lease_apply);

/*
 * Errors out if the answer is no.
 */
static void
report_refusal(LeaseApiReply *r)
{
	switch (r->result)
	{
		case LEASE_API_INVALID:
			ereport(ERROR,
					(errcode(ERRCODE_LEASE_INVALID),
					 errmsg("%s", r->message),
					 errdetail("%s", lease_join(r->causes, "\n"))));
			break;
		case LEASE_API_CONFLICT:
			ereport(ERROR,
					(errcode(ERRCODE_LEASE_CONFLICT),
					 errmsg("%s", r->message),
					 errhint("Read the lease again, or leave out uid and resourceVersion.")));
			break;
		case LEASE_API_BAD_REQUEST:
			ereport(ERROR,
					(errcode(ERRCODE_LEASE_BAD_REQUEST),
					 errmsg("%s", r->message)));
			break;
		case LEASE_API_ALREADY_EXISTS:
			ereport(ERROR,
					(errcode(ERRCODE_UNIQUE_VIOLATION),
					 errmsg("%s", r->message)));
			break;
		case LEASE_API_BUSY:
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("%s", r->message),
					 errdetail("Another transaction has it locked, or is just making it."),
					 errhint("Try again.")));
			break;
		default:
			break;
	}
}

static void
apply_object(ReturnSetInfo *rsinfo, LeaseStore *store, JsonbContainer *json, text *namespace)
{
	LeaseApiReply *r = lease_api_apply(store, json, namespace);
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	CHECK_FOR_INTERRUPTS();
	report_refusal(r);
	values[0] = PointerGetDatum(r->key.namespace);
	values[1] = PointerGetDatum(r->key.name);
	values[2] = CStringGetTextDatum(r->result == LEASE_API_CREATED ? "created" :
									r->result == LEASE_API_CONFIGURED ? "configured" :
									"unchanged");
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The items of a list, or NULL if this is none. */
static JsonbContainer *
list_items(JsonbContainer *json, bool *is_lease_list)
{
	JsonbValue *items;

	*is_lease_list = lease_json_text_is(json, "kind", "LeaseList") &&
		lease_json_text_is(json, "apiVersion", LEASE_API_VERSION);
	if (!*is_lease_list &&
		!(lease_json_text_is(json, "kind", "List") && lease_json_text_is(json, "apiVersion", "v1")))
		return NULL;
	items = lease_json_member(json, "items");
	if (items == NULL || items->type != jbvBinary || !JsonContainerIsArray(items->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_LEASE_BAD_REQUEST),
				 errmsg("a list of leases must have an array \"items\"")));
	return items->val.binary.data;
}

/* An item of a LeaseList, which need not say that it is a Lease. */
static JsonbContainer *
with_kind(const JsonbValue *item)
{
	static const char *const kind =
		"{\"kind\": \"" LEASE_KIND "\", \"apiVersion\": \"" LEASE_API_VERSION "\"}";
	Datum		defaults = DirectFunctionCall1(jsonb_in, CStringGetDatum(kind));
	JsonbValue	copy = *item;

	return &DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, defaults,
											   JsonbPGetDatum(JsonbValueToJsonb(&copy))))->root;
}

static void
apply_list(ReturnSetInfo *rsinfo, LeaseStore *store, JsonbContainer *items, bool is_lease_list,
		   text *namespace)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lease_apply item",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	JsonbIterator *it = JsonbIteratorInit(items);
	JsonbValue	item;

	(void) JsonbIteratorNext(&it, &item, true); /* WJB_BEGIN_ARRAY */
	while (JsonbIteratorNext(&it, &item, true) == WJB_ELEM)
	{
		if (item.type != jbvBinary || !JsonContainerIsObject(item.val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_LEASE_BAD_REQUEST),
					 errmsg("an item of a list of leases must be a JSON object")));
		MemoryContextSwitchTo(context);
		apply_object(rsinfo, store, is_lease_list ? with_kind(&item) : item.val.binary.data,
					 namespace);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

/*
 * SQL: lease_apply(object, namespace)
 */
Datum
lease_apply(PG_FUNCTION_ARGS)
{
	JsonbContainer *json;
	JsonbContainer *items;
	LeaseStore *store;
	text	   *namespace = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	bool		is_lease_list;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("object must not be null")));
	json = &PG_GETARG_JSONB_P(0)->root;
	if (!JsonContainerIsObject(json))
		ereport(ERROR,
				(errcode(ERRCODE_LEASE_BAD_REQUEST),
				 errmsg("object must be a JSON object"),
				 errhint("Pass a Lease, or a List of them.")));
	lease_require_writable("lease_apply()");
	InitMaterializedSRF(fcinfo, 0);

	store = lease_store_open(fcinfo->flinfo->fn_oid, true);
	items = list_items(json, &is_lease_list);
	if (items != NULL)
		apply_list((ReturnSetInfo *) fcinfo->resultinfo, store, items, is_lease_list, namespace);
	else
		apply_object((ReturnSetInfo *) fcinfo->resultinfo, store, json, namespace);
	lease_store_close(store);
	return (Datum) 0;
}
