/*
 * lease.h
 *		Types and functions that more than one file of lease uses, grouped by
 *		the file that owns them.
 *
 * Who may call whom (arrows only point down):
 *
 *		launcher.c		starts the workers
 *		worker.c		the worker of a database
 *		expiry.c		which leases expire next
 *		api.c			SQL functions that acquire, renew, release, ask
 *		guard.c			SQL functions that tie a transaction to a token
 *		gc.c			SQL function that deletes what has expired
 *		apply.c			SQL function that takes Kubernetes' JSON
 *		node_object.c	registered nodes
 *		node.c			heartbeats of nodes
 *		node_status.c	which nodes are ready
 *		apiserver.c		API servers and theirs
 *		stat_view.c		numbers, for people
 *		blockers.c		who has the row of a lease locked
 *		session.c		leases that end with the session
 *		wait.c			waiting for a lease
 *		election.c		who gets the lease: client-go's rules
 *		object_request.c	Kubernetes' requests on whole objects
 *		store_batch.c	many renewals in one statement
 *		store.c			the table: finds it and chooses the way to its rows
 *		store_heap.c	... directly, where nothing is bypassed by it
 *		store_sql.c		... through the executor, always right
 *		store_object.c	... whole objects, through the executor
 *		trigger.c		what the table's triggers do with each row
 *		wait_queue.c	who waits for a lease, and is woken
 *		event.c			events, as in a watch
 *		history.c		holdings that have ended
 *		store_side.c	the tables besides, through the executor
 *		statement.c		statements whose plans are kept
 *		extension.c		the extension in the catalog
 *		mailbox.c		shared memory between transactions and workers
 *		stat.c			numbers, counted in shared memory
 *		stat_file.c		... and kept while the server is down
 *		label_selector.c	Kubernetes' label selectors
 *		api_validation.c	the API server's messages about an object
 *		object_decode.c	Kubernetes' JSON, strictly
 *		object.c		rows as Kubernetes' JSON
 *		memory.c		renewals in shared memory
 *		token.c			fencing tokens
 *		clock.c			the clock by which leases expire
 *		incarnation.c	since when this server can write
 *		args.c			arguments of the SQL functions
 *		result.c		their results
 *		relation.c		the extension's relations, locked without waiting
 *		subxact.c		work whose locks can be given back
 *		owner.c			work on behalf of the extension's owner
 *		permit.c		what the functions are about to write
 *		ttl.c			time arithmetic
 *		validate.c		Kubernetes' rules for names, labels and so on
 *		json.c			making and looking at jsonb
 *		go_text.c		texts as Go makes them
 *		go_time.c		times in Kubernetes' JSON
 *		kubernetes.c	words of Kubernetes
 */
#ifndef LEASE_H
#define LEASE_H

#include <time.h>

#include "common/hashfn.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/lockoptions.h"
#include "nodes/pg_list.h"
#include "portability/instr_time.h"
#include "storage/lockdefs.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* Names the extension's objects have in the schema it is installed in. */
#define LEASE_TABLE "lease"
#define LEASE_TOKEN_SEQUENCE "lease_fencing_token_seq"
#define LEASE_HISTORY "lease_history"
#define LEASE_NODE "lease_node"
#define LEASE_GC_POLICY "lease_gc_policy"
#define LEASE_TRIGGER_BEFORE "lease_on_write"
#define LEASE_TRIGGER_AFTER "lease_after_write"

/* Where the leases of nodes are. */
#define LEASE_NODE_NAMESPACE "kube-node-lease"

/* How long texts can be, in bytes, as Kubernetes has it */
#define LEASE_MAX_SUBDOMAIN 253	/* DNS1123SubdomainMaxLength: a lease's name */
#define LEASE_MAX_LABEL 63		/* DNS1123LabelMaxLength: a namespace; label values */
#define LEASE_MAX_ANNOTATIONS (256 * 1024)	/* TotalAnnotationSizeLimitB, of all together */

/* The one that there is for coordinated leader election */
#define LEASE_STRATEGY "OldestEmulationVersion"

/* No: the caller does not hold the lease, or not under this token. */
#define ERRCODE_LEASE_NOT_HELD MAKE_SQLSTATE('L', 'S', '0', '0', '1')

