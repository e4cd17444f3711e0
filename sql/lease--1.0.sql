\echo Use "CREATE EXTENSION lease" to load this file. \quit

-- ---------------------------------------------------------------------------
-- Kubernetes' validation rules, as used by the table's constraints
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_valid_name(name text) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_name(text) IS
'true if the text is a valid metadata.name of a Lease: a DNS-1123 subdomain of at most 253 bytes (apimachinery, NameIsDNSSubdomain)';

CREATE FUNCTION lease_valid_namespace(namespace text) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_namespace(text) IS
'true if the text is a valid metadata.namespace: a DNS-1123 label of at most 63 bytes (apimachinery, NameIsDNSLabel)';

CREATE FUNCTION lease_valid_labels(labels jsonb) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_labels(jsonb) IS
'true if the value is a JSON object that Kubernetes accepts as metadata.labels: keys are qualified names, values are strings of at most 63 bytes with label syntax (apimachinery, ValidateLabels)';

CREATE FUNCTION lease_valid_annotations(annotations jsonb) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_annotations(jsonb) IS
'true if the value is a JSON object that Kubernetes accepts as metadata.annotations: keys are qualified names, values are any strings, at most 262144 bytes altogether (apimachinery, ValidateAnnotations)';

CREATE FUNCTION lease_valid_owner_references(owner_references jsonb) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_owner_references(jsonb) IS
'true if the value is a JSON array that Kubernetes accepts as metadata.ownerReferences: objects with non-empty apiVersion, kind, name and uid, at most one of them with controller true (apimachinery, ValidateOwnerReferences)';

CREATE FUNCTION lease_valid_finalizers(finalizers text[]) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_finalizers(text[]) IS
'true if every element is a qualified name, as Kubernetes demands of metadata.finalizers (apimachinery, ValidateFinalizers)';

CREATE FUNCTION lease_valid_managed_fields(managed_fields jsonb) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_managed_fields(jsonb) IS
'true if the value can be metadata.managedFields: a JSON array of objects';

CREATE FUNCTION lease_valid_strategy(strategy text) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_strategy(text) IS
'true if the text is empty, OldestEmulationVersion, or a qualified name with a domain (coordination.k8s.io, ValidateLeaseSpec)';

-- ---------------------------------------------------------------------------
-- The table
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_token_floor(since timestamptz DEFAULT NULL) RETURNS bigint
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_token_floor(timestamptz) IS
'All fencing tokens of a server that became able to write at this time (NULL: this server) are greater: whole seconds since 2020-01-01 UTC, times 2^20. 22008 for a time that no token can stand for.';

-- One sequence for the whole database: a token is never issued twice for a
-- name, also when the row was deleted and made again in between.
CREATE SEQUENCE lease_fencing_token_seq AS bigint;
COMMENT ON SEQUENCE lease_fencing_token_seq IS
'source of fencing tokens; never set it back';

-- It begins above all that was ever issued here, and is not in a dump: one that
-- is older than the last tokens would set it back.
SELECT pg_catalog.setval('lease_fencing_token_seq', greatest(lease_token_floor(clock_timestamp()), 1));

-- resource_version is the time of the last change in microseconds since 1970,
-- moved by at least one: it only grows, and costs no shared counter.
CREATE TABLE lease (
	namespace              text COLLATE "C" NOT NULL DEFAULT 'default',
	name                   text COLLATE "C" NOT NULL,

	-- First, because whoever scans the table looks at these: what comes before is
	-- unpacked for each row.  What a renewal changes stands side by side, because
	-- WAL has all from the first changed byte to the last.
	renew_time             timestamptz,
	resource_version       bigint           NOT NULL,
	lease_duration_seconds integer,
	fencing_token          bigint           NOT NULL,

	uid                    uuid             NOT NULL DEFAULT gen_random_uuid(),
	creation_timestamp     timestamptz      DEFAULT date_trunc('second', clock_timestamp()),
	labels                 jsonb,
	annotations            jsonb,
	owner_references       jsonb,
	finalizers             text[],
	holder_identity        text COLLATE "C",
	acquire_time           timestamptz,
	lease_transitions      integer,
	strategy               text COLLATE "C",
	preferred_holder       text COLLATE "C",
	-- Not of Kubernetes: what a holding began with, and what keeps a lease back
	-- that nobody holds.
	held_since             timestamptz,
	lock_delay_seconds     integer,
	not_before             timestamptz,
	reserved_for           text COLLATE "C",
	-- The rest of what Kubernetes' objects carry; seldom there.
	generate_name          text COLLATE "C",
	generation             bigint,
	deletion_timestamp     timestamptz,
	deletion_grace_period_seconds bigint,
	managed_fields         jsonb,

	CONSTRAINT lease_pkey PRIMARY KEY (namespace, name),

	-- The token is a key on purpose: whatever ends a holding changes it, and a
	-- key update conflicts with FOR KEY SHARE while a renewal does not.
	CONSTRAINT lease_fencing_token_key UNIQUE (namespace, fencing_token),

	CONSTRAINT lease_namespace_check CHECK (lease_valid_namespace(namespace)),
	CONSTRAINT lease_name_check CHECK (lease_valid_name(name)),
	CONSTRAINT lease_labels_check CHECK (lease_valid_labels(labels)),
	CONSTRAINT lease_annotations_check CHECK (lease_valid_annotations(annotations)),
	CONSTRAINT lease_owner_references_check CHECK (lease_valid_owner_references(owner_references)),
	CONSTRAINT lease_finalizers_check CHECK (lease_valid_finalizers(finalizers)),
	CONSTRAINT lease_lease_duration_seconds_check CHECK (lease_duration_seconds > 0),
	CONSTRAINT lease_lease_transitions_check CHECK (lease_transitions >= 0),
	CONSTRAINT lease_lock_delay_seconds_check CHECK (lock_delay_seconds >= 0),
	CONSTRAINT lease_strategy_check CHECK (lease_valid_strategy(strategy)),
	CONSTRAINT lease_preferred_holder_check CHECK
		(coalesce(preferred_holder, '') = '' OR coalesce(strategy, '') <> ''),
	CONSTRAINT lease_fencing_token_check CHECK (fencing_token > 0),
	CONSTRAINT lease_generation_check CHECK (generation >= 0),
	CONSTRAINT lease_managed_fields_check CHECK (lease_valid_managed_fields(managed_fields))
	-- nothing here about renew_time and resource_version: every renewal changes
	-- them, and the trigger below keeps them in order for everybody else
)
-- Room on each page for the versions that renewals leave behind until they are
-- pruned, so that every renewal is a HOT update and the table does not grow.
WITH (fillfactor = 60);

COMMENT ON TABLE lease IS
'Lease objects as in coordination.k8s.io/v1, one row an object: metadata and spec under their API names in snake_case, and a fencing token. Times are decided by this server''s clock.';
COMMENT ON COLUMN lease.namespace IS 'metadata.namespace, a DNS-1123 label; immutable';
COMMENT ON COLUMN lease.name IS 'metadata.name, a DNS-1123 subdomain, unique in its namespace; immutable';
COMMENT ON COLUMN lease.uid IS 'metadata.uid, one per object: a lease that was deleted and made again has another; immutable';
COMMENT ON COLUMN lease.resource_version IS 'metadata.resourceVersion, greater after every change of the row; compare for equality only';
COMMENT ON COLUMN lease.creation_timestamp IS 'metadata.creationTimestamp, whole seconds; NULL only in an object that was loaded without; immutable';
COMMENT ON COLUMN lease.labels IS 'metadata.labels, a JSON object of strings';
COMMENT ON COLUMN lease.annotations IS 'metadata.annotations, a JSON object of strings';
COMMENT ON COLUMN lease.owner_references IS 'metadata.ownerReferences, a JSON array of objects';
COMMENT ON COLUMN lease.finalizers IS 'metadata.finalizers';
COMMENT ON COLUMN lease.holder_identity IS 'spec.holderIdentity: who holds or last held the lease; empty after a release, NULL when it was never held';
COMMENT ON COLUMN lease.lease_duration_seconds IS 'spec.leaseDurationSeconds: the lease is valid for so many seconds after renew_time; NULL means not at all';
COMMENT ON COLUMN lease.acquire_time IS 'spec.acquireTime: when the current holder acquired the lease';
COMMENT ON COLUMN lease.renew_time IS 'spec.renewTime: when the holder last renewed; never index it, every renewal changes it';
COMMENT ON COLUMN lease.lease_transitions IS 'spec.leaseTransitions: how often the lease went from one holder to another, counted as client-go does';
COMMENT ON COLUMN lease.strategy IS 'spec.strategy of coordinated leader election; kept, not acted upon';
COMMENT ON COLUMN lease.preferred_holder IS 'spec.preferredHolder of coordinated leader election; kept, not acted upon';
COMMENT ON COLUMN lease.held_since IS 'since when the lease is held under its fencing token; unlike acquire_time it also changes when the same holder acquires anew what it had lost';
COMMENT ON COLUMN lease.lock_delay_seconds IS 'when the holding expires, nobody but its holder may acquire the lease for so many seconds';
COMMENT ON COLUMN lease.not_before IS 'a lease that is not held can be acquired from then on, by the one it is reserved for at any time';
COMMENT ON COLUMN lease.reserved_for IS 'who may acquire the lease before not_before: the successor named in lease_handover()';
COMMENT ON COLUMN lease.fencing_token IS 'grows with every grant and every end of a holding, never repeats for a name; give it to whatever the holder writes to';
COMMENT ON COLUMN lease.generate_name IS 'metadata.generateName: what the name was generated from, by lease_apply()';
COMMENT ON COLUMN lease.generation IS 'metadata.generation; Kubernetes never sets it for a Lease';
COMMENT ON COLUMN lease.deletion_timestamp IS 'metadata.deletionTimestamp: since when the object is being deleted, and kept by its finalizers only';
COMMENT ON COLUMN lease.deletion_grace_period_seconds IS 'metadata.deletionGracePeriodSeconds, of an object that is being deleted';
COMMENT ON COLUMN lease.managed_fields IS 'metadata.managedFields, a JSON array of objects; kept as it came';
COMMENT ON CONSTRAINT lease_pkey ON lease IS 'namespaces are independent of each other: no key spans two of them';
COMMENT ON CONSTRAINT lease_fencing_token_key ON lease IS 'makes every change of the token a key update, which conflicts with FOR KEY SHARE';
COMMENT ON CONSTRAINT lease_namespace_check ON lease IS 'metadata.namespace: DNS-1123 label, 63 bytes at most';
COMMENT ON CONSTRAINT lease_name_check ON lease IS 'metadata.name: DNS-1123 subdomain, 253 bytes at most';
COMMENT ON CONSTRAINT lease_labels_check ON lease IS 'metadata.labels: see lease_valid_labels()';
COMMENT ON CONSTRAINT lease_annotations_check ON lease IS 'metadata.annotations: see lease_valid_annotations()';
COMMENT ON CONSTRAINT lease_owner_references_check ON lease IS 'metadata.ownerReferences: see lease_valid_owner_references()';
COMMENT ON CONSTRAINT lease_finalizers_check ON lease IS 'metadata.finalizers: qualified names';
COMMENT ON CONSTRAINT lease_lease_duration_seconds_check ON lease IS 'spec.leaseDurationSeconds must be greater than 0';
COMMENT ON CONSTRAINT lease_lease_transitions_check ON lease IS 'spec.leaseTransitions must be greater than or equal to 0';
COMMENT ON CONSTRAINT lease_lock_delay_seconds_check ON lease IS 'a delay is not negative';
COMMENT ON CONSTRAINT lease_strategy_check ON lease IS 'spec.strategy: OldestEmulationVersion or a name with a domain';
COMMENT ON CONSTRAINT lease_preferred_holder_check ON lease IS 'spec.preferredHolder may only be given together with a strategy';
COMMENT ON CONSTRAINT lease_fencing_token_check ON lease IS 'tokens start at 1';
COMMENT ON CONSTRAINT lease_generation_check ON lease IS 'metadata.generation is not negative';
COMMENT ON CONSTRAINT lease_managed_fields_check ON lease IS 'metadata.managedFields: an array of objects';

