-- views lease_warnings and lease_lockers, as far as one session can show them; the
-- rest, with other sessions and with time, is in test/t/085_warnings.pl.
-- What other tests have left behind would be warned of.
VACUUM lease;

BEGIN;
SELECT no_plan();

SELECT columns_are('lease_warnings', ARRAY['warning', 'namespace', 'name', 'pid', 'query', 'since', 'duration', 'value', 'detail'], 'lease_warnings has these columns');
SELECT columns_are('lease_lockers', ARRAY['namespace', 'name', 'lock_mode', 'pid', 'prepared', 'since', 'state', 'query', 'expires_at'], 'lease_lockers has these columns');
SELECT ok(reloptions @> '{security_invoker=true}', relname || ' uses the privileges of who asks') FROM pg_class WHERE oid IN ('lease_warnings'::regclass, 'lease_lockers'::regclass);
SELECT is_empty($$SELECT attrelid::regclass, attname FROM pg_attribute WHERE attrelid IN ('lease_warnings'::regclass, 'lease_lockers'::regclass)
	AND atttypid = 'text'::regtype AND attcollation = 0$$, 'texts have a collation');

-- Who has the row locked, and how
INSERT INTO lease (name, holder_identity, lease_duration_seconds, acquire_time, renew_time)
SELECT name, 'me', 60, clock_timestamp(), clock_timestamp() FROM unnest('{none,key-share,share,no-key-update,update,changed,token,deleted,stronger,weaker,back}'::text[]) name;
SELECT is_empty('SELECT * FROM lease_lockers', 'who has inserted a row does not have it locked');

SELECT FROM lease WHERE name = 'key-share' FOR KEY SHARE;
SELECT FROM lease WHERE name = 'share' FOR SHARE;
SELECT FROM lease WHERE name = 'no-key-update' FOR NO KEY UPDATE;
SELECT FROM lease WHERE name = 'update' FOR UPDATE;
SELECT FROM lease WHERE name = 'stronger' FOR KEY SHARE;
SAVEPOINT s;
SELECT FROM lease WHERE name = 'stronger' FOR UPDATE;
SELECT FROM lease WHERE name = 'weaker' FOR UPDATE;
SAVEPOINT t;
SELECT FROM lease WHERE name = 'weaker' FOR KEY SHARE;
SELECT FROM lease WHERE name = 'back' FOR UPDATE;
ROLLBACK TO t;
SELECT results_eq('SELECT name, lock_mode FROM lease_lockers ORDER BY name',
	$$VALUES ('key-share' COLLATE "C", 'FOR KEY SHARE'), ('no-key-update', 'FOR NO KEY UPDATE'), ('share', 'FOR SHARE'), ('stronger', 'FOR UPDATE'),
		('update', 'FOR UPDATE'), ('weaker', 'FOR UPDATE')$$,
	'each lock with its mode, the strongest of the transaction; none that was rolled back');
SELECT is_empty($$SELECT * FROM lease_lockers WHERE (pid, prepared, since, state) IS DISTINCT FROM (pg_backend_pid(), NULL, now(), 'active')
	OR query NOT LIKE '%lease_lockers%'$$, 'with the session, the start of its transaction, its state and its query');
SELECT is_empty($$SELECT * FROM lease_lockers k JOIN lease_status s USING (namespace, name) WHERE k.expires_at IS DISTINCT FROM s.expires_at$$,
	'and the time at which the lease expires');
SELECT is(count(*), 6::bigint, 'by the topmost transaction, once') FROM lease l, lease_row_lockers(l.ctid) k WHERE k.transaction_id = pg_current_xact_id()::xid;

-- The version that was changed still stands there.
CREATE TEMP TABLE version AS SELECT name, ctid AS tid FROM lease;
UPDATE lease SET labels = '{"a": "b"}' WHERE name = 'changed';
UPDATE lease SET holder_identity = 'you' WHERE name = 'token';
DELETE FROM lease WHERE name = 'deleted';
SELECT results_eq($$SELECT v.name, k.lock_mode FROM version v, lease_row_lockers(v.tid) k WHERE v.name IN ('changed', 'token', 'deleted') ORDER BY 1$$,
	$$VALUES ('changed' COLLATE "C", 'FOR NO KEY UPDATE'), ('deleted', 'FOR UPDATE'), ('token', 'FOR UPDATE')$$, 'a change is a lock');

-- What is no row version
SELECT is_empty(format('SELECT * FROM lease_row_lockers(%L)', tid), 'nobody has locked ' || tid)
FROM unnest('{"(0,0)","(0,65535)","(100000,1)","(4294967295,1)"}'::text[]) tid;
SELECT is_empty('SELECT * FROM lease_row_lockers(NULL)', 'nor NULL');

-- What is set up badly
SELECT is_empty($$SELECT * FROM lease_warnings WHERE warning NOT IN ('not durable')$$, 'no warnings to begin with, but that these tests run without fsync');
SELECT is(count(*), 1::bigint, 'which is warned of') FROM lease_warnings WHERE warning = 'not durable';
SELECT ok(detail ~ 'fsync', 'and what to do') FROM lease_warnings WHERE warning = 'not durable';