/* What the API server refuses a request with: the codes of HTTP. */
#define ERRCODE_LEASE_BAD_REQUEST MAKE_SQLSTATE('L', 'S', '4', '0', '0')
#define ERRCODE_LEASE_CONFLICT MAKE_SQLSTATE('L', 'S', '4', '0', '9')
#define ERRCODE_LEASE_INVALID MAKE_SQLSTATE('L', 'S', '4', '2', '2')

/* An absent time: NULL in the row. Rows hold finite times only. */
#define LEASE_NO_TIME DT_NOBEGIN

/*
 * What time it is, and how far back that clock reaches.  All decisions about a
 * row take one such reading: its times fit together, also when the wall clock is
 * just being set.
 */
typedef struct LeaseTime
{
	TimestampTz now;
	TimestampTz counts_from;	/* what was renewed before counts as renewed then */
	TimestampTz grants_from;	/* nobody gets a new holding before */
	bool		steady;			/* setting the wall clock does not change it */
} LeaseTime;

/* lease_duration_seconds is positive, or NULL; in C, 0 stands for NULL. */
#define LEASE_NO_DURATION 0

/* lease_transitions is not negative, or NULL; in C, -1 stands for NULL. */
#define LEASE_NO_TRANSITIONS (-1)

/* lease_duration_seconds of a released lease, as client-go writes it. */
#define LEASE_RELEASED_DURATION 1

/*
 * From when the server became able to write until it crashes or is stopped.
 */
typedef struct LeaseIncarnation
{
	TimestampTz began;			/* by the wall clock; LEASE_NO_TIME: on a standby */
	int64		began_steady;	/* the same by lease_steady_now() */
	int64		timeline_age;	/* when it began, in microseconds */
} LeaseIncarnation;

typedef struct LeaseKey
{
	text	   *namespace;
	text	   *name;
} LeaseKey;

/* What an acquirer asks for. */
typedef struct LeaseTerms
{
	text	   *holder;
	int32		duration_seconds;
	int64		hold_at_least;	/* microseconds, 0: no minimum */
	int32		lock_delay_seconds; /* 0: none */
} LeaseTerms;

/* What somebody renews of whom he believes that it is his. */
typedef struct LeaseClaim
{
	text	   *holder;
	int64		token;			/* 0: any */
	int32		duration_seconds;	/* LEASE_NO_DURATION: as it is */
	bool		acquires;		/* or does not know whether it is his */
} LeaseClaim;

/* A lease whose last renewal is in memory only. */
typedef struct LeaseUnwritten
{
	LeaseKey	key;
	int64		renewed;		/* that one, in steady time */
	bool		done;			/* written, or nothing to be written */
} LeaseUnwritten;

/* Metadata of the object.  NULL: as it is, or none when it is made. */
typedef struct LeaseMetadata
{
	Jsonb	   *labels;
	Jsonb	   *owner_references;
} LeaseMetadata;

/* The part of a row that decides who holds the lease. */
typedef struct LeaseRow
{
	text	   *holder_identity;	/* NULL: never held; empty: released */
	int32		lease_duration_seconds;
	TimestampTz acquire_time;
	TimestampTz renew_time;
	int32		lease_transitions;
	int32		lock_delay_seconds; /* 0: none */
	TimestampTz not_before;		/* free, but not before this, except for ... */
	text	   *reserved_for;	/* ... this one, or NULL */
	int64		fencing_token;
	int64		resource_version;
} LeaseRow;

/* What became of a call; the words users see are in result.c. */
typedef enum LeaseStatus
{
	LEASE_ACQUIRED,				/* a new holding, with a new token */
	LEASE_RENEWED,				/* mine before, mine for longer now */
	LEASE_RELEASED,
	LEASE_HANDED_OVER,
	LEASE_HELD,					/* no: somebody else's */
	LEASE_EXPIRED,				/* no: was mine, ran out */
	LEASE_FREE,					/* no: nobody's */
	LEASE_MISSING,				/* no: there is no such lease */
	LEASE_RESERVED,				/* no: nobody's, but kept for somebody or back */
	LEASE_BUSY					/* could not tell: the row was locked */
} LeaseStatus;

/*
 * Who sends a heartbeat, and what Kubernetes' lease controller sees to with
 * each: labels are there, and an owner if there is none.
 */