ALTER SEQUENCE lease_fencing_token_seq OWNED BY lease.fencing_token;

-- Leases are data: they go into a dump.
SELECT pg_catalog.pg_extension_config_dump('lease', '');

CREATE FUNCTION lease_on_write() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_on_write() IS
'trigger of table lease for rows written by hand: identity is immutable, resource_version moves, a change of holder gets a new fencing token, times are finite';

CREATE TRIGGER lease_on_write BEFORE INSERT OR UPDATE ON lease
FOR EACH ROW EXECUTE FUNCTION lease_on_write();
COMMENT ON TRIGGER lease_on_write ON lease IS
'keeps rows honest that are written by hand; renewals by lease_renew() need no check and pass it by';

-- ---------------------------------------------------------------------------
-- Who held it, and when
-- ---------------------------------------------------------------------------

CREATE TABLE lease_history (
	namespace       text COLLATE "C" NOT NULL,
	name            text COLLATE "C" NOT NULL,
	fencing_token   bigint           NOT NULL,
	holder_identity text COLLATE "C" NOT NULL,
	held_from       timestamptz      NOT NULL,
	held_until      timestamptz      NOT NULL,
	end_reason      text             NOT NULL,
	CONSTRAINT lease_history_pkey PRIMARY KEY (namespace, name, fencing_token)
);
COMMENT ON TABLE lease_history IS
'one row for each holding of a lease that has ended, written by the extension; lease_gc() forgets those older than lease.history_retention';
COMMENT ON COLUMN lease_history.namespace IS 'namespace of the lease';
COMMENT ON COLUMN lease_history.name IS 'name of the lease';
COMMENT ON COLUMN lease_history.fencing_token IS 'the token of this holding';
COMMENT ON COLUMN lease_history.holder_identity IS 'who held it';
COMMENT ON COLUMN lease_history.held_from IS 'when it was acquired';
COMMENT ON COLUMN lease_history.held_until IS 'when it was given up, or when it expired if that was earlier';
COMMENT ON COLUMN lease_history.end_reason IS
'released, handed over, taken over (it had expired and somebody else acquired it, or a new API server on the host took it), expired (nobody has acquired it since, or the same holder anew), collected (lease_gc), session end, deleted or edited (by hand)';
COMMENT ON CONSTRAINT lease_history_pkey ON lease_history IS 'a token is never issued twice for a name';

-- held_until grows in the order of insertion, so this stays tiny.
CREATE INDEX lease_history_held_until_idx ON lease_history USING brin (held_until) WITH (autosummarize = on);
COMMENT ON INDEX lease_history_held_until_idx IS 'finds what is old enough to be forgotten';

SELECT pg_catalog.pg_extension_config_dump('lease_history', '');

CREATE FUNCTION lease_after_write() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_after_write() IS
'trigger of table lease: records in lease_history a holding that has ended, and wakes who waits for the lease when the transaction has';

CREATE TRIGGER lease_after_write AFTER INSERT OR UPDATE OR DELETE ON lease
FOR EACH ROW EXECUTE FUNCTION lease_after_write();
COMMENT ON TRIGGER lease_after_write ON lease IS
'acts on the end of holdings only; renewals pass it by';

-- ---------------------------------------------------------------------------
-- Acquire, renew, release
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_acquire(
	name text,
	holder text,
	duration interval DEFAULT '15 s',
	namespace text DEFAULT 'default',
	wait interval DEFAULT '0',
	hold_at_least interval DEFAULT '0',
	lock_delay interval DEFAULT '0',
	session boolean DEFAULT false,
	OUT acquired boolean,
	OUT status text,
	OUT holder_identity text,
	OUT fencing_token bigint,
	OUT expires_at timestamptz,
	OUT expires_in interval,
	OUT lease_transitions integer)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_acquire(text, text, interval, text, interval, interval, interval, boolean) IS
'Acquires a lease for holder, or renews it when holder has it already; makes the object when it is missing.
duration: whole seconds, 1 s to 2147483647 s, default 15 s as in client-go.
wait: how long to wait for it, default not at all. Who waits is woken when the lease is released, handed over, deleted or has expired, first come, first served, and holds no lock meanwhile, but the snapshot of its statement; see lease_await() for longer waits.
hold_at_least: minimum hold time; released earlier, the lease stays reserved until then.
lock_delay: whole seconds for which nobody but the holder may acquire the lease after it has expired; it can be acquired at once after a release.
session: release the lease at once when this session ends, however it does; if the server crashes, the duration decides. The lease must still be renewed.
status: acquired (a new holding with a new fencing_token), renewed (mine already, same token; hold_at_least and lock_delay stay as they were), held (someone else''s until expires_at), reserved (nobody''s, but kept back until expires_at), busy (could not tell: another transaction has the row locked).
fencing_token is NULL unless acquired is true. holder_identity: who has it now, or had it last. expires_at, expires_in: when it runs out unless it is renewed, and how long that is from now. The lease is yours when the transaction has committed.
Rules for lease_transitions and acquire_time: client-go, tryAcquireOrRenew.
Errors: 22004 NULL argument, 22023 empty name, namespace or holder or interval out of range, 42602 name or namespace with invalid syntax, 42622 name or namespace too long, 25006 read-only transaction or standby, 40001 changed since the snapshot of a REPEATABLE READ or SERIALIZABLE transaction, or ran out in the moment in which it was renewed, 42501 not permitted.';

CREATE PROCEDURE lease_await(
	name text,
	holder text,
	duration interval DEFAULT '15 s',
	namespace text DEFAULT 'default',
	wait interval DEFAULT '1 h',
	hold_at_least interval DEFAULT '0',
	lock_delay interval DEFAULT '0',
	session boolean DEFAULT false)
LANGUAGE C AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE lease_await(text, text, interval, text, interval, interval, interval, boolean) IS
'Acquires a lease for holder and waits for it, default one hour; the arguments are those of lease_acquire(). While it waits it holds no snapshot, so that it can wait for long without keeping VACUUM from its work. For that it has to be called on its own, outside a transaction block. Ask lease_acquire() afterwards: it says whether you have it, and returns the fencing token.
Errors: as lease_acquire().';

CREATE FUNCTION lease_renew(
	name text,
	holder text,
	namespace text DEFAULT 'default',
	OUT renewed boolean,
	OUT status text,
	OUT holder_identity text,
	INOUT fencing_token bigint DEFAULT NULL,
	OUT expires_at timestamptz,
	OUT expires_in interval)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_renew(text, text, text, bigint) IS
'Extends a lease that holder has and that is still valid, by its own duration from now. Never waits, never creates, never revives an expired lease.
fencing_token: when given, it must be the current one.
status: renewed, or why not: expired (it was mine, acquire it again), held (someone else has or last had it, or another token is current), free (released or never held), missing (no such lease), busy (could not tell: another transaction has the row locked).
fencing_token in the result is NULL unless renewed is true. holder_identity: who has it now, or had it last. expires_at, expires_in: when it runs out unless it is renewed again, and how long that is from now.
Errors: as lease_acquire().';

CREATE FUNCTION lease_renew_all(
	holder text,
	names text[] DEFAULT NULL,
	namespace text DEFAULT 'default')
RETURNS TABLE (status text, leases bigint, name text)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_renew_all(text, text[], text) IS
'Renews all leases of holder in namespace, or those in names, in one statement; takes the row locks in the order of the names and never waits, so that two calls cannot deadlock.
status, leases, name: the first row is (renewed, how many, NULL); then follows one row with the reason for every lease that was not renewed, with the statuses of lease_renew().
Without names, every lease that has holder as its holder_identity is tried, in the order of the primary key.
Errors: as lease_acquire(); also 22004 for a NULL among names, 2202E for names with more than one dimension, 55P03 without names when DDL has the table locked.';

CREATE FUNCTION lease_release(
	name text,
	holder text,
	namespace text DEFAULT 'default',
	fencing_token bigint DEFAULT NULL,
	OUT released boolean,
	OUT status text,
	OUT holder_identity text)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_release(text, text, text, bigint) IS
'Gives up a lease, expired or not: holder_identity becomes empty, lease_duration_seconds 1, acquire_time and renew_time now, lease_transitions stays (client-go, ReleaseOnCancel). The fencing token changes, so that writes under the old one are refused. Never waits.
fencing_token: when given, it must be the current one.
status: released, or why not: held (someone else''s, or another token is current), free (nobody''s), missing, busy (could not tell). holder_identity: who has it.
Errors: as lease_acquire().';

CREATE FUNCTION lease_handover(
	name text,
	holder text,
	successor text,
	namespace text DEFAULT 'default',
	fencing_token bigint DEFAULT NULL,
	reserve interval DEFAULT '15 s',
	OUT handed_over boolean,
	OUT status text,
	OUT holder_identity text)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_handover(text, text, text, text, bigint, interval) IS
'Releases a lease as lease_release() does, but towards a named successor: for the time of reserve nobody else may acquire it (others hear reserved). A successor that waits in lease_acquire() is woken, whoever waits longer; afterwards everybody may have it.
fencing_token: when given, it must be the current one.
status: handed_over, or why not, as lease_release(). holder_identity: who has it.
Errors: as lease_acquire(); also 22023 for a successor that is the holder itself.';

