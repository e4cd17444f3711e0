-- The two ways to a row, direct and through the executor, give the same answers and leave
-- the same rows; and the direct one is not taken where it would bypass something.

-- For the comparison all work is done in a namespace of its own, because one way is REPEATABLE READ
-- and needs a transaction of its own.
DELETE FROM lease WHERE namespace = 'test-paths';

-- By hand only the owner may write who holds a lease.
CREATE FUNCTION pg_temp.by_hand() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
	INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, lease_transitions, labels)
	VALUES ('test-paths', 'l', 'gone', 10, clock_timestamp() - interval '1 h', 3, '{"a": "b"}')
$$;

-- A little of everything: what is told and what is written, without times and ids.
CREATE FUNCTION pg_temp.scenario() RETURNS TABLE (step int, call text, answer text, rows_after text) LANGUAGE plpgsql AS $$
DECLARE
	calls text[] := ARRAY[
		$c$lease_renew('l', 'gone', 'test-paths')$c$,
		$c$lease_renew('l', 'a', 'test-paths')$c$,
		$c$lease_acquire('l', 'a', '1 h', 'test-paths')$c$,
		$c$lease_acquire('l', 'a', '1 h', 'test-paths')$c$,
		$c$lease_acquire('l', 'a', '2 h', 'test-paths')$c$,
		$c$lease_acquire('l', 'b', '1 h', 'test-paths')$c$,
		$c$lease_renew('l', 'a', 'test-paths')$c$,
		$c$lease_renew('l', 'a', 'test-paths', 999999999)$c$,
		$c$lease_renew('l', 'b', 'test-paths')$c$,
		$c$lease_release('l', 'b', 'test-paths')$c$,
		$c$lease_renew_all('a', NULL, 'test-paths')$c$,
		$c$lease_renew_all('a', '{l,m}', 'test-paths')$c$,
		$c$lease_renew_all('b', '{l,m}', 'test-paths')$c$,
		$c$(SELECT (lease_renew('l', 'a', 'test-paths')).status FROM generate_series(1, 3))$c$,
		$c$(SELECT lease_holder('l', 'test-paths'), lease_is_held('l', 'a', 'test-paths'), lease_is_held('l', 'b', 'test-paths'))$c$,
		$c$lease_release('l', 'a', 'test-paths')$c$,
		$c$lease_release('l', 'a', 'test-paths')$c$,
		$c$lease_renew('l', 'a', 'test-paths')$c$,
		$c$(SELECT lease_holder('l', 'test-paths'), lease_is_held('l', NULL, 'test-paths'))$c$,
		$c$lease_acquire('l', 'b', '1 s', 'test-paths')$c$,
		$c$lease_renew('m', 'a', 'test-paths')$c$,
		$c$lease_acquire('m', 'a', '1 h', 'test-paths')$c$,
		$c$lease_renew('m', 'a', 'test-paths')$c$,
		$c$(SELECT lease_guard('m', fencing_token, 'test-paths') FROM lease WHERE (namespace, name) = ('test-paths', 'm'))$c$,
		$c$lease_renew('m', 'a', 'test-paths')$c$,
		$c$lease_handover('m', 'b', 'c', 'test-paths')$c$,
		$c$lease_handover('m', 'a', 'c', 'test-paths', reserve => '1 h')$c$,
		$c$lease_acquire('m', 'b', '1 h', 'test-paths')$c$,
		$c$lease_acquire('m', 'b', '1 h', 'test-paths', wait => '1 ms')$c$,
		$c$lease_acquire('m', 'c', '1 h', 'test-paths', hold_at_least => '1 h', lock_delay => '5 min')$c$,
		$c$lease_acquire('m', 'c', '2 h', 'test-paths', wait => '1 ms')$c$,
		$c$lease_release('m', 'c', 'test-paths')$c$,
		$c$lease_acquire('m', 'c', '2 h', 'test-paths')$c$];
	token bigint := 0;
	new_token bigint;
