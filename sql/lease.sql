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

CREATE FUNCTION lease_valid_strategy(strategy text) RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_valid_strategy(text) IS
'true if the text is empty, OldestEmulationVersion, or a qualified name with a domain (coordination.k8s.io, ValidateLeaseSpec)';

-- ---------------------------------------------------------------------------
-- The table
-- ---------------------------------------------------------------------------

-- One sequence for the whole database: a token is never issued twice for a
-- name, also when the row was deleted and made again in between.
CREATE SEQUENCE lease_fencing_token_seq AS bigint;
COMMENT ON SEQUENCE lease_fencing_token_seq IS
'source of fencing tokens; never set it back';

-- resource_version is the time of the last change in microseconds since 1970,
-- moved by at least one: it only grows, and costs no shared counter.
CREATE TABLE lease (
	namespace              text COLLATE "C" NOT NULL DEFAULT 'default',
	name                   text COLLATE "C" NOT NULL,
	uid                    uuid             NOT NULL DEFAULT gen_random_uuid(),
	creation_timestamp     timestamptz      NOT NULL DEFAULT date_trunc('second', clock_timestamp()),
	labels                 jsonb,
	annotations            jsonb,
	owner_references       jsonb,
	finalizers             text[],
	holder_identity        text COLLATE "C",
	lease_duration_seconds integer,
	acquire_time           timestamptz,
	lease_transitions      integer,
	strategy               text COLLATE "C",
	preferred_holder       text COLLATE "C",
	fencing_token          bigint           NOT NULL,

	-- What a renewal changes, side by side: WAL has all from the first changed
	-- byte to the last.
	renew_time             timestamptz,
	resource_version       bigint           NOT NULL,

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
	CONSTRAINT lease_strategy_check CHECK (lease_valid_strategy(strategy)),
	CONSTRAINT lease_preferred_holder_check CHECK
		(coalesce(preferred_holder, '') = '' OR coalesce(strategy, '') <> ''),
	CONSTRAINT lease_fencing_token_check CHECK (fencing_token > 0)
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
COMMENT ON COLUMN lease.creation_timestamp IS 'metadata.creationTimestamp, whole seconds; immutable';
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
COMMENT ON COLUMN lease.fencing_token IS 'grows with every grant and every end of a holding, never repeats for a name; give it to whatever the holder writes to';
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
COMMENT ON CONSTRAINT lease_strategy_check ON lease IS 'spec.strategy: OldestEmulationVersion or a name with a domain';
COMMENT ON CONSTRAINT lease_preferred_holder_check ON lease IS 'spec.preferredHolder may only be given together with a strategy';
COMMENT ON CONSTRAINT lease_fencing_token_check ON lease IS 'tokens start at 1';

ALTER SEQUENCE lease_fencing_token_seq OWNED BY lease.fencing_token;

-- Leases are data: they and the position of the tokens go into a dump.
SELECT pg_catalog.pg_extension_config_dump('lease', '');
SELECT pg_catalog.pg_extension_config_dump('lease_fencing_token_seq', '');

CREATE FUNCTION lease_on_write() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_on_write() IS
'trigger of table lease for rows written by hand: identity is immutable, resource_version moves, a change of holder gets a new fencing token, times are finite';

CREATE TRIGGER lease_on_write BEFORE INSERT OR UPDATE ON lease
FOR EACH ROW EXECUTE FUNCTION lease_on_write();
COMMENT ON TRIGGER lease_on_write ON lease IS
'keeps rows honest that are written by hand; renewals by lease_renew() need no check and pass it by';

-- ---------------------------------------------------------------------------
-- Acquire, renew, release
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_acquire(
	name text,
	holder text,
	duration interval DEFAULT '15 s',
	namespace text DEFAULT 'default',
	OUT acquired boolean,
	OUT status text,
	OUT holder_identity text,
	OUT fencing_token bigint,
	OUT expires_at timestamptz,
	OUT expires_in interval,
	OUT lease_transitions integer)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_acquire(text, text, interval, text) IS
'Acquires a lease for holder, or renews it when holder has it already; makes the object when it is missing. Never waits.
duration: whole seconds, 1 s to 2147483647 s, default 15 s as in client-go.
status: acquired (a new holding with a new fencing_token), renewed (mine already, same token), held (someone else''s until expires_at), busy (could not tell: another transaction has the row locked).
fencing_token is NULL unless acquired is true. The lease is yours when the transaction has committed.
Rules for lease_transitions and acquire_time: client-go, tryAcquireOrRenew.
Errors: 22004 NULL argument, 22023 empty name, namespace or holder or duration out of range, 42602 name or namespace with invalid syntax, 42622 name or namespace too long, 25006 read-only transaction or standby, 40001 changed since the snapshot of a REPEATABLE READ or SERIALIZABLE transaction, 42501 not permitted.';

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
fencing_token in the result is NULL unless renewed is true.
Errors: as lease_acquire().';

CREATE FUNCTION lease_renew_all(
	holder text,
	names text[] DEFAULT NULL,
	namespace text DEFAULT 'default')
RETURNS TABLE (status text, leases bigint, name text)
LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_renew_all(text, text[], text) IS
'Renews all leases of holder in namespace, or those in names, in one statement; takes the row locks in the order of the names and never waits, so that two calls cannot deadlock.
The first row is (renewed, how many, NULL); then follows one row with the reason for every lease that was not renewed, with the statuses of lease_renew().
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
status: released, or why not: held (someone else''s, or another token is current), free (nobody''s), missing, busy (could not tell).
Errors: as lease_acquire().';

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
	lease_duration_seconds integer)
