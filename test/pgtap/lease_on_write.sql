-- Rows written by hand: the trigger keeps what the server decides, and tokens.
BEGIN;
SELECT plan(66);

CREATE FUNCTION pg_temp.token(name text) RETURNS bigint LANGUAGE sql AS 'SELECT fencing_token FROM lease WHERE name = $1';
CREATE FUNCTION pg_temp.version(name text) RETURNS bigint LANGUAGE sql AS 'SELECT resource_version FROM lease WHERE name = $1';

SELECT fencing_token AS first FROM lease_acquire('l', 'a', '1 h') \gset

-- what is immutable
SELECT throws_ok('UPDATE lease SET ' || assignment || ' WHERE name = ''l''', '23514', 'column "' || column_name || '" of a lease is immutable', column_name || ' is immutable')
FROM (VALUES ('uid', 'uid = gen_random_uuid()'), ('creation_timestamp', $$creation_timestamp = creation_timestamp + '1 s'$$),
	('name', $$name = 'm'$$), ('namespace', $$namespace = 'n'$$)) v (column_name, assignment);
SELECT lives_ok($$UPDATE lease SET uid = uid, creation_timestamp = creation_timestamp, name = name$$, 'but may be written again as they are');

-- resource_version
SELECT pg_temp.version('l') AS v \gset
UPDATE lease SET labels = '{"a": "b"}' WHERE name = 'l';
SELECT cmp_ok(pg_temp.version('l'), '>', :v::bigint, 'resource_version moves with a label');
SELECT pg_temp.version('l') AS v \gset
UPDATE lease SET resource_version = 1 WHERE name = 'l';
SELECT cmp_ok(pg_temp.version('l'), '>', :v::bigint, 'and cannot be set back');
SELECT pg_temp.version('l') AS v \gset
UPDATE lease SET resource_version = resource_version WHERE name = 'l';
SELECT cmp_ok(pg_temp.version('l'), '>', :v::bigint, 'it moves with every change, even in the same microsecond');
SELECT ok(to_timestamp(pg_temp.version('l') / 1000000) BETWEEN clock_timestamp() - interval '1 min' AND clock_timestamp() + interval '1 s', 'it is the time of the change');
INSERT INTO lease (name, resource_version) VALUES ('ahead', 4000000000000000);
UPDATE lease SET labels = '{}' WHERE name = 'ahead';
SELECT is(pg_temp.version('ahead'), 4000000000000001, 'it grows also where it is ahead of the clock');
INSERT INTO lease (name, resource_version) VALUES ('made-up', -1);
SELECT ok(to_timestamp(pg_temp.version('made-up') / 1000000) BETWEEN clock_timestamp() - interval '1 min' AND clock_timestamp() + interval '1 s',
	'a row inserted without a version, or with a negative one, has the time of the insertion');
SELECT pg_temp.version('l') AS v \gset
SELECT status FROM lease_renew('l', 'a') \gset
SELECT cmp_ok(pg_temp.version('l'), '>', :v::bigint, 'a renewal moves it as well');

-- the token
SELECT is(pg_temp.token('l'), :first::bigint, 'all that did not touch the token');
SELECT throws_ok($$UPDATE lease SET fencing_token = fencing_token + 1 WHERE name = 'l'$$, '23514', 'column "fencing_token" of a lease cannot be set', 'a token cannot be set to another number');
SELECT throws_ok($$UPDATE lease SET fencing_token = 1000000000 WHERE name = 'l'$$, '23514', NULL, 'nor to one far ahead');
SELECT throws_ok($$UPDATE lease SET fencing_token = NULL WHERE name = 'l'$$, '23514', NULL, 'nor to NULL');
UPDATE lease SET holder_identity = 'b' WHERE name = 'l';
SELECT cmp_ok(pg_temp.token('l'), '>', :first::bigint, 'another holder, written by hand, has another token');
SELECT is(status, 'held', 'and the old one has lost the lease') FROM lease_renew('l', 'a');
SELECT pg_temp.token('l') AS t \gset
UPDATE lease SET holder_identity = '' WHERE name = 'l';
SELECT cmp_ok(pg_temp.token('l'), '>', :t::bigint, 'a release by hand changes the token');
SELECT pg_temp.token('l') AS t \gset
UPDATE lease SET holder_identity = NULL WHERE name = 'l';
SELECT cmp_ok(pg_temp.token('l'), '>', :t::bigint, 'and so does NULL instead of an empty holder');
SELECT pg_temp.token('l') AS t \gset
UPDATE lease SET holder_identity = NULL, renew_time = clock_timestamp(), lease_duration_seconds = 5 WHERE name = 'l';
SELECT is(pg_temp.token('l'), :t::bigint, 'the same holder keeps the token');