typedef struct LeaseHeartbeat
{
	Oid			funcid;			/* of the SQL function, for the two below */
	LeaseTerms	terms;
	Jsonb	   *labels;			/* or NULL */

	/* Who owns a lease that nobody owns, or NULL?  Not asked if not given. */
	Jsonb	   *(*find_owner) (Oid funcid, const LeaseKey *key);

	/* LEASE_ACQUIRED if the holder may take a valid lease over.  Likewise. */
	LeaseStatus (*take_over) (Oid funcid, const LeaseKey *key, text *holder);
} LeaseHeartbeat;

/* Why a holding ends, or the row is written at all; the words are in history.c. */
typedef enum LeaseReason
{
	LEASE_BY_HAND,				/* not by a function of ours */
	LEASE_ON_RENEWAL,			/* goes on */
	LEASE_ON_RELEASE,
	LEASE_ON_HANDOVER,
	LEASE_ON_TAKEOVER,
	LEASE_ON_EXPIRY,			/* and its last holder acquires it anew */
	LEASE_ON_COLLECTION,
	LEASE_ON_SESSION_END,
	LEASE_ON_DELETE				/* by hand */
} LeaseReason;

/* permit.c */
typedef struct LeasePermit
{
	bool		permitted;
	LeaseReason reason;
} LeasePermit;

typedef enum LeaseLockResult
{
	LEASE_LOCK_OK,				/* locked, and the row is current */
	LEASE_LOCK_BUSY,			/* somebody else has it locked */
	LEASE_LOCK_STALE			/* changed since it was read: read again */
} LeaseLockResult;

/* Who calls us, for as long as we act on behalf of somebody else. */
typedef struct LeaseIdentity
{
	Oid			userid;
	int			security_context;
} LeaseIdentity;

/* A column of a result, in the order of the OUT arguments in lease.sql. */
typedef struct LeaseResultColumn
{
	const char *name;
	Oid			type;
} LeaseResultColumn;

/* What became of a request to Kubernetes' API. */
typedef enum LeaseApiResult
{
	LEASE_API_CREATED,
	LEASE_API_CONFIGURED,		/* changed */
	LEASE_API_UNCHANGED,		/* as it was */
	LEASE_API_DELETED,
	LEASE_API_DELETING,			/* kept by its finalizers, and marked */
	LEASE_API_NOT_FOUND,		/* this and the rest: no */
	LEASE_API_ALREADY_EXISTS,
	LEASE_API_CONFLICT,
	LEASE_API_INVALID,
	LEASE_API_BAD_REQUEST,
	LEASE_API_BUSY				/* could not tell: the row was locked */
} LeaseApiResult;

typedef struct LeaseApiReply
{
	LeaseApiResult result;
	LeaseKey	key;
	char	   *message;		/* of a no: Status.message of the API server */
	List	   *causes;			/* of LEASE_API_INVALID: char *, "path: what" */
	Jsonb	   *object;			/* as it is now, or was when it was deleted */
} LeaseApiReply;

/* A lease that a scan of the table has found. */
typedef struct LeaseFound
{
	LeaseKey	key;			/* to be copied, as all the rest */
	LeaseRow	row;
	Jsonb	   *labels;			/* or NULL */
	bool		has_finalizers;
} LeaseFound;

/* Is it one that the caller is looking for? */
typedef bool (*LeaseCondition) (const LeaseFound *found, const LeaseTime *time, const void *arg);

/* Returns false to end the scan. */
typedef bool (*LeaseVisitor) (const LeaseFound *found, void *arg);

/* Which leases to delete when they have expired: a row of lease_gc_policy. */
typedef struct LeaseGcPolicy
{
	text	   *namespace;		/* NULL: all */
	char	   *selector;		/* of labels */
	int64		expired_for;	/* microseconds */
	int32		batch_size;
} LeaseGcPolicy;

/* What happens to a lease, as in a watch; the words are in event.c. */
typedef enum LeaseEventType
{
	LEASE_EVENT_RENEWED,		/* expires earlier than before; is not sent */
	LEASE_EVENT_ADDED,
	LEASE_EVENT_MODIFIED,		/* changed hands, was edited, or lives again */
	LEASE_EVENT_DELETED,
	LEASE_EVENT_EXPIRED
} LeaseEventType;

