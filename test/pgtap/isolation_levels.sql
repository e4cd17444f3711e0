-- Every isolation level, savepoints and rollbacks, in one session; what two sessions do to
-- each other is in test/isolation.

-- Transactions that commit need a namespace of their own.
DELETE FROM lease WHERE namespace = 'test-isolation';
BEGIN;
SELECT no_plan();
CREATE TEMP TABLE result (level text, step text, answer text);
COMMIT;

-- One round of everything in a transaction of any level.
CREATE FUNCTION pg_temp.round() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	level text := current_setting('transaction_isolation');
BEGIN
	INSERT INTO result SELECT level, 'acquire', status FROM lease_acquire('l', 'me', '1 h', 'test-isolation');
	INSERT INTO result SELECT level, 'acquire again', status FROM lease_acquire('l', 'me', '1 h', 'test-isolation');
	INSERT INTO result SELECT level, 'renew', status FROM lease_renew('l', 'me', 'test-isolation');
	INSERT INTO result SELECT level, 'renew three times in a statement', string_agg(status, ' ')
	FROM (SELECT (lease_renew('l', 'me', 'test-isolation')).status FROM generate_series(1, 3)) r;
	INSERT INTO result SELECT level, 'renew all', string_agg(status || ' ' || leases, ' ') FROM lease_renew_all('me', NULL, 'test-isolation');
	INSERT INTO result SELECT level, 'rows', count(*)::text FROM lease WHERE namespace = 'test-isolation';
	INSERT INTO result SELECT level, 'acquire what another has', status FROM lease_acquire('l', 'you', '1 h', 'test-isolation');
	INSERT INTO result SELECT level, 'holder', lease_holder('l', 'test-isolation');
	INSERT INTO result SELECT level, 'release', status FROM lease_release('l', 'me', 'test-isolation');
	INSERT INTO result SELECT level, 'acquire what was released', status FROM lease_acquire('l', 'you', '1 h', 'test-isolation');
	UPDATE lease SET renew_time = renew_time - interval '2 h' WHERE namespace = 'test-isolation';
	INSERT INTO result SELECT level, 'renew what has expired', status FROM lease_renew('l', 'you', 'test-isolation');
	INSERT INTO result SELECT level, 'take over', status FROM lease_acquire('l', 'me', '1 h', 'test-isolation');
	INSERT INTO result SELECT level, 'rows after all', count(*)::text FROM lease WHERE namespace = 'test-isolation';
	INSERT INTO result SELECT level, 'transitions', lease_transitions::text FROM lease WHERE namespace = 'test-isolation';
END $$;

BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_temp.round(); COMMIT;
SELECT is(lease_holder('l', 'test-isolation'), 'me', 'READ COMMITTED: it is there after COMMIT');
DELETE FROM lease WHERE namespace = 'test-isolation';
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_temp.round(); COMMIT;
SELECT is(lease_holder('l', 'test-isolation'), 'me', 'REPEATABLE READ: it is there after COMMIT');
DELETE FROM lease WHERE namespace = 'test-isolation';
BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT pg_temp.round(); COMMIT;
SELECT is(lease_holder('l', 'test-isolation'), 'me', 'SERIALIZABLE: it is there after COMMIT');
DELETE FROM lease WHERE namespace = 'test-isolation';

SELECT is(answer, expected, level || ': ' || step)
FROM (VALUES ('acquire', 'acquired'), ('acquire again', 'renewed'), ('renew', 'renewed'), ('renew three times in a statement', 'renewed renewed renewed'),
	('renew all', 'renewed 1'), ('rows', '1'), ('acquire what another has', 'held'), ('holder', 'me'), ('release', 'released'),
	('acquire what was released', 'acquired'), ('renew what has expired', 'expired'), ('take over', 'acquired'), ('rows after all', '1'),
	('transitions', '2')) v (step, expected)
CROSS JOIN (VALUES ('read committed'), ('repeatable read'), ('serializable')) l (level)
LEFT JOIN result USING (level, step);

-- Savepoints, at each level: what is rolled back is as it was before, but for the tokens, which
-- are never issued again.
CREATE FUNCTION pg_temp.the_row() RETURNS text LANGUAGE sql AS $$SELECT l::text FROM lease l WHERE namespace = 'test-isolation' AND name = 'l'$$;
CREATE FUNCTION pg_temp.token() RETURNS bigint LANGUAGE sql AS $$SELECT fencing_token FROM lease WHERE namespace = 'test-isolation' AND name = 'l'$$;


BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT FROM lease_acquire('l', 'me', '1 h', 'test-isolation');
SELECT pg_temp.the_row() AS before, pg_temp.token() AS token \gset
SAVEPOINT s;
SELECT FROM lease_renew('l', 'me', 'test-isolation');
SELECT FROM lease_release('l', 'me', 'test-isolation');
SELECT fencing_token AS lost FROM lease_acquire('l', 'you', '1 h', 'test-isolation') \gset
ROLLBACK TO s;
SELECT is(pg_temp.the_row(), :'before'::text, 'READ COMMITTED: ROLLBACK TO brings back holder, token and times');
SELECT is(status, 'renewed', 'READ COMMITTED: and the lease can be renewed under its token') FROM lease_renew('l', 'me', 'test-isolation', :token);
SAVEPOINT s;
SELECT FROM lease_release('l', 'me', 'test-isolation');
RELEASE s;
SELECT is(lease_holder('l', 'test-isolation'), NULL, 'READ COMMITTED: RELEASE keeps what was done in the savepoint');
SELECT cmp_ok(fencing_token, '>', :lost::bigint, 'READ COMMITTED: the token that was rolled back is not issued again')
FROM lease_acquire('l', 'you', '1 h', 'test-isolation');
ROLLBACK;

BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT FROM lease_acquire('l', 'me', '1 h', 'test-isolation');
SELECT pg_temp.the_row() AS before, pg_temp.token() AS token \gset
SAVEPOINT s;
SELECT FROM lease_renew('l', 'me', 'test-isolation');
SELECT FROM lease_release('l', 'me', 'test-isolation');
SELECT fencing_token AS lost FROM lease_acquire('l', 'you', '1 h', 'test-isolation') \gset
ROLLBACK TO s;
SELECT is(pg_temp.the_row(), :'before'::text, 'REPEATABLE READ: ROLLBACK TO brings back holder, token and times');
SELECT is(status, 'renewed', 'REPEATABLE READ: and the lease can be renewed under its token') FROM lease_renew('l', 'me', 'test-isolation', :token);
SAVEPOINT s;
SELECT FROM lease_release('l', 'me', 'test-isolation');
RELEASE s;
SELECT is(lease_holder('l', 'test-isolation'), NULL, 'REPEATABLE READ: RELEASE keeps what was done in the savepoint');
SELECT cmp_ok(fencing_token, '>', :lost::bigint, 'REPEATABLE READ: the token that was rolled back is not issued again')
FROM lease_acquire('l', 'you', '1 h', 'test-isolation');
ROLLBACK;

BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT FROM lease_acquire('l', 'me', '1 h', 'test-isolation');
SELECT pg_temp.the_row() AS before, pg_temp.token() AS token \gset
SAVEPOINT s;
SELECT FROM lease_renew('l', 'me', 'test-isolation');
SELECT FROM lease_release('l', 'me', 'test-isolation');
SELECT fencing_token AS lost FROM lease_acquire('l', 'you', '1 h', 'test-isolation') \gset
ROLLBACK TO s;
SELECT is(pg_temp.the_row(), :'before'::text, 'SERIALIZABLE: ROLLBACK TO brings back holder, token and times');
SELECT is(status, 'renewed', 'SERIALIZABLE: and the lease can be renewed under its token') FROM lease_renew('l', 'me', 'test-isolation', :token);
SAVEPOINT s;
SELECT FROM lease_release('l', 'me', 'test-isolation');
RELEASE s;
SELECT is(lease_holder('l', 'test-isolation'), NULL, 'SERIALIZABLE: RELEASE keeps what was done in the savepoint');
SELECT cmp_ok(fencing_token, '>', :lost::bigint, 'SERIALIZABLE: the token that was rolled back is not issued again')
FROM lease_acquire('l', 'you', '1 h', 'test-isolation');
ROLLBACK;

-- ROLLBACK
BEGIN;
SELECT fencing_token AS lost FROM lease_acquire('l', 'me', '1 h', 'test-isolation') \gset
ROLLBACK;
SELECT is_empty($$SELECT FROM lease WHERE namespace = 'test-isolation'$$, 'after ROLLBACK there is no lease');
SELECT cmp_ok(fencing_token, '>', :lost::bigint, 'and its token is not issued again') FROM lease_acquire('l', 'me', '1 h', 'test-isolation');
SELECT pg_temp.the_row() AS before, pg_temp.token() AS token \gset
BEGIN;
SELECT FROM lease_renew('l', 'me', 'test-isolation');
SELECT FROM lease_release('l', 'me', 'test-isolation');
ROLLBACK;
SELECT is(pg_temp.the_row(), :'before'::text, 'after ROLLBACK of a renewal and a release the row is as it was');
SELECT is(status, 'renewed', 'and renewed under its token') FROM lease_renew('l', 'me', 'test-isolation', :token);

-- an error caught in PL/pgSQL is a savepoint, too
BEGIN;
DO $$
BEGIN
	PERFORM lease_release('l', 'me', 'test-isolation');
	PERFORM lease_acquire('l', 'you', '1 h', 'test-isolation');
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	NULL;
END $$;
SELECT is(lease_holder('l', 'test-isolation'), 'me', 'a release and an acquisition are undone by an exception');
DO $$
BEGIN
	BEGIN
		PERFORM lease_acquire('Bad', 'me');
	EXCEPTION WHEN invalid_name THEN
		PERFORM lease_release('l', 'me', 'test-isolation');
	END;
END $$;
SELECT is(lease_holder('l', 'test-isolation'), NULL, 'after an error of ours is caught, other calls work');
COMMIT;
SELECT is(lease_holder('l', 'test-isolation'), NULL, 'and are committed');

-- a DO block that commits as it goes
DO $$
BEGIN
	FOR n IN 1 .. 3 LOOP
		PERFORM lease_acquire('do', 'me', '1 h', 'test-isolation');
		PERFORM lease_renew('do', 'me', 'test-isolation');
		COMMIT;
	END LOOP;
	PERFORM lease_release('do', 'me', 'test-isolation');
	ROLLBACK;
END $$;
SELECT is(lease_holder('do', 'test-isolation'), 'me', 'in a DO block COMMIT keeps and ROLLBACK undoes');

DELETE FROM lease WHERE namespace = 'test-isolation';
BEGIN;
SELECT * FROM finish();
ROLLBACK;
