/*
 * lease.h
 *		Types and functions that more than one file of lease uses, grouped by
 *		the file that owns them.
 *
 * Who may call whom (arrows only point down):
 *
 *		api.c			SQL functions that acquire, renew, release, ask
 *		guard.c			SQL functions that tie a transaction to a token
 *		election.c		who gets the lease: client-go's rules
 *		store.c			the table: finds it and chooses the way to its rows
 *		store_heap.c	... directly, where nothing is bypassed by it
 *		store_sql.c		... through the executor, always right
 *		trigger.c		rows written by hand
 *		token.c			fencing tokens
 *		ttl.c			time arithmetic
 *		args.c			arguments of the SQL functions
 *		validate.c		Kubernetes' rules for names, labels and so on
 *		kubernetes.c	names and words of Kubernetes
 */
#ifndef LEASE_H
#define LEASE_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "nodes/lockoptions.h"
#include "utils/jsonb.h"

/* Names the extension's objects have in the schema it is installed in. */
#define LEASE_TABLE "lease"
#define LEASE_TOKEN_SEQUENCE "lease_fencing_token_seq"
#define LEASE_TRIGGER "lease_on_write"

/* No: the caller does not hold the lease, or not under this token. */
#define ERRCODE_LEASE_NOT_HELD MAKE_SQLSTATE('L', 'S', '0', '0', '1')

/* An absent time: NULL in the row. Rows hold finite times only. */
#define LEASE_NO_TIME DT_NOBEGIN

/* lease_duration_seconds is positive, or NULL; in C, 0 stands for NULL. */
#define LEASE_NO_DURATION 0

/* lease_transitions is not negative, or NULL; in C, -1 stands for NULL. */
#define LEASE_NO_TRANSITIONS (-1)

/* lease_duration_seconds of a released lease, as client-go writes it. */
#define LEASE_RELEASED_DURATION 1

typedef struct LeaseKey
{
	text	   *namespace;
	text	   *name;
} LeaseKey;

/* The part of a row that decides who holds the lease. */
typedef struct LeaseRow
{
	text	   *holder_identity;	/* NULL: never held; empty: released */
	int32		lease_duration_seconds;
	TimestampTz acquire_time;
	TimestampTz renew_time;
	int32		lease_transitions;
	int64		fencing_token;
	int64		resource_version;
} LeaseRow;

/* What became of a call; the words users see are in api.c. */
typedef enum LeaseStatus
{
	LEASE_ACQUIRED,				/* a new holding, with a new token */
	LEASE_RENEWED,				/* mine before, mine for longer now */
	LEASE_RELEASED,
	LEASE_HELD,					/* no: somebody else's */
	LEASE_EXPIRED,				/* no: was mine, ran out */
	LEASE_FREE,					/* no: nobody's */
	LEASE_MISSING,				/* no: there is no such lease */
	LEASE_BUSY					/* could not tell: the row was locked */
} LeaseStatus;

typedef enum LeaseLockResult
{
	LEASE_LOCK_OK,				/* locked, and the row is current */
	LEASE_LOCK_BUSY,			/* somebody else has it locked */
	LEASE_LOCK_STALE			/* changed since it was read: read again */
} LeaseLockResult;

typedef struct LeaseStore LeaseStore;

/* election.c */
extern LeaseStatus lease_election_acquire(LeaseStore *store, const LeaseKey *key,
										  text *holder, int32 duration_seconds,
										  LeaseRow *row, TimestampTz *now);
extern LeaseStatus lease_election_renew(LeaseStore *store, const LeaseKey *key,
										text *holder, int64 token,
										LeaseRow *row, TimestampTz *now);
extern LeaseStatus lease_election_release(LeaseStore *store, const LeaseKey *key,
										  text *holder, int64 token,
										  LeaseRow *row);

extern LeaseStatus lease_election_guard(LeaseStore *store, const LeaseKey *key,
										int64 token, LeaseRow *row);

/* store.c */
extern LeaseStore *lease_store_open(Oid funcid, bool for_write);
extern void lease_store_close(LeaseStore *store);
extern bool lease_store_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row);
extern LeaseLockResult lease_store_lock(LeaseStore *store, const LeaseKey *key,
										LockTupleMode mode, LeaseRow *row);
extern void lease_store_renew(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
							  bool new_duration);
extern void lease_store_update(LeaseStore *store, const LeaseKey *key, LeaseRow *row);
extern LeaseLockResult lease_store_insert(LeaseStore *store, const LeaseKey *key,
										  LeaseRow *row);
extern int64 lease_store_issue_token(LeaseStore *store);
extern int	lease_store_names_of_holder(LeaseStore *store, text *namespace,
										text *holder, text ***names);

/* token.c */
extern bool lease_token_lock(Oid relid);
extern int64 lease_token_issue(Oid relid);
extern bool lease_token_take(int64 token);
extern void lease_token_raise(Oid relid, int64 floor);

/* ttl.c */
extern int32 lease_ttl_seconds(const Interval *duration);
extern TimestampTz lease_ttl_expires_at(const LeaseRow *row);
extern bool lease_ttl_is_valid(const LeaseRow *row, TimestampTz now);
extern int64 lease_ttl_next_resource_version(int64 old, TimestampTz now);

/* args.c */
extern void lease_require_writable(const char *function);
extern text *lease_arg_text(FunctionCallInfo fcinfo, int n, const char *what);
extern LeaseKey lease_arg_key(FunctionCallInfo fcinfo, int name, int namespace);
extern text *lease_arg_holder(FunctionCallInfo fcinfo, int n);
extern int64 lease_arg_token(FunctionCallInfo fcinfo, int n);

/* guard.c */
extern void lease_guard_init(void);

/* validate.c */
extern void lease_validate_name(const text *name);
extern void lease_validate_namespace(const text *namespace);
extern void lease_validate_holder(const text *holder);

/* Texts are compared byte by byte, as Kubernetes compares strings. */
static inline bool
lease_text_equal(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

#endif							/* LEASE_H */