-- ---------------------------------------------------------------------------
-- Fencing: the lease and the write it protects commit together
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_guard(
	name text,
	fencing_token bigint,
	namespace text DEFAULT 'default')
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_guard(text, bigint, text) IS
'Ties the transaction to a fencing token: an error unless the token is the lease''s current one and the lease is valid; and until the transaction, or the savepoint, ends, nobody can take over, release, hand over, delete or collect the lease, while its holder can renew it from another connection. So what the transaction writes commits only while the token is current, also when it takes longer than the lease.
fencing_token: the one that lease_acquire() returned.
Errors: LS001 the token is not current any more, or the lease is expired, free or missing: stop; 55P03 could not tell, another transaction is just changing the holder: roll back and try again; 40001 taken over since the snapshot of a REPEATABLE READ or SERIALIZABLE transaction; 22004, 22023, 42602, 42622, 25006, 42501 as lease_acquire().';

CREATE FUNCTION lease_guard_trigger() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_guard_trigger() IS
'Trigger function that refuses writes to a table by who does not hold a lease: CREATE TRIGGER ... BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ... FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger(namespace, name); the namespace default may be left out.
The writer shows a fencing token: by a call of lease_guard() in the same transaction, or in the setting lease.fencing_tokens (SET LOCAL for the transaction, SET for the session). The trigger then guards the lease as lease_guard() does.
Errors: LS001 none of the tokens is current, or the lease is not valid; 55P03 could not tell; 39P01 wrong kind of trigger or arguments; the rest as lease_guard().';

-- ---------------------------------------------------------------------------
-- Who holds it?
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_expires_at(
	holder_identity text,
	renew_time timestamptz,
	lease_duration_seconds integer,
	resource_version bigint DEFAULT NULL)
RETURNS timestamptz
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_expires_at(text, timestamptz, integer, bigint) IS
'The moment at which a lease with these values of its columns holder_identity, renew_time, lease_duration_seconds and resource_version stops being valid, or NULL when nobody holds it. The one rule of validity, also used by lease_acquire(): valid while lease_clock() is earlier. What was renewed before the server recovered, or before its wall clock was set, counts as renewed then; so does a renew_time in the future if resource_version says that it was written by a clock that was ahead.';

CREATE FUNCTION lease_renewed_at(
	namespace text,
	name text,
	fencing_token bigint,
	resource_version bigint,
	renew_time timestamptz)
RETURNS timestamptz
LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_renewed_at(text, text, bigint, bigint, timestamptz) IS
'When the lease with this row of the table was last renewed: renew_time, or later if its holder has renewed it in memory since (lease.heartbeat_storage); on a standby, what the primary has written back. Never an error. SELECT lease_renewed_at(namespace, name, fencing_token, resource_version, renew_time) FROM lease. The views show this time.';

CREATE FUNCTION lease_not_before(
	not_before timestamptz,
	renew_time timestamptz,
	resource_version bigint)
RETURNS timestamptz
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_not_before(timestamptz, timestamptz, bigint) IS
'Until when a lease with these values of its columns not_before, renew_time and resource_version is kept back by a minimum hold or a handover: not_before, unless the wall clock was set back since; then it counts from that moment once more. NULL when it is not kept back.';

CREATE FUNCTION lease_clock(
	OUT now timestamptz,
	OUT counts_from timestamptz,
	OUT grants_from timestamptz)
LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_clock() IS
'The clock by which leases expire. now: with lease in shared_preload_libraries measured by a clock that nobody sets, and within a tenth of a second of the wall clock; otherwise the wall clock. counts_from: what was renewed before counts as renewed then: since when the server can write (it was started, has recovered from a crash, or was promoted; unless lease.recovery_grace is off), or since its wall clock was set; else NULL, as on a standby. grants_from: nobody acquires a lease before then, while renewals go on (lease.quiet_period); NULL when that is over.';

CREATE FUNCTION lease_holder(
	name text,
	namespace text DEFAULT 'default')
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_holder(text, text) IS
'Who holds the lease now, by the newest committed state also in a REPEATABLE READ transaction; NULL when it is expired, released or missing. Works on a standby.
Errors: 22004, 22023, 42602, 42622 as lease_acquire(); 55P03 when the table is locked by DDL, so that the answer is not known.';

CREATE FUNCTION lease_is_held(
	name text,
	holder text DEFAULT NULL,
	namespace text DEFAULT 'default')
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_is_held(text, text, text) IS
'true if the lease is valid now and held by holder, or by anybody when holder is NULL; the same state as lease_holder(). Not a guard: it holds for the moment of the call only.
Errors: as lease_holder().';

CREATE FUNCTION lease_waiters()
RETURNS TABLE (namespace text, name text, holder_identity text, pid integer, since timestamptz)
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_waiters() IS
'Who waits in lease_acquire() for the lease of this name and namespace in this database, in the session with this pid, as far as the caller may see these sessions in pg_stat_activity; holder_identity is cut off after 128 bytes. The order of since is the order in which they will get the lease. Nothing unless the server has lease in shared_preload_libraries.';

CREATE VIEW lease_holdings WITH (security_invoker = true) AS
SELECT h.namespace,
	   h.name,
	   h.fencing_token,
	   h.holder_identity,
	   h.held_from,
	   h.held_until,
	   h.end_reason,
	   tstzrange(h.held_from, h.held_until) AS held_during
FROM lease_history h
WHERE NOT EXISTS (SELECT FROM lease l
	WHERE l.namespace = h.namespace AND l.name = h.name AND l.fencing_token = h.fencing_token)
UNION ALL
SELECT l.namespace,
	   l.name,
	   l.fencing_token,
	   l.holder_identity,
	   l.held_since,
	   CASE WHEN e.expires_at <= c.now THEN e.expires_at END,
	   CASE WHEN e.expires_at <= c.now THEN 'expired' END,
	   tstzrange(l.held_since, CASE WHEN e.expires_at <= c.now THEN e.expires_at ELSE 'infinity' END)
FROM lease l
CROSS JOIN lease_clock() c
CROSS JOIN LATERAL (SELECT lease_renewed_at(l.namespace, l.name, l.fencing_token, l.resource_version, l.renew_time) AS at) r
CROSS JOIN LATERAL (SELECT lease_expires_at(l.holder_identity, r.at, l.lease_duration_seconds, l.resource_version) AS expires_at) e
WHERE e.expires_at IS NOT NULL AND l.held_since <= e.expires_at;

COMMENT ON VIEW lease_holdings IS
'who held which lease when, now and in the past: SELECT holder_identity FROM lease_holdings WHERE name = ... AND held_during @> timestamptz ...';
COMMENT ON COLUMN lease_holdings.namespace IS 'namespace of the lease';
COMMENT ON COLUMN lease_holdings.name IS 'name of the lease';
COMMENT ON COLUMN lease_holdings.fencing_token IS 'the token of this holding';
COMMENT ON COLUMN lease_holdings.holder_identity IS 'who held it, or holds it';
COMMENT ON COLUMN lease_holdings.held_from IS 'when it was acquired';
COMMENT ON COLUMN lease_holdings.held_until IS 'when the holding ended; NULL while it goes on';
COMMENT ON COLUMN lease_holdings.end_reason IS 'why it ended, as in lease_history; NULL while it goes on';
COMMENT ON COLUMN lease_holdings.held_during IS 'held_from to held_until, without the latter; to infinity while it goes on';

CREATE FUNCTION lease_age(
	since timestamptz,
	at timestamptz DEFAULT clock_timestamp())
RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_age(timestamptz, timestamptz) IS
'Time from since to at in the words of kubectl''s column AGE: 119s, 3m10s, 7h59m, 2d1h, 3y; <unknown> for NULL, <invalid> for the future (apimachinery, HumanDuration).';

CREATE VIEW lease_status WITH (security_invoker = true) AS
SELECT l.namespace,
	   l.name,
	   l.holder_identity,
	   CASE WHEN e.expires_at > c.now THEN 'held'
			WHEN a.available_at > c.now THEN 'reserved'
			WHEN l.holder_identity <> '' THEN 'expired'
			ELSE 'free'
	   END AS status,
	   -- the collations of its parts differ
	   (CASE WHEN e.expires_at > c.now THEN
				format('%s has it%s; %s', l.holder_identity,
					CASE WHEN g.in_grace THEN ', not renewed since the server recovered or its clock was set' END,
					CASE WHEN isfinite(e.expires_at) THEN format('expires in %s unless renewed', lease_age(c.now, e.expires_at)) ELSE 'without end' END)
			WHEN c.grants_from > c.now THEN
				format('the server was promoted; nobody can acquire it for another %s', lease_age(c.now, c.grants_from))
			WHEN a.available_at > c.now THEN
				format('%s can acquire it for another %s',
					coalesce('only ' || coalesce(nullif(l.reserved_for, ''), nullif(l.holder_identity, '')), 'nobody'), lease_age(c.now, a.available_at))
			WHEN l.holder_identity <> '' THEN
				format('%s did not renew it%s; anybody can acquire it', l.holder_identity,
					CASE WHEN isfinite(e.expires_at) THEN format(', expired %s ago', lease_age(e.expires_at, c.now)) END)
			WHEN l.holder_identity IS NULL THEN 'never held; anybody can acquire it'
			ELSE 'released; anybody can acquire it'
	   END || CASE WHEN w.waiting = 1 THEN '; 1 waits for it' WHEN w.waiting > 1 THEN format('; %s wait for it', w.waiting) ELSE '' END) COLLATE "default" AS detail,
	   CASE WHEN isfinite(e.expires_at) THEN e.expires_at - c.now END AS expires_in,
	   c.now - r.at AS renewed_ago,
	   g.in_grace,
	   l.fencing_token,
	   l.lease_transitions,
	   coalesce(w.waiting, 0) AS waiting,
	   make_interval(secs => l.lease_duration_seconds) AS duration,
	   l.acquire_time,
	   r.at AS renew_time,
	   e.expires_at,
	   CASE WHEN a.available_at > c.now THEN a.available_at END AS reserved_until,
	   CASE WHEN a.available_at > c.now THEN l.reserved_for END AS reserved_for,
	   l.creation_timestamp,
	   l.labels
FROM lease l
LEFT JOIN (SELECT namespace, name, count(*) AS waiting FROM lease_waiters() GROUP BY namespace, name) w
	ON w.namespace = l.namespace AND w.name = l.name
CROSS JOIN lease_clock() c
CROSS JOIN LATERAL (SELECT lease_renewed_at(l.namespace, l.name, l.fencing_token, l.resource_version, l.renew_time) AS at) r
CROSS JOIN LATERAL (SELECT lease_expires_at(l.holder_identity, r.at, l.lease_duration_seconds, l.resource_version) AS expires_at) e
CROSS JOIN LATERAL (SELECT coalesce(e.expires_at > c.now AND (r.at < c.counts_from OR
	(r.at > c.now AND e.expires_at <= c.now + make_interval(secs => l.lease_duration_seconds))), false) AS in_grace) g
CROSS JOIN LATERAL (SELECT CASE WHEN e.expires_at > c.now THEN NULL ELSE
	greatest(lease_not_before(l.not_before, r.at, l.resource_version), e.expires_at + make_interval(secs => l.lock_delay_seconds), c.grants_from) END AS available_at) a;

