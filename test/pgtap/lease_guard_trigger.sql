-- lease_guard_trigger(): a table that only the holder of a lease can write to.
BEGIN;
SELECT no_plan();

CREATE TEMP TABLE t (x int PRIMARY KEY);
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON t
	FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('fence', 'l');
SELECT fencing_token AS token FROM lease_acquire('l', 'me', '1 h', 'fence') \gset

-- without a token
CREATE TEMP TABLE writes (sql text);
INSERT INTO writes VALUES
	('INSERT INTO t VALUES (1)'), ('INSERT INTO t SELECT 1 WHERE false'), ('UPDATE t SET x = 2'), ('DELETE FROM t'), ('TRUNCATE t'),
	('INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING'),
	('MERGE INTO t USING (VALUES (1)) v (x) ON t.x = v.x WHEN NOT MATCHED THEN INSERT VALUES (v.x)'),
	('WITH w AS (DELETE FROM t RETURNING x) SELECT * FROM w');
SELECT throws_ok(sql, 'LS001', 'cannot write to table "t" without holding lease "l" in namespace "fence"', 'refused without a token: ' || sql) FROM writes;
CREATE FUNCTION pg_temp.error_of(sql text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE detail text; hint text; tab text;
BEGIN
	EXECUTE sql;
	RETURN NULL;
EXCEPTION WHEN SQLSTATE 'LS001' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, tab = TABLE_NAME;
	RETURN jsonb_build_object('detail', detail, 'hint', hint, 'table', tab);
END $$;
SELECT matches(e ->> 'detail', '^It is held by "me" under fencing token', 'the error names the holder') FROM pg_temp.error_of('DELETE FROM t') e;
SELECT is(e ->> 'hint', 'Call lease_guard() before, or set lease.fencing_tokens to the token that lease_acquire() returned.', 'and the next step') FROM pg_temp.error_of('DELETE FROM t') e;
SELECT is(e ->> 'table', 't', 'and the table, for programs') FROM pg_temp.error_of('DELETE FROM t') e;
SELECT lives_ok('SELECT * FROM t', 'reading is free');

-- with the token of this transaction or session
SAVEPOINT s;
SELECT lease_guard('l', :token, 'fence');
SELECT lives_ok(sql, 'after lease_guard(): ' || sql) FROM writes;
ROLLBACK TO s;
SELECT throws_ok(format('SELECT lease_guard(''l'', %s, ''fence'')', :token + 1000), 'LS001', NULL, 'a guard that is refused');
SELECT throws_ok('DELETE FROM t', 'LS001', NULL, 'is none; and one that was rolled back is forgotten');
SAVEPOINT outer_one;
SELECT lease_guard('l', :token, 'fence');
SAVEPOINT inner_one;
ROLLBACK TO inner_one;
RELEASE outer_one;
SELECT lives_ok('DELETE FROM t', 'one before a savepoint that is rolled back stays');
ROLLBACK TO s;
SAVEPOINT s;
SET LOCAL lease.fencing_tokens = :token;
SELECT lives_ok(sql, 'with the setting: ' || sql) FROM writes;
SELECT lease_guard('l', :token, 'fence');
SET LOCAL lease.fencing_tokens = '';
SELECT lives_ok('DELETE FROM t', 'a guard stands for itself, whatever the setting was then');
ROLLBACK TO s;
SAVEPOINT s;
SELECT set_config('lease.fencing_tokens', format('1, %s ,2', :token), true);
SELECT lives_ok('DELETE FROM t', 'one of several tokens is enough');
ROLLBACK TO s;
SELECT throws_ok('DELETE FROM t', 'LS001', NULL, 'what SET LOCAL said is over with its transaction or savepoint');
SELECT set_config('lease.fencing_tokens', format('%s,%s', :token + 1000, :token + 1001), true);
SELECT throws_ok('DELETE FROM t', 'LS001', NULL, 'other tokens are not enough');
SELECT throws_ok(format('SET lease.fencing_tokens = %L', v), '22023', NULL, format('refused as a list of tokens: "%s"', v))
FROM unnest('{x,0,-1,"1,","1;2","1 2",",1",9223372036854775808,1.5}'::text[]) v;
SELECT lives_ok(format('SET LOCAL lease.fencing_tokens = %L', v), format('accepted: "%s"', v))
FROM unnest(ARRAY['', ' ', '1', '9223372036854775807', '1,2,3', ' 1 , 2 ']) v;

-- the trigger guards: from the write on, the lease is locked like by lease_guard()
SET LOCAL lease.fencing_tokens = :token;
SAVEPOINT s;
UPDATE lease SET renew_time = '2000-01-01' WHERE namespace = 'fence';
SELECT throws_ok('DELETE FROM t', 'LS001', NULL, 'an expired lease is not held');
SELECT matches(e ->> 'detail', '^It expired at 2000-01-01', 'says the error') FROM pg_temp.error_of('DELETE FROM t') e;
ROLLBACK TO s;
DELETE FROM lease WHERE namespace = 'fence';
SELECT is(e ->> 'detail', 'There is no such lease.', 'nor is a missing one') FROM pg_temp.error_of('DELETE FROM t') e;
ROLLBACK TO s;
SELECT FROM lease_release('l', 'me', 'fence');
SELECT is(e ->> 'detail', 'Nobody holds it.', 'nor a released one') FROM pg_temp.error_of('DELETE FROM t') e;
ROLLBACK TO s;

-- session_replication_role
SET LOCAL lease.fencing_tokens = '';
SET LOCAL session_replication_role = replica;
SELECT lives_ok('DELETE FROM t', 'an ordinary trigger does not fire for a replication role');
ALTER TABLE t ENABLE ALWAYS TRIGGER fence;
SELECT throws_ok('DELETE FROM t', 'LS001', NULL, 'one that is ENABLE ALWAYS does');
RESET session_replication_role;

-- for each row, which is what logical replication fires
DROP TRIGGER fence ON t;
SET LOCAL lease.fencing_tokens = '';
INSERT INTO t VALUES (1);
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION lease_guard_trigger('fence', 'l');
SELECT throws_ok(sql, 'LS001', NULL, 'refused row by row: ' || sql) FROM (VALUES ('INSERT INTO t VALUES (7)'), ('UPDATE t SET x = 2'), ('DELETE FROM t')) v (sql);
SELECT lives_ok('DELETE FROM t WHERE false', 'without a row there is nothing to refuse');
SET LOCAL lease.fencing_tokens = :token;
SELECT lives_ok('INSERT INTO t VALUES (7)', 'with the token rows are inserted');
SELECT lives_ok('UPDATE t SET x = x + 10', 'updated');
SELECT results_eq('SELECT x FROM t ORDER BY x', 'VALUES (11), (17)', 'as they should be');
SELECT lives_ok('DELETE FROM t', 'and deleted');
SELECT is_empty('SELECT FROM t', 'all of them');
DROP TRIGGER fence ON t;

-- one argument: a lease in namespace default
SELECT fencing_token AS token FROM lease_acquire('l', 'me', '1 h') \gset
CREATE TRIGGER fence BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
SELECT throws_ok('INSERT INTO t VALUES (1)', 'LS001', 'cannot write to table "t" without holding lease "l" in namespace "default"', 'the token of another lease is not enough');
SET LOCAL lease.fencing_tokens = :token;
SELECT lives_ok('INSERT INTO t VALUES (1)', 'its own is');
DROP TRIGGER fence ON t;

-- misuse
CREATE FUNCTION pg_temp.misuse(definition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'CREATE TRIGGER fence ' || definition;
	INSERT INTO t VALUES (99);
	RETURN 'no error';
EXCEPTION WHEN SQLSTATE '39P01' OR SQLSTATE '42602' OR SQLSTATE '22023' THEN
	RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.misuse('BEFORE INSERT ON t EXECUTE FUNCTION lease_guard_trigger()'), '39P01', 'without arguments');
SELECT is(pg_temp.misuse('BEFORE INSERT ON t EXECUTE FUNCTION lease_guard_trigger(''a'', ''b'', ''c'')'), '39P01', 'with three');
SELECT is(pg_temp.misuse('AFTER INSERT ON t EXECUTE FUNCTION lease_guard_trigger(''l'')'), '39P01', 'after the event');
SELECT is(pg_temp.misuse('BEFORE INSERT ON t EXECUTE FUNCTION lease_guard_trigger(''L'')'), '42602', 'a name no lease can have');
SELECT is(pg_temp.misuse('BEFORE INSERT ON t EXECUTE FUNCTION lease_guard_trigger('''', ''l'')'), '22023', 'an empty namespace');
SELECT throws_ok('SELECT lease_guard_trigger()', '39P01', NULL, 'not as a trigger at all');

SELECT * FROM finish();
ROLLBACK;
