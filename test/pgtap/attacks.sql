-- Attempts to take, extend, forge or delete another's lease with only the documented
-- grants, beyond those in permissions.sql.  test/t/065_attacks.pl has those that take more
-- than one session.
BEGIN;
SELECT no_plan();

CREATE ROLE app;
CREATE ROLE collector;
CREATE ROLE tenant;
CREATE ROLE renewer;
GRANT SELECT, INSERT, UPDATE ON lease TO app, tenant;
GRANT SELECT, UPDATE, DELETE ON lease TO collector;
GRANT SELECT, UPDATE (renew_time, lease_duration_seconds) ON lease TO renewer;
DELETE FROM lease;
SELECT fencing_token AS token FROM lease_acquire('l', 'me', '1 h') \gset
SELECT FROM lease_acquire('l', 'me', '1 h', 'tenant');
CREATE VIEW pg_temp.now AS SELECT xmin::text AS writer, * FROM lease WHERE (namespace, name) = ('default', 'l');
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.now;
CREATE FUNCTION pg_temp.untouched(description text) RETURNS text LANGUAGE sql AS
	$$SELECT results_eq('SELECT * FROM pg_temp.now', 'SELECT * FROM before', description || ': the lease is as it was')$$;
GRANT SELECT ON before TO PUBLIC;