COMMENT ON VIEW lease_status IS
'who holds what, since when and until when, by the same rule of validity as lease_acquire()';
COMMENT ON COLUMN lease_status.namespace IS 'namespace of the lease';
COMMENT ON COLUMN lease_status.name IS 'name of the lease';
COMMENT ON COLUMN lease_status.holder_identity IS 'who holds it or, when expired, last held it; empty after a release, NULL when never held';
COMMENT ON COLUMN lease_status.status IS 'held, expired (its holder did not renew in time: anybody may acquire it), reserved (nobody holds it, but it is kept back until reserved_until), or free';
COMMENT ON COLUMN lease_status.detail IS 'the same in words, and who can acquire it';
COMMENT ON COLUMN lease_status.expires_in IS 'time left; negative when expired, NULL when free or without end';
COMMENT ON COLUMN lease_status.renewed_ago IS 'time since the last renewal';
COMMENT ON COLUMN lease_status.in_grace IS 'true if it counts as renewed when the server recovered, or its clock was set, and was not renewed since: its holder may be gone';
COMMENT ON COLUMN lease_status.fencing_token IS 'the current fencing token';
COMMENT ON COLUMN lease_status.lease_transitions IS 'how often the holder changed, counted as client-go does';
COMMENT ON COLUMN lease_status.duration IS 'how long the lease is valid after a renewal';
COMMENT ON COLUMN lease_status.acquire_time IS 'since when the holder has it';
COMMENT ON COLUMN lease_status.renew_time IS 'when the holder last renewed it';
COMMENT ON COLUMN lease_status.expires_at IS 'when it expires unless renewed; NULL when free';
COMMENT ON COLUMN lease_status.reserved_until IS 'nobody may acquire it earlier, except reserved_for, or if it has expired its last holder; NULL when it is not reserved';
COMMENT ON COLUMN lease_status.reserved_for IS 'whom it was handed over to';
COMMENT ON COLUMN lease_status.waiting IS 'how many wait for it, see lease_waiters()';
COMMENT ON COLUMN lease_status.creation_timestamp IS 'when the object was made';
COMMENT ON COLUMN lease_status.labels IS 'labels of the object';

-- ---------------------------------------------------------------------------
-- Collection
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_valid_selector(selector text) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_selector(text) IS
'true if the text is a label selector, as in kubectl -l: key=value, key!=value, key in (a,b), key notin (a,b), key, !key, separated by commas; empty selects everything (apimachinery, labels.Parse)';

CREATE TABLE lease_gc_policy (
	name        text     NOT NULL,
	namespace   text COLLATE "C",
	selector    text     NOT NULL,
	expired_for interval NOT NULL DEFAULT '0',
	batch_size  integer  NOT NULL DEFAULT 1000,
	enabled     boolean  NOT NULL DEFAULT true,
	CONSTRAINT lease_gc_policy_pkey PRIMARY KEY (name),
	CONSTRAINT lease_gc_policy_namespace_check CHECK (lease_valid_namespace(namespace)),
	CONSTRAINT lease_gc_policy_selector_check CHECK (lease_valid_selector(selector)),
	CONSTRAINT lease_gc_policy_expired_for_check CHECK
		(expired_for >= '0' AND expired_for <= '24855 days' AND extract(month FROM expired_for) = 0 AND extract(year FROM expired_for) = 0),
	CONSTRAINT lease_gc_policy_batch_size_check CHECK (batch_size BETWEEN 1 AND 1000)
);
COMMENT ON TABLE lease_gc_policy IS
'which leases lease_gc() and the background worker delete when they have expired. The first are those of Kubernetes: identity leases of API servers. An INSERT replaces the policy of the same name. These two are to be disabled, not deleted: a dump that is restored would bring them back';
COMMENT ON COLUMN lease_gc_policy.name IS 'name of the policy; of several, one that says so is enough for a lease to be deleted';
COMMENT ON COLUMN lease_gc_policy.namespace IS 'namespace of the leases; NULL: all namespaces';
COMMENT ON COLUMN lease_gc_policy.selector IS 'labels of the leases, as in kubectl -l; empty: all leases';
COMMENT ON COLUMN lease_gc_policy.expired_for IS 'delete a lease when renew_time + lease_duration_seconds was longer ago than this; one without either counts as expired, whatever stands here (Kubernetes'' rule)';
COMMENT ON COLUMN lease_gc_policy.batch_size IS 'how many leases to delete in a transaction at most, 1 to 1000';
COMMENT ON COLUMN lease_gc_policy.enabled IS 'false: the policy deletes nothing';
COMMENT ON CONSTRAINT lease_gc_policy_pkey ON lease_gc_policy IS 'names are unique';
COMMENT ON CONSTRAINT lease_gc_policy_namespace_check ON lease_gc_policy IS 'see lease_valid_namespace()';
COMMENT ON CONSTRAINT lease_gc_policy_selector_check ON lease_gc_policy IS 'see lease_valid_selector()';
COMMENT ON CONSTRAINT lease_gc_policy_expired_for_check ON lease_gc_policy IS 'not negative, no months or years, at most 2^31 s';
COMMENT ON CONSTRAINT lease_gc_policy_batch_size_check ON lease_gc_policy IS 'no batch locks more than 1000 rows';

CREATE FUNCTION lease_gc_policy_on_insert() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_gc_policy_on_insert() IS
'trigger of table lease_gc_policy: an INSERT replaces the policy of the same name, so that a dump restores those that came with the extension as they were changed';

CREATE TRIGGER lease_gc_policy_on_insert BEFORE INSERT ON lease_gc_policy
FOR EACH ROW EXECUTE FUNCTION lease_gc_policy_on_insert();
COMMENT ON TRIGGER lease_gc_policy_on_insert ON lease_gc_policy IS 'makes an INSERT replace the policy of the same name';

-- Before dumping is asked for, so that it is the extension's own data as well.
INSERT INTO lease_gc_policy (name, namespace, selector) VALUES
	('apiserver-identity', 'kube-system', 'apiserver.kubernetes.io/identity=kube-apiserver'),
	('apiserver-identity-1.26', 'kube-system', 'k8s.io/component=kube-apiserver');
SELECT pg_catalog.pg_extension_config_dump('lease_gc_policy', '');

CREATE FUNCTION lease_gc(
	OUT collected bigint,
	OUT history_removed bigint,
	OUT more boolean)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_gc() IS
'Deletes leases that have expired, as table lease_gc_policy says: of every policy at most batch_size, and at most 1000 or for 15 ms; and at most 1000 holdings that ended longer ago than lease.history_retention from lease_history. Each lease is looked at again when it is locked: what was renewed meanwhile stays. What somebody has locked, what is kept back (not_before, lock delay) and what has finalizers stays, too. Never waits.
By default these are identity leases of API servers (namespace kube-system, label apiserver.kubernetes.io/identity=kube-apiserver, or that of Kubernetes 1.26, k8s.io/component=kube-apiserver) whose renew_time + lease_duration_seconds is over, or that lack either, whoever holds them (Kubernetes, lease_expiration controller).
For a schedule: SELECT cron.schedule(''lease-gc'', ''* * * * *'', ''SELECT lease_gc()''). The background worker does the same every lease.gc_interval.
collected: how many leases were deleted. history_removed: how many holdings. more: there may be more to do; call again, in another transaction, or CALL lease_gc_all().
Errors: 42501 without the privilege DELETE on table lease; 25006 read-only transaction or standby; 40001 above READ COMMITTED, if somebody has changed one of the leases since the snapshot.';

CREATE PROCEDURE lease_gc_all(
	pause double precision DEFAULT 9,
	INOUT collected bigint DEFAULT NULL,
	INOUT history_removed bigint DEFAULT NULL)
LANGUAGE C AS 'MODULE_PATHNAME';
COMMENT ON PROCEDURE lease_gc_all(double precision, bigint, bigint) IS
'Deletes all that lease_gc() would delete if it was called until there is nothing more, in batches of which each is a transaction. To be called on its own, outside a transaction block.
pause: after each batch, nothing is done for so many times as long as it took, and no lock is held, so that others can work; 0: as fast as possible. collected, history_removed: those of lease_gc().
Errors: as lease_gc(); 22023 pause not from 0 to 1000; 2D000 in a transaction block.';

-- ---------------------------------------------------------------------------
-- Kubernetes: kubectl get leases
-- ---------------------------------------------------------------------------

CREATE VIEW kubectl_get_leases WITH (security_invoker = true) AS
SELECT namespace,
	   name,
	   coalesce(holder_identity, '') AS holder,
	   lease_age(creation_timestamp) AS age,
	   creation_timestamp,
	   lease_renewed_at(namespace, name, fencing_token, resource_version, renew_time) AS renew_time,
	   labels
FROM lease
ORDER BY (namespace || '/' || name) COLLATE "C";

COMMENT ON VIEW kubectl_get_leases IS
'what kubectl get leases -A prints, in its order';
COMMENT ON COLUMN kubectl_get_leases.namespace IS 'column NAMESPACE of kubectl';
COMMENT ON COLUMN kubectl_get_leases.name IS 'column NAME of kubectl';
COMMENT ON COLUMN kubectl_get_leases.holder IS 'column HOLDER of kubectl: holder_identity, empty when there is none';
COMMENT ON COLUMN kubectl_get_leases.age IS 'column AGE of kubectl: since creation, not since the last renewal';
COMMENT ON COLUMN kubectl_get_leases.creation_timestamp IS 'what AGE is counted from';
COMMENT ON COLUMN kubectl_get_leases.renew_time IS 'when it was last renewed';
COMMENT ON COLUMN kubectl_get_leases.labels IS 'what kubectl -l selects by';

-- ---------------------------------------------------------------------------
-- Nodes
-- ---------------------------------------------------------------------------

-- What a Node object of the API says, as far as it is registered.  Heartbeats
-- write to the node's lease, and nothing here.
CREATE TABLE lease_node (
	name               text COLLATE "C" NOT NULL,
	uid                uuid             NOT NULL DEFAULT gen_random_uuid(),
	creation_timestamp timestamptz      NOT NULL DEFAULT date_trunc('second', clock_timestamp()),
	resource_version   bigint           NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
	labels             jsonb,
	annotations        jsonb,
	metadata           jsonb,
	unschedulable      boolean,
	spec               jsonb,
	status             jsonb,

	CONSTRAINT lease_node_pkey PRIMARY KEY (name),
	CONSTRAINT lease_node_name_check CHECK (lease_valid_name(name)),
	CONSTRAINT lease_node_creation_timestamp_check CHECK (isfinite(creation_timestamp)),
	CONSTRAINT lease_node_labels_check CHECK (lease_valid_labels(labels)),
	CONSTRAINT lease_node_annotations_check CHECK (lease_valid_annotations(annotations)),
	CONSTRAINT lease_node_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
	CONSTRAINT lease_node_spec_check CHECK (jsonb_typeof(spec) = 'object'),
	CONSTRAINT lease_node_status_check CHECK (jsonb_typeof(status) = 'object')
);

