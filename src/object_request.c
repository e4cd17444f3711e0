/*
 * object_request.c
 *		Kubernetes' requests on whole objects: create, update, apply, delete.
 *
 * They are answered as the API server does, with its rules and its messages; an
 * answer is a value, so that who calls can say it in his own words.
 * Nothing waits: a row that is locked is busy.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "object.h"

#define RESOURCE "leases.coordination.k8s.io"
#define KIND "Lease.coordination.k8s.io"

/* So often we look again when the object comes and goes meanwhile. */
#define MAX_TRIES 8

/* generateName: names/generate.go and util/rand/rand.go */
#define MAX_GENERATED_PREFIX 58
#define GENERATED_SUFFIX 5
#define GENERATED_ALPHABET "bcdfghjklmnpqrstvwxz2456789"

typedef enum Verb
{
	CREATE,
	REPLACE,					/* the object as given; its version is required */
	REPLACE_ANY,				/* the same, whatever the version is now */
	APPLY						/* what is given, the rest stays; or create */
} Verb;

typedef struct Request
{
	Verb		verb;
	LeaseStore *store;			/* NULL: the table is locked by DDL */
	LeaseKey	key;
	LeaseObject given;
	JsonbContainer *json;
} Request;

static LeaseApiReply *
reply(LeaseApiResult result, const LeaseKey *key, char *message)
{
	LeaseApiReply *r = palloc0(sizeof(LeaseApiReply));

	r->result = result;
	r->key = *key;
	r->message = message;
	return r;
}

/* The object's name as it stands in messages. */
static char *
shown_name(const LeaseKey *key)
{
	char	   *name = text_to_cstring(key->name);

	return lease_go_quote(name, strlen(name));
}

static LeaseApiReply *
not_found(const LeaseKey *key)
{
	return reply(LEASE_API_NOT_FOUND, key, psprintf(RESOURCE " %s not found", shown_name(key)));
}

static LeaseApiReply *
conflict(const LeaseKey *key, const char *why)
{
	return reply(LEASE_API_CONFLICT, key,
				 psprintf("Operation cannot be fulfilled on " RESOURCE " %s: %s",
						  shown_name(key), why));
}

static LeaseApiReply *
busy(const LeaseKey *key)
{
	return reply(LEASE_API_BUSY, key,
				 psprintf("could not lock lease \"%s\" in namespace \"%s\"",
						  text_to_cstring(key->name), text_to_cstring(key->namespace)));
}

static LeaseApiReply *
invalid(const LeaseKey *key, List *causes)
{
	bool		several = list_length(causes) > 1;
	LeaseApiReply *r = reply(LEASE_API_INVALID, key,
							 psprintf(KIND " %s is invalid: %s%s%s", shown_name(key), several ? "[" : "",
									  lease_join(causes, ", "), several ? "]" : ""));

	r->causes = causes;
	return r;
}

/*
 * What came of it, with the object as it is now.
 */
static LeaseApiReply *
done(LeaseApiResult result, LeaseStore *store, const LeaseKey *key)
{
	LeaseApiReply *r = reply(result, key, NULL);
	LeaseObject object;

	if (lease_store_read_object(store, key, &object))
		r->object = lease_object_to_jsonb(&object);
	return r;
}

/*
 * ---------- Fields ----------
 */

static void
set_null(LeaseObject *object, LeaseField field)
{
	object->values[field] = (Datum) 0;
	object->nulls[field] = true;
}

static void
copy_field(LeaseObject *to, const LeaseObject *from, LeaseField field)
{
	to->values[field] = from->values[field];
	to->nulls[field] = from->nulls[field];
}

/* An empty map or list is absent, as in Kubernetes' JSON. */
static void
drop_empty(LeaseObject *object)
{
	for (LeaseField f = 0; f < LEASE_FIELDS; f++)
	{
		if (object->nulls[f])
			continue;
		if (lease_field_type(f) == JSONBOID &&
			JB_ROOT_COUNT(DatumGetJsonbP(object->values[f])) == 0)
			set_null(object, f);
		else if (lease_field_type(f) == TEXTARRAYOID &&
				 ARR_NDIM(DatumGetArrayTypeP(object->values[f])) == 0)
			set_null(object, f);
	}
}