-- a token that was issued for one lease cannot be put into another
SELECT fencing_token AS stolen FROM lease_acquire('mine', 'thief') \gset
SELECT throws_ok('UPDATE lease SET fencing_token = ' || :stolen || ' WHERE name = ''l''', '23514', NULL, 'a token that this session was just given cannot be put into another lease');

-- nor one that a row written by hand has got: another session may have issued greater ones since
INSERT INTO lease (namespace, name) VALUES ('elsewhere', 'inserted');
SELECT throws_ok('UPDATE lease SET fencing_token = ' || pg_temp.token('inserted') || ' WHERE name = ''l''', '23514',
	'column "fencing_token" of a lease cannot be set', 'nor can one that a row inserted by hand has got');
INSERT INTO lease (namespace, name) VALUES ('elsewhere', 'updated');
UPDATE lease SET holder_identity = 'a' WHERE name = 'updated';
SELECT throws_ok('UPDATE lease SET fencing_token = ' || pg_temp.token('updated') || ' WHERE name = ''l''', '23514',
	'column "fencing_token" of a lease cannot be set', 'nor one that a holder written by hand has got');

-- delete and re-create
SELECT fencing_token AS t FROM lease_acquire('again', 'a') \gset
DELETE FROM lease WHERE name = 'again';
INSERT INTO lease (name) VALUES ('again');
SELECT cmp_ok(pg_temp.token('again'), '>', :t::bigint, 'a lease deleted and made again by hand has a greater token');
SELECT pg_temp.token('again') AS t \gset
DELETE FROM lease WHERE name = 'again';
SELECT cmp_ok(fencing_token, '>', :t::bigint, 'and so has one made again by lease_acquire()') FROM lease_acquire('again', 'a');

-- tokens are not rolled back
SAVEPOINT s;
SELECT fencing_token AS t FROM lease_acquire('rolled-back', 'a') \gset
ROLLBACK TO s;
SELECT cmp_ok(fencing_token, '>', :t::bigint, 'a token that was rolled back is not issued again') FROM lease_acquire('rolled-back', 'a');

-- a statement that writes many rows gives each a token of its own
INSERT INTO lease (namespace, name) SELECT 'rows', 'n' || n FROM generate_series(1, 10) n;
SELECT is(count(DISTINCT fencing_token), 10::bigint, 'ten rows inserted by one statement have ten tokens') FROM lease WHERE namespace = 'rows';
SELECT max(fencing_token) AS t FROM lease WHERE namespace = 'rows' \gset
UPDATE lease SET holder_identity = 'a' WHERE namespace = 'rows';
SELECT is(count(DISTINCT fencing_token), 10::bigint, 'ten rows given a holder by one statement have ten other tokens')
FROM lease WHERE namespace = 'rows' AND fencing_token > :t;

-- INSERT ... ON CONFLICT and MERGE, for those who apply a manifest
SELECT pg_temp.token('again') AS t \gset
SELECT pg_temp.version('again') AS v \gset
INSERT INTO lease (name, holder_identity) VALUES ('again', 'a')
ON CONFLICT (namespace, name) DO UPDATE SET labels = '{"applied": "once"}', holder_identity = EXCLUDED.holder_identity;
SELECT is(pg_temp.token('again'), :t::bigint, 'ON CONFLICT DO UPDATE with the same holder keeps the token');
SELECT cmp_ok(pg_temp.version('again'), '>', :v::bigint, 'and moves resource_version');
INSERT INTO lease (name, holder_identity) VALUES ('again', 'b')
ON CONFLICT (namespace, name) DO UPDATE SET holder_identity = EXCLUDED.holder_identity;
SELECT cmp_ok(pg_temp.token('again'), '>', :t::bigint, 'with another holder it changes the token');
SELECT pg_temp.token('again') AS t \gset
MERGE INTO lease l USING (VALUES ('again', 'c'), ('merged', 'c')) v (name, holder) ON l.namespace = 'default' AND l.name = v.name
WHEN MATCHED THEN UPDATE SET holder_identity = v.holder
WHEN NOT MATCHED THEN INSERT (name, holder_identity) VALUES (v.name, v.holder);
SELECT ok(pg_temp.token('again') > :t AND pg_temp.token('merged') > :t AND pg_temp.token('again') <> pg_temp.token('merged'),
	'MERGE gives new tokens to what it updates and what it inserts');

-- One lease through everything that can happen to it.  What was rolled back is noted outside.
CREATE TEMP TABLE history (step int GENERATED ALWAYS AS IDENTITY, what text, token bigint);
CREATE FUNCTION pg_temp.note(what text) RETURNS void LANGUAGE sql AS
	'INSERT INTO history (what, token) SELECT $1, fencing_token FROM lease WHERE name = ''life''';
