-- Rows written by hand: the trigger keeps what the server decides, and tokens.
BEGIN;
SELECT plan(36);

CREATE FUNCTION pg_temp.token(name text) RETURNS bigint LANGUAGE sql AS 'SELECT fencing_token FROM lease WHERE name = $1';
CREATE FUNCTION pg_temp.version(name text) RETURNS bigint LANGUAGE sql AS 'SELECT resource_version FROM lease WHERE name = $1';

SELECT fencing_token AS first FROM lease_acquire('l', 'a', '1 h') \gset

-- what is immutable
SELECT throws_ok('UPDATE lease SET ' || assignment || ' WHERE name = ''l''', '23514', 'column "' || column_name || '" of a lease is immutable', column_name || ' is immutable')
FROM (VALUES ('uid', 'uid = gen_random_uuid()'), ('creation_timestamp', $$creation_timestamp = creation_timestamp + '1 s'$$),
	('name', $$name = 'm'$$), ('namespace', $$namespace = 'n'$$)) v (column_name, assignment);
SELECT lives_ok($$UPDATE lease SET uid = uid, creation_timestamp = creation_timestamp, name = name$$, 'writing the same is fine');

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
SELECT pg_temp.version('l') AS v \gset
SELECT status FROM lease_renew('l', 'a') \gset
SELECT cmp_ok(pg_temp.version('l'), '>', :v::bigint, 'a renewal moves it as well');

-- the token
SELECT is(pg_temp.token('l'), :first::bigint, 'all that did not touch the token');
SELECT throws_ok($$UPDATE lease SET fencing_token = fencing_token + 1$$, '23514', 'column "fencing_token" of a lease cannot be set', 'nobody sets a token forwards');
SELECT throws_ok($$UPDATE lease SET fencing_token = 1000000$$, '23514', NULL, 'or far ahead');
SELECT throws_ok($$UPDATE lease SET fencing_token = NULL$$, '23514', NULL, 'or to nothing');
UPDATE lease SET holder_identity = 'b' WHERE name = 'l';
SELECT cmp_ok(pg_temp.token('l'), '>', :first::bigint, 'another holder by hand: another token');
SELECT is(status, 'held', 'and the old one has lost it') FROM lease_renew('l', 'a');
SELECT pg_temp.token('l') AS t \gset
UPDATE lease SET holder_identity = '' WHERE name = 'l';
SELECT cmp_ok(pg_temp.token('l'), '>', :t::bigint, 'released by hand: another token');
SELECT pg_temp.token('l') AS t \gset
UPDATE lease SET holder_identity = NULL WHERE name = 'l';
SELECT cmp_ok(pg_temp.token('l'), '>', :t::bigint, 'NULL is not empty');
SELECT pg_temp.token('l') AS t \gset
UPDATE lease SET holder_identity = NULL, renew_time = clock_timestamp(), lease_duration_seconds = 5 WHERE name = 'l';
SELECT is(pg_temp.token('l'), :t::bigint, 'the same holder: the same token');

-- a token that was issued for one lease cannot be put into another
SELECT fencing_token AS stolen FROM lease_acquire('mine', 'thief') \gset
SELECT throws_ok('UPDATE lease SET fencing_token = ' || :stolen || ' WHERE name = ''l''', '23514', NULL, 'not even one that this session was just given');

-- delete and re-create
SELECT fencing_token AS t FROM lease_acquire('again', 'a') \gset
DELETE FROM lease WHERE name = 'again';
INSERT INTO lease (name) VALUES ('again');
SELECT cmp_ok(pg_temp.token('again'), '>', :t::bigint, 'made again by hand: a greater token');
SELECT pg_temp.token('again') AS t \gset
DELETE FROM lease WHERE name = 'again';
SELECT cmp_ok(fencing_token, '>', :t::bigint, 'made again by lease_acquire(): a greater token') FROM lease_acquire('again', 'a');

-- tokens are not rolled back
SAVEPOINT s;
SELECT fencing_token AS t FROM lease_acquire('rolled-back', 'a') \gset
ROLLBACK TO s;
SELECT cmp_ok(fencing_token, '>', :t::bigint, 'a token that was rolled back is not issued again') FROM lease_acquire('rolled-back', 'a');

-- the owner may bring a token along, as a restore does; those after it are greater
INSERT INTO lease (name, fencing_token, resource_version) VALUES ('restored', 1000000, 4711);
SELECT is(pg_temp.token('restored'), 1000000::bigint, 'the owner''s token is kept');
SELECT is(pg_temp.version('restored'), 4711::bigint, 'and so is the resource_version');
SELECT cmp_ok(fencing_token, '>', 1000000::bigint, 'tokens issued later are greater') FROM lease_acquire('later', 'a');
INSERT INTO lease (name, fencing_token) VALUES ('restored-older', 500000);
SELECT is(pg_temp.token('restored-older'), 500000::bigint, 'rows come back in any order');
SELECT cmp_ok(fencing_token, '>', 1000000::bigint, 'and the sequence does not go back') FROM lease_acquire('later-still', 'a');

CREATE ROLE lease_test_writer;
GRANT SELECT, INSERT, UPDATE ON lease TO lease_test_writer;
SET LOCAL ROLE lease_test_writer;
INSERT INTO lease (name, fencing_token) VALUES ('forged', 7);
RESET ROLE;
SELECT cmp_ok(pg_temp.token('forged'), '>', 1000000::bigint, 'anybody else''s is replaced');
SELECT is(has_sequence_privilege('lease_test_writer', 'lease_fencing_token_seq', 'USAGE, UPDATE, SELECT'), false, 'without a privilege on the sequence');

-- times
SELECT throws_ok('UPDATE lease SET ' || column_name || ' = ' || quote_literal(value), '22008', 'column "' || column_name || '" of a lease must be finite', column_name || ' = ' || value)
FROM (VALUES ('acquire_time', 'infinity'), ('renew_time', 'infinity'), ('renew_time', '-infinity')) v (column_name, value);
SELECT throws_ok($$INSERT INTO lease (name, creation_timestamp) VALUES ('x', 'infinity')$$, '22008', NULL, 'creation_timestamp = infinity');

-- the trigger is the table's own
CREATE TEMP TABLE other (a int);
CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION lease_on_write();
SELECT throws_ok($$INSERT INTO other VALUES (1)$$, '42703', NULL, 'on another table it says what is wrong');
CREATE TRIGGER after AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION lease_on_write();
SELECT throws_ok($$UPDATE lease SET labels = '{}' WHERE name = 'l'$$, '39P01', NULL, 'and at another time, too');

SELECT * FROM finish();
ROLLBACK;