static bool
fields_equal(const LeaseObject *a, const LeaseObject *b, LeaseField field)
{
	if (a->nulls[field] || b->nulls[field])
		return a->nulls[field] && b->nulls[field];
	switch (lease_field_type(field))
	{
		case TEXTOID:
			return lease_text_equal(DatumGetTextPP(a->values[field]),
									DatumGetTextPP(b->values[field]));
		case JSONBOID:
			return compareJsonbContainers(&DatumGetJsonbP(a->values[field])->root,
										  &DatumGetJsonbP(b->values[field])->root) == 0;
		case TEXTARRAYOID:
			return lease_text_equal((text *) DatumGetArrayTypeP(a->values[field]),
									(text *) DatumGetArrayTypeP(b->values[field]));
		case UUIDOID:
			return memcmp(DatumGetUUIDP(a->values[field]), DatumGetUUIDP(b->values[field]),
						  UUID_LEN) == 0;
		default:
			return a->values[field] == b->values[field];
	}
}

static bool
range_equal(const LeaseObject *a, const LeaseObject *b, LeaseField first, LeaseField end)
{
	for (LeaseField f = first; f < end; f++)
	{
		if (!fields_equal(a, b, f))
			return false;
	}
	return true;
}

/*
 * A map of strings into which a JSON merge patch goes: null deletes a key.
 */
static Datum
merge_map(const LeaseObject *old, LeaseField field, JsonbContainer *patch)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	value;
	JsonbValue	buf;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (old != NULL && !old->nulls[field])
	{
		it = JsonbIteratorInit(&DatumGetJsonbP(old->values[field])->root);
		(void) JsonbIteratorNext(&it, &key, true);
		while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
		{
			(void) JsonbIteratorNext(&it, &value, true);
			if (getKeyJsonValueFromContainer(patch, key.val.string.val, key.val.string.len,
											 &buf) != NULL)
				continue;
			(void) pushJsonbValue(&state, WJB_KEY, &key);
			(void) pushJsonbValue(&state, WJB_VALUE, &value);
		}
	}
	it = JsonbIteratorInit(patch);
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type == jbvNull)
			continue;
		(void) pushJsonbValue(&state, WJB_KEY, &key);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* metadata.<field> of the request, which has been decoded and so is an object. */
static JsonbContainer *
given_map(const Request *request, LeaseField field)
{
	JsonbValue *metadata = lease_json_member(request->json, "metadata");

	return lease_json_member(metadata->val.binary.data, lease_fields[field].key)->val.binary.data;
}

/*
 * The object that the request wants.  old is what is there, or NULL.
 */
static LeaseObject
wanted_object(const Request *request, const LeaseObject *old)
{
	LeaseObject new = old != NULL && request->verb == APPLY ? *old : request->given;

	if (request->verb == APPLY)
	{
		for (LeaseField f = 0; f < LEASE_FIELDS; f++)
		{
			if (!request->given.given[f])
				continue;
			copy_field(&new, &request->given, f);
			if (lease_fields[f].kind == KIND_STRING_MAP && !new.nulls[f])
				new.values[f] = merge_map(old, f, given_map(request, f));
		}
	}
	new.values[FIELD_NAMESPACE] = PointerGetDatum(request->key.namespace);
	new.nulls[FIELD_NAMESPACE] = false;
	drop_empty(&new);
	if (old == NULL)
		return new;

	/* What the server decides, or only it can take back. */
	copy_field(&new, old, FIELD_UID);
	copy_field(&new, old, FIELD_CREATION_TIMESTAMP);
	copy_field(&new, old, FIELD_GENERATION);
	if (request->verb != REPLACE || !new.nulls[FIELD_RESOURCE_VERSION])
		copy_field(&new, old, FIELD_RESOURCE_VERSION);
	if (!old->nulls[FIELD_DELETION_TIMESTAMP])
		copy_field(&new, old, FIELD_DELETION_TIMESTAMP);
	if (new.nulls[FIELD_DELETION_GRACE_PERIOD_SECONDS])
		copy_field(&new, old, FIELD_DELETION_GRACE_PERIOD_SECONDS);
	if (!request->given.given[FIELD_MANAGED_FIELDS])
		copy_field(&new, old, FIELD_MANAGED_FIELDS);
	return new;
}

/*
 * ---------- Preconditions ----------
 */

/* old is NULL if there is no object.  NULL: they hold. */
static LeaseApiReply *
check_preconditions(const LeaseKey *key, const char *uid, const char *version,
					const LeaseObject *old)
{
	if (uid != NULL && uid[0] != '\0' && (old == NULL || strcmp(uid, lease_object_uid(old)) != 0))
		return conflict(key, psprintf("StorageError: invalid object, Code: 4, Key: /registry/leases/%s/%s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: %s, UID in object meta: %s",
									  text_to_cstring(key->namespace),
									  text_to_cstring(key->name), uid,
									  old == NULL ? "" : lease_object_uid(old)));
	if (version != NULL && version[0] != '\0' && strcmp(version, "0") != 0 && old != NULL &&
		strcmp(version, psprintf(INT64_FORMAT,
								 DatumGetInt64(old->values[FIELD_RESOURCE_VERSION]))) != 0)
		return conflict(key, "the object has been modified; please apply your changes to the latest version and try again");
	return NULL;
}