SELECT FROM lease_acquire('life', 'a'); SELECT pg_temp.note('created');
SELECT FROM lease_release('life', 'a'); SELECT pg_temp.note('released');
SELECT FROM lease_acquire('life', 'b'); SELECT pg_temp.note('acquired from released');
UPDATE lease SET renew_time = renew_time - interval '1 h' WHERE name = 'life';
SELECT FROM lease_acquire('life', 'b'); SELECT pg_temp.note('acquired from my own expired');
UPDATE lease SET renew_time = renew_time - interval '1 h' WHERE name = 'life';
SELECT FROM lease_acquire('life', 'c'); SELECT pg_temp.note('taken over');
UPDATE lease SET holder_identity = 'd' WHERE name = 'life'; SELECT pg_temp.note('given away by hand');
UPDATE lease SET holder_identity = 'c' WHERE name = 'life'; SELECT pg_temp.note('and back');
DELETE FROM lease WHERE name = 'life';
SELECT FROM lease_acquire('life', 'c'); SELECT pg_temp.note('deleted and created');
DELETE FROM lease WHERE name = 'life';
INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES ('life', 'c', 1, clock_timestamp() - interval '1 h');
SELECT pg_temp.note('deleted and inserted');
SAVEPOINT s;
SELECT fencing_token AS rolled_back FROM lease_acquire('life', 'e') \gset
ROLLBACK TO s;
INSERT INTO history (what, token) VALUES ('rolled back', :rolled_back);
SELECT FROM lease_acquire('life', 'e'); SELECT pg_temp.note('acquired again');
SELECT is_empty($$SELECT * FROM (SELECT *, token > lag(token, 1, 0::bigint) OVER (ORDER BY step) AS greater FROM history) h WHERE NOT greater$$,
	'over a whole life each token is greater than the one before');
SELECT is(count(*), 11::bigint, 'all eleven of them') FROM history;

-- COPY, as a restore of data alone does it
CREATE FUNCTION pg_temp.copied() RETURNS SETOF lease LANGUAGE sql AS $$SELECT * FROM lease WHERE namespace = 'copied' ORDER BY name$$;
COPY lease (namespace, name, holder_identity) FROM stdin;
copied	x	\N
copied	y	me
\.
SELECT results_eq($$SELECT name, holder_identity, fencing_token > 0, resource_version > 0, uid IS NOT NULL FROM pg_temp.copied()$$,
	$$VALUES ('x' COLLATE "C", NULL::text COLLATE "C", true, true, true), ('y', 'me', true, true, true)$$, 'rows that are copied in get what they lack');
SELECT is(count(DISTINCT fencing_token), 2::bigint, 'among that a token for each') FROM pg_temp.copied();
DELETE FROM lease WHERE namespace = 'copied';
COPY lease (namespace, name, uid, fencing_token, resource_version) FROM stdin;
copied	x	00000000-0000-4000-8000-000000000001	2000000	4711
copied	y	00000000-0000-4000-8000-000000000002	1900000	4712
\.
SELECT results_eq($$SELECT uid, fencing_token, resource_version FROM pg_temp.copied()$$,
	$$VALUES ('00000000-0000-4000-8000-000000000001'::uuid, 2000000::bigint, 4711::bigint), ('00000000-0000-4000-8000-000000000002', 1900000, 4712)$$,
	'and keep what they bring along, in the hands of the owner');
SELECT cmp_ok(fencing_token, '>', 2000000::bigint, 'tokens issued later are greater than all of theirs') FROM lease_acquire('after-copy', 'a');

-- the owner may bring a token along, as a restore does; those after it are greater
INSERT INTO lease (name, fencing_token, resource_version) VALUES ('restored', 300000000000000, 4711);
SELECT is(pg_temp.token('restored'), 300000000000000::bigint, 'the owner''s token is kept');
SELECT is(pg_temp.version('restored'), 4711::bigint, 'and so is the resource_version');
SELECT cmp_ok(fencing_token, '>', 300000000000000::bigint, 'tokens issued later are greater') FROM lease_acquire('later', 'a');
INSERT INTO lease (name, fencing_token) VALUES ('restored-older', 500000);
SELECT is(pg_temp.token('restored-older'), 500000::bigint, 'rows can come back in any order');
SELECT cmp_ok(fencing_token, '>', 300000000000000::bigint, 'and the sequence does not go back') FROM lease_acquire('later-still', 'a');

SELECT throws_ok('INSERT INTO lease (name, fencing_token) VALUES (''far-too-high'', 9223372036854775807)', '22003', 'column "fencing_token" of a lease is out of range', 'but not one after which hardly any could be issued');