/* One such event, as it lies in a mailbox. */
typedef struct LeaseEvent
{
	uint32		size;			/* of all this; keeps the next one aligned */
	SubTransactionId subxact;	/* where it happened */
	LeaseEventType type;
	TimestampTz expires_at;		/* LEASE_NO_TIME: not held */
	int64		fencing_token;
	int64		resource_version;
	int			namespace_len;
	int			name_len;
	int			holder_len;		/* -1: never held */
	char		texts[FLEXIBLE_ARRAY_MEMBER];	/* one after the other */
} LeaseEvent;

/* What the launcher wants to know of a mailbox. */
typedef struct LeaseMailboxState
{
	Oid			database;		/* InvalidOid: nobody's */
	int			pid;			/* of the worker; 0: there is none */
	bool		settled;		/* the worker works, or did so before it ended */
} LeaseMailboxState;

/* What is counted for each namespace; the columns of lease_stat are in this order. */
typedef enum LeaseCounter
{
	LEASE_STAT_ACQUIRED,
	LEASE_STAT_RENEWED,
	LEASE_STAT_LOST,
	LEASE_STAT_REFUSED,
	LEASE_STAT_BUSY,
	LEASE_STAT_RELEASED,
	LEASE_STAT_TAKEN_OVER,
	LEASE_STAT_EXPIRED,
	LEASE_STAT_COLLECTED,
	LEASE_STAT_WAITS,
	LEASE_STAT_WAIT_TIME,		/* microseconds */
	LEASE_STAT_COUNTERS
} LeaseCounter;

typedef struct LeaseStore LeaseStore;
typedef struct LeaseBatch LeaseBatch;
typedef struct LeasePlace LeasePlace;

/* election.c */
extern bool lease_election_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
								LeaseTime *time);
extern LeaseStatus lease_election_acquire(LeaseStore *store, const LeaseKey *key,
										  const LeaseTerms *terms,
										  LeaseRow *row, LeaseTime *time);
extern LeaseStatus lease_election_look(LeaseStore *store, const LeaseKey *key,
									   text *holder, LeaseRow *row,
									   LeaseTime *time);
extern LeaseStatus lease_election_renew_next(LeaseStore *store, LeaseBatch *batch,
											 const LeaseKey *key, text *holder,
											 LeaseTime *time);
extern LeaseStatus lease_election_renew(LeaseStore *store, const LeaseKey *key,
										text *holder, int64 token,
										LeaseRow *row, LeaseTime *time);
extern LeaseStatus lease_election_release(LeaseStore *store, const LeaseKey *key,
										  text *holder, int64 token,
										  LeaseReason reason, LeaseRow *row);
extern LeaseStatus lease_election_handover(LeaseStore *store, const LeaseKey *key,
										   text *holder, int64 token,
										   text *successor, int64 reserve,
										   LeaseRow *row);
extern LeaseStatus lease_election_collect(LeaseStore *store, const LeaseKey *key,
										  LeaseCondition condition, const void *arg);
extern LeaseStatus lease_election_expire(LeaseStore *store, const LeaseKey *key,
										 LeaseRow *row, TimestampTz *expires_at);
extern LeaseStatus lease_election_heartbeat(LeaseStore *store, const LeaseKey *key,
											const LeaseHeartbeat *beat,
											LeaseRow *row, LeaseTime *time);
extern LeaseStatus lease_election_delete_of_owner(LeaseStore *store, const LeaseKey *key,
												  Jsonb *owner);

extern LeaseStatus lease_election_guard(LeaseStore *store, const LeaseKey *key,
										int64 token, LeaseRow *row);

/* object_request.c */
extern LeaseApiReply *lease_api_apply(LeaseStore *store, JsonbContainer *json, text *namespace);
extern LeaseApiReply *lease_api_create(Oid funcid, Jsonb *object, text *namespace);
extern LeaseApiReply *lease_api_replace(Oid funcid, Jsonb *object, text *namespace,
										bool unconditional);
extern LeaseApiReply *lease_api_delete(Oid funcid, const LeaseKey *key, const char *uid,
									   const char *resource_version);

/* store.c */
extern LeaseStore *lease_store_open(Oid funcid, bool for_write);
extern LeaseStore *lease_store_open_in(Oid schema, bool for_write);
extern void lease_store_close(LeaseStore *store);
extern bool lease_store_is_filtered(LeaseStore *store);
extern bool lease_store_read(LeaseStore *store, const LeaseKey *key, LeaseRow *row);
extern LeaseLockResult lease_store_lock(LeaseStore *store, const LeaseKey *key,
										LockTupleMode mode, LeaseRow *row);