COMMENT ON TABLE lease_node IS
'registered nodes: Node objects of the API v1, one row an object. Whether a node is alive is in its lease; see lease_nodes';
COMMENT ON COLUMN lease_node.name IS 'metadata.name, a DNS-1123 subdomain';
COMMENT ON COLUMN lease_node.uid IS 'metadata.uid: the owner that the node''s lease refers to';
COMMENT ON COLUMN lease_node.creation_timestamp IS 'metadata.creationTimestamp, whole seconds';
COMMENT ON COLUMN lease_node.resource_version IS 'metadata.resourceVersion; lease_node_apply() and lease_node_register() move it';
COMMENT ON COLUMN lease_node.labels IS 'metadata.labels, a JSON object of strings';
COMMENT ON COLUMN lease_node.annotations IS 'metadata.annotations, a JSON object of strings';
COMMENT ON COLUMN lease_node.metadata IS 'the other members of metadata, as they came';
COMMENT ON COLUMN lease_node.unschedulable IS 'spec.unschedulable: true after kubectl cordon';
COMMENT ON COLUMN lease_node.spec IS 'the other members of spec: taints, podCIDR, providerID ...';
COMMENT ON COLUMN lease_node.status IS 'status: conditions, addresses, nodeInfo, capacity ...';
COMMENT ON CONSTRAINT lease_node_pkey ON lease_node IS 'nodes have no namespace';
COMMENT ON CONSTRAINT lease_node_name_check ON lease_node IS 'metadata.name: DNS-1123 subdomain, 253 bytes at most';
COMMENT ON CONSTRAINT lease_node_creation_timestamp_check ON lease_node IS 'metadata.creationTimestamp is a time';
COMMENT ON CONSTRAINT lease_node_labels_check ON lease_node IS 'metadata.labels: see lease_valid_labels()';
COMMENT ON CONSTRAINT lease_node_annotations_check ON lease_node IS 'metadata.annotations: see lease_valid_annotations()';
COMMENT ON CONSTRAINT lease_node_metadata_check ON lease_node IS 'metadata is a JSON object';
COMMENT ON CONSTRAINT lease_node_spec_check ON lease_node IS 'spec is a JSON object';
COMMENT ON CONSTRAINT lease_node_status_check ON lease_node IS 'status is a JSON object';

SELECT pg_catalog.pg_extension_config_dump('lease_node', '');

CREATE FUNCTION lease_node_heartbeat(
	node text,
	duration interval DEFAULT '40 s',
	OUT renewed boolean,
	OUT status text,
	OUT holder_identity text,
	OUT fencing_token bigint,
	OUT expires_at timestamptz,
	OUT expires_in interval)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_heartbeat(text, interval) IS
'The heartbeat of a node, as kubelet sends it every 10 s: renews the lease of the node''s name in namespace kube-node-lease, which the node holds; makes it when it is missing, with duration, and without acquire_time and lease_transitions. Never waits.
Only renew_time moves. A lease that has expired is renewed as well, under the same fencing token: there is no election among kubelets, and the token shows that nobody else has held it. If the lease has no owner reference and the node is registered, as far as the caller may see that in lease_node, the lease gets one.
status: renewed, acquired (made, or taken because nobody held it: a new fencing token); or with renewed false held (somebody else holds it), reserved (kept back for somebody else), busy (could not tell: another transaction has the row locked). The other results are those of lease_renew().
Errors: as lease_acquire().';

CREATE FUNCTION lease_node_heartbeats(
	nodes text[],
	duration interval DEFAULT '40 s')
RETURNS TABLE (status text, leases bigint, name text)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_heartbeats(text[], interval) IS
'Heartbeats of many nodes in one statement; takes the row locks in the order of the names and never waits, so that two calls cannot deadlock.
duration: of the leases that are made.
status, leases, name: the first rows are (renewed, how many, NULL) and (acquired, how many, NULL); then follows one row with the reason for every node whose heartbeat was not written, with the statuses of lease_node_heartbeat().
Errors: as lease_node_heartbeat(); also 22004 for a NULL among nodes, 2202E for nodes with more than one dimension.';

CREATE FUNCTION lease_node_apply(node jsonb) RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_apply(jsonb) IS
'Registers a node, or writes anew all that is known of it, from its Node object (apiVersion v1) as kubectl get node -o json prints it. A uid, a creationTimestamp and a resourceVersion that are missing are made or stay as they were. Never waits.
Result: registered, updated, or busy (another transaction is just writing it).
Errors: 22004, 22023, 42602, 42622, 22P02, 23514 for what is no valid Node, 42501 not permitted, 25006 read-only transaction or standby, 40001 as lease_acquire().';

