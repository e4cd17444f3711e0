-- The recipes of docs/permissions.md, word for word (test/t/006_permissions.pl compares),
-- with what they allow and, on every path, what they refuse.
\if :{?isolation}
\else
\set isolation 'READ COMMITTED'
\endif
BEGIN ISOLATION LEVEL :isolation;
SELECT no_plan();

-- What a role hears: the SQLSTATE of the error, or the first column called status, or the first one.
CREATE FUNCTION pg_temp.answer(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result record;
	answer jsonb;
BEGIN
	PERFORM set_config('role', role, true);
	BEGIN
		IF statement !~ '^(SELECT|WITH)' THEN
			EXECUTE statement;
			RETURN 'done';
		END IF;
		EXECUTE statement INTO result;
		answer := to_jsonb(result);
		RETURN coalesce(answer ->> 'status', (SELECT value FROM jsonb_each_text(answer) LIMIT 1));
	EXCEPTION WHEN others THEN
		RETURN sqlstate;
	END;
END $$;
-- back to who we are, whatever the statement did
CREATE FUNCTION pg_temp.hears(role text, statement text, expected text, description text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := pg_temp.answer(role, statement);
BEGIN
	PERFORM set_config('role', 'none', true);
	RETURN is(answer, expected, role || ' ' || description || ': ' || statement);
END $$;

-- Rows with who wrote them, and whether somebody has them locked at this moment
CREATE VIEW pg_temp.now AS SELECT xmin::text AS writer,
	coalesce(pg_xact_status(nullif(xmax::text, '0')::xid8) = 'in progress', false) AS locked, * FROM lease;
CREATE FUNCTION pg_temp.untouched(which text, description text) RETURNS text LANGUAGE sql AS $$
	SELECT results_eq(format('SELECT * FROM pg_temp.now WHERE %s ORDER BY namespace, name', which),
		format('SELECT * FROM before WHERE %s ORDER BY namespace, name', which), description || ': nothing is changed or locked')
$$;

-- Leases that are held, expired and free; and a table under guard
DELETE FROM lease;
DELETE FROM lease_history;
SELECT count(lease_acquire('l', 'me', '1 h', n)) AS made FROM (VALUES ('default'), ('team-a'), ('team-b'), ('kube-system'), ('job')) v (n) \gset
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, acquire_time, renew_time)
SELECT n, 'expired', 'me', 10, clock_timestamp() - interval '1 h', clock_timestamp() - interval '1 h'
FROM (VALUES ('default'), ('team-a'), ('team-b'), ('kube-node-lease')) v (n);
INSERT INTO lease (namespace, name, labels) VALUES ('kube-system', 'old', '{"k8s.io/component": "kube-apiserver"}');
INSERT INTO lease (namespace, name) SELECT n, 'free' FROM (VALUES ('default'), ('team-a'), ('team-b')) v (n);
SELECT count(lease_acquire('node-' || i, 'node-' || i, '1 h', 'kube-node-lease')) AS made FROM (VALUES (1), (2)) v (i) \gset
INSERT INTO lease_history VALUES ('team-a', 'l', 1, 'a', now() - interval '2 d', now() - interval '1 d', 'released'),
	('team-b', 'l', 2, 'b', now() - interval '2 d', now() - interval '1 d', 'released');
CREATE TABLE fenced (i int);
CREATE TRIGGER fence BEFORE INSERT ON fenced FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
GRANT INSERT ON fenced TO PUBLIC;
SELECT fencing_token AS token FROM lease WHERE (namespace, name) = ('default', 'l') \gset
SELECT set_config('lease.fencing_tokens', :'token', true) AS token \gset
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.now;

-- The ways to a row: whatever a role's grants are, it must hear the same with a table
-- for which the functions take the direct way and one for which they ask the executor.
CREATE FUNCTION pg_temp.unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TEMP TABLE path (path text, make text, unmake text);
INSERT INTO path VALUES
	('direct', 'SELECT', 'SELECT'),
	('executor', 'CREATE TRIGGER by_executor BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged()',
		'DROP TRIGGER by_executor ON lease');
CREATE FUNCTION pg_temp.hears_all(role text, calls text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	p record;
	c record;
BEGIN
	FOR p IN SELECT * FROM path LOOP
		EXECUTE p.make;
		FOR c IN EXECUTE 'SELECT * FROM ' || calls LOOP
			RETURN NEXT pg_temp.hears(role, replace(c.call, ':token', current_setting('lease.fencing_tokens')), c.answer,
				CASE WHEN c.answer ~ '^[0-9A-Z]{5}$' THEN 'may not' ELSE 'hears ' || c.answer END || ', ' || p.path);
		END LOOP;
		EXECUTE p.unmake;
	END LOOP;
END $$;

-- What changes a lease of the namespace default that is held by "me", expired, free, or missing
CREATE TEMP TABLE changing (call text, answer text);
INSERT INTO changing (call) VALUES
	('SELECT * FROM lease_acquire(''l'', ''me'')'), ('SELECT * FROM lease_acquire(''l'', ''me'', session => true)'),
	('SELECT * FROM lease_acquire(''expired'', ''you'')'), ('SELECT * FROM lease_acquire(''expired'', ''you'', wait => ''1 ms'')'),
	('SELECT * FROM lease_acquire(''free'', ''you'')'), ('SELECT * FROM lease_acquire(''free'', ''you'', wait => ''1 ms'')'),
	('SELECT * FROM lease_acquire(''new'', ''you'')'), ('SELECT * FROM lease_acquire(''new'', ''you'', wait => ''1 ms'')'),
	('SELECT * FROM lease_renew(''l'', ''me'')'), ('SELECT * FROM lease_renew(''l'', ''me'', fencing_token => :token)'),
	('SELECT * FROM lease_renew_all(''me'')'), ('SELECT * FROM lease_renew_all(''me'', ''{l}'')'),
	('SELECT * FROM lease_release(''l'', ''me'')'), ('SELECT * FROM lease_release(''expired'', ''me'')'),
	('SELECT * FROM lease_handover(''l'', ''me'', ''you'')'),
	('SELECT lease_guard(''l'', :token)'), ('INSERT INTO fenced VALUES (1)');
CREATE TEMP TABLE by_hand (call text, answer text);
INSERT INTO by_hand (call) VALUES
	('SELECT FROM lease WHERE name = ''l'' FOR KEY SHARE'), ('SELECT FROM lease WHERE name = ''l'' FOR UPDATE'), ('LOCK TABLE lease IN EXCLUSIVE MODE'),
	('UPDATE lease SET labels = ''{}'''), ('UPDATE kubectl_get_leases SET namespace = ''x'''), ('DELETE FROM lease'), ('TRUNCATE lease'), ('INSERT INTO lease (name) VALUES (''new'')'),
	('SELECT nextval(''lease_fencing_token_seq'')'), ('SELECT setval(''lease_fencing_token_seq'', 1)'),
	('INSERT INTO lease_history VALUES (''a'', ''a'', 1, ''a'', now(), now(), ''released'')'), ('UPDATE lease_history SET holder_identity = ''you'''),
	('DELETE FROM lease_history'), ('TRUNCATE lease_history'), ('SELECT lease_gc()');
-- What nobody but the owner may, with whatever grants
CREATE TEMP TABLE forging (call text, answer text);
INSERT INTO forging (call) SELECT format('UPDATE lease SET %s WHERE (namespace, name) = (''default'', ''l'')', v.assignment) FROM (VALUES
	('holder_identity = ''you'''), ('holder_identity = NULL'), ('holder_identity = '''''), ('lease_duration_seconds = 1'), ('lease_duration_seconds = NULL'),
	('acquire_time = now()'), ('renew_time = now() + interval ''1 y'''), ('renew_time = NULL'), ('lease_transitions = 9'), ('held_since = ''2020-01-01'''),
	('lock_delay_seconds = 9'), ('not_before = now() + interval ''1 y'''), ('reserved_for = ''you''')) v (assignment);
INSERT INTO forging (call) SELECT format('INSERT INTO lease (name, %s) VALUES (''new'', %s)', c, v) FROM (VALUES
	('holder_identity', '''you'''), ('lease_duration_seconds', '9'), ('acquire_time', 'now()'), ('renew_time', 'now()'), ('lease_transitions', '1'),
	('held_since', 'now()'), ('lock_delay_seconds', '1'), ('not_before', 'now()'), ('reserved_for', '''you''')) v (c, v);
INSERT INTO forging (call) VALUES
	('INSERT INTO lease (name, holder_identity) VALUES (''l'', ''you'') ON CONFLICT (namespace, name) DO UPDATE SET holder_identity = ''you'''),
	('INSERT INTO lease (name) VALUES (''l'') ON CONFLICT (namespace, name) DO UPDATE SET holder_identity = ''you'''),
	('MERGE INTO lease USING (VALUES (1)) v ON (namespace, name) = (''default'', ''l'') WHEN MATCHED THEN UPDATE SET renew_time = now()'),
	('WITH w AS (UPDATE lease SET renew_time = now() WHERE name = ''l'') SELECT 1');

SELECT * FROM pg_temp.untouched('true', 'at first');
SAVEPOINT recipes;

-- ---------------------------------------------------------------------------
-- No recipe at all
-- ---------------------------------------------------------------------------
CREATE ROLE nobody_special;
UPDATE changing SET answer = '42501';
UPDATE by_hand SET answer = '42501';
UPDATE forging SET answer = '42501';
SELECT pg_temp.hears_all('nobody_special', 'changing');
SELECT pg_temp.hears_all('nobody_special', 'by_hand');
SELECT pg_temp.hears_all('nobody_special', 'forging');
SELECT pg_temp.hears('nobody_special', call, '42501', 'may not') FROM (VALUES ('SELECT lease_holder(''l'')'), ('SELECT lease_is_held(''l'')'), ('SELECT FROM lease'),
	('SELECT FROM lease_status'), ('SELECT FROM lease_holdings'), ('SELECT FROM lease_history'), ('SELECT FROM kubectl_get_leases'),
	('SELECT FROM lease_stat'), ('SELECT lease_stat_namespaces()'), ('SELECT lease_stat_databases()'), ('SELECT lease_stat_reset()'),
	('SELECT FROM lease_lockers'), ('SELECT FROM lease_warnings'), ('SELECT lease_row_lockers(''(0,1)'')')) v (call);
SELECT pg_temp.hears('nobody_special', 'SELECT count(*) FROM lease_waiters()', '0', 'sees no one waiting');
SELECT pg_temp.untouched('true', 'by somebody without grants');

-- ---------------------------------------------------------------------------
-- To look, not touch
-- ---------------------------------------------------------------------------
CREATE ROLE lease_reader;
GRANT SELECT ON lease, lease_history, lease_status, lease_holdings, lease_stat, lease_stat_database, lease_lockers, lease_warnings, kubectl_get_leases TO lease_reader;
GRANT SELECT ON lease_node, lease_nodes, kubectl_get_nodes, lease_apiservers, lease_apiserver_count TO lease_reader;

SELECT pg_temp.hears_all('lease_reader', 'changing');
SELECT pg_temp.hears_all('lease_reader', 'by_hand');
SELECT pg_temp.hears_all('lease_reader', 'forging');
SELECT pg_temp.hears('lease_reader', call, answer, 'may look') FROM (VALUES ('SELECT lease_holder(''l'')', 'me'), ('SELECT lease_is_held(''l'', ''me'')', 'true'),
	('SELECT count(*) > 0 FROM lease', 'true'), ('SELECT * FROM lease_status WHERE (namespace, name) = (''default'', ''l'')', 'held'),
	('SELECT count(*) > 0 FROM lease_stat', 'true'), ('SELECT count(*) >= 0 FROM lease_lockers', 'true'), ('SELECT count(*) > 0 FROM lease_warnings', 'true'), ('SELECT count(*) FROM lease_stat_database', '1'), ('SELECT count(*) FROM lease_history', '2'), ('SELECT count(*) > 2 FROM lease_holdings', 'true'), ('SELECT count(*) > 0 FROM kubectl_get_leases', 'true')) v (call, answer);
-- somebody else's valid lease: the answer is no, and needs no privilege to change it
SELECT pg_temp.untouched('true', 'by a reader');

ROLLBACK TO recipes;
-- ---------------------------------------------------------------------------
-- An application
-- ---------------------------------------------------------------------------
CREATE ROLE app;
GRANT SELECT, INSERT, UPDATE ON lease TO app;
GRANT SELECT ON lease_status TO app;

UPDATE forging SET answer = '42501';
UPDATE by_hand SET answer = '42501';
DELETE FROM by_hand WHERE call ~ 'FOR |LOCK|labels|INSERT INTO lease ';	-- these it may
SELECT pg_temp.hears_all('app', 'forging');
SELECT pg_temp.hears_all('app', 'by_hand');
SELECT pg_temp.hears('app', call, '23514', 'cannot make up a token') FROM (VALUES ('UPDATE lease SET fencing_token = fencing_token + 1'),
	('UPDATE lease SET fencing_token = DEFAULT WHERE name = ''l'''), ('UPDATE lease SET fencing_token = 1 WHERE name = ''l''')) v (call);
SELECT pg_temp.hears('app', call, '23514', 'cannot change') FROM (VALUES ('UPDATE lease SET name = ''m'' WHERE name = ''l'''), ('UPDATE lease SET namespace = ''n'' WHERE name = ''l'''),
	('UPDATE lease SET uid = gen_random_uuid()'), ('UPDATE lease SET creation_timestamp = now()')) v (call);
SELECT pg_temp.untouched('true', 'by an application that forges');
SELECT pg_temp.hears('app', call, answer, 'hears ' || answer) FROM (VALUES
	('SELECT * FROM lease_acquire(''l'', ''you'')', 'held'), ('SELECT * FROM lease_renew(''l'', ''you'')', 'held'), ('SELECT * FROM lease_release(''l'', ''you'')', 'held'),
	('SELECT * FROM lease_handover(''l'', ''you'', ''them'')', 'held'), ('SELECT lease_guard(''l'', 999999)', 'LS001')) v (call, answer);
SELECT pg_temp.untouched('true', 'by who is not the holder');
SELECT pg_temp.hears('app', replace(call, ':token', :'token'), answer, 'may') FROM (VALUES
	('SELECT lease_guard(''l'', :token)', ''), ('INSERT INTO fenced VALUES (1)', 'done'),
	('SELECT * FROM lease_renew(''l'', ''me'')', 'renewed'), ('SELECT * FROM lease_renew_all(''me'')', 'renewed'), ('SELECT * FROM lease_acquire(''new'', ''you'')', 'acquired'),
	('SELECT * FROM lease_acquire(''expired'', ''you'')', 'acquired'), ('SELECT * FROM lease_acquire(''free'', ''you'')', 'acquired'),
	('SELECT * FROM lease_release(''expired'', ''you'')', 'released'), ('SELECT * FROM lease_handover(''l'', ''me'', ''you'')', 'handed_over'),
	('SELECT * FROM lease_acquire(''l'', ''me'')', 'reserved'), ('SELECT * FROM lease_acquire(''l'', ''you'')', 'acquired')) v (call, answer);
SELECT pg_temp.hears('app', 'UPDATE lease SET labels = ''{}'' WHERE name = ''l''', 'done', 'may also');
SELECT is(holder_identity || ' ' || end_reason, 'me handed over', 'a history is written for it, which it may not write')
FROM lease_history WHERE (namespace, name) = ('default', 'l');
-- nor may it put itself between
SELECT pg_temp.hears('app', call, '42501', 'may not') FROM (VALUES ('CREATE TRIGGER t BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged()'),
	('CREATE RULE r AS ON UPDATE TO lease DO INSTEAD NOTHING'), ('ALTER TABLE lease DISABLE TRIGGER ALL'), ('ALTER TABLE lease DISABLE ROW LEVEL SECURITY'),
	('CREATE POLICY p ON lease'), ('CREATE TEMP TABLE child () INHERITS (public.lease)'), ('CREATE INDEX ON lease (renew_time)'), ('SET session_replication_role = replica'),
	('SET lease.history_retention = 0'), ('ALTER EXTENSION lease ADD TABLE fenced'), ('COMMENT ON TABLE lease IS NULL')) v (call);

ROLLBACK TO recipes;
-- only the columns that the functions write
CREATE ROLE app_by_function;
GRANT SELECT,
	INSERT (namespace, name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions,
		lock_delay_seconds, not_before, reserved_for, fencing_token),
	UPDATE (holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions,
		lock_delay_seconds, not_before, reserved_for, fencing_token)
ON lease TO app_by_function;

UPDATE forging SET answer = '42501';
UPDATE by_hand SET answer = '42501';
DELETE FROM by_hand WHERE call ~ 'FOR |INSERT INTO lease ';
SELECT pg_temp.hears_all('app_by_function', 'forging');
SELECT pg_temp.hears_all('app_by_function', 'by_hand');
SELECT pg_temp.untouched('true', 'by an application with columns that forges');
SELECT pg_temp.hears('app_by_function', replace(call, ':token', :'token'), answer, 'may') FROM (VALUES
	('SELECT lease_guard(''l'', :token)', ''), ('INSERT INTO fenced VALUES (1)', 'done'),
	('SELECT * FROM lease_renew(''l'', ''me'')', 'renewed'), ('SELECT * FROM lease_renew_all(''me'')', 'renewed'), ('SELECT * FROM lease_acquire(''new'', ''you'')', 'acquired'),
	('SELECT * FROM lease_acquire(''expired'', ''you'')', 'acquired'), ('SELECT * FROM lease_acquire(''free'', ''you'')', 'acquired'),
	('SELECT * FROM lease_release(''expired'', ''you'')', 'released'), ('SELECT * FROM lease_handover(''l'', ''me'', ''you'')', 'handed_over'),
	('SELECT * FROM lease_acquire(''l'', ''you'')', 'acquired'), ('SELECT * FROM lease_node_heartbeat(''node-9'')', 'acquired'), ('SELECT * FROM lease_node_heartbeat(''node-9'')', 'renewed'),
	('SELECT * FROM lease_apiserver_heartbeat(''host'', gen_random_uuid())', '42501')) v (call, answer);

ROLLBACK TO recipes;
-- ---------------------------------------------------------------------------
-- Whoever collects
-- ---------------------------------------------------------------------------
CREATE ROLE lease_collector;
GRANT SELECT, UPDATE, DELETE ON lease TO lease_collector;

SAVEPOINT s;
SELECT pg_temp.hears('lease_collector', 'SELECT collected FROM lease_gc()', '1', 'may collect');
ROLLBACK TO s;
UPDATE forging SET answer = '42501';
SELECT pg_temp.hears_all('lease_collector', 'forging');
-- what a policy is for
SELECT pg_temp.hears('lease_collector', 'WITH d AS (DELETE FROM lease WHERE name = ''l'' RETURNING 1) SELECT count(*) FROM d', '5', 'may also delete what is held');
ROLLBACK TO s;

ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY collect ON lease TO lease_collector USING (namespace = 'kube-system'
	AND coalesce(lease_expires_at(holder_identity, renew_time, lease_duration_seconds, resource_version) <= (SELECT now FROM lease_clock()), true));

SELECT pg_temp.hears('lease_collector', 'WITH d AS (DELETE FROM lease WHERE name = ''l'' RETURNING 1) SELECT count(*) FROM d', '0', 'may not, with a policy, delete what is held');
SELECT pg_temp.hears('lease_collector', 'SELECT count(*) FROM (SELECT FROM lease WHERE name = ''l'' FOR UPDATE) s', '0', 'nor lock it');
SELECT pg_temp.untouched('true', 'by a collector that may not');
SELECT pg_temp.hears('lease_collector', 'SELECT collected FROM lease_gc()', '1', 'but collect');
SELECT is((SELECT string_agg(namespace || '/' || name, ' ') FROM before WHERE (namespace, name) NOT IN (SELECT namespace, name FROM lease)), 'kube-system/old',
	'that is what was to be collected');

ROLLBACK TO recipes;
-- ---------------------------------------------------------------------------
-- A role for each namespace
-- ---------------------------------------------------------------------------
CREATE ROLE "team-a";
CREATE ROLE "team-b";
GRANT SELECT, INSERT, UPDATE ON lease TO "team-a", "team-b";
GRANT SELECT ON lease_history, lease_status, lease_holdings TO "team-a", "team-b";

ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE lease_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_namespace ON lease TO "team-a", "team-b" USING (namespace = current_user);
CREATE POLICY own_namespace ON lease_history FOR SELECT TO "team-a", "team-b" USING (namespace = current_user);

-- of the namespace default they know nothing
UPDATE changing SET answer = CASE
	WHEN call ~ 'lease_acquire' THEN '42501'
	WHEN call ~ 'lease_renew_all' THEN 'renewed'		-- 0 of them
	WHEN call ~ 'guard|fenced' THEN 'LS001'
	ELSE 'missing' END;
SELECT pg_temp.hears_all('team-a', 'changing');
SELECT pg_temp.hears('team-a', 'SELECT leases FROM lease_renew_all(''me'')', '0', 'renews none of another namespace');
UPDATE by_hand SET answer = '42501';
DELETE FROM by_hand WHERE call ~ 'FOR |LOCK|labels';
SELECT pg_temp.hears_all('team-a', 'by_hand');
SELECT pg_temp.hears('team-a', 'WITH u AS (UPDATE lease SET labels = ''{}'' WHERE namespace <> ''team-a'' RETURNING 1) SELECT count(*) FROM u', '0', 'changes nothing elsewhere by hand');
SELECT pg_temp.hears('team-a', 'SELECT count(*) FROM (SELECT FROM lease WHERE namespace <> ''team-a'' FOR KEY SHARE) s', '0', 'locks nothing elsewhere by hand');
SELECT pg_temp.hears('team-a', 'SELECT coalesce(lease_holder(''l''), ''nobody'')', 'nobody', 'sees no holder elsewhere');
SELECT pg_temp.hears('team-a', call, 'team-a', 'sees only what is here') FROM (VALUES ('SELECT string_agg(DISTINCT namespace, '' '') FROM lease'),
	('SELECT string_agg(DISTINCT namespace, '' '') FROM lease_status'), ('SELECT string_agg(DISTINCT namespace, '' '') FROM lease_holdings'),
	('SELECT string_agg(DISTINCT namespace, '' '') FROM lease_history')) v (call);
-- a function that tells what it is given is not given the rows of others
CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
	$$BEGIN PERFORM set_config('lease_test.leak', current_setting('lease_test.leak', true) || ' ' || $1, true); RETURN true; END$$;
GRANT EXECUTE ON FUNCTION pg_temp.leak TO PUBLIC;
SELECT pg_temp.hears('team-a', format('SELECT count(*) > 0 FROM %s WHERE pg_temp.leak(namespace)', t), 'true', 'looks through a leaky function')
FROM (VALUES ('lease'), ('lease_history'), ('lease_status'), ('lease_holdings')) v (t);
SELECT is((SELECT string_agg(DISTINCT n, ' ') FROM regexp_split_to_table(trim(current_setting('lease_test.leak')), ' +') n), 'team-a', 'and it was given no others');
-- row_security = off asks for an error instead of a filter; it does not switch anything off
SET LOCAL row_security = off;
UPDATE changing SET answer = '42501';
SELECT pg_temp.hears_all('team-a', 'changing');
SELECT pg_temp.hears('team-a', 'SELECT lease_holder(''l'')', '42501', 'may not');
SET LOCAL row_security = on;
SELECT pg_temp.untouched('true', 'by the role of another namespace');
-- and at home
SELECT fencing_token AS token_a FROM lease WHERE (namespace, name) = ('team-a', 'l') \gset
SELECT pg_temp.hears('team-a', replace(call, ':token', :'token_a'), answer, 'may') FROM (VALUES
	('SELECT lease_guard(''l'', :token, ''team-a'')', ''), ('SELECT * FROM lease_renew(''l'', ''me'', ''team-a'')', 'renewed'), ('SELECT leases FROM lease_renew_all(''me'', NULL, ''team-a'')', '1'),
	('SELECT * FROM lease_acquire(''new'', ''us'', ''1 h'', ''team-a'')', 'acquired'), ('SELECT * FROM lease_acquire(''expired'', ''us'', ''1 h'', ''team-a'', wait => ''1 ms'')', 'acquired'),
	('SELECT * FROM lease_acquire(''free'', ''us'', ''1 h'', ''team-a'')', 'acquired'), ('SELECT * FROM lease_release(''free'', ''us'', ''team-a'')', 'released'),
	('SELECT * FROM lease_handover(''l'', ''me'', ''us'', ''team-a'')', 'handed_over'), ('SELECT * FROM lease_acquire(''l'', ''us'', ''1 h'', ''team-a'')', 'acquired'),
	('SELECT count(*) FROM lease_history WHERE name = ''free''', '1')) v (call, answer);
UPDATE forging SET answer = '42501', call = replace(replace(replace(call, '''default''', '''team-a'''), '(name, ', '(namespace, name, '), '(''new'', ', '(''team-a'', ''new-2'', ');
SELECT pg_temp.hears_all('team-a', '(SELECT * FROM forging WHERE call !~ ''CONFLICT'') f');
SELECT pg_temp.untouched('namespace <> ''team-a''', 'by what a role does in its own namespace');

ROLLBACK TO recipes;
-- ---------------------------------------------------------------------------
-- A node may touch only its own lease
-- ---------------------------------------------------------------------------
CREATE ROLE nodes;
GRANT SELECT, INSERT, UPDATE ON lease TO nodes;

ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_lease ON lease TO nodes
	USING (namespace = 'kube-node-lease' AND 'system:node:' || name = current_user)
	WITH CHECK (namespace = 'kube-node-lease' AND 'system:node:' || name = current_user
		AND coalesce(holder_identity, '') IN ('', name));

CREATE ROLE "system:node:node-1" LOGIN IN ROLE nodes;
CREATE ROLE "system:node:node-2" LOGIN IN ROLE nodes;

-- another's lease, and another namespace
CREATE TEMP TABLE elsewhere (call text, answer text);
INSERT INTO elsewhere SELECT replace(call, '{}', lease), answer FROM (VALUES
	('SELECT * FROM lease_acquire({}, holder => ''node-2'')', '42501'), ('SELECT * FROM lease_acquire({}, holder => ''node-1'')', '42501'),
	('SELECT * FROM lease_acquire({}, holder => ''node-2'', wait => ''1 ms'')', '42501'), ('SELECT * FROM lease_acquire({}, holder => ''node-2'', session => true)', '42501'),
	('SELECT * FROM lease_renew({}, holder => ''node-2'')', 'missing'), ('SELECT * FROM lease_release({}, holder => ''node-2'')', 'missing'),
	('SELECT * FROM lease_handover({}, holder => ''node-2'', successor => ''node-1'')', 'missing'), ('SELECT lease_guard({}, fencing_token => 1)', 'LS001'),
	('SELECT coalesce(lease_holder({}), ''not seen'')', 'not seen'), ('SELECT lease_is_held({})', 'false')) c (call, answer),
	(VALUES ('namespace => ''kube-node-lease'', name => ''node-2'''), ('namespace => ''kube-node-lease'', name => ''node-3'''),
		('namespace => ''kube-node-lease'', name => ''expired'''), ('namespace => ''kube-node-lease'', name => ''node-1.node-1'''), ('namespace => ''default'', name => ''node-1'''),
		('namespace => ''default'', name => ''l''')) l (lease);
SELECT pg_temp.hears_all('system:node:node-1', 'elsewhere');
SELECT pg_temp.hears('system:node:node-1', 'SELECT leases FROM lease_renew_all(''node-2'', NULL, ''kube-node-lease'')', '0', 'renews no other');
SELECT pg_temp.hears('system:node:node-1', 'SELECT count(*) FROM lease', '1', 'sees only its own');
SELECT pg_temp.hears('system:node:node-1', 'WITH u AS (UPDATE lease SET labels = ''{}'' WHERE name <> ''node-1'' RETURNING 1) SELECT count(*) FROM u', '0', 'changes no other by hand');
SELECT pg_temp.hears('system:node:node-1', 'INSERT INTO lease (namespace, name) VALUES (''kube-node-lease'', ''node-3'')', '42501', 'makes no other by hand');
-- its own, but in no other name
SELECT pg_temp.hears('system:node:node-1', call, answer, 'may not') FROM (VALUES
	('SELECT * FROM lease_acquire(''node-1'', ''node-2'', ''40 s'', ''kube-node-lease'')', 'held'),
	('UPDATE lease SET holder_identity = ''node-2''', '42501'), ('UPDATE lease SET renew_time = now()', '42501')) v (call, answer);
SELECT pg_temp.untouched('true', 'by a node that may not');
SELECT pg_temp.hears('system:node:node-1', call, answer, 'may') FROM (VALUES
	('SELECT * FROM lease_renew(''node-1'', ''node-1'', ''kube-node-lease'')', 'renewed'), ('SELECT * FROM lease_acquire(''node-1'', ''node-1'', ''40 s'', ''kube-node-lease'')', 'renewed'),
	('SELECT leases FROM lease_renew_all(''node-1'', NULL, ''kube-node-lease'')', '1'), ('SELECT * FROM lease_release(''node-1'', ''node-1'', ''kube-node-lease'')', 'released')) v (call, answer);
SELECT pg_temp.hears('system:node:node-1', 'SELECT * FROM lease_acquire(''node-1'', ''node-2'', ''40 s'', ''kube-node-lease'')', '42501', 'may not acquire it in another name when it is free');
SELECT pg_temp.hears('system:node:node-1', 'SELECT * FROM lease_acquire(''node-1'', ''node-1'', ''40 s'', ''kube-node-lease'')', 'acquired', 'but in its own');
SELECT pg_temp.untouched('name <> ''node-1''', 'by what a node does with its own');
-- heartbeats
SELECT lease_node_register('node-1') AS registered \gset
SELECT pg_temp.hears('system:node:node-1', call, answer, 'sends heartbeats') FROM (VALUES
	('SELECT * FROM lease_node_heartbeat(''node-1'')', 'renewed'), ('SELECT * FROM lease_node_heartbeat(''node-2'')', '42501'),
	('SELECT * FROM lease_node_heartbeat(''node-3'')', '42501'), ('SELECT leases FROM lease_node_heartbeats(''{node-1}'')', '1'),
	('SELECT * FROM lease_node_heartbeats(''{node-1,node-2}'')', '42501'), ('SELECT * FROM lease_apiserver_heartbeat(''node-1'', gen_random_uuid())', '42501'),
	('SELECT lease_node_register(''node-1'')', '42501'), ('SELECT lease_node_remove(''node-1'')', '42501'), ('SELECT count(*) FROM lease_nodes', '42501')) v (call, answer);
SELECT is(owner_references, NULL, 'who may not see the Node cannot say that it is the owner') FROM lease WHERE name = 'node-1';
GRANT SELECT ON lease_node TO nodes;

ALTER TABLE lease_node ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_node ON lease_node FOR SELECT TO nodes USING ('system:node:' || name = current_user);
SELECT lease_node_register('node-2') AS registered \gset
SELECT pg_temp.hears('system:node:node-1', call, answer, 'sees its Node') FROM (VALUES
	('SELECT * FROM lease_node_heartbeat(''node-1'')', 'renewed'), ('SELECT count(*) FROM lease_node', '1'),
	('SELECT * FROM lease_node_heartbeat(''node-2'')', '42501'), ('SELECT lease_node_register(''node-1'')', '42501'), ('SELECT lease_node_remove(''node-1'')', '42501')) v (call, answer);
SELECT is(owner_references #>> '{0,name}', 'node-1', 'who may see it can') FROM lease WHERE name = 'node-1';
DELETE FROM lease WHERE name = 'node-1';
SELECT pg_temp.hears('system:node:node-1', 'SELECT * FROM lease_node_heartbeat(''node-1'')', 'acquired', 'makes its lease');
SELECT is(owner_references #>> '{0,name}', 'node-1', 'with its owner') FROM lease WHERE name = 'node-1';
SELECT pg_temp.untouched('name NOT IN (''node-1'')', 'by heartbeats');
CREATE ROLE node_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON lease_node TO node_admin;
GRANT SELECT, UPDATE, DELETE ON lease TO node_admin;
CREATE POLICY all_nodes ON lease_node TO node_admin USING (true);
CREATE POLICY node_leases ON lease TO node_admin USING (namespace = 'kube-node-lease');
SAVEPOINT admin;
SELECT pg_temp.hears('node_admin', call, answer, 'administers') FROM (VALUES
	('SELECT lease_node_register(''node-3'')', 'registered'), ('SELECT lease_node_apply(lease_node_object(''node-3''))', 'updated'), ('SELECT lease_node_remove(''node-3'')', 'removed'),
	('SELECT lease_node_remove(''node-1'')', 'removed'), ('SELECT count(*) FROM lease WHERE name IN (''node-1'')', '0'), ('SELECT * FROM lease_node_heartbeat(''node-3'')', '42501'),
	('SELECT count(*) FROM lease WHERE namespace NOT IN (''kube-node-lease'')', '0')) v (call, answer);
ROLLBACK TO admin;
-- one that may also be seen
CREATE POLICY see ON lease FOR SELECT TO nodes USING (true);
SELECT pg_temp.hears('system:node:node-1', 'SELECT * FROM lease_node_heartbeat(''node-2'')', 'busy', 'sees, but may not');
SELECT pg_temp.hears('system:node:node-1', call, answer, 'sees, but may not') FROM (VALUES
	('SELECT * FROM lease_acquire(''node-2'', ''node-1'', ''40 s'', ''kube-node-lease'')', 'held'), ('SELECT * FROM lease_acquire(''node-2'', ''node-2'', ''40 s'', ''kube-node-lease'')', 'busy'),
	('SELECT * FROM lease_acquire(''expired'', ''node-1'', ''40 s'', ''kube-node-lease'')', 'busy'), ('SELECT * FROM lease_acquire(''expired'', ''node-1'', ''40 s'', ''kube-node-lease'', wait => ''1 ms'')', 'busy'),
	('SELECT * FROM lease_renew(''node-2'', ''node-2'', ''kube-node-lease'')', 'busy'), ('SELECT * FROM lease_release(''node-2'', ''node-2'', ''kube-node-lease'')', 'busy'),
	('SELECT * FROM lease_handover(''node-2'', ''node-2'', ''node-1'', ''kube-node-lease'')', 'busy'),
	('SELECT lease_guard(''node-2'', (SELECT fencing_token FROM lease WHERE name = ''node-2''), ''kube-node-lease'')', '55P03')) v (call, answer);
SELECT pg_temp.untouched('name <> ''node-1''', 'by a node that sees');

ROLLBACK TO recipes;
-- ---------------------------------------------------------------------------
-- Who may forge
-- ---------------------------------------------------------------------------
-- Everything that can be granted, short of ALL (which brings TRIGGER): nothing of it makes an owner.
CREATE ROLE much;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES ON lease TO much;
CREATE ROLE more BYPASSRLS;
GRANT pg_read_all_data, pg_write_all_data TO more;
UPDATE forging SET answer = '42501';
SELECT pg_temp.hears_all('much', 'forging');
SELECT pg_temp.hears_all('more', 'forging');
SELECT pg_temp.untouched('true', 'by who has every grant');
-- through a view of the owner's, the writer is still the caller
CREATE VIEW of_owner AS SELECT * FROM lease;
GRANT SELECT, INSERT, UPDATE ON of_owner TO much;
SELECT pg_temp.hears_all('much', '(SELECT replace(replace(call, ''UPDATE lease'', ''UPDATE of_owner''), ''INSERT INTO lease'', ''INSERT INTO of_owner'') AS call, answer FROM forging WHERE call !~ ''MERGE|^WITH'') f');
SELECT pg_temp.untouched('true', 'through a view');
-- resource_version only follows
SELECT resource_version AS version FROM lease WHERE (namespace, name) = ('default', 'l') \gset
UPDATE lease SET resource_version = 1 WHERE (namespace, name) = ('default', 'l');
SELECT cmp_ok(resource_version, '>', :version, 'resource_version follows every change, whatever is asked for') FROM lease WHERE (namespace, name) = ('default', 'l');

ROLLBACK TO recipes;
-- ---------------------------------------------------------------------------
-- Wrappers
-- ---------------------------------------------------------------------------
CREATE ROLE worker;
CREATE SCHEMA job;
GRANT USAGE ON SCHEMA job TO worker;

CREATE FUNCTION job.acquire(name text, duration interval DEFAULT '15 s', OUT acquired boolean, OUT fencing_token bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT l.acquired, l.fencing_token
	FROM public.lease_acquire(acquire.name, session_user, acquire.duration, namespace => 'job') l;
END;

CREATE FUNCTION job.renew(name text, fencing_token bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT l.renewed FROM public.lease_renew(renew.name, session_user, 'job', renew.fencing_token) l;
END;

CREATE FUNCTION job.release(name text, fencing_token bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT l.released FROM public.lease_release(release.name, session_user, 'job', release.fencing_token) l;
END;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA job FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA job TO worker;

CREATE ROLE worker_1 IN ROLE worker;
CREATE ROLE worker_2 IN ROLE worker;
CREATE ROLE outsider;
-- hostile objects of the caller's, in the place that is searched first
CREATE FUNCTION pg_temp.lease_acquire(text, text, interval, text) RETURNS text LANGUAGE sql AS $$SELECT 'hijacked'$$;
CREATE TEMP TABLE lease (LIKE public.lease);
SET LOCAL search_path = pg_temp, public;
SET LOCAL SESSION AUTHORIZATION worker_1;
SELECT fencing_token AS token_1 FROM job.acquire('nightly') \gset
SELECT isnt(:token_1::bigint, NULL, 'a worker acquires by the wrapper');
SELECT is(job.renew('nightly', :token_1), true, 'and renews');
SELECT throws_ok('SELECT public.lease_renew(''nightly'', ''worker_1'', ''job'')', '42501', 'permission denied for table lease', 'but not without it');
SELECT throws_ok('SELECT FROM public.lease', '42501', 'permission denied for table lease', 'nor by hand');
SELECT is(acquired, false, 'and acquires nothing that another holds') FROM job.acquire('l');
SET LOCAL SESSION AUTHORIZATION worker_2;
SELECT is(acquired, false, 'another worker does not get it') FROM job.acquire('nightly');
SELECT is(job.renew('nightly', :token_1), false, 'nor renews it with the token that he has heard of');
SELECT is(job.release('nightly', :token_1), false, 'nor releases it');
SET LOCAL SESSION AUTHORIZATION outsider;
SELECT throws_ok('SELECT job.acquire(''nightly'')', '42501', NULL, 'who is no worker has no wrapper');
RESET SESSION AUTHORIZATION;
SET LOCAL search_path = public;
SELECT is(lease_holder('nightly', 'job'), 'worker_1', 'the lease is in the namespace of the wrappers, its holder is who logged in');
DROP TABLE pg_temp.lease;
SELECT pg_temp.untouched('name <> ''nightly''', 'by what is done through wrappers');

ROLLBACK TO recipes;
-- ---------------------------------------------------------------------------
-- What an owner can do anyway
-- ---------------------------------------------------------------------------
CREATE ROLE lease_owner;
GRANT CREATE ON SCHEMA public TO lease_owner;
ALTER TABLE lease OWNER TO lease_owner;
ALTER TABLE lease_history OWNER TO lease_owner;
CREATE ROLE of_owners IN ROLE lease_owner;
SELECT pg_temp.hears('of_owners', call, 'done', 'may') FROM (VALUES ('UPDATE lease SET renew_time = now() WHERE (namespace, name) = (''default'', ''l'')'),
	('UPDATE lease SET holder_identity = ''of_owners'' WHERE (namespace, name) = (''default'', ''l'')'), ('INSERT INTO lease (name, holder_identity, fencing_token) VALUES (''new'', ''you'', 1000)'),
	('UPDATE lease_history SET holder_identity = ''you'''), ('ALTER TABLE lease DISABLE TRIGGER lease_on_write')) v (call);
SELECT pg_temp.hears('of_owners', 'UPDATE lease SET fencing_token = 1 WHERE (namespace, name) = (''default'', ''free'')', 'done', 'may with the trigger off');
SELECT pg_temp.hears('of_owners', 'SET session_replication_role = replica', '42501', 'may not');

SELECT * FROM finish();
ROLLBACK;