static LeaseApiReply *
version_required(const LeaseKey *key)
{
	LeaseApiReply *r = invalid(key, list_make1("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"));

	/* the resource, not the kind: another part of the API server says this */
	r->message = psprintf(RESOURCE " %s is invalid: %s", shown_name(key),
						  (char *) linitial(r->causes));
	return r;
}

/*
 * ---------- Create ----------
 */

/*
 * The object's name: the given one, or one made of generateName.  Returns
 * whether another try makes sense when it exists.
 */
static bool
choose_name(Request *request)
{
	LeaseObject *given = &request->given;
	char	   *prefix = lease_object_text(given, FIELD_GENERATE_NAME);
	char	   *name = lease_object_text(given, FIELD_NAME);
	char		suffix[GENERATED_SUFFIX + 1] = "";
	uint8		random[GENERATED_SUFFIX];

	if (request->verb == REPLACE || (name != NULL && name[0] != '\0') ||
		prefix == NULL || prefix[0] == '\0')
	{
		request->key.name = cstring_to_text(name == NULL ? "" : name);
		return false;
	}
	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < GENERATED_SUFFIX; i++)
		suffix[i] = GENERATED_ALPHABET[random[i] % strlen(GENERATED_ALPHABET)];
	if (strlen(prefix) > MAX_GENERATED_PREFIX)
		prefix[MAX_GENERATED_PREFIX] = '\0';
	request->key.name = cstring_to_text(psprintf("%s%s", prefix, suffix));
	return true;
}

static LeaseApiReply *
already_exists(const LeaseKey *key, bool generated)
{
	return reply(LEASE_API_ALREADY_EXISTS, key,
				 psprintf(RESOURCE " %s already exists%s", shown_name(key), generated ?
						  ", the server was not able to generate a unique name for the object" : ""));
}

/*
 * Does the request bring an object along that a server has made, so that it
 * stays the same one?  The owner of the table loads such.
 */
static bool
is_loaded(const Request *request)
{
	return request->verb == APPLY && request->given.uid != NULL && request->given.uid[0] != '\0' &&
		lease_store_is_owner(request->store);
}

/* LEASE_LOCK_OK: created. */
static LeaseLockResult
try_create(Request *request, LeaseApiReply **refused)
{
	LeaseObject new = wanted_object(request, NULL);
	List	   *causes;

	new.values[FIELD_NAME] = PointerGetDatum(request->key.name);
	new.nulls[FIELD_NAME] = false;
	causes = lease_object_validate(&new, NULL);
	*refused = causes == NIL ? NULL : invalid(&request->key, causes);
	if (*refused != NULL)
		return LEASE_LOCK_BUSY;
	return lease_store_insert_object(request->store, &new, is_loaded(request));
}

static LeaseApiReply *
create(Request *request)
{
	LeaseApiReply *refused = NULL;
	LeaseLockResult result = LEASE_LOCK_STALE;
	bool		generated = true;

	for (int i = 0; i < MAX_TRIES && result == LEASE_LOCK_STALE && generated; i++)
	{
		generated = choose_name(request);
		result = try_create(request, &refused);
	}
	if (refused != NULL)
		return refused;
	if (result == LEASE_LOCK_BUSY)
		return busy(&request->key);
	if (result == LEASE_LOCK_STALE)
		return already_exists(&request->key, generated);
	return done(LEASE_API_CREATED, request->store, &request->key);
}

/*
 * ---------- Update ----------
 */

/* Was it kept by its finalizers only, and now has none? */
static bool
is_to_go(const LeaseObject *object)
{
	return !object->nulls[FIELD_DELETION_TIMESTAMP] && object->nulls[FIELD_FINALIZERS] &&
		(object->nulls[FIELD_DELETION_GRACE_PERIOD_SECONDS] ||
		 DatumGetInt64(object->values[FIELD_DELETION_GRACE_PERIOD_SECONDS]) == 0);
}

/*
 * What is to become of old.  Returns why nothing is, or NULL.
 */
