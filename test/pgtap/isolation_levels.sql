-- Every isolation level, savepoints and rollbacks, in one session; what two sessions do to
-- each other is in test/isolation.
BEGIN;
SELECT no_plan();
CREATE TABLE result (level text, step text, answer text);
COMMIT;

\set cycle 'INSERT INTO result SELECT current_setting(''transaction_isolation''), ''acquire'', status FROM lease_acquire(''l'', ''me'', ''1 h''); INSERT INTO result SELECT current_setting(''transaction_isolation''), ''again'', status FROM lease_acquire(''l'', ''me'', ''1 h''); INSERT INTO result SELECT current_setting(''transaction_isolation''), ''renew'', status FROM lease_renew(''l'', ''me''); INSERT INTO result SELECT current_setting(''transaction_isolation''), ''all'', status FROM lease_renew_all(''me''); INSERT INTO result SELECT current_setting(''transaction_isolation''), ''lose'', status FROM lease_acquire(''l'', ''you'', ''1 h''); INSERT INTO result SELECT current_setting(''transaction_isolation''), ''holder'', lease_holder(''l''); INSERT INTO result SELECT current_setting(''transaction_isolation''), ''release'', status FROM lease_release(''l'', ''me''); INSERT INTO result SELECT current_setting(''transaction_isolation''), ''other'', status FROM lease_acquire(''l'', ''you'', ''1 h'');'

BEGIN ISOLATION LEVEL READ COMMITTED; :cycle COMMIT; DELETE FROM lease WHERE name = 'l';
BEGIN ISOLATION LEVEL REPEATABLE READ; :cycle COMMIT; DELETE FROM lease WHERE name = 'l';
BEGIN ISOLATION LEVEL SERIALIZABLE; :cycle COMMIT; DELETE FROM lease WHERE name = 'l';

SELECT is(answer, expected, level || ': ' || step)
FROM (VALUES ('acquire', 'acquired'), ('again', 'renewed'), ('renew', 'renewed'), ('all', 'renewed'), ('lose', 'held'),
	('holder', 'me'), ('release', 'released'), ('other', 'acquired')) v (step, expected)
CROSS JOIN (VALUES ('read committed'), ('repeatable read'), ('serializable')) l (level)
LEFT JOIN result USING (level, step);
DROP TABLE result;

-- one visible row for a key at the higher levels, whatever was done to it
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT FROM lease_renew('l', 'me');
SELECT is(count(*), 1::bigint, 'REPEATABLE READ sees one row after acquire and renew') FROM lease WHERE name = 'l';
SELECT FROM lease_release('l', 'me');
SELECT is(count(*), 1::bigint, 'and after release') FROM lease WHERE name = 'l';
COMMIT;
DELETE FROM lease WHERE name = 'l';

-- savepoints
BEGIN;
SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT fencing_token AS token, renew_time AS renewed FROM lease WHERE name = 'l' \gset
SAVEPOINT s;
SELECT FROM lease_renew('l', 'me');
SELECT FROM lease_release('l', 'me');
SELECT FROM lease_acquire('l', 'you', '1 h');
ROLLBACK TO s;
SELECT is(holder_identity || ' ' || fencing_token || ' ' || (renew_time = :'renewed')::text, 'me ' || :token || ' true',
	'ROLLBACK TO brings back holder, token and times') FROM lease WHERE name = 'l';
SELECT is(status, 'renewed', 'and the lease can be renewed') FROM lease_renew('l', 'me', 'default', :token);
SAVEPOINT s;
SELECT FROM lease_release('l', 'me');
RELEASE s;
SELECT is(lease_holder('l'), NULL, 'RELEASE keeps what was done in it');
COMMIT;
DELETE FROM lease WHERE name = 'l';

BEGIN;
SELECT FROM lease_acquire('l', 'me', '1 h');
ROLLBACK;
SELECT is_empty($$SELECT FROM lease WHERE name = 'l'$$, 'after ROLLBACK there is no lease');

-- an error caught in PL/pgSQL is a savepoint, too
BEGIN;
SELECT FROM lease_acquire('l', 'me', '1 h');
DO $$
BEGIN
	PERFORM lease_release('l', 'me');
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	NULL;
END $$;
SELECT is(lease_holder('l'), 'me', 'a release undone by an exception');
DO $$
BEGIN
	BEGIN
		PERFORM lease_acquire('Bad', 'me');
	EXCEPTION WHEN invalid_name THEN
		PERFORM lease_renew('l', 'me');
	END;
END $$;
SELECT is(status, 'renewed', 'an error of ours caught, and on we go') FROM lease_renew('l', 'me');
COMMIT;
DELETE FROM lease WHERE name = 'l';

BEGIN;
SELECT * FROM finish();
ROLLBACK;