extern bool lease_store_may_skip_lock(LeaseStore *store);
extern bool lease_store_renew_unlocked(LeaseStore *store, const LeaseKey *key,
									   LeaseRow *before, const LeaseRow *row);
extern void lease_store_renew(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
							  bool new_duration);
extern bool lease_store_renew_in_memory(LeaseStore *store, const LeaseKey *key,
										const LeaseClaim *claim, LeaseRow *row,
										LeaseTime *time, bool *owned);
extern bool lease_store_keep_in_memory(LeaseStore *store, const LeaseKey *key, LeaseRow *row);
extern int	lease_store_unwritten(LeaseStore *store, Oid *relid, LeaseUnwritten **leases);
extern bool lease_store_write_back(LeaseStore *store, const LeaseKey *key);
extern void lease_store_update(LeaseStore *store, const LeaseKey *key, LeaseRow *row,
							   LeaseReason reason);
extern void lease_store_delete(LeaseStore *store, const LeaseKey *key,
							   LeaseReason reason);
extern LeaseLockResult lease_store_insert(LeaseStore *store, const LeaseKey *key,
										  LeaseRow *row, const LeaseMetadata *metadata);
extern void lease_store_missing_metadata(LeaseStore *store, Jsonb *labels,
										 bool *labels_missing, bool *owner_missing);
extern void lease_store_add_metadata(LeaseStore *store, const LeaseKey *key,
									 const LeaseMetadata *metadata);
extern bool lease_store_is_owned_by(LeaseStore *store, const LeaseKey *key, Jsonb *owner);
extern int64 lease_store_issue_token(LeaseStore *store, int64 floor);
extern bool lease_store_has_namespace(LeaseStore *store, text *namespace);
extern int	lease_store_keys_of_holder(LeaseStore *store, text *namespace,
									   text *holder, LeaseKey **keys);
extern void lease_store_read_metadata(LeaseStore *store, const LeaseKey *key, LeaseFound *found);
extern void lease_store_scan(LeaseStore *store, const LeaseTime *time, TimestampTz before,
							 LeaseVisitor visit, void *arg);
extern bool lease_store_record_expiry(LeaseStore *store, const LeaseKey *key, TimestampTz expired_at);
extern void lease_store_delete_gc_policy(Oid relid, text *name);
extern int	lease_store_gc_policies(LeaseStore *store, LeaseGcPolicy **policies);

/* memory.c */
extern void lease_memory_init(void);
extern void lease_memory_request_shmem(void);
extern void lease_memory_startup_shmem(void);
extern bool lease_memory_wanted(void);
extern bool lease_memory_is_empty(void);
extern int64 lease_memory_flush_interval(void);
extern bool lease_memory_see(Oid relid, const LeaseKey *key, LeaseRow *row);
extern void lease_memory_close(Oid relid, const LeaseKey *key, LeaseRow *row);
extern bool lease_memory_renew(Oid relid, Oid filenode, const LeaseKey *key,
							   const LeaseClaim *claim, LeaseRow *row, LeaseTime *time,
							   bool *owned);
extern bool lease_memory_open(Oid relid, Oid filenode, const LeaseKey *key,
							  const LeaseRow *row, bool owned);
extern bool lease_memory_is_full(void);
extern void lease_memory_forget_database(Oid database);
extern int	lease_memory_unwritten(Oid relid, LeaseUnwritten **leases);
extern bool lease_memory_follow(Oid relid, const LeaseKey *key, LeaseRow *row,
								int64 next_version);
extern void lease_memory_written(Oid relid, const LeaseUnwritten *lease);

/* store_batch.c */
extern LeaseBatch *lease_batch_begin(LeaseStore *store);
extern void lease_batch_end(LeaseBatch *batch);
extern bool lease_batch_next_of_holder(LeaseBatch *batch, const text *holder, LeaseKey *key,
									   bool *passed);
extern bool lease_batch_is_at_end(LeaseBatch *batch);
extern bool lease_batch_read(LeaseBatch *batch, const LeaseKey *key, LeaseRow *row);
extern bool lease_batch_renew(LeaseBatch *batch, const LeaseKey *key,
							  LeaseRow *before, const LeaseRow *row);