-- ---------------------------------------------------------------------------
-- The functions of our triggers on a table of one's own: with columns of other types
-- they would read what they are pointed at; in our schema, raise our tokens.
-- ---------------------------------------------------------------------------
GRANT CREATE ON SCHEMA public TO app;
CREATE FUNCTION pg_temp.make(name text, holder_type text, at text, function text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %s (namespace text DEFAULT ''default'', name text DEFAULT ''l'', uid int, creation_timestamp timestamptz, labels jsonb,
		holder_identity %s, lease_duration_seconds int, acquire_time timestamptz, renew_time timestamptz, lease_transitions int, held_since timestamptz,
		lock_delay_seconds int, not_before timestamptz, reserved_for text, fencing_token bigint, resource_version bigint)', name, holder_type);
	EXECUTE format('INSERT INTO %s (fencing_token) VALUES (1)', name);
	EXECUTE format('CREATE TRIGGER %1$s %2$s ON %3$s FOR EACH ROW EXECUTE FUNCTION public.%1$s()', function, at, name);
END $$;
SET LOCAL ROLE app;
CREATE SEQUENCE pg_temp.lease_fencing_token_seq;
DO $$BEGIN
	PERFORM pg_temp.make(n, t, 'BEFORE INSERT OR UPDATE', 'lease_on_write'), pg_temp.make(n || '_after', t, 'AFTER INSERT OR UPDATE OR DELETE', 'lease_after_write')
	FROM (VALUES ('pg_temp.lease', 'bigint'), ('pg_temp.t', 'text'), ('public.rent', 'text')) v (n, t);
END$$;
SELECT throws_ok(format(statement, t), '39P01', format('function "%s" belongs to table "lease" of the extension only', CASE WHEN t ~ 'after' THEN 'lease_after_write' ELSE 'lease_on_write' END),
	'the trigger function refuses: ' || format(statement, t))
FROM (VALUES ('pg_temp.lease'), ('pg_temp.lease_after'), ('pg_temp.t'), ('pg_temp.t_after'), ('public.rent'), ('public.rent_after')) t (t),
	(VALUES ('INSERT INTO %s VALUES (DEFAULT)'), ('UPDATE %s SET fencing_token = 9223372036854775807')) s (statement);
SELECT throws_ok('DELETE FROM ' || t, '39P01', NULL, 'the trigger function refuses: DELETE FROM ' || t) FROM (VALUES ('pg_temp.lease_after'), ('public.rent_after')) t (t);
DROP TABLE pg_temp.lease, pg_temp.lease_after;
DROP SEQUENCE pg_temp.lease_fencing_token_seq;
RESET ROLE;
SELECT throws_ok('INSERT INTO public.rent (fencing_token) VALUES (9)', '39P01', NULL, 'also when a superuser writes there');
SELECT throws_ok('SELECT lease_on_write()', '39P01', NULL, 'a trigger function is called by triggers only');
SELECT throws_ok('SELECT lease_after_write()', '39P01', NULL, 'and so is the other');
SELECT cmp_ok(last_value, '<', 1000000000000000::bigint, 'the tokens were not raised') FROM lease_fencing_token_seq;

-- ---------------------------------------------------------------------------
-- Between a function and the row it writes, the caller's own code: a permission to
-- write must not be left lying about.
-- ---------------------------------------------------------------------------
CREATE FUNCTION pg_temp.caught(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN others THEN
	RETURN sqlstate;
END $$;
INSERT INTO lease (name) VALUES ('other'), ('third');
SET LOCAL ROLE app;
SELECT throws_ok(statement, '42501', NULL, 'in one statement: ' || statement) FROM (VALUES
	('UPDATE lease SET renew_time = now() + interval ''1 y'' WHERE name = ''other'' AND (lease_renew(''l'', ''me'')).renewed'),
	('UPDATE lease SET holder_identity = (lease_acquire(''other'', ''app'')).holder_identity WHERE (namespace, name) = (''default'', ''l'')'),
	('WITH w AS MATERIALIZED (SELECT * FROM lease_acquire(''other'', ''app'')) UPDATE lease SET holder_identity = w.holder_identity FROM w WHERE (namespace, name) = (''default'', ''l'')'),
	('INSERT INTO lease (name, holder_identity) SELECT ''fourth'', holder_identity FROM lease_acquire(''other'', ''app'')'),
	('INSERT INTO lease (name) SELECT ''l'' FROM lease_acquire(''other'', ''app'') ON CONFLICT (namespace, name) DO UPDATE SET holder_identity = ''app''')) v (statement);
SELECT throws_ok('UPDATE lease SET fencing_token = (lease_acquire(''other'', ''app'')).fencing_token WHERE (namespace, name) = (''default'', ''l'')', '23514', NULL, 'a token that was issued for another lease');
SELECT throws_ok(format('UPDATE lease SET fencing_token = %s WHERE (namespace, name) = (''default'', ''l'')', fencing_token), '23514', NULL, 'also later') FROM lease_acquire('other', 'app');
-- a call that fails half-way, and then a write by hand
SELECT is(pg_temp.caught($$SELECT lease_acquire('third', 'app'), 1 / (random() * 0)::int$$), '22012', 'a call, and an error after it');
SELECT throws_ok($$UPDATE lease SET holder_identity = 'app' WHERE (namespace, name) = ('default', 'l')$$, '42501', NULL, 'leaves no permission');
RESET ROLE;
ALTER TABLE lease ADD CONSTRAINT no_villain CHECK (holder_identity <> 'villain');
SET LOCAL ROLE app;
SELECT is(pg_temp.caught($$SELECT lease_acquire('third', 'villain')$$), '23514', 'a call whose row is refused');
SELECT throws_ok($$UPDATE lease SET holder_identity = 'app' WHERE (namespace, name) = ('default', 'l')$$, '42501', NULL, 'leaves no permission');
SELECT is(pg_temp.caught($$SELECT lease_acquire('fourth', 'villain')$$), '23514', 'a call whose new row is refused');
SELECT throws_ok($$INSERT INTO lease (name, holder_identity) VALUES ('fifth', 'app')$$, '42501', NULL, 'leaves no permission');
RESET ROLE;
CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER a_suppress BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing();
SET LOCAL ROLE app;
SELECT is(pg_temp.caught($$SELECT lease_acquire('third', 'app')$$), '09000', 'a call whose row is suppressed before our trigger');
SELECT throws_ok($$INSERT INTO lease (name, holder_identity) VALUES ('fifth', 'app')$$, '42501', NULL, 'leaves no permission');
RESET ROLE;
DROP TRIGGER a_suppress ON lease;
SET LOCAL ROLE renewer;
SELECT is(pg_temp.caught($$SELECT lease_release('l', 'me')$$), '42501', 'a call that may not write before our trigger is asked');
SELECT throws_ok($$UPDATE lease SET renew_time = now() + interval '1 y' WHERE (namespace, name) = ('default', 'l')$$, '42501', 'permission denied to set column "renew_time" of a lease', 'leaves no permission');
RESET ROLE;
SET LOCAL ROLE collector;
SELECT is(lease_gc() IS NOT NULL, true, 'a collection');
SELECT throws_ok($$UPDATE lease SET holder_identity = 'collector' WHERE (namespace, name) = ('default', 'l')$$, '42501', NULL, 'leaves no permission');
RESET ROLE;
INSERT INTO lease (namespace, name, labels) VALUES ('kube-system', 'old', '{"k8s.io/component": "kube-apiserver"}');
SET LOCAL ROLE collector;
SELECT throws_ok('WITH g AS MATERIALIZED (SELECT * FROM lease_gc()) UPDATE lease SET renew_time = now() FROM g WHERE (namespace, name) = (''default'', ''l'')', '42501', NULL, 'nor one in the same statement');
RESET ROLE;
SELECT pg_temp.untouched('by code between');

-- ---------------------------------------------------------------------------
-- Before a privilege is revoked: prepared, planned, opened
-- ---------------------------------------------------------------------------
SAVEPOINT s;
SET LOCAL ROLE app;
PREPARE renew AS SELECT status FROM lease_renew('l', 'me');
PREPARE acquire AS SELECT status FROM lease_acquire('third', 'app');
PREPARE guard AS SELECT lease_guard('l', :token);
PREPARE look AS SELECT lease_holder('l');
PREPARE by_hand AS UPDATE lease SET labels = '{}' WHERE name = 'third';
SELECT results_eq('renew', $$VALUES ('renewed')$$, 'a prepared statement');
SELECT is(count(r), 6::bigint, 'used several times') FROM (SELECT lease_renew('l', 'me') AS r FROM generate_series(1, 6)) r;
DECLARE renewals CURSOR FOR SELECT (lease_renew('l', 'me')).status FROM generate_series(1, 3);
DECLARE acquisitions CURSOR WITH HOLD FOR SELECT (lease_acquire('third', 'app')).status FROM generate_series(1, 3);
MOVE 1 FROM renewals;
RESET ROLE;
DELETE FROM before;
INSERT INTO before SELECT * FROM pg_temp.now;
REVOKE UPDATE ON lease FROM app;
SET LOCAL ROLE app;
SELECT throws_ok('EXECUTE ' || p, '42501', NULL, 'revoked: prepared to ' || p) FROM (VALUES ('renew'), ('acquire'), ('guard'), ('by_hand')) v (p);
SELECT throws_ok('MOVE 1 FROM renewals', '42501', NULL, 'revoked: the next row of a cursor');
SELECT throws_ok('MOVE 1 FROM acquisitions', '42501', NULL, 'revoked: the first row of a cursor');
SELECT throws_ok('SELECT lease_renew(''l'', ''me'')', '42501', NULL, 'revoked: a call');
RESET ROLE;
REVOKE SELECT ON lease FROM app;
SET LOCAL ROLE app;
SELECT throws_ok('EXECUTE look', '42501', NULL, 'revoked: prepared to look');
RESET ROLE;
SELECT pg_temp.untouched('by what was prepared before');
DEALLOCATE ALL;
ROLLBACK TO s;

-- ---------------------------------------------------------------------------
-- The session's plans are made by one role and used by another
-- ---------------------------------------------------------------------------
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY app ON lease TO app USING (true);
CREATE POLICY own ON lease TO tenant USING (namespace = current_user) WITH CHECK (namespace = current_user);
CREATE TEMP TABLE rounds (n int, role text, expected text);
INSERT INTO rounds VALUES (1, 'none', 'renewed held done'), (2, 'tenant', 'missing 42501 LS001'), (3, 'app', 'renewed held done'), (4, 'tenant', 'missing 42501 LS001'), (5, 'none', 'renewed held done');
PREPARE renew (text) AS SELECT status FROM lease_renew('l', $1);
CREATE FUNCTION pg_temp.all_as(role text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	renew text;
	acquire text;
	guard text;
BEGIN
	PERFORM set_config('role', role, true);
	-- plpgsql keeps plans, too
	SELECT status INTO renew FROM lease_renew('l', 'me');
	acquire := pg_temp.caught($c$SELECT status FROM lease_acquire('l', 'you')$c$);
	IF acquire = 'done' THEN
		SELECT status INTO acquire FROM lease_acquire('l', 'you');
	END IF;
	guard := pg_temp.caught('SELECT lease_guard(''l'', ' || current_setting('lease.fencing_tokens') || ')');
	PERFORM set_config('role', 'none', true);
	RETURN concat_ws(' ', renew, acquire, guard);
END $$;
SELECT set_config('lease.fencing_tokens', :'token', true) AS token \gset
SELECT is(pg_temp.all_as(role), expected, 'round ' || n || ', as ' || role) FROM (SELECT * FROM rounds ORDER BY n) r;
SET LOCAL ROLE tenant;
SELECT is(pg_temp.caught($$SELECT lease_acquire('new', 'tenant')$$), '42501', 'a call whose new row a policy refuses');
SELECT throws_ok($$INSERT INTO lease (namespace, name, holder_identity) VALUES ('tenant', 'new', 'tenant')$$, '42501', 'permission denied to set column "holder_identity" of a lease',
	'leaves no permission');
SELECT throws_ok($$UPDATE lease SET holder_identity = 'tenant'$$, '42501', 'permission denied to set column "holder_identity" of a lease', 'not at home either');
SELECT results_eq($$EXECUTE renew('me')$$, $$VALUES ('missing')$$, 'a statement that the owner has prepared, as tenant');
SELECT is((SELECT string_agg(holder_identity, ' ') FROM lease WHERE (namespace, name) = ('default', 'l')), NULL, 'who sees nothing');
RESET ROLE;
SELECT results_eq($$EXECUTE renew('me')$$, $$VALUES ('renewed')$$, 'and as the owner again');
DEALLOCATE ALL;

-- ---------------------------------------------------------------------------
-- A token is known: what it is good for
-- ---------------------------------------------------------------------------
DELETE FROM before;
INSERT INTO before SELECT * FROM pg_temp.now;
CREATE TABLE fenced (i int);
CREATE TRIGGER fence BEFORE INSERT ON fenced FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
GRANT INSERT ON fenced TO tenant;
SET LOCAL ROLE tenant;
SELECT throws_ok('SELECT lease_guard(''l'', ' || :token || ')', 'LS001', NULL, 'who may not see the lease cannot guard it with its token');
SELECT throws_ok('INSERT INTO fenced VALUES (1)', 'LS001', 'cannot write to table "fenced" without holding lease "l" in namespace "default"', 'nor write under it, though it is in the setting');
SELECT is((SELECT string_agg(status, ' ') FROM lease_renew('l', 'me', fencing_token => :token)), 'missing', 'nor renew');
SELECT is((SELECT string_agg(status, ' ') FROM lease_release('l', 'me', fencing_token => :token)), 'missing', 'nor release');
RESET ROLE;
SELECT pg_temp.untouched('by who knows the token only');

SELECT * FROM finish();
ROLLBACK;