CREATE ROLE lease_test_writer;
GRANT SELECT, INSERT, UPDATE ON lease TO lease_test_writer;
SET LOCAL ROLE lease_test_writer;
INSERT INTO lease (name, fencing_token) VALUES ('forged', 7);
INSERT INTO lease (name, fencing_token) VALUES ('far-ahead', 9000000000000000);
RESET ROLE;
SELECT cmp_ok(pg_temp.token('forged'), '>', 300000000000000::bigint, 'a low token of anybody else''s is replaced');
SELECT cmp_ok(pg_temp.token('far-ahead'), '<', 9000000000000000::bigint, 'and so is a high one');
SELECT cmp_ok(pg_temp.token('far-ahead'), '>', pg_temp.token('forged'), 'by one that is greater than those before');
SELECT is(has_sequence_privilege('lease_test_writer', 'lease_fencing_token_seq', 'USAGE, UPDATE, SELECT'), false, 'all that without a privilege on the sequence');

-- times
SELECT throws_ok('UPDATE lease SET ' || column_name || ' = ' || quote_literal(value), '22008', 'column "' || column_name || '" of a lease must be finite', column_name || ' = ' || value)
FROM (VALUES ('acquire_time', 'infinity'), ('acquire_time', '-infinity'), ('renew_time', 'infinity'), ('renew_time', '-infinity')) v (column_name, value);
SELECT throws_ok(format('INSERT INTO lease (name, %I) VALUES (''x'', %L)', column_name, value), '22008',
	'column "' || column_name || '" of a lease must be finite', column_name || ' = ' || value || ' in a new row')
FROM (VALUES ('creation_timestamp'), ('acquire_time'), ('renew_time')) c (column_name), (VALUES ('infinity'), ('-infinity')) v (value);

-- the trigger is the table's own
CREATE TEMP TABLE other (a int);
CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION lease_on_write();
SELECT throws_ok($$INSERT INTO other VALUES (1)$$, '39P01', 'function "lease_on_write" belongs to table "lease" of the extension only', 'on another table the trigger function says what is wrong');
-- it must: with other types in the same columns it would read any memory
CREATE TEMP TABLE fake AS SELECT namespace, name, 4096::bigint AS holder_identity, fencing_token, held_since FROM lease LIMIT 0;
CREATE TRIGGER t AFTER INSERT ON fake FOR EACH ROW EXECUTE FUNCTION lease_after_write();
SELECT throws_ok($$INSERT INTO fake DEFAULT VALUES$$, '39P01', 'function "lease_after_write" belongs to table "lease" of the extension only', 'and so does the other one');
CREATE TRIGGER after AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION lease_on_write();
SELECT throws_ok($$UPDATE lease SET labels = '{}' WHERE name = 'l'$$, '39P01', NULL, 'and at another time than before the change, too');

SELECT throws_ok('SELECT lease_on_write()', '39P01', NULL, 'and it cannot be called outside a trigger');

-- The greatest version there is cannot grow any more.  To refuse it or the change is fine, to start over is not.
DROP TRIGGER after ON lease;
CREATE FUNCTION pg_temp.after_greatest_version() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint;
BEGIN
	INSERT INTO lease (name, resource_version) VALUES ('greatest', 9223372036854775807);
	before := pg_temp.version('greatest');
	UPDATE lease SET labels = '{}' WHERE name = 'greatest';
	RETURN CASE WHEN pg_temp.version('greatest') > before THEN 'greater' ELSE 'smaller' END;
EXCEPTION WHEN data_exception OR check_violation THEN
	RETURN 'refused';
END $$;
SELECT isnt(pg_temp.after_greatest_version(), 'smaller', 'resource_version does not start over after its greatest value');

-- Rows that came around the trigger, as by logical replication, whose sequence does not follow
SET LOCAL session_replication_role = replica;
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, fencing_token, resource_version)
SELECT 'replicated', name, 'h', 1, '2020-01-01'::timestamptz, last_value + ahead, 1 FROM lease_fencing_token_seq, (VALUES ('a', 1000), ('b', 5000)) v (name, ahead);
SET LOCAL session_replication_role = origin;
SELECT cmp_ok(a.fencing_token, '>', l.fencing_token, 'acquired: its token is greater than the one that was replicated') FROM lease l, lease_acquire('a', 'n', namespace => 'replicated') a
WHERE (l.namespace, l.name) = ('replicated', 'a');
SELECT fencing_token AS before FROM lease WHERE (namespace, name) = ('replicated', 'b') \gset
UPDATE lease SET holder_identity = 'n' WHERE (namespace, name) = ('replicated', 'b');
SELECT cmp_ok(fencing_token, '>', :before::bigint, 'so is one that is changed by hand') FROM lease WHERE (namespace, name) = ('replicated', 'b');

SELECT * FROM finish();
ROLLBACK;