/* token.c */
extern bool lease_token_lock(Oid relid);
extern int64 lease_token_issue(Oid relid, int64 floor);
extern bool lease_token_take(int64 token);
extern void lease_token_raise(Oid relid, int64 floor);

/* ttl.c */
extern int32 lease_ttl_duration(const Interval *duration);
extern int32 lease_ttl_seconds(const Interval *interval, const char *what);
extern int64 lease_ttl_microseconds(const Interval *interval, const char *what);
extern TimestampTz lease_ttl_after(TimestampTz time, int64 microseconds);
extern bool lease_ttl_may_run_out(TimestampTz renew_time, int32 duration_seconds,
								  const LeaseTime *time, TimestampTz before);
extern bool lease_ttl_is_ahead(const LeaseRow *row, const LeaseTime *time);
extern TimestampTz lease_ttl_expires_at(const LeaseRow *row, const LeaseTime *time);
extern TimestampTz lease_ttl_not_before(const LeaseRow *row, const LeaseTime *time);
extern TimestampTz lease_ttl_available_at(const LeaseRow *row, const text *holder,
										  const LeaseTime *time);
extern bool lease_ttl_is_valid(const LeaseRow *row, const LeaseTime *time);
extern bool lease_ttl_is_collectable(const LeaseRow *row, int64 expired_for,
									 const LeaseTime *time);
extern int64 lease_ttl_next_resource_version(int64 old, TimestampTz now);

/* history.c */
extern void lease_history_record(Relation rel, const LeaseKey *key, const LeaseRow *row,
								 TimestampTz held_since, LeaseReason reason);
extern bool lease_history_record_expiry(Oid relid, const LeaseKey *key, TimestampTz expired_at);
extern bool lease_history_lock(Oid relid);
extern int64 lease_history_trim(Oid relid, int64 seconds, int64 limit);
extern LeaseStatus lease_history_has_holder(Oid relid, const LeaseKey *key, text *holder);

/* stat.c */
extern void lease_stat_init(void);
extern void lease_stat_request_shmem(void);
extern void lease_stat_startup_shmem(void);
extern void lease_stat_count(LeaseCounter counter, const text *namespace, int64 n);
extern void lease_stat_answer(const text *namespace, LeaseStatus status, LeaseCounter no);
extern void lease_stat_wait(const text *namespace, int64 microseconds);
extern void lease_stat_gc_run(int64 microseconds);
extern void lease_stat_error(const char *message);

/* event.c */
extern LeaseEvent *lease_event_make(LeaseEventType type, const LeaseKey *key, const LeaseRow *row);
extern void lease_event_note(LeaseEventType type, const LeaseKey *key, const LeaseRow *row);
extern char *lease_event_payload(const LeaseEvent *event);
extern const char *lease_event_lost_payload(void);

/* mailbox.c */
extern void lease_mailbox_request_shmem(void);
extern void lease_mailbox_startup_shmem(void);
extern bool lease_mailbox_exists(void);
extern void lease_mailbox_post(const List *events, bool lost);
extern void lease_mailbox_announce(void);
extern bool lease_mailbox_attach(Oid database);
extern void lease_mailbox_detach(bool wanted);
extern void lease_mailbox_settle(void);
extern bool lease_mailbox_take(StringInfo mail);
extern bool lease_mailbox_take_change(void);
extern void lease_mailbox_attach_launcher(void);
extern bool lease_mailbox_claim(Oid database);
extern void lease_mailbox_abandon(Oid database);
extern bool lease_mailbox_take_refused(void);
extern LeaseMailboxState lease_mailbox_state(int i);

/* extension.c */
extern void lease_extension_init(void);
extern bool lease_extension_find(Oid *schema, char **version);
extern bool lease_extension_is_served(const char *version);

/* relation.c */
extern Oid	lease_relation_find(const char *name, Oid schema);
extern Relation lease_relation_open(const char *name, Oid relid, LOCKMODE lockmode);
extern bool lease_relation_lock(const char *name, Oid relid, LOCKMODE lockmode);

/* owner.c */
extern LeaseIdentity lease_owner_begin(Oid relid);
extern void lease_owner_end(LeaseIdentity caller);