ALTER TABLE lease SET (autovacuum_enabled = off);
SELECT is(count(*), 1::bigint, 'autovacuum is off for the table') FROM lease_warnings WHERE warning = 'autovacuum off';
ALTER TABLE lease SET (autovacuum_enabled = yes, autovacuum_vacuum_threshold = 10);
SELECT is_empty($$SELECT FROM lease_warnings WHERE warning = 'autovacuum off'$$, 'it is on');
ALTER TABLE lease RESET (autovacuum_enabled, autovacuum_vacuum_threshold, fillfactor);
SELECT is_empty($$SELECT FROM lease_warnings WHERE warning = 'autovacuum off'$$, 'on if nothing is said');
SET LOCAL track_counts = off;
SELECT is(count(*), 1::bigint, 'it does not run without track_counts') FROM lease_warnings WHERE warning = 'autovacuum off';
SET LOCAL track_counts = on;

CREATE INDEX hot ON lease (name, renew_time);
CREATE INDEX cold ON lease (holder_identity);
SELECT results_eq($$SELECT substring(detail FROM 'because of .*') FROM lease_warnings WHERE warning = 'index on renewals'$$, $$VALUES ('because of hot')$$, 'an index on what renewals change');
DROP INDEX hot;
CREATE INDEX hot ON lease (name) WHERE resource_version > 5;
SELECT is(count(*), 1::bigint, 'or that depends on the version') FROM lease_warnings WHERE warning = 'index on renewals';
DROP INDEX hot;
SELECT is_empty($$SELECT FROM lease_warnings WHERE warning = 'index on renewals'$$, 'gone');

-- The clock was not set, as far as known.
SELECT is(steps, 0::bigint, 'no steps of the clock') FROM lease_clock_steps();
SELECT ok(last_step IS NULL AND last_step_at IS NULL, 'and no last one') FROM lease_clock_steps();

-- An ordinary role sees less, but no error.
CREATE ROLE lease_test_looker;
CREATE ROLE lease_test_nobody;
GRANT SELECT ON lease_warnings, lease_lockers TO lease_test_nobody, lease_test_looker;
GRANT SELECT ON lease TO lease_test_looker;
CREATE TEMP TABLE superuser AS SELECT warning, count(*) FROM lease_warnings GROUP BY 1;
GRANT SELECT ON superuser, version TO lease_test_looker;
SET LOCAL ROLE lease_test_looker;
SELECT results_eq('SELECT warning, count(*) FROM lease_warnings GROUP BY 1', 'SELECT * FROM superuser', 'a role with SELECT on lease is warned, too');
SELECT is(count(*), 8::bigint, 'and sees who has locked what') FROM lease_lockers;
SELECT is(count(*), 0::bigint, 'but what it may not see in pg_stat_activity') FROM lease_lockers WHERE since IS NOT NULL OR query <> '<insufficient privilege>';
SET LOCAL ROLE lease_test_nobody;
SELECT throws_ok('SELECT * FROM lease_lockers', '42501', 'permission denied for table lease', 'nothing without SELECT on lease: lease_lockers');
SELECT throws_ok('SELECT * FROM lease_warnings', '42501', 'permission denied for table lease', 'nothing without SELECT on lease: lease_warnings');
SELECT throws_ok($$SELECT lease_row_lockers('(0,1)')$$, '42501', 'permission denied for table lease', 'nothing without SELECT on lease: lease_row_lockers()');
RESET ROLE;

-- Row-level security is PostgreSQL's own.
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY share ON lease TO lease_test_looker USING (name = 'share');
SET LOCAL ROLE lease_test_looker;
SELECT results_eq('SELECT name FROM lease_lockers', $$VALUES ('share' COLLATE "C")$$, 'with row-level security only lockers of rows that one may see');
RESET ROLE;

-- In a hostile search_path, and in another schema
CREATE SCHEMA hostile;
CREATE TABLE hostile.lease (LIKE lease);
SET LOCAL search_path = hostile, public;
SELECT isnt(count(*), 0::bigint, 'whatever the search_path is') FROM public.lease_lockers;
SELECT is(count(*), 1::bigint, 'lease_warnings as well') FROM public.lease_warnings WHERE warning = 'not durable';
DROP EXTENSION lease;
CREATE SCHEMA elsewhere;
CREATE EXTENSION lease SCHEMA elsewhere;
INSERT INTO elsewhere.lease (name) VALUES ('l');
SELECT FROM elsewhere.lease FOR UPDATE;
SELECT is(lock_mode, 'FOR UPDATE', 'in another schema') FROM elsewhere.lease_lockers;
ALTER TABLE elsewhere.lease SET (autovacuum_enabled = off);
SELECT is(count(*), 1::bigint, 'lease_warnings as well') FROM elsewhere.lease_warnings WHERE warning = 'autovacuum off';

SELECT * FROM finish();
ROLLBACK;