BEGIN
	PERFORM pg_temp.by_hand();
	FOR n IN 1 .. array_length(calls, 1) LOOP
		step := n;
		call := calls[n];
		EXECUTE format('SELECT string_agg((to_jsonb(r) - ''fencing_token'' - ''expires_at'' - ''expires_in'')::text, '' '') FROM %s r', call) INTO answer;
		SELECT string_agg((to_jsonb(l) - 'uid' - 'resource_version' - 'creation_timestamp' - 'acquire_time' - 'renew_time' - 'fencing_token' - 'held_since' - 'not_before'
			|| jsonb_build_object('just acquired', clock_timestamp() - l.acquire_time < interval '10 s',
				'just granted', clock_timestamp() - l.held_since < interval '10 s', 'kept back', l.not_before > clock_timestamp(),
				'just renewed', clock_timestamp() - l.renew_time < interval '10 s'))::text, ' ' ORDER BY l.name), max(fencing_token)
		FROM lease l WHERE namespace = 'test-paths' INTO rows_after, new_token;
		rows_after := rows_after || CASE WHEN new_token > token THEN ', a new token' WHEN new_token = token THEN ', the same token' ELSE ', A SMALLER TOKEN' END;
		token := new_token;
		RETURN NEXT;
	END LOOP;
	DELETE FROM lease WHERE namespace = 'test-paths';
END $$;

CREATE TEMP TABLE result (way text, step int, call text, answer text, rows_after text);

-- Which way was taken?  The trigger of the extension fires for what the executor writes, and not
-- for a renewal that is written directly.
CREATE FUNCTION pg_temp.fired() RETURNS bigint LANGUAGE sql AS
	$$SELECT coalesce(pg_stat_get_xact_function_calls('lease_on_write'::regproc), 0)$$;
CREATE FUNCTION pg_temp.executor_renews() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	before bigint := pg_temp.fired();
	answer record;
BEGIN
	SELECT * INTO answer FROM lease_renew('l', 'me');
	IF answer.status <> 'renewed' THEN
		RAISE EXCEPTION 'not renewed but %', answer.status;
	END IF;
	RETURN pg_temp.fired() > before;
END $$;

BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO result SELECT 'in a REPEATABLE READ transaction', * FROM pg_temp.scenario();
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL track_functions = 'all';
SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT pg_temp.executor_renews() AS repeatable_read_by_executor \gset
ROLLBACK;

BEGIN;
SELECT no_plan();
SET LOCAL track_functions = 'all';

INSERT INTO result SELECT 'directly', * FROM pg_temp.scenario();

-- The others need DDL, which is rolled back; the results survive that in a variable.
SAVEPOINT s;
CREATE FUNCTION pg_temp.unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER unchanged BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged();
SELECT json_agg(r) AS kept FROM (SELECT 'with a trigger' AS way, * FROM pg_temp.scenario()) r \gset
ROLLBACK TO s;
INSERT INTO result SELECT * FROM json_populate_recordset(NULL::result, :'kept');

SAVEPOINT s;
CREATE ROLE lease_test_paths;
GRANT SELECT, INSERT, UPDATE, DELETE ON lease TO lease_test_paths;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_namespace ON lease TO lease_test_paths USING (namespace = 'test-paths') WITH CHECK (namespace = 'test-paths');
SET LOCAL ROLE lease_test_paths;
SELECT json_agg(r) AS kept FROM (SELECT 'under row-level security' AS way, * FROM pg_temp.scenario()) r \gset
ROLLBACK TO s;
INSERT INTO result SELECT * FROM json_populate_recordset(NULL::result, :'kept');

SAVEPOINT s;
ALTER TABLE lease DROP CONSTRAINT lease_pkey;
CREATE UNIQUE INDEX other_key ON lease (namespace, name);
SELECT json_agg(r) AS kept FROM (SELECT 'without the primary key' AS way, * FROM pg_temp.scenario()) r \gset
ROLLBACK TO s;
INSERT INTO result SELECT * FROM json_populate_recordset(NULL::result, :'kept');