/* subxact.c */
extern bool lease_in_subtransaction(bool (*work) (void *arg), void *arg);

/* permit.c */
extern LeasePermit lease_permit_begin(LeaseReason reason);
extern void lease_permit_end(LeasePermit outer);
extern bool lease_permit_take(void);
extern LeaseReason lease_permit_reason(void);

/* args.c */
extern void lease_require_writable(const char *function);
extern text *lease_arg_text(FunctionCallInfo fcinfo, int n, const char *what);
extern LeaseKey lease_arg_key(FunctionCallInfo fcinfo, int name, int namespace);
extern text *lease_arg_holder(FunctionCallInfo fcinfo, int n);
extern int64 lease_arg_token(FunctionCallInfo fcinfo, int n);
extern const Interval *lease_arg_interval(FunctionCallInfo fcinfo, int n, const char *what);
extern void lease_keys_sort(LeaseKey *keys, int count);
extern int	lease_arg_names(FunctionCallInfo fcinfo, int n, text *namespace, LeaseKey **keys);

/* result.c */
extern text *lease_status_text(LeaseStatus status);
extern TupleDesc lease_result_type(TupleDesc *cache, const LeaseResultColumn *columns,
								   int ncolumns);
extern Datum lease_result_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls);
extern Datum lease_result_form(TupleDesc tupdesc, Datum *values, bool *nulls);
extern Datum lease_result_expires_in(TimestampTz expires_at, TimestampTz now, bool *isnull);
extern Datum lease_result_renewal(LeaseStatus status, const LeaseRow *row, const LeaseTime *time);
extern void lease_result_put_count(ReturnSetInfo *rsinfo, LeaseStatus status, int64 count,
								   text *name);

/* expiry.c */
extern void lease_expiry_start(MemoryContext context);
extern void lease_expiry_scan(LeaseStore *store);
extern int64 lease_expiry_scan_interval(void);
extern bool lease_expiry_is_stale(void);
extern void lease_expiry_add(const LeaseKey *key, TimestampTz expires_at);
extern TimestampTz lease_expiry_next(void);
extern List *lease_expiry_check(LeaseStore *store);

/* worker.c */
#define LEASE_WORKER_WAIT_EVENT "LeaseWorkerMain"
extern bool lease_worker_enabled;
extern void lease_worker_init(void);
extern bool lease_worker_is_unwelcome(Oid database);
extern PGDLLEXPORT void lease_worker_main(Datum database);

/* launcher.c */
extern void lease_launcher_init(void);
extern void lease_launcher_request_shmem(void);
extern PGDLLEXPORT void lease_launcher_main(Datum unused);

/* gc.c */
typedef struct LeaseGcPass LeaseGcPass;
extern void lease_gc_init(void);
extern LeaseGcPass *lease_gc_find(LeaseStore *store);
extern int64 lease_gc_batch(LeaseGcPass *pass, LeaseStore *store, bool *more);
extern int64 lease_gc_trim_history(Oid relid, bool *more);

/* node.c */
extern bool lease_node_probe(Relation rel, Oid index, text *name, Snapshot snapshot,
							 pg_uuid_t *uid);
extern Relation lease_node_open(Oid funcid, LOCKMODE lockmode, Oid *index);
extern Jsonb *lease_node_owner_references(text *name, pg_uuid_t *uid);

/* node_status.c */
extern void lease_node_status_init(void);

/* apiserver.c */
extern void lease_apiserver_init(void);

/* session.c */
extern void lease_session_bind(Oid funcid, const LeaseKey *key, const LeaseRow *row);

/* wait.c */
extern LeaseStatus lease_wait_acquire(Oid funcid, const LeaseKey *key,
									  const LeaseTerms *terms, int64 wait,
									  bool atomic, LeaseRow *row, LeaseTime *time);

/* wait_queue.c */
#define LEASE_ACQUIRE_WAIT_EVENT "LeaseAcquire"
extern void lease_queue_request_shmem(void);
extern void lease_queue_startup_shmem(void);
extern bool lease_queue_exists(void);
extern LeasePlace *lease_queue_enter(const LeaseKey *key, const text *holder);
extern void lease_queue_enter_again(void);
extern bool lease_queue_is_first(void);
extern void lease_queue_leave(LeasePlace *outer, bool wake_next);
extern void lease_queue_wake_at_end(const LeaseKey *key, const text *reserved_for);
extern int64 lease_queue_count(Oid database, const char *namespace);