static LeaseApiReply *
decide(const Request *request, const LeaseObject *old, LeaseObject *new)
{
	const LeaseObject *given = &request->given;
	LeaseApiReply *refused =
	check_preconditions(&request->key, request->verb == REPLACE_ANY ? NULL : given->uid,
						given->resource_version, old);
	List	   *causes;

	if (refused != NULL)
		return refused;
	if (request->verb == REPLACE &&
		(given->resource_version == NULL || given->resource_version[0] == '\0' ||
		 strcmp(given->resource_version, "0") == 0))
		return version_required(&request->key);

	*new = wanted_object(request, old);
	causes = lease_object_validate(new, old);
	if (causes != NIL)
		return invalid(&request->key, causes);
	if (range_equal(old, new, 0, LEASE_FIELDS))
	{
		LeaseApiReply *r = reply(LEASE_API_UNCHANGED, &request->key, NULL);

		r->object = lease_object_to_jsonb(old);
		return r;
	}
	return NULL;
}

static LockTupleMode
needed_lock(const LeaseObject *old, const LeaseObject *new)
{
	return fields_equal(old, new, FIELD_HOLDER_IDENTITY) && !is_to_go(new) ?
		LockTupleNoKeyExclusive : LockTupleExclusive;
}

static void
write_update(const Request *request, const LeaseObject *old, LeaseObject *new)
{
	if (!range_equal(old, new, 0, LEASE_FIELDS))
		lease_store_update_object(request->store, new,
								  !range_equal(old, new, FIRST_SPEC_FIELD, LEASE_FIELDS));
	if (is_to_go(new))
		lease_store_delete(request->store, &request->key, LEASE_ON_DELETE);
}

/* The object, if it is there; create it if the verb does. */
static LeaseApiReply *
missing(Request *request)
{
	LeaseApiReply *refused;

	if (request->verb == REPLACE_ANY)
		return not_found(&request->key);
	refused = request->verb == APPLY ? NULL :
		check_preconditions(&request->key, request->given.uid, NULL, NULL);
	return refused != NULL ? refused : create(request);
}

/*
 * Looks without a lock first: who has nothing to change locks nothing.
 */
static LeaseApiReply *
update(Request *request)
{
	LeaseObject old;
	LeaseObject new;
	LeaseApiReply *r;

	for (int i = 0; i < MAX_TRIES; i++)
	{
		LockTupleMode mode;
		LeaseLockResult locked;

		if (!lease_store_read_object(request->store, &request->key, &old))
		{
			r = missing(request);
			if (r->result != LEASE_API_ALREADY_EXISTS)
				return r;
			continue;			/* it has come meanwhile */
		}
		r = decide(request, &old, &new);
		if (r != NULL)
			return r;

		mode = needed_lock(&old, &new);
		locked = lease_store_lock_object(request->store, &request->key, mode, &old);
		if (locked == LEASE_LOCK_BUSY)
			return busy(&request->key);
		if (locked == LEASE_LOCK_STALE)
			continue;
		r = decide(request, &old, &new);
		if (r != NULL)
			return r;
		if (mode == LockTupleNoKeyExclusive && needed_lock(&old, &new) != mode)
			continue;			/* the lock is not strong enough */
		write_update(request, &old, &new);
		return done(LEASE_API_CONFIGURED, request->store, &request->key);
	}
	return busy(&request->key);
}

/*
 * ---------- The requests ----------
 */

/*
 * Decodes a request.  Returns why it cannot be, or NULL.
 */
static LeaseApiReply *
prepare(Request *request, Verb verb, LeaseStore *store, JsonbContainer *json, text *namespace)
{
	char	   *fault;
	char	   *own;

	memset(request, 0, sizeof(*request));
	request->verb = verb;
	request->store = store;
	request->json = json;
	request->key.name = cstring_to_text("");
	request->key.namespace = namespace != NULL ? namespace : cstring_to_text("default");

	fault = lease_object_decode(json, &request->given);
	if (fault != NULL)
		return reply(LEASE_API_BAD_REQUEST, &request->key, fault);
	if (!request->given.nulls[FIELD_NAME])
		request->key.name = DatumGetTextPP(request->given.values[FIELD_NAME]);

	own = lease_object_text(&request->given, FIELD_NAMESPACE);
	if (own != NULL && own[0] != '\0')
	{
		if (namespace != NULL && strcmp(own, text_to_cstring(namespace)) != 0)
			return reply(LEASE_API_BAD_REQUEST, &request->key,
						 psprintf("the namespace from the provided object \"%s\" does not match the namespace \"%s\". You must pass '--namespace=%s' to perform this operation.",
								  own, text_to_cstring(namespace), own));
		request->key.namespace = cstring_to_text(own);
	}
	if (store == NULL)
		return busy(&request->key);
	return NULL;
}

