-- The two ways to a row, direct and through the executor, give the same answers and leave
-- the same rows; and the direct one is not taken where it would bypass something.
BEGIN;
SELECT no_plan();

-- A little of everything; what is told and what is written, without times and ids.
CREATE FUNCTION pg_temp.scenario() RETURNS TABLE (step text, answer text, row_after text) LANGUAGE plpgsql AS $$
DECLARE
	call text;
	n int := 0;
BEGIN
	DELETE FROM lease;
	INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time, lease_transitions, labels)
	VALUES ('l', 'gone', 10, clock_timestamp() - interval '1 h', 3, '{"a": "b"}');
	FOREACH call IN ARRAY ARRAY[
		$c$lease_renew('l', 'gone')$c$, $c$lease_renew('l', 'a')$c$, $c$lease_acquire('l', 'a', '1 h')$c$,
		$c$lease_acquire('l', 'a', '1 h')$c$, $c$lease_acquire('l', 'a', '2 h')$c$, $c$lease_acquire('l', 'b', '1 h')$c$,
		$c$lease_renew('l', 'a')$c$, $c$lease_renew('l', 'a', 'default', 1)$c$, $c$lease_renew('l', 'b')$c$, $c$lease_release('l', 'b')$c$,
		$c$lease_renew_all('a')$c$, $c$lease_renew_all('a', '{l,m}')$c$, $c$lease_renew_all('b', '{l,m}')$c$,
		$c$lease_release('l', 'a')$c$, $c$lease_release('l', 'a')$c$, $c$lease_renew('l', 'a')$c$, $c$lease_acquire('l', 'b', '1 s')$c$,
		$c$lease_renew('m', 'a')$c$, $c$lease_acquire('m', 'a', '1 h')$c$, $c$lease_renew('m', 'a')$c$]
	LOOP
		n := n + 1;
		step := n || ' ' || call;
		EXECUTE format('SELECT string_agg((to_jsonb(r) - ''fencing_token'' - ''expires_at'' - ''expires_in'')::text, '' '') FROM %s r', call) INTO answer;
		SELECT string_agg((to_jsonb(l) - 'uid' - 'resource_version' - 'creation_timestamp' - 'acquire_time' - 'renew_time' - 'fencing_token'
			|| jsonb_build_object('token', dense_rank, 'fresh', clock_timestamp() - l.renew_time < interval '10 s'))::text, ' ' ORDER BY l.name)
		FROM (SELECT *, dense_rank() OVER (ORDER BY fencing_token) FROM lease) l INTO row_after;
		RETURN NEXT;
	END LOOP;
	DELETE FROM lease;
END $$;

-- Was an UPDATE executed?  A trigger of the user's knows.
CREATE TABLE fired (n int);
CREATE FUNCTION pg_temp.count() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO fired VALUES (1); RETURN NEW; END$$;

CREATE TABLE direct AS SELECT * FROM pg_temp.scenario();
CREATE TRIGGER count BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.count();
CREATE TABLE executor AS SELECT * FROM pg_temp.scenario();
SELECT is(e.answer || ' -> ' || e.row_after, d.answer || ' -> ' || d.row_after, d.step)
FROM direct d JOIN executor e USING (step) ORDER BY split_part(step, ' ', 1)::int;
SELECT cmp_ok(count(*), '=', 20::bigint, 'all of it was compared') FROM direct JOIN executor USING (step);
SELECT cmp_ok(count(*), '>', 5::bigint, 'and the trigger of the user saw the updates') FROM fired;

-- what a user adds is honoured by a renewal
SELECT FROM lease_acquire('l', 'me', '1 h');
TRUNCATE fired;
SELECT FROM lease_renew('l', 'me');
SELECT is(count(*), 1::bigint, 'a trigger fires') FROM fired;
DROP TRIGGER count ON lease;
TRUNCATE fired;
SELECT FROM lease_renew('l', 'me');
SELECT is(count(*), 0::bigint, 'until it is dropped') FROM fired;

SAVEPOINT s;
CREATE FUNCTION pg_temp.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER suppress BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.suppress();
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '09000', 'lease was not written', 'a trigger that suppresses the update: nothing is acknowledged');
ROLLBACK TO s;
ALTER TABLE lease ADD CONSTRAINT no_more CHECK (renew_time < '2020-01-01') NOT VALID;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '23514', NULL, 'a constraint on renew_time');
ROLLBACK TO s;
ALTER TABLE lease ADD CONSTRAINT short CHECK (lease_duration_seconds <= 3600);
SELECT is(status, 'renewed', 'a constraint on the duration: the same one') FROM lease_acquire('l', 'me', '1 h');
SELECT throws_ok($$SELECT lease_acquire('l', 'me', '2 h')$$, '23514', NULL, 'and a longer one');
ROLLBACK TO s;
ALTER TABLE lease ADD CONSTRAINT no_more CHECK (lease IS NULL) NOT VALID;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '23514', NULL, 'a constraint on the whole row');
ROLLBACK TO s;
ALTER TABLE lease ADD COLUMN version_mod bigint GENERATED ALWAYS AS (resource_version % 1000) STORED;
SELECT FROM lease_renew('l', 'me');
SELECT is(version_mod, resource_version % 1000, 'a generated column') FROM lease WHERE name = 'l';
ROLLBACK TO s;
CREATE RULE no_updates AS ON UPDATE TO lease DO INSTEAD NOTHING;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '09000', NULL, 'a rule');
ROLLBACK TO s;
CREATE TABLE referencing (namespace text, name text, FOREIGN KEY (namespace, name) REFERENCES lease);
SELECT is(status, 'renewed', 'a foreign key to it') FROM lease_renew('l', 'me');
ROLLBACK TO s;
ALTER TABLE lease DROP CONSTRAINT lease_pkey;
SELECT is(status, 'renewed', 'without its primary key: slow, but right') FROM lease_renew('l', 'me');
ROLLBACK TO s;
ALTER TABLE lease DISABLE TRIGGER lease_on_write;
SELECT is(status, 'renewed', 'without its trigger') FROM lease_renew('l', 'me');
ROLLBACK TO s;
ALTER TABLE lease ADD COLUMN extra text DEFAULT 'x';
SELECT is(status, 'renewed', 'with a column more') FROM lease_renew('l', 'me');
SELECT is(extra, 'x', 'which is kept') FROM lease WHERE name = 'l';
ROLLBACK TO s;
SELECT is(status, 'renewed', 'and after all that') FROM lease_renew('l', 'me');

-- a renewal that finds its page full has to make index entries
ALTER TABLE lease SET (fillfactor = 100);
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time)
SELECT 'full', 'n' || n, 'me', 3600, clock_timestamp() FROM generate_series(1, 500) n;
SELECT is(count(*), 5000::bigint, 'many renewals on full pages')
FROM generate_series(1, 10), generate_series(1, 500) n, LATERAL lease_renew('n' || n, 'me', 'full') WHERE renewed;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT is(count(*), 500::bigint, 'every row is found by index, once')
FROM generate_series(1, 500) n, LATERAL (SELECT FROM lease WHERE namespace = 'full' AND name = 'n' || n) l;
RESET enable_seqscan;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SELECT is(count(*), 500::bigint, 'and without') FROM lease WHERE namespace = 'full';
CREATE EXTENSION amcheck;
SELECT lives_ok(format('SELECT bt_index_check(%L, true)', index), index || ' is sound')
FROM (VALUES ('lease_pkey'), ('lease_fencing_token_key')) i (index);

SELECT * FROM finish();
ROLLBACK;