/* clock.c */
extern void lease_clock_init(void);
extern void lease_clock_request_shmem(void);
extern void lease_clock_startup_shmem(void);
extern LeaseTime lease_clock_read(void);
extern TimestampTz lease_clock_now(void);
extern TimestampTz lease_clock_at(int64 steady);
extern bool lease_clock_gives_grace(void);

/* incarnation.c */
extern void lease_incarnation_request_shmem(void);
extern void lease_incarnation_startup_shmem(void);
extern LeaseIncarnation lease_incarnation(void);
extern int64 lease_incarnation_second(void);

/* guard.c */
extern void lease_guard_init(void);

/* kubernetes.c */
extern char *lease_age_text(TimestampTz since, TimestampTz at);

/* json.c */
extern void lease_json_push(JsonbParseState **state, JsonbIteratorToken token, const char *s, int len);
extern void lease_json_push_key(JsonbParseState **state, const char *key);
extern void lease_json_push_member(JsonbParseState **state, const char *key, const char *s);
extern JsonbValue *lease_json_member(const JsonbContainer *object, const char *key);
extern char *lease_json_text(const JsonbContainer *object, const char *key);
extern bool lease_json_text_is(const JsonbContainer *object, const char *key, const char *wanted);
extern int	lease_json_compare(const JsonbValue *a, const JsonbValue *b);

/* go_time.c */
extern TimestampTz lease_whole_seconds(TimestampTz time);
extern char *lease_time_text(TimestampTz time, bool micro);
extern char *lease_parse_time(const char *s, bool micro, TimestampTz *time);

/* label_selector.c */
typedef struct LeaseSelector LeaseSelector;
extern LeaseSelector *lease_selector_parse(const char *text, char **error);
extern bool lease_selector_matches(const LeaseSelector *selector, const Jsonb *labels);
extern Jsonb *lease_selector_labels(const LeaseSelector *selector);
extern char *lease_label(const Jsonb *labels, const char *key);

/* validate.c */
extern bool lease_is_dns_label_syntax(const char *s, int len);
extern bool lease_is_dns_subdomain_syntax(const char *s, int len);
extern bool lease_is_name_syntax(const char *s, int len);
extern void lease_validate_name(const text *name);
extern void lease_validate_namespace(const text *namespace);
extern void lease_validate_holder(const text *holder);
#define LEASE_HOLDER_HINT \
	"Pass what tells this process from all others, for example host name, process ID and a random number."
extern void lease_validate_hostname(const text *hostname);

/* Microseconds of a clock that nobody sets. */
static inline int64
lease_monotonic_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* Microseconds of one that goes on while the machine sleeps, too. */
static inline int64
lease_steady_now(void)
{
#ifdef CLOCK_BOOTTIME
	const clockid_t clock = CLOCK_BOOTTIME;
#else
	const clockid_t clock = CLOCK_MONOTONIC;
#endif
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

/* A copy in the current memory context. */
static inline text *
lease_text_copy(const text *t)
{
	Size		size = VARSIZE_ANY_EXHDR(t) + VARHDRSZ;
	text	   *copy = palloc(size);

	SET_VARSIZE(copy, size);
	memcpy(VARDATA(copy), VARDATA_ANY(t), size - VARHDRSZ);
	return copy;
}

/* Texts are compared byte by byte, as Kubernetes compares strings. */
static inline bool
lease_text_equal(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* In the order of the bytes, which is that of the primary key. */
static inline int
lease_text_compare(const text *a, const text *b)
{
	int			alen = VARSIZE_ANY_EXHDR(a);
	int			blen = VARSIZE_ANY_EXHDR(b);
	int			result = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(alen, blen));

	return result != 0 ? result : (alen > blen) - (alen < blen);
}

/* Does nobody hold the lease, nor has left it to expire? */
static inline bool
lease_row_is_free(const LeaseRow *row)
{
	return row->holder_identity == NULL || VARSIZE_ANY_EXHDR(row->holder_identity) == 0;
}

static inline uint64
lease_text_hash(const text *t)
{
	return hash_bytes_extended((const unsigned char *) VARDATA_ANY(t),
							   VARSIZE_ANY_EXHDR(t), 0);
}

#endif							/* LEASE_H */