/*
 * POST.  namespace is that of an object that names none; if both do, they must
 * agree.  As for all of these: funcid is any SQL function of the extension.
 */
LeaseApiReply *
lease_api_create(Oid funcid, Jsonb *object, text *namespace)
{
	LeaseStore *store = lease_store_open(funcid, true);
	Request		request;
	LeaseApiReply *r = prepare(&request, CREATE, store, &object->root, namespace);

	if (r == NULL)
		r = create(&request);
	lease_store_close(store);
	return r;
}

/*
 * PUT.  The object must carry the resourceVersion that it has, unless
 * unconditional; then it is checked only if the object carries one, which is how
 * a patch writes the object it has patched.  A missing object is created unless
 * unconditional.
 */
LeaseApiReply *
lease_api_replace(Oid funcid, Jsonb *object, text *namespace, bool unconditional)
{
	LeaseStore *store = lease_store_open(funcid, true);
	Request		request;
	LeaseApiReply *r = prepare(&request, unconditional ? REPLACE_ANY : REPLACE, store,
							   &object->root, namespace);

	if (r == NULL)
		r = update(&request);
	lease_store_close(store);
	return r;
}

/*
 * PATCH, with the content type of an apply: what is given is set, the rest stays; a
 * missing object is created.  A store that is NULL is busy: who applies many opens it
 * once.
 */
LeaseApiReply *
lease_api_apply(LeaseStore *store, JsonbContainer *json, text *namespace)
{
	Request		request;
	LeaseApiReply *r = prepare(&request, APPLY, store, json, namespace);

	return r != NULL ? r : update(&request);
}

/*
 * Marks an object as being deleted, as the API server does while it has
 * finalizers.
 */
static void
mark_deleted(LeaseStore *store, LeaseObject *object)
{
	object->values[FIELD_DELETION_TIMESTAMP] = TimestampTzGetDatum(lease_whole_seconds(GetCurrentTimestamp()));
	object->nulls[FIELD_DELETION_TIMESTAMP] = false;
	object->values[FIELD_DELETION_GRACE_PERIOD_SECONDS] = Int64GetDatum(0);
	object->nulls[FIELD_DELETION_GRACE_PERIOD_SECONDS] = false;
	if (!object->nulls[FIELD_GENERATION] && DatumGetInt64(object->values[FIELD_GENERATION]) > 0)
		object->values[FIELD_GENERATION] =
			Int64GetDatum(DatumGetInt64(object->values[FIELD_GENERATION]) + 1);
	lease_store_mark_deleted(store, object);
}

static LeaseApiReply *
delete_object(LeaseStore *store, const LeaseKey *key, const char *uid,
			  const char *resource_version)
{
	LeaseObject object;
	LeaseApiReply *r;

	if (!lease_store_read_object(store, key, &object))
		return not_found(key);
	r = check_preconditions(key, uid, resource_version, &object);
	if (r != NULL)
		return r;
	switch (lease_store_lock_object(store, key, LockTupleExclusive, &object))
	{
		case LEASE_LOCK_BUSY:
			return busy(key);
		case LEASE_LOCK_STALE:
			return not_found(key);
		case LEASE_LOCK_OK:
			break;
	}
	r = check_preconditions(key, uid, resource_version, &object);
	if (r != NULL)
		return r;

	if (!object.nulls[FIELD_FINALIZERS] &&
		ARR_NDIM(DatumGetArrayTypeP(object.values[FIELD_FINALIZERS])) > 0)
	{
		lease_store_check_may_delete(store);
		if (object.nulls[FIELD_DELETION_TIMESTAMP])
			mark_deleted(store, &object);
		return done(LEASE_API_DELETING, store, key);
	}
	r = reply(LEASE_API_DELETED, key, NULL);
	r->object = lease_object_to_jsonb(&object);
	lease_store_delete(store, key, LEASE_ON_DELETE);
	return r;
}

/*
 * DELETE.  uid and resource_version are preconditions, or NULL.  An object that
 * has finalizers stays, and is marked.
 */
LeaseApiReply *
lease_api_delete(Oid funcid, const LeaseKey *key, const char *uid,
				 const char *resource_version)
{
	LeaseStore *store = lease_store_open(funcid, true);
	LeaseApiReply *r = store == NULL ? busy(key) :
	delete_object(store, key, uid, resource_version);

	lease_store_close(store);
	return r;
}