SELECT is(e.answer || ' -> ' || e.rows_after, d.answer || ' -> ' || d.rows_after, format('%s as directly: %s %s', e.way, d.step, d.call))
FROM result d JOIN result e USING (step) WHERE d.way = 'directly' AND e.way <> 'directly' ORDER BY e.way, step;
SELECT is_empty($$SELECT way, step, call FROM result WHERE rows_after LIKE '%SMALLER%'$$, 'no token was ever smaller than the one before');
SELECT is(count(*), 33::bigint, 'all 33 steps were taken: ' || way) FROM result GROUP BY way ORDER BY way;
SELECT is(count(DISTINCT way), 5::bigint, 'all five ways were taken') FROM result;

-- which way is taken when
CREATE FUNCTION pg_temp.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT FROM lease_acquire('l', 'me', '1 h');
SAVEPOINT s;
SELECT ok(NOT pg_temp.executor_renews(), 'a renewal is written directly if nothing is bypassed by that');
SELECT ok(:'repeatable_read_by_executor', 'by the executor: in a REPEATABLE READ transaction');
CREATE FUNCTION pg_temp.by_executor(ddl text, description text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	by_executor boolean;
BEGIN
	BEGIN
		EXECUTE ddl;
		by_executor := pg_temp.executor_renews();
		RAISE EXCEPTION SQLSTATE 'TSTOK';
	EXCEPTION WHEN SQLSTATE 'TSTOK' THEN
	END;
	RETURN ok(by_executor, 'by the executor: ' || description);
END $$;
SELECT pg_temp.by_executor(ddl, description) FROM (VALUES
	('CREATE TRIGGER other AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.suppress()', 'with a trigger for each row'),
	('CREATE TRIGGER other AFTER UPDATE ON lease FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.suppress()', 'with a trigger for each statement'),
	('ALTER TABLE lease ADD CHECK (renew_time > ''2020-01-01'')', 'with a constraint on renew_time'),
	('ALTER TABLE lease ADD CHECK (resource_version > 0)', 'with a constraint on resource_version'),
	('ALTER TABLE lease ADD CHECK (lease IS NOT NULL OR true)', 'with a constraint on the whole row'),
	('ALTER TABLE lease ADD COLUMN extra bigint GENERATED ALWAYS AS (resource_version % 1000) STORED', 'with a generated column'),
	('CREATE RULE also AS ON UPDATE TO lease DO ALSO SELECT 1', 'with a rule'),
	('CREATE TABLE pg_temp.child () INHERITS (lease)', 'with a child table'),
	('ALTER TABLE lease ADD EXCLUDE USING btree (namespace WITH =, name WITH =)', 'with an exclusion constraint'),
	('CREATE TABLE pg_temp.referencing (namespace text, name text); ALTER TABLE lease ADD FOREIGN KEY (namespace, name) REFERENCES lease', 'with a foreign key to it'),
	('ALTER TABLE lease DROP CONSTRAINT lease_pkey', 'without the primary key')) v (ddl, description);
SELECT ok(NOT pg_temp.executor_renews(), 'directly again when all that is gone');
ALTER TABLE lease ADD CHECK (lease_duration_seconds < 86400 AND holder_identity <> 'x');
SELECT ok(NOT pg_temp.executor_renews(), 'and with a constraint on what a renewal does not change');
ROLLBACK TO s;

-- what a user adds is honoured by a renewal
CREATE TEMP TABLE noted (n int);
CREATE FUNCTION pg_temp.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO noted VALUES (1); RETURN NEW; END$$;
CREATE TRIGGER note BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.note();
SELECT FROM lease_renew('l', 'me');
SELECT is(count(*), 1::bigint, 'a trigger fires') FROM noted;
DROP TRIGGER lease_on_write ON lease;
SELECT FROM lease_renew('l', 'me');
SELECT is(count(*), 2::bigint, 'also if it is the only one') FROM noted;
DROP TRIGGER note ON lease;
SELECT FROM lease_renew('l', 'me');
SELECT is(count(*), 2::bigint, 'until it is dropped') FROM noted;
ROLLBACK TO s;

CREATE TRIGGER suppress BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.suppress();
SELECT throws_ok(call, '09000', 'lease was not written', 'what a trigger has suppressed is not acknowledged: ' || call)
FROM (VALUES ('SELECT lease_renew(''l'', ''me'')'), ('SELECT lease_renew_all(''me'')'), ('SELECT lease_acquire(''l'', ''me'')'), ('SELECT lease_release(''l'', ''me'')')) c (call);
ALTER TABLE lease DISABLE TRIGGER suppress;
UPDATE lease SET renew_time = renew_time - interval '1 d';
ALTER TABLE lease ENABLE TRIGGER suppress;
SELECT throws_ok($$SELECT lease_acquire('l', 'you')$$, '09000', 'lease was not written', 'nor is a takeover');
ROLLBACK TO s;
CREATE TRIGGER suppress BEFORE INSERT ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.suppress();
SELECT ok(NOT acquired, 'nor is a new lease') FROM lease_acquire('new', 'me');
ROLLBACK TO s;

ALTER TABLE lease ADD CONSTRAINT no_more CHECK (renew_time < '2020-01-01') NOT VALID;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '23514', NULL, 'a constraint on renew_time refuses a renewal');
ROLLBACK TO s;
ALTER TABLE lease ADD CONSTRAINT short CHECK (lease_duration_seconds <= 3600);
SELECT is(status, 'renewed', 'a constraint on the duration allows the same one') FROM lease_acquire('l', 'me', '1 h');
SELECT throws_ok($$SELECT lease_acquire('l', 'me', '2 h')$$, '23514', NULL, 'and refuses a longer one');
ROLLBACK TO s;
ALTER TABLE lease ADD CONSTRAINT no_more CHECK (resource_version < 0) NOT VALID;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '23514', NULL, 'a constraint on resource_version refuses it');
ROLLBACK TO s;
ALTER TABLE lease ADD CONSTRAINT no_more CHECK (lease IS NULL) NOT VALID;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '23514', NULL, 'a constraint on the whole row refuses it');
ROLLBACK TO s;
ALTER TABLE lease ADD COLUMN extra bigint GENERATED ALWAYS AS (resource_version % 1000) STORED;
SELECT FROM lease_renew('l', 'me');
SELECT is(extra, resource_version % 1000, 'a generated column follows a renewal') FROM lease WHERE name = 'l';
ROLLBACK TO s;
SELECT CASE WHEN current_setting('server_version_num')::int < 180000 THEN 'STORED' ELSE 'VIRTUAL' END AS computed \gset
ALTER TABLE lease ADD COLUMN extra bigint GENERATED ALWAYS AS (resource_version % 1000) :computed;
ALTER TABLE lease ADD CONSTRAINT no_more CHECK (extra < 0) NOT VALID;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '23514', NULL, 'a constraint on a generated column refuses it');
ROLLBACK TO s;
CREATE RULE no_updates AS ON UPDATE TO lease DO INSTEAD NOTHING;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '09000', 'lease was not written', 'what a rule has suppressed is not acknowledged');
DROP RULE no_updates ON lease;
SELECT is(status, 'renewed', 'and is done again when the rule is gone') FROM lease_renew('l', 'me');
ROLLBACK TO s;
CREATE TABLE pg_temp.child () INHERITS (lease);
INSERT INTO pg_temp.child SELECT * FROM ONLY lease;
SELECT FROM lease_release('l', 'me');
SELECT set_eq($$SELECT holder_identity FROM pg_temp.child$$, $$VALUES ('me' COLLATE "C")$$, 'rows of a child table are not the extension''s');
ROLLBACK TO s;
ALTER TABLE lease DISABLE TRIGGER lease_on_write;
SELECT fencing_token AS token, resource_version AS version FROM lease WHERE name = 'l' \gset
SELECT is(status, 'renewed', 'without its trigger a lease is renewed') FROM lease_renew('l', 'me');
SELECT cmp_ok(resource_version, '>', :version::bigint, 'and its version moves') FROM lease WHERE name = 'l';
SELECT FROM lease_release('l', 'me');
SELECT cmp_ok(fencing_token, '>', :token::bigint, 'a release changes the token also without the trigger') FROM lease WHERE name = 'l';
SELECT fencing_token AS token FROM lease WHERE name = 'l' \gset
SELECT cmp_ok(fencing_token, '>', :token::bigint, 'and so does an acquisition') FROM lease_acquire('l', 'me', '1 h');
ROLLBACK TO s;