CREATE FUNCTION lease_node_register(
	name text,
	labels jsonb DEFAULT NULL,
	annotations jsonb DEFAULT NULL,
	unschedulable boolean DEFAULT NULL,
	spec jsonb DEFAULT NULL,
	status jsonb DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_register(text, jsonb, jsonb, boolean, jsonb, jsonb) IS
'Registers a node, or writes anew what is known of it, as lease_node_apply() does, from its parts: labels and annotations, unschedulable, spec and status without these; NULL: none.
Result: as lease_node_apply().
Errors: as lease_node_apply().';

CREATE FUNCTION lease_node_remove(name text) RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_remove(text) IS
'Removes a registered node, and its lease in kube-node-lease if the node is the lease''s only owner, both or none. Should the node send heartbeats all the same, it gets a lease without owner. Never waits.
Result: removed, missing (not registered), or busy (another transaction has the node or its lease locked: nothing was removed).
Errors: 42501 without SELECT, UPDATE and DELETE on both tables, 22004, 22023, 42602, 42622, 25006, 40001 as lease_acquire().';

CREATE FUNCTION lease_node_object(node lease_node) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object('apiVersion', 'v1', 'kind', 'Node')
	|| jsonb_build_object('metadata', coalesce((node).metadata, '{}')
		|| jsonb_build_object(
			'name', (node).name,
			'uid', (node).uid,
			'creationTimestamp', to_char((node).creation_timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'resourceVersion', (node).resource_version::text)
		|| CASE WHEN (node).labels IS NULL THEN '{}' ELSE jsonb_build_object('labels', (node).labels) END
		|| CASE WHEN (node).annotations IS NULL THEN '{}' ELSE jsonb_build_object('annotations', (node).annotations) END)
	|| CASE WHEN (node).spec IS NULL AND (node).unschedulable IS NULL THEN '{}'
		ELSE jsonb_build_object('spec', coalesce((node).spec, '{}')
			|| CASE WHEN (node).unschedulable IS NULL THEN '{}' ELSE jsonb_build_object('unschedulable', (node).unschedulable) END) END
	|| CASE WHEN (node).status IS NULL THEN '{}' ELSE jsonb_build_object('status', (node).status) END;
COMMENT ON FUNCTION lease_node_object(lease_node) IS
'A row of lease_node as the Node object of the API: SELECT lease_node_object(n) FROM lease_node n.';

CREATE FUNCTION lease_node_object(name text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT lease_node_object(n) FROM lease_node n WHERE n.name = lease_node_object.name);
COMMENT ON FUNCTION lease_node_object(text) IS
'The Node object of a registered node, as lease_node_apply() got it; NULL if it is not registered.';

CREATE FUNCTION lease_node_posted(
	status jsonb,
	OUT ready text,
	OUT last_heartbeat timestamptz,
	OUT since timestamptz)
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_posted(jsonb) IS
'The condition Ready in the status of a Node. ready: its status (True, False, Unknown); last_heartbeat: its lastHeartbeatTime; since: its lastTransitionTime; NULL what is not there, or no time.';

CREATE FUNCTION lease_node_status(
	created timestamptz,
	ready text,
	last_heartbeat timestamptz,
	at timestamptz DEFAULT clock_timestamp())
RETURNS text
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_status(timestamptz, text, timestamptz, timestamptz) IS
'The status of a node by the rule of Kubernetes'' node lifecycle controller: Unknown if nothing was heard of it for longer than lease.node_monitor_grace_period, or if it was never heard of and created longer ago than lease.node_startup_grace_period; else what its condition Ready says: Ready (also if it posted none), NotReady or Unknown; NotReady if it was never heard of but is new.
What was last heard before the server recovered, or before its wall clock was set, counts as heard then (lease_clock()).
created: when the node was. ready: the condition''s status, NULL if none was posted. last_heartbeat: the greater of the lease''s renew_time and the condition''s lastHeartbeatTime. at: the instant for which is asked.';

CREATE FUNCTION lease_node_status_since(
	created timestamptz,
	ready text,
	last_heartbeat timestamptz,
	posted_since timestamptz,
	beating_since timestamptz,
	at timestamptz DEFAULT clock_timestamp())
RETURNS timestamptz
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_node_status_since(timestamptz, text, timestamptz, timestamptz, timestamptz, timestamptz) IS
'Since when lease_node_status() says what it says for created, ready, last_heartbeat and at; posted_since: lastTransitionTime of the condition; beating_since: the first heartbeat. Exact for a node that has fallen silent; otherwise the time of the posted condition, or of the first heartbeat where none was posted, because a silence that is over has left no trace.';

CREATE VIEW lease_nodes WITH (security_invoker = true) AS
SELECT coalesce(n.name, l.name) AS name,
	   lease_node_status(k.created, p.ready, k.last_heartbeat, c.now) AS status,
	   k.last_heartbeat,
	   lease_node_status_since(k.created, p.ready, k.last_heartbeat, p.since, least(l.held_since, r.at), c.now) AS since,
	   n.unschedulable IS NOT TRUE AS schedulable,
	   n.name IS NOT NULL AS registered,
	   p.ready AS posted_ready,
	   r.at AS renew_time,
	   k.created AS creation_timestamp,
	   n.labels
FROM lease_node n
FULL JOIN (SELECT * FROM lease WHERE namespace = 'kube-node-lease') l ON l.name = n.name
CROSS JOIN lease_clock() c
CROSS JOIN LATERAL (SELECT lease_renewed_at(l.namespace, l.name, l.fencing_token, l.resource_version, l.renew_time) AS at) r
LEFT JOIN LATERAL lease_node_posted(n.status) p ON true
CROSS JOIN LATERAL (SELECT coalesce(n.creation_timestamp, l.creation_timestamp) AS created,
	greatest(r.at, p.last_heartbeat) AS last_heartbeat) k;

COMMENT ON VIEW lease_nodes IS
'which nodes are alive: one row for each registered node and each lease in kube-node-lease, by the rule of lease_node_status()';
COMMENT ON COLUMN lease_nodes.name IS 'name of the node';
COMMENT ON COLUMN lease_nodes.status IS 'Ready, NotReady (it says so itself, or is new and was not heard of yet), or Unknown (silent for too long)';
COMMENT ON COLUMN lease_nodes.last_heartbeat IS 'when it was last heard of: the greater of its lease''s renew_time and what its condition Ready says; NULL: never';
COMMENT ON COLUMN lease_nodes.since IS 'since when it has this status, as far as that can be told: see lease_node_status_since()';
COMMENT ON COLUMN lease_nodes.schedulable IS 'false if it is cordoned: spec.unschedulable';
COMMENT ON COLUMN lease_nodes.registered IS 'is there a Node object, in lease_node?';
COMMENT ON COLUMN lease_nodes.posted_ready IS 'status of its condition Ready; NULL if none was posted';
COMMENT ON COLUMN lease_nodes.renew_time IS 'when its lease was last renewed; NULL if it has none';
COMMENT ON COLUMN lease_nodes.creation_timestamp IS 'when the node was registered, or else its lease made';
COMMENT ON COLUMN lease_nodes.labels IS 'labels of the node';

CREATE FUNCTION lease_node_roles(labels jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce((
	SELECT string_agg(DISTINCT r.role COLLATE "C", ',' ORDER BY r.role COLLATE "C")
	FROM jsonb_each_text(labels) AS e (key, value)
	CROSS JOIN LATERAL (SELECT CASE
		WHEN starts_with(e.key, 'node-role.kubernetes.io/') THEN substr(e.key, length('node-role.kubernetes.io/') + 1)
		WHEN e.key = 'kubernetes.io/role' THEN e.value END AS role) r
	WHERE r.role <> ''), '<none>');
COMMENT ON FUNCTION lease_node_roles(jsonb) IS
'kubectl''s column ROLES: from the labels node-role.kubernetes.io/ROLE and kubernetes.io/role=ROLE of a node.';

CREATE FUNCTION lease_node_kubectl_status(
	ready text,
	unschedulable boolean,
	renew_time timestamptz,
	last_heartbeat timestamptz,
	at timestamptz DEFAULT clock_timestamp())
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
		WHEN renew_time IS NOT NULL AND lease_node_status(NULL, NULL, greatest(renew_time, last_heartbeat), at) = 'Unknown' THEN 'NotReady'
		WHEN ready = 'True' OR ready IS NULL AND renew_time IS NOT NULL THEN 'Ready'
		WHEN ready IS NULL THEN 'Unknown'
		ELSE 'NotReady'
	END || CASE WHEN unschedulable THEN ',SchedulingDisabled' ELSE '' END;
COMMENT ON FUNCTION lease_node_kubectl_status(text, boolean, timestamptz, timestamptz, timestamptz) IS
'kubectl''s column STATUS. ready and last_heartbeat: status and lastHeartbeatTime of the condition Ready that was posted, NULL if none was; renew_time: of the node''s lease, NULL if it has none; unschedulable: is it cordoned? at: the instant for which is asked.
A node without a lease is what it posted, Unknown if that is nothing. A node with one is NotReady as soon as it is silent, as the node lifecycle controller would have written into its conditions by then; else what it posted, or Ready.';

CREATE VIEW kubectl_get_nodes WITH (security_invoker = true) AS
SELECT n.name,
	   lease_node_kubectl_status(p.ready, n.unschedulable, r.at, p.last_heartbeat) AS status,
	   lease_node_roles(n.labels) AS roles,
	   lease_age(n.creation_timestamp) AS age,
	   coalesce(n.status #>> '{nodeInfo,kubeletVersion}', '') AS version,
	   coalesce(jsonb_path_query_first(n.status, '$.addresses[*] ? (@.type == "InternalIP").address') #>> '{}', '<none>') AS internal_ip,
	   coalesce(jsonb_path_query_first(n.status, '$.addresses[*] ? (@.type == "ExternalIP").address') #>> '{}', '<none>') AS external_ip,
	   coalesce(nullif(n.status #>> '{nodeInfo,osImage}', ''), '<unknown>') AS os_image,
	   coalesce(nullif(n.status #>> '{nodeInfo,kernelVersion}', ''), '<unknown>') AS kernel_version,
	   coalesce(nullif(n.status #>> '{nodeInfo,containerRuntimeVersion}', ''), '<unknown>') AS container_runtime,
	   n.creation_timestamp,
	   greatest(r.at, p.last_heartbeat) AS last_heartbeat,
	   n.unschedulable IS NOT TRUE AS schedulable,
	   n.labels
FROM lease_node n
LEFT JOIN lease l ON l.namespace = 'kube-node-lease' AND l.name = n.name
CROSS JOIN LATERAL (SELECT lease_renewed_at(l.namespace, l.name, l.fencing_token, l.resource_version, l.renew_time) AS at) r
LEFT JOIN LATERAL lease_node_posted(n.status) p ON true
ORDER BY n.name COLLATE "C";

COMMENT ON VIEW kubectl_get_nodes IS
'what kubectl get nodes -o wide prints of the registered nodes, in its order, and more to filter on';
COMMENT ON COLUMN kubectl_get_nodes.name IS 'column NAME of kubectl';
COMMENT ON COLUMN kubectl_get_nodes.status IS 'column STATUS of kubectl: see lease_node_kubectl_status()';
COMMENT ON COLUMN kubectl_get_nodes.roles IS 'column ROLES of kubectl: see lease_node_roles()';
COMMENT ON COLUMN kubectl_get_nodes.age IS 'column AGE of kubectl: since creation';
COMMENT ON COLUMN kubectl_get_nodes.version IS 'column VERSION of kubectl: status.nodeInfo.kubeletVersion';
COMMENT ON COLUMN kubectl_get_nodes.internal_ip IS 'column INTERNAL-IP of kubectl -o wide';
COMMENT ON COLUMN kubectl_get_nodes.external_ip IS 'column EXTERNAL-IP of kubectl -o wide';
COMMENT ON COLUMN kubectl_get_nodes.os_image IS 'column OS-IMAGE of kubectl -o wide';
COMMENT ON COLUMN kubectl_get_nodes.kernel_version IS 'column KERNEL-VERSION of kubectl -o wide';
COMMENT ON COLUMN kubectl_get_nodes.container_runtime IS 'column CONTAINER-RUNTIME of kubectl -o wide';
COMMENT ON COLUMN kubectl_get_nodes.creation_timestamp IS 'when the node was created';
COMMENT ON COLUMN kubectl_get_nodes.last_heartbeat IS 'when it was last heard of, as in lease_nodes';
COMMENT ON COLUMN kubectl_get_nodes.schedulable IS 'false if it is cordoned';
COMMENT ON COLUMN kubectl_get_nodes.labels IS 'labels of the node';

-- ---------------------------------------------------------------------------
-- API servers
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_apiserver_name(hostname text) RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_apiserver_name(text) IS
'Name of the identity lease of the kube-apiserver on a host: kube-apiserver- and the first 16 bytes of the SHA-256 of hostname in lower-case base32 without padding, as in Kubernetes 1.26; with lease.apiserver_identity = 1.27, apiserver- and the hash of later versions (APIServerID).';

CREATE FUNCTION lease_apiserver_heartbeat(
	hostname text,
	instance uuid,
	OUT renewed boolean,
	OUT status text,
	OUT holder_identity text,
	OUT fencing_token bigint,
	OUT expires_at timestamptz,
	OUT expires_in interval)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_apiserver_heartbeat(text, uuid) IS
'The heartbeat of an API server, every 10 s: renews the identity lease of its host in namespace kube-system, or makes it: name lease_apiserver_name(hostname), holder NAME_INSTANCE, 3600 s, labels as in Kubernetes 1.26 (k8s.io/component=kube-apiserver, kubernetes.io/hostname), or as lease.apiserver_identity says, without acquire_time and lease_transitions. Labels that were taken away or changed are set again. Never waits.
instance: a UUID that the process made when it started. A new instance on the same host takes over the lease from the one before, valid or not: same object, new holder, new fencing token. The one before then hears held, as long as the lease is valid.
status: renewed, acquired (made, or taken over); or with renewed false held (this instance was replaced), reserved, busy (could not tell: another transaction has the row locked). The other results are those of lease_renew().
Errors: 42622 hostname over 63 bytes and 42602 one that cannot be a label''s value; else as lease_acquire().';

CREATE VIEW lease_apiservers WITH (security_invoker = true) AS
SELECT l.name,
	   l.labels ->> 'kubernetes.io/hostname' AS hostname,
	   CASE WHEN l.holder_identity ~ '_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN right(l.holder_identity, 36)::uuid END AS instance,
	   coalesce(e.expires_at > c.now, false) AS live,
	   r.at AS last_renewal,
	   e.expires_at,
	   l.holder_identity,
	   l.fencing_token,
	   l.creation_timestamp
FROM lease l
CROSS JOIN lease_clock() c
CROSS JOIN LATERAL (SELECT lease_renewed_at(l.namespace, l.name, l.fencing_token, l.resource_version, l.renew_time) AS at) r
CROSS JOIN LATERAL (SELECT lease_expires_at(l.holder_identity, r.at, l.lease_duration_seconds, l.resource_version) AS expires_at) e
WHERE l.namespace = 'kube-system'
	AND (l.labels @> '{"k8s.io/component": "kube-apiserver"}' OR l.labels @> '{"apiserver.kubernetes.io/identity": "kube-apiserver"}')
ORDER BY l.name;

COMMENT ON VIEW lease_apiservers IS
'identity leases of API servers, with the labels of Kubernetes 1.26 or of later versions: SELECT count(*) FROM lease_apiservers WHERE live';
COMMENT ON COLUMN lease_apiservers.name IS 'name of the lease';
COMMENT ON COLUMN lease_apiservers.hostname IS 'the host, from the label kubernetes.io/hostname';
COMMENT ON COLUMN lease_apiservers.instance IS 'the process, from holder_identity; NULL if that does not end with a UUID';
COMMENT ON COLUMN lease_apiservers.live IS 'is the lease valid?';
COMMENT ON COLUMN lease_apiservers.last_renewal IS 'when it last sent a heartbeat';
COMMENT ON COLUMN lease_apiservers.expires_at IS 'when the lease expires; lease_gc() may delete it from then on';
COMMENT ON COLUMN lease_apiservers.holder_identity IS 'holder of the lease: its name, "_", and the instance';
COMMENT ON COLUMN lease_apiservers.fencing_token IS 'changes when another instance takes over';
COMMENT ON COLUMN lease_apiservers.creation_timestamp IS 'when the lease was made; an instance that takes over does not change it';

CREATE VIEW lease_apiserver_count WITH (security_invoker = true) AS
SELECT count(*) FILTER (WHERE live) AS live, count(*) FILTER (WHERE NOT live) AS expired
FROM lease_apiservers;

COMMENT ON VIEW lease_apiserver_count IS 'how many API servers are live: one row';
COMMENT ON COLUMN lease_apiserver_count.live IS 'with a valid identity lease';
COMMENT ON COLUMN lease_apiserver_count.expired IS 'with one that has expired, and was not collected yet';

-- ---------------------------------------------------------------------------
-- Numbers
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_stat_namespaces()
RETURNS TABLE (datname name, namespace text, waiting bigint, acquired bigint, renewed bigint, lost bigint, refused bigint,
	busy bigint, released bigint, taken_over bigint, expired bigint, collected bigint, wait_count bigint, wait_time double precision)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_stat_namespaces() IS
'what the view lease_stat shows. Errors: 42501 who may not SELECT from the table lease and is not a member of pg_read_all_stats; 55P03 when DDL has the table locked.';

CREATE FUNCTION lease_stat_databases()
RETURNS TABLE (datname name, waiting bigint, gc_runs bigint, gc_time double precision, gc_last_time timestamptz, gc_last_duration double precision,
	last_error text, last_error_time timestamptz, stats_reset timestamptz)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_stat_databases() IS
'what the view lease_stat_database shows. Errors: as lease_stat_namespaces().';

CREATE FUNCTION lease_stat_reset() RETURNS void
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_stat_reset() IS
'Begins to count anew in this database: its rows in lease_stat go, and what lease_stat_database says is 0. EXECUTE is granted to nobody.';
REVOKE EXECUTE ON FUNCTION lease_stat_reset() FROM PUBLIC;

CREATE VIEW lease_stat WITH (security_invoker = true) AS
SELECT s.datname,
	   s.namespace COLLATE "C" AS namespace,
	   s.waiting,
	   s.acquired,
	   s.renewed,
	   s.lost,
	   s.refused,
	   s.busy,
	   s.released,
	   s.taken_over,
	   s.expired,
	   s.collected,
	   s.wait_count,
	   s.wait_time
FROM lease_stat_namespaces() s
ORDER BY s.datname, s.namespace COLLATE "C";

COMMENT ON VIEW lease_stat IS
'what has happened to leases since stats_reset in lease_stat_database, one row a namespace; also what was rolled back afterwards. Of other databases for members of pg_read_all_stats. Nothing unless the server has lease in shared_preload_libraries.';
COMMENT ON COLUMN lease_stat.datname IS 'the database';
COMMENT ON COLUMN lease_stat.namespace IS 'the namespace; NULL: all those that found no room, see lease.stat_namespaces';
COMMENT ON COLUMN lease_stat.waiting IS 'how many wait in lease_acquire() or lease_await() now';
COMMENT ON COLUMN lease_stat.acquired IS 'leases acquired: new holdings, also by heartbeats';
COMMENT ON COLUMN lease_stat.renewed IS 'leases renewed, also by lease_acquire() and heartbeats';
COMMENT ON COLUMN lease_stat.lost IS 'renewals and guards of who did not have the lease, or not any more: expired, held, free, missing, LS001';
COMMENT ON COLUMN lease_stat.refused IS 'acquisitions and heartbeats that found somebody else''s lease: held, reserved';
COMMENT ON COLUMN lease_stat.busy IS 'calls that could not tell: busy, or 55P03 of a guard';
COMMENT ON COLUMN lease_stat.released IS 'holdings given up: by lease_release(), lease_handover() or the end of the session';
COMMENT ON COLUMN lease_stat.taken_over IS 'holdings ended because somebody else acquired the lease';
COMMENT ON COLUMN lease_stat.expired IS 'holdings that ran out, counted when that is noticed: by the background worker, or by who ends the holding';
COMMENT ON COLUMN lease_stat.collected IS 'leases that were deleted because they had expired';
COMMENT ON COLUMN lease_stat.wait_count IS 'calls that had to wait, with or without success';
COMMENT ON COLUMN lease_stat.wait_time IS 'how long they waited altogether, in milliseconds';

CREATE VIEW lease_stat_database WITH (security_invoker = true) AS
SELECT s.datname,
	   s.waiting,
	   s.gc_runs,
	   s.gc_time,
	   s.gc_last_time,
	   s.gc_last_duration,
	   s.last_error,
	   s.last_error_time,
	   s.stats_reset
FROM lease_stat_databases() s
ORDER BY s.datname;

COMMENT ON VIEW lease_stat_database IS
'what goes on in a database besides lease_stat: one row for this one, and for each of the others for members of pg_read_all_stats. Nothing unless the server has lease in shared_preload_libraries, and before anything was counted.';
COMMENT ON COLUMN lease_stat_database.datname IS 'the database';
COMMENT ON COLUMN lease_stat_database.waiting IS 'how many wait in lease_acquire() or lease_await() now';
COMMENT ON COLUMN lease_stat_database.gc_runs IS 'how often expired leases were collected, by the background worker, lease_gc() or lease_gc_all()';
COMMENT ON COLUMN lease_stat_database.gc_time IS 'how long that took altogether, in milliseconds';
COMMENT ON COLUMN lease_stat_database.gc_last_time IS 'when it was done last';
COMMENT ON COLUMN lease_stat_database.gc_last_duration IS 'how long that took, in milliseconds';
COMMENT ON COLUMN lease_stat_database.last_error IS 'the last error of the background worker; shown to who may see all leases';
COMMENT ON COLUMN lease_stat_database.last_error_time IS 'when that was';
COMMENT ON COLUMN lease_stat_database.stats_reset IS 'since when is counted: the last lease_stat_reset(), or the first thing that was counted';

-- ---------------------------------------------------------------------------
-- objects: leases as Kubernetes' JSON
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_object(lease lease) RETURNS jsonb
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_object(lease) IS
'A row of the table as the Lease of coordination.k8s.io/v1 that Kubernetes'' API server sends: SELECT lease_object(l) FROM lease l. Fields that are not set are absent; what Kubernetes does not have (fencing_token, lock_delay_seconds and the like) is not in it.';

CREATE FUNCTION lease_object(
	name text,
	namespace text DEFAULT 'default')
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT lease_object(l) FROM lease l
		WHERE l.namespace = lease_object.namespace AND l.name = lease_object.name);
COMMENT ON FUNCTION lease_object(text, text) IS
'A lease as the Lease of coordination.k8s.io/v1 that Kubernetes'' API server sends, or NULL when there is none of that name.';

CREATE FUNCTION lease_apply(
	object jsonb,
	INOUT namespace text DEFAULT NULL,
	OUT name text,
	OUT action text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_apply(jsonb, text) IS
'Creates or updates the lease that a Lease of coordination.k8s.io/v1 describes, or all of a List or LeaseList, or none if one of them is refused. Never waits.
namespace: of objects that name none, default is default; an object that names another is refused.
action: created, configured, or unchanged. One row an object.
An update is a JSON merge patch: fields in the object are set, null removes one, the rest stays; labels and annotations are merged key by key, lists are replaced. uid and resourceVersion in the object are preconditions. uid, resourceVersion, creationTimestamp and deletionTimestamp of an object that does not exist yet are kept if the owner of the table applies it and it has a uid, and assigned anew otherwise.
Who holds a lease, only the owner of the table may change in this way.
Errors: LS400 not a Lease, an unknown field, a value of the wrong type, another namespace; LS409 conflict: another uid or resourceVersion; LS422 invalid: every rule broken that the API server has, one a line in the detail; 23505 no free name for generateName; 55P03 could not tell: the lease is locked; 22004, 25006, 40001, 42501 as lease_acquire().';

-- ---------------------------------------------------------------------------
-- kubectl
-- ---------------------------------------------------------------------------

CREATE FUNCTION kubectl(
	command text,
	at timestamptz DEFAULT clock_timestamp(),
	manifest text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION kubectl(text, timestamptz, text) IS
'Runs a kubectl command line on the leases and nodes here, and returns what kubectl 1.32 prints: SELECT kubectl(''-n kube-system get lease -l k8s.io/component=kube-apiserver''). get, describe, label, annotate, delete, patch, create, apply and replace. at: the instant to which AGE is counted. manifest: what kubectl reads from standard input with -f -, in YAML or JSON.
What kubectl prints on standard error is a NOTICE if it exits with 0, a WARNING if it fails but has printed something, or else an ERROR.
Errors: 42601 the command line cannot be read; 22023 a wrong argument or selector; P0002 not found; LS400, LS409, LS422 as lease_apply(); 0A000 not supported; 42501 not permitted; 55P03 locked.';

CREATE FUNCTION kubectl_json(object jsonb) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION kubectl_json(jsonb) IS
'The object as kubectl get -o json prints it: keys sorted, four blanks, Go''s escapes.';

CREATE FUNCTION kubectl_yaml(object jsonb) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION kubectl_yaml(jsonb) IS
'The object as kubectl get -o yaml prints it (sigs.k8s.io/yaml).';

CREATE FUNCTION kubectl_manifest(manifest text) RETURNS SETOF jsonb
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION kubectl_manifest(text) IS
'The objects of a manifest in YAML (several documents are separated by ---) or JSON, as kubectl reads it. Errors: 22P02 with kubectl''s text.';

CREATE FUNCTION kubectl_jsonpath(object jsonb, template text) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION kubectl_jsonpath(jsonb, text) IS
'What kubectl get -o jsonpath=template prints for the object. Errors: 22023 with kubectl''s text.';

CREATE FUNCTION kubectl_describe(object jsonb, lease jsonb DEFAULT NULL) RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION kubectl_describe(jsonb, jsonb) IS
'The object as kubectl describe prints it, without events; lease: that of a Node, which is shown with it.';

-- ---------------------------------------------------------------------------
-- What endangers leases
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_row_lockers(row_version tid)
RETURNS TABLE (transaction_id xid, pid integer, lock_mode text)
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_row_lockers(tid) IS
'Transactions in progress that have a version of a row of table lease locked, or change it; row_version: its ctid: SELECT k.* FROM lease l, lease_row_lockers(l.ctid) k. transaction_id: as in pg_locks. lock_mode is the strongest lock that the transaction has on the row; pid is NULL if the transaction is prepared, or on the primary. See the view lease_lockers.
Errors: 42501 without SELECT on table lease, 55P03 when the table is locked by DDL.';

-- xmax is 0 unless somebody has locked or changed this version at some time, so
-- that few rows are looked at.
CREATE VIEW lease_lockers WITH (security_invoker = true) AS
SELECT l.namespace,
	   l.name,
	   k.lock_mode,
	   k.pid,
	   p.gid AS prepared,
	   coalesce(a.xact_start, p.prepared) AS since,
	   a.state,
	   a.query,
	   lease_expires_at(l.holder_identity, lease_renewed_at(l.namespace, l.name, l.fencing_token, l.resource_version, l.renew_time), l.lease_duration_seconds, l.resource_version) AS expires_at
FROM lease l
CROSS JOIN LATERAL lease_row_lockers(l.ctid) k
LEFT JOIN pg_stat_activity a ON a.pid = k.pid
LEFT JOIN pg_prepared_xacts p ON p.transaction = k.transaction_id
WHERE l.xmax <> '0';

COMMENT ON VIEW lease_lockers IS
'which transactions have the row of a lease locked, so that others hear busy: one row for each lease and transaction';
COMMENT ON COLUMN lease_lockers.namespace IS 'namespace of the lease';
COMMENT ON COLUMN lease_lockers.name IS 'name of the lease';
COMMENT ON COLUMN lease_lockers.lock_mode IS 'FOR KEY SHARE (a guard: only renewals go on), FOR SHARE, FOR NO KEY UPDATE (a renewal, or another change that goes together with guards), or FOR UPDATE (an acquisition, a release, a DELETE)';
COMMENT ON COLUMN lease_lockers.pid IS 'the session; NULL if the transaction is prepared, or on the primary';
COMMENT ON COLUMN lease_lockers.prepared IS 'identifier of a prepared transaction';
COMMENT ON COLUMN lease_lockers.since IS 'when the transaction began, or was prepared; NULL for who may not see it in pg_stat_activity';
COMMENT ON COLUMN lease_lockers.state IS 'of the session, as in pg_stat_activity';
COMMENT ON COLUMN lease_lockers.query IS 'the last statement of the session, as in pg_stat_activity';
COMMENT ON COLUMN lease_lockers.expires_at IS 'when the lease expires, or has expired; NULL when nobody holds it';

CREATE FUNCTION lease_clock_steps(
	OUT steps bigint,
	OUT last_step interval,
	OUT last_step_at timestamptz)
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_clock_steps() IS
'steps: how often the server''s wall clock was set by a tenth of a second or more since the server started, as far as a call of a function, or the background worker, has looked in between; last_step: by how much the last time (positive: forwards); last_step_at: when that was noticed. Unless the server has lease in shared_preload_libraries, only between the calls in this session.';

CREATE FUNCTION lease_heartbeat_memory(
	OUT entries integer,
	OUT used integer)
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_heartbeat_memory() IS
'Renewals that are kept in memory (lease.heartbeat_storage), in all databases: for how many leases there is room (lease.heartbeat_entries), and how many have an entry. Both 0 unless the server has lease in shared_preload_libraries.
When used reaches entries, leases that have expired make room; if there are none, the renewals of further leases go to the table.';

-- The thresholds, and why:
--	5 s			a transaction of the functions has a row locked for milliseconds; a
--				lease lasts 15 s by default, and its holder tries again all the time
--	20 s, 100	renewals under an open snapshot fall to a tenth in 20 s; as long as
--	10 000		next to nothing was written meanwhile, nothing is lost.  Slots and
--				standbys do not say since when
--	1 h			long enough to be seen, and to be over with what it did
--	dead rows	pruning keeps them below the live ones, autovacuum at a fifth of them
--	1.05		autovacuum begins at its setting and needs a moment; for other tables
--				it may need long, so for databases VACUUM's own limit counts
-- The collations are those of table lease; parts with different ones have none.
CREATE VIEW lease_warnings WITH (security_invoker = true) AS
SELECT w.warning COLLATE "default" AS warning,
	   w.namespace COLLATE "C" AS namespace,
	   w.name COLLATE "C" AS name,
	   w.pid,
	   w.query COLLATE "default" AS query,
	   w.since,
	   c.now - w.since AS duration,
	   w.value,
	   w.detail COLLATE "default" AS detail
FROM (SELECT clock_timestamp() AS now) c
CROSS JOIN LATERAL (
	-- row locks: of leases that have to be renewed, and of those that could be acquired
	SELECT CASE WHEN k.expires_at > c.now THEN 'renewal blocked' ELSE 'takeover blocked' END AS warning,
		   k.namespace, k.name, k.pid, k.query, k.since, extract(epoch FROM c.now - k.since)::double precision AS value,
		   format('%s has the row locked %s; the lease %s',
			   coalesce('session ' || k.pid, 'prepared transaction ' || quote_literal(k.prepared), 'a transaction on the primary'), k.lock_mode,
			   CASE WHEN k.expires_at > c.now THEN format('expires in %s', lease_age(c.now, k.expires_at))
					WHEN k.expires_at <= c.now THEN format('expired %s ago', lease_age(k.expires_at, c.now))
					ELSE 'can be acquired'
			   END) AS detail
	FROM lease_lockers k
	WHERE CASE WHEN k.expires_at > c.now THEN k.since <= c.now - interval '5 s' AND k.lock_mode <> 'FOR KEY SHARE'
			   ELSE greatest(k.expires_at, k.since) <= c.now - interval '5 s'
		  END

	UNION ALL
	-- whatever keeps dead versions of rows from being removed
	SELECT 'old snapshot', NULL, NULL, s.pid, s.query, s.since, s.age,
		   format('%s keeps row versions of the last %s transactions', s.who, s.age)
	FROM (
		SELECT a.pid, a.query, a.xact_start AS since, greatest(age(a.backend_xid), age(a.backend_xmin)) AS age,
			   CASE a.backend_type WHEN 'walsender' THEN 'standby ' || a.application_name ELSE 'session ' || a.pid END AS who
		FROM pg_stat_activity a
		WHERE a.leader_pid IS NULL
			-- with feedback, a standby keeps those of all databases on the primary
			AND CASE WHEN pg_is_in_recovery() THEN current_setting('hot_standby_feedback')::boolean
					 ELSE coalesce(a.datname = current_database(), true)
				END
			-- VACUUM keeps nothing from other VACUUMs
			AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
		UNION ALL
		SELECT NULL, NULL, p.prepared, age(p.transaction), 'prepared transaction ' || quote_literal(p.gid)
		FROM pg_prepared_xacts p
		WHERE p.database = current_database()
		UNION ALL
		SELECT r.active_pid, NULL, NULL, age(r.xmin), concat_ws(' ', CASE WHEN NOT r.active THEN 'unused' END, 'replication slot', r.slot_name)
		FROM pg_replication_slots r
	) s
	WHERE s.since <= c.now - interval '20 s' AND s.age >= 100 OR s.since IS NULL AND s.age >= 10000

	UNION ALL
	SELECT 'clock step', NULL, NULL, NULL, NULL, t.last_step_at, extract(epoch FROM t.last_step),
		   format('the server''s clock was set %s by %s s',
			   CASE WHEN t.last_step > '0' THEN 'forward' ELSE 'back' END, round(abs(extract(epoch FROM t.last_step)), 1))
	FROM lease_clock_steps() t
	WHERE t.last_step_at > c.now - interval '1 h'

	UNION ALL
	SELECT 'dead rows', NULL, NULL, NULL, NULL, d.vacuumed, d.dead,
		   format('table lease has %s dead rows and %s live ones', d.dead, d.live)
	FROM (
		SELECT pg_stat_get_dead_tuples('lease'::regclass) AS dead, pg_stat_get_live_tuples('lease'::regclass) AS live,
			   greatest(pg_stat_get_last_vacuum_time('lease'::regclass), pg_stat_get_last_autovacuum_time('lease'::regclass)) AS vacuumed
	) d
	WHERE d.dead > 10000 + 2 * d.live

	UNION ALL
	SELECT 'memory full', NULL, NULL, NULL, NULL, NULL, m.used,
		   format('renewals of %s leases are kept in memory, and there is no room for more', m.used)
	FROM lease_heartbeat_memory() m
	WHERE m.used >= m.entries AND m.entries > 0

	UNION ALL
	-- at 2 billion the server stops writing
	SELECT f.warning, NULL, NULL, NULL, NULL, NULL, f.age, format('%s: %s %s', f.warning, o.what, f.age)
	FROM (
		SELECT 'table lease' AS what, relfrozenxid AS xid, relminmxid AS mxid, false AS whole
		FROM pg_class WHERE oid = 'lease'::regclass
		UNION ALL
		SELECT 'database ' || datname, datfrozenxid, datminmxid, true
		FROM pg_database
	) o
	CROSS JOIN LATERAL (VALUES
		('transaction id age', age(o.xid), current_setting('autovacuum_freeze_max_age')::bigint, current_setting('vacuum_failsafe_age')::bigint),
		('multixact age', mxid_age(o.mxid), current_setting('autovacuum_multixact_freeze_max_age')::bigint, current_setting('vacuum_multixact_failsafe_age')::bigint)
	) f (warning, age, autovacuum, failsafe)
	WHERE f.age > greatest(1.05 * f.autovacuum, CASE WHEN o.whole THEN f.failsafe END)

	UNION ALL
	-- what is set up in a way that leases cannot live with
	SELECT 'autovacuum off', NULL, NULL, NULL, NULL, NULL, NULL, 'autovacuum does not run on table lease'
	FROM pg_class
	WHERE oid = 'lease'::regclass AND NOT pg_is_in_recovery()
		AND NOT (current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean
			AND coalesce((SELECT option_value::boolean FROM pg_options_to_table(reloptions) WHERE option_name = 'autovacuum_enabled'), true))
	UNION ALL
	SELECT 'not durable', NULL, NULL, NULL, NULL, NULL, NULL, CASE relpersistence WHEN 'p' THEN 'fsync is off' ELSE 'table lease is unlogged' END
	FROM pg_class
	WHERE oid = 'lease'::regclass AND (relpersistence <> 'p' OR NOT current_setting('fsync')::boolean)
	UNION ALL
	SELECT 'index on renewals', NULL, NULL, NULL, NULL, NULL, NULL, format('every renewal has to write into all indexes because of %s', i.indexrelid::regclass)
	FROM pg_index i
	WHERE i.indrelid = 'lease'::regclass AND EXISTS (
		-- also in an expression or a predicate
		SELECT FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
		WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid AND a.attname IN ('renew_time', 'resource_version'))
) w;

COMMENT ON VIEW lease_warnings IS
'what endangers leases at this moment, one row each; empty when all is well. What each means, and what to do, is in docs/monitoring.md';
COMMENT ON COLUMN lease_warnings.warning IS 'renewal blocked, takeover blocked, old snapshot, clock step, dead rows, memory full, transaction id age, multixact age, autovacuum off, not durable, or index on renewals';
COMMENT ON COLUMN lease_warnings.namespace IS 'namespace of the lease, if it is about one';
COMMENT ON COLUMN lease_warnings.name IS 'name of the lease, if it is about one';
COMMENT ON COLUMN lease_warnings.pid IS 'the session to blame, if it is one';
COMMENT ON COLUMN lease_warnings.query IS 'its last statement, for who may see it in pg_stat_activity';
COMMENT ON COLUMN lease_warnings.since IS 'since when: the beginning of the transaction, the step of the clock, the last vacuum; NULL if not known';
COMMENT ON COLUMN lease_warnings.duration IS 'for how long, by since';
COMMENT ON COLUMN lease_warnings.value IS 'how bad it is: seconds (renewal blocked, takeover blocked, clock step), dead rows, leases in memory, or how many transactions or multixacts old';
COMMENT ON COLUMN lease_warnings.detail IS 'what it is about, in words';
