/*
 * object.h
 *		A Lease as Kubernetes has it, between its JSON and its row; and what its
 *		messages are made with.
 */
#ifndef LEASE_OBJECT_H
#define LEASE_OBJECT_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "lease.h"

#define LEASE_API_VERSION "coordination.k8s.io/v1"
#define LEASE_KIND "Lease"

/* The fields of a Lease, in the order of Kubernetes' structs. */
typedef enum LeaseField
{
	/* metadata */
	FIELD_NAME,
	FIELD_GENERATE_NAME,
	FIELD_NAMESPACE,
	FIELD_UID,
	FIELD_RESOURCE_VERSION,
	FIELD_GENERATION,
	FIELD_CREATION_TIMESTAMP,
	FIELD_DELETION_TIMESTAMP,
	FIELD_DELETION_GRACE_PERIOD_SECONDS,
	FIELD_LABELS,
	FIELD_ANNOTATIONS,
	FIELD_OWNER_REFERENCES,
	FIELD_FINALIZERS,
	FIELD_MANAGED_FIELDS,
	/* spec */
	FIELD_HOLDER_IDENTITY,
	FIELD_LEASE_DURATION_SECONDS,
	FIELD_ACQUIRE_TIME,
	FIELD_RENEW_TIME,
	FIELD_LEASE_TRANSITIONS,
	FIELD_STRATEGY,
	FIELD_PREFERRED_HOLDER,
	LEASE_FIELDS
} LeaseField;

#define FIRST_SPEC_FIELD FIELD_HOLDER_IDENTITY

/* What a field is in JSON. */
typedef enum LeaseFieldKind
{
	KIND_STRING,				/* text */
	KIND_UID,					/* string, uuid in the row */
	KIND_VERSION,				/* string, bigint in the row */
	KIND_INT32,
	KIND_INT64,
	KIND_TIME,					/* metav1.Time: whole seconds */
	KIND_MICRO_TIME,			/* metav1.MicroTime */
	KIND_STRING_MAP,			/* jsonb */
	KIND_STRINGS,				/* text[] */
	KIND_OWNER_REFERENCES,		/* jsonb */
	KIND_MANAGED_FIELDS			/* jsonb */
} LeaseFieldKind;

typedef struct LeaseFieldInfo
{
	const char *key;			/* in JSON */
	const char *column;			/* in the table */
	LeaseFieldKind kind;
	const char *go_type;		/* what a message calls its type */
} LeaseFieldInfo;

/*
 * One object.  The values are those of the row's columns; given says for an
 * object that was read from JSON which fields it mentions, null or not.
 */
typedef struct LeaseObject
{
	Datum		values[LEASE_FIELDS];
	bool		nulls[LEASE_FIELDS];
	bool		given[LEASE_FIELDS];

	/* As they stand in the JSON, or NULL: any text is possible there. */
	char	   *uid;
	char	   *resource_version;
} LeaseObject;

/* object.c */
extern const LeaseFieldInfo lease_fields[LEASE_FIELDS];
extern Oid	lease_field_type(LeaseField field);
extern Jsonb *lease_object_to_jsonb(const LeaseObject *object);
extern void lease_object_see_renewals(LeaseObject *object, Oid relid, int64 fencing_token);
extern char *lease_object_text(const LeaseObject *object, LeaseField field);
extern char *lease_object_uid(const LeaseObject *object);

/* object_decode.c */
extern char *lease_object_decode(JsonbContainer *json, LeaseObject *object);

/* api_validation.c */
extern List *lease_object_validate(const LeaseObject *object, const LeaseObject *old);
extern List *lease_check_qualified_name(const char *s);
extern List *lease_check_label_value(const char *s);

/* go_text.c */
extern char *lease_go_quote(const char *s, int len);
extern bool lease_go_prints(const char *s);
extern char *lease_join(List *texts, const char *separator);

/* store_object.c */
extern bool lease_store_is_owner(LeaseStore *store);
extern void lease_store_check_may_delete(LeaseStore *store);
extern bool lease_store_read_object(LeaseStore *store, const LeaseKey *key,
									LeaseObject *object);
extern LeaseLockResult lease_store_lock_object(LeaseStore *store, const LeaseKey *key,
											   LockTupleMode mode, LeaseObject *object);
extern LeaseLockResult lease_store_insert_object(LeaseStore *store,
												 LeaseObject *object,
												 bool as_given);
extern void lease_store_update_object(LeaseStore *store, LeaseObject *object,
									  bool with_spec);
extern void lease_store_mark_deleted(LeaseStore *store, LeaseObject *object);

#endif							/* LEASE_OBJECT_H */