-- what a user adds is kept by a renewal
ALTER TABLE lease ADD COLUMN dropped text DEFAULT 'gone';
ALTER TABLE lease ADD COLUMN extra text DEFAULT 'x';
ALTER TABLE lease DROP COLUMN dropped;
SELECT ok(NOT pg_temp.executor_renews(), 'a lease with a column more, and one dropped, is renewed directly');
SELECT is(extra, 'x', 'and the column is kept') FROM lease WHERE name = 'l';
ROLLBACK TO s;
-- a holder that does not fit on a page
SELECT string_agg(md5(n::text), '') AS long FROM generate_series(1, 3000) n \gset
SELECT FROM lease_acquire('wide', :'long', '1 h');
SELECT FROM lease_renew('wide', :'long');
SELECT ok(holder_identity = :'long', 'a holder stored out of line is kept') FROM lease WHERE name = 'wide';
SELECT is(status, 'renewed', 'and can renew again') FROM lease_renew('wide', :'long');
ROLLBACK TO s;
SELECT is(status, 'renewed', 'after all that the lease is renewed') FROM lease_renew('l', 'me');

-- a renewal that finds its page full has to make index entries
TRUNCATE lease;
ALTER TABLE lease SET (fillfactor = 100);
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time)
SELECT 'full', 'n' || n, 'me', 3600, clock_timestamp() FROM generate_series(1, 500) n;
SELECT pg_stat_get_xact_tuples_updated('lease'::regclass) AS updated, pg_stat_get_xact_tuples_hot_updated('lease'::regclass) AS hot \gset
SELECT is(array_agg(DISTINCT status), '{renewed}', 'leases on full pages are renewed')
FROM (SELECT (lease_renew('n' || n, 'me', 'full')).status FROM generate_series(1, 10) t, generate_series(1, 500) n) r;
SELECT is(pg_stat_get_xact_tuples_updated('lease'::regclass) - :updated, 5000::bigint, 'ten times each');
SELECT cmp_ok(pg_stat_get_xact_tuples_hot_updated('lease'::regclass) - :hot, '<', 5000::bigint, 'not all of that HOT');
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT is(count(*), 500::bigint, 'every row is found by the primary key, once')
FROM generate_series(1, 500) n, LATERAL (SELECT FROM lease WHERE namespace = 'full' AND name = 'n' || n) l;
SELECT is(count(*), 500::bigint, 'and by its token, once')
FROM unnest((SELECT array_agg(fencing_token) FROM lease)) t, LATERAL (SELECT FROM lease WHERE namespace = 'full' AND fencing_token = t) l;
RESET enable_seqscan;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SELECT is(count(*), 500::bigint, 'and without an index') FROM lease WHERE namespace = 'full';
RESET enable_indexscan;
RESET enable_indexonlyscan;
RESET enable_bitmapscan;
SELECT count(*) > 0 AS amcheck_available FROM pg_available_extensions WHERE name = 'amcheck' \gset
\if :amcheck_available
CREATE EXTENSION IF NOT EXISTS amcheck;
SELECT lives_ok(format('SELECT bt_index_check(%L, true)', index), index || ' is sound, and has an entry for every row')
FROM (VALUES ('lease_pkey'), ('lease_fencing_token_key')) i (index);
\else
SELECT skip('amcheck is not available', 2);
\endif

SELECT * FROM finish();
ROLLBACK;
