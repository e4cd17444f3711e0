/*
 * apiserver.c
 *		Identity leases of API servers: what each publishes about itself in the
 *		namespace kube-system.
 *
 * Name and labels depend on the version of Kubernetes.  The lease is of the host,
 * its holder the process: a new one on the same host takes the lease over, with
 * its own identity and a new token.  (That is what Kubernetes documents.  Its API
 * servers up to 1.34 keep the old identity, and from 1.35 on make a new object.)
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "lease.h"

#define NAMESPACE "kube-system"
#define IDENTITY "kube-apiserver"
#define DURATION 3600			/* seconds */
#define HASH_BYTES 16			/* of the digest's 32 */

/* lease.apiserver_identity: Kubernetes' version */
typedef enum IdentityVersion
{
	VERSION_1_26,
	VERSION_1_27
} IdentityVersion;

static const struct config_enum_entry identity_versions[] = {
	{"1.26", VERSION_1_26, false},
	{"1.27", VERSION_1_27, false},
	{NULL, 0, false}
};

static int	identity_version = VERSION_1_26;

/* How an identity looks in each version */
static const struct
{
	const char *prefix;			/* of the name */
	const char *label;			/* with the value kube-apiserver */
}			forms[] = {
	[VERSION_1_26] = {"kube-apiserver-", "k8s.io/component"},
	[VERSION_1_27] = {"apiserver-", "apiserver.kubernetes.io/identity"},
};

PG_FUNCTION_INFO_V1(lease_apiserver_name);
PG_FUNCTION_INFO_V1(lease_apiserver_heartbeat);

void
lease_apiserver_init(void)
{
	DefineCustomEnumVariable("lease.apiserver_identity",
							 "The version of Kubernetes whose names and labels identity leases of API servers have.",
							 "1.27 stands for all later versions, too.",
							 &identity_version,
							 VERSION_1_26, identity_versions,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);
}

/*
 * RFC 4648 base32 in lower case without padding.
 */
static char *
base32(const unsigned char *bytes, int len)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
	char	   *result = palloc((len * 8 + 4) / 5 + 1);
	char	   *out = result;
	uint32		bits = 0;
	int			nbits = 0;

	for (int i = 0; i < len; i++)
	{
		bits = (bits << 8) | bytes[i];
		for (nbits += 8; nbits >= 5; nbits -= 5)
			*out++ = alphabet[(bits >> (nbits - 5)) & 31];
	}
	if (nbits > 0)
		*out++ = alphabet[(bits << (5 - nbits)) & 31];
	*out = '\0';
	return result;
}

/* A length of two bytes, the high one first, and the bytes */
static void
append_counted(StringInfo buf, const char *bytes, int len)
{
	appendStringInfoChar(buf, (char) ((len >> 8) & 0xff));
	appendStringInfoChar(buf, (char) (len & 0xff));
	appendBinaryStringInfo(buf, bytes, len);
}

/*
 * What is hashed: the hostname, from 1.27 on together with the server's name so
 * that other servers on the host have other leases.
 */
static bytea *
hash_input(const text *hostname)
{
	const char *bytes = VARDATA_ANY(hostname);
	int			len = VARSIZE_ANY_EXHDR(hostname);
	StringInfoData buf;

	initStringInfo(&buf);
	if (identity_version == VERSION_1_26)
		appendBinaryStringInfo(&buf, bytes, len);
	else
	{
		append_counted(&buf, bytes, len);
		append_counted(&buf, IDENTITY, strlen(IDENTITY));
	}
	return (bytea *) cstring_to_text_with_len(buf.data, buf.len);
}

static char *
apiserver_name(const text *hostname)
{
	bytea	   *digest = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
															 PointerGetDatum(hash_input(hostname))));

	return psprintf("%s%s", forms[identity_version].prefix,
					base32((unsigned char *) VARDATA_ANY(digest), HASH_BYTES));
}

/*
 * SQL: lease_apiserver_name(hostname)
 */
Datum
lease_apiserver_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(apiserver_name(PG_GETARG_TEXT_PP(0))));
}

static Jsonb *
labels_of(const text *hostname)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	lease_json_push_member(&state, forms[identity_version].label, IDENTITY);
	lease_json_push_key(&state, "kubernetes.io/hostname");
	lease_json_push(&state, WJB_VALUE, VARDATA_ANY(hostname), VARSIZE_ANY_EXHDR(hostname));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * LeaseHeartbeat.take_over: a new process may, but one that was replaced does
 * not come back.  It would be a new one the next time, and both would take turns.
 */
static LeaseStatus
take_over_if_new(Oid funcid, const LeaseKey *key, text *holder)
{
	Oid			relid = lease_relation_find(LEASE_TABLE, get_func_namespace(funcid));
	LeaseStatus status = lease_history_has_holder(relid, key, holder);

	return status == LEASE_MISSING ? LEASE_ACQUIRED : status;
}

/*
 * SQL: lease_apiserver_heartbeat(hostname, instance)
 */
Datum
lease_apiserver_heartbeat(PG_FUNCTION_ARGS)
{
	text	   *hostname = lease_arg_text(fcinfo, 0, "hostname");
	LeaseHeartbeat beat = {0};
	char	   *name;
	LeaseKey	key;
	LeaseStore *store;
	LeaseStatus status;
	LeaseRow	row;
	LeaseTime	time;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("instance must not be null"),
				 errhint("Pass a UUID that this process made when it started.")));
	lease_validate_hostname(hostname);
	lease_require_writable("lease_apiserver_heartbeat()");

	name = apiserver_name(hostname);
	key.namespace = cstring_to_text(NAMESPACE);
	key.name = cstring_to_text(name);
	beat.funcid = fcinfo->flinfo->fn_oid;
	beat.terms.holder = cstring_to_text(psprintf("%s_%s", name,
												 DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(1)))));
	beat.terms.duration_seconds = DURATION;
	beat.labels = labels_of(hostname);
	beat.take_over = take_over_if_new;

	store = lease_store_open(beat.funcid, true);
	status = lease_election_heartbeat(store, &key, &beat, &row, &time);
	lease_store_close(store);
	lease_stat_answer(key.namespace, status, LEASE_STAT_REFUSED);
	return lease_result_renewal(status, &row, &time);
}