RETURNS timestamptz
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_expires_at(text, timestamptz, integer) IS
'The moment at which a lease with these values stops being valid, or NULL when nobody holds it. The one rule of validity, also used by lease_acquire(): valid while clock_timestamp() is earlier.';

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
'true if the lease is valid now and held by holder, or by anybody when holder is NULL; the same state and errors as lease_holder(). Not a guard: it holds for the moment of the call only.';

CREATE VIEW lease_status WITH (security_invoker = true) AS
SELECT l.namespace,
	   l.name,
	   l.holder_identity,
	   CASE WHEN e.expires_at > c.now THEN 'held'
			WHEN l.holder_identity <> '' THEN 'expired'
			ELSE 'free'
	   END AS status,
	   e.expires_at - c.now AS expires_in,
	   c.now - l.renew_time AS renewed_ago,
	   l.fencing_token,
	   l.lease_transitions,
	   make_interval(secs => l.lease_duration_seconds) AS duration,
	   l.acquire_time,
	   l.renew_time,
	   e.expires_at,
	   l.creation_timestamp,
	   l.labels
FROM lease l
CROSS JOIN LATERAL (SELECT clock_timestamp() AS now) c
CROSS JOIN LATERAL (SELECT lease_expires_at(l.holder_identity, l.renew_time, l.lease_duration_seconds) AS expires_at) e;

COMMENT ON VIEW lease_status IS
'who holds what, since when and until when, by the same rule of validity as lease_acquire()';
COMMENT ON COLUMN lease_status.namespace IS 'namespace of the lease';
COMMENT ON COLUMN lease_status.name IS 'name of the lease';
COMMENT ON COLUMN lease_status.holder_identity IS 'who holds it or, when expired, last held it; empty after a release, NULL when never held';
COMMENT ON COLUMN lease_status.status IS 'held, expired (its holder did not renew in time: anybody may acquire it), or free';
COMMENT ON COLUMN lease_status.expires_in IS 'time left; negative when expired, NULL when free';
COMMENT ON COLUMN lease_status.renewed_ago IS 'time since the last renewal';
COMMENT ON COLUMN lease_status.fencing_token IS 'the current fencing token';
COMMENT ON COLUMN lease_status.lease_transitions IS 'how often the holder changed, counted as client-go does';
COMMENT ON COLUMN lease_status.duration IS 'how long the lease is valid after a renewal';
COMMENT ON COLUMN lease_status.acquire_time IS 'since when the holder has it';
COMMENT ON COLUMN lease_status.renew_time IS 'when the holder last renewed it';
COMMENT ON COLUMN lease_status.expires_at IS 'when it expires unless renewed; NULL when free';
COMMENT ON COLUMN lease_status.creation_timestamp IS 'when the object was made';
COMMENT ON COLUMN lease_status.labels IS 'labels of the object';

-- ---------------------------------------------------------------------------
-- Kubernetes: names and words
-- ---------------------------------------------------------------------------

CREATE FUNCTION lease_apiserver_name(hostname text) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_apiserver_name(text) IS
'Name of the identity lease of the kube-apiserver on a host: apiserver- and the first 16 bytes of the SHA-256 of hostname in lower-case base32 without padding (Kubernetes 1.26, APIServerID).';

CREATE FUNCTION lease_age(
	since timestamptz,
	at timestamptz DEFAULT clock_timestamp())
RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION lease_age(timestamptz, timestamptz) IS
'Time from since to at in the words of kubectl''s column AGE: 119s, 3m10s, 7h59m, 2d1h, 3y; <unknown> for NULL, <invalid> for the future (apimachinery, HumanDuration).';

CREATE VIEW kubectl_get_leases WITH (security_invoker = true) AS
SELECT namespace,
	   name,
	   coalesce(holder_identity, '') AS holder,
	   lease_age(creation_timestamp) AS age
FROM lease
ORDER BY (namespace || '/' || name) COLLATE "C";

COMMENT ON VIEW kubectl_get_leases IS
'what kubectl get leases -A prints, in its order';
COMMENT ON COLUMN kubectl_get_leases.namespace IS 'column NAMESPACE of kubectl';
COMMENT ON COLUMN kubectl_get_leases.name IS 'column NAME of kubectl';
COMMENT ON COLUMN kubectl_get_leases.holder IS 'column HOLDER of kubectl: holder_identity, empty when there is none';
COMMENT ON COLUMN kubectl_get_leases.age IS 'column AGE of kubectl: since creation, not since the last renewal';
