-- Functions run as their caller: GRANT and row-level security decide, on both ways to
-- the rows.
BEGIN;
SELECT no_plan();

CREATE ROLE lease_test_nobody;
CREATE ROLE lease_test_reader;
CREATE ROLE lease_test_updater;
CREATE ROLE lease_test_columns;
CREATE ROLE lease_test_app;
GRANT SELECT ON lease, lease_status, kubectl_get_leases TO lease_test_reader;
GRANT SELECT, UPDATE ON lease TO lease_test_updater;
GRANT SELECT, INSERT, UPDATE ON lease, lease_status, kubectl_get_leases TO lease_test_app;

SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT FROM lease_acquire('l', 'me', '1 h', 'app');
INSERT INTO lease (name) VALUES ('free');

CREATE TEMP TABLE changing (call text);
INSERT INTO changing VALUES ('SELECT lease_acquire(''l'', ''me'')'), ('SELECT lease_acquire(''l'', ''you'')'), ('SELECT lease_acquire(''new'', ''me'')'),
	('SELECT lease_renew(''l'', ''me'')'), ('SELECT lease_renew_all(''me'')'), ('SELECT lease_renew_all(''me'', ''{l}'')'), ('SELECT lease_release(''l'', ''me'')');
CREATE TEMP TABLE asking (call text);
INSERT INTO asking VALUES ('SELECT lease_holder(''l'')'), ('SELECT lease_is_held(''l'')');
GRANT SELECT ON changing, asking TO PUBLIC;

-- what the extension itself grants
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM pg_depend JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid
	WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'lease') AND prosecdef$$,
	'no function runs as its owner');
SELECT is_empty($$SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(relacl) a WHERE c.oid = ANY
	('{lease,lease_status,kubectl_get_leases,lease_fencing_token_seq}'::regclass[]) AND a.grantee = 0$$, 'nothing is granted to everybody');

-- nothing granted
SET LOCAL ROLE lease_test_nobody;
SELECT throws_ok(call, '42501', 'permission denied for table lease', 'without a grant: ' || call) FROM changing;
SELECT throws_ok(call, '42501', 'permission denied for table lease', 'without a grant: ' || call) FROM asking;
SELECT throws_ok('SELECT FROM lease_status', '42501', 'permission denied for view lease_status', 'without a grant: the view lease_status');
SELECT throws_ok('SELECT FROM kubectl_get_leases', '42501', 'permission denied for view kubectl_get_leases', 'without a grant: the view kubectl_get_leases');
SELECT throws_ok($$SELECT nextval('lease_fencing_token_seq')$$, '42501', NULL, 'without a grant: a token');
RESET ROLE;

-- a view, but not the table behind it
GRANT SELECT ON lease_status, kubectl_get_leases TO lease_test_nobody;
SET LOCAL ROLE lease_test_nobody;
SELECT throws_ok('SELECT FROM lease_status', '42501', 'permission denied for table lease', 'lease_status shows nobody what he may not see');
SELECT throws_ok('SELECT FROM kubectl_get_leases', '42501', 'permission denied for table lease', 'nor does kubectl_get_leases');

-- SELECT
SET LOCAL ROLE lease_test_reader;
SELECT is(lease_holder('l'), 'me', 'who may SELECT may ask who the holder is');
SELECT ok(lease_is_held('l'), 'and whether there is one');
SELECT is(status, 'held', 'and look at the view lease_status') FROM lease_status WHERE (namespace, name) = ('default', 'l');
SELECT is(holder, 'me', 'and at the view kubectl_get_leases') FROM kubectl_get_leases WHERE (namespace, name) = ('default', 'l');
SELECT throws_ok($$SELECT lease_acquire('free', 'me')$$, '42501', 'permission denied for table lease', 'but not acquire');
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '42501', 'permission denied for table lease', 'nor renew');
SELECT throws_ok($$SELECT lease_renew_all('me')$$, '42501', 'permission denied for table lease', 'nor renew all');
SELECT throws_ok($$SELECT lease_release('l', 'me')$$, '42501', 'permission denied for table lease', 'nor release');

-- SELECT and UPDATE
SET LOCAL ROLE lease_test_updater;
SELECT is(status, 'acquired', 'who may UPDATE may acquire what is there') FROM lease_acquire('free', 'r');
SELECT is(status, 'renewed', 'and renew it') FROM lease_renew('free', 'r');
SELECT results_eq($$SELECT * FROM lease_renew_all('r')$$, $$VALUES ('renewed', 1::bigint, NULL)$$, 'and all at once');
SELECT throws_ok($$SELECT lease_acquire('new', 'r')$$, '42501', 'permission denied for table lease', 'but not make a lease');
SELECT is(status, 'released', 'and release it') FROM lease_release('free', 'r');
SELECT throws_ok($$SELECT nextval('lease_fencing_token_seq')$$, '42501', NULL, 'tokens are issued to him without a privilege on the sequence');
SELECT throws_ok($$SELECT setval('lease_fencing_token_seq', 1)$$, '42501', NULL, 'and he cannot set them back');

-- An acquisition that fails must not leave its token behind for him to put into another row:
-- somebody else may have got a greater one since.
SELECT throws_ok($$SELECT lease_acquire('new', 'r')$$, '42501', NULL, 'he still cannot make a lease');
RESET ROLE;
SELECT last_value AS left_behind FROM lease_fencing_token_seq \gset
SET LOCAL ROLE lease_test_updater;
SAVEPOINT s;
SELECT throws_ok('UPDATE lease SET fencing_token = ' || :left_behind || ' WHERE namespace = ''app'' AND name = ''l''', '23514',
	'column "fencing_token" of a lease cannot be set', 'nor use the token that was issued for it');
ROLLBACK TO s;
RESET ROLE;

-- some columns: the executor decides, column by column
SAVEPOINT s;
GRANT SELECT ON lease TO lease_test_columns;
GRANT UPDATE (renew_time, lease_duration_seconds) ON lease TO lease_test_columns;
SET LOCAL ROLE lease_test_columns;
SELECT is(status, 'renewed', 'UPDATE on what a renewal writes is enough to renew') FROM lease_renew('l', 'me');
SELECT is(status, 'renewed', 'also by lease_acquire()') FROM lease_acquire('l', 'me', '2 h');
SELECT results_eq($$SELECT * FROM lease_renew_all('me')$$, $$VALUES ('renewed', 1::bigint, NULL)$$, 'and all at once');
SELECT is(fencing_token > 0 AND lease_duration_seconds = 7200 AND clock_timestamp() - renew_time < '10 s', true, 'and it is written') FROM lease WHERE (namespace, name) = ('default', 'l');
SELECT throws_ok($$SELECT lease_release('l', 'me')$$, '42501', 'permission denied for table lease', 'but it is not enough to release');
SELECT throws_ok($$SELECT lease_acquire('free', 'me')$$, '42501', 'permission denied for table lease', 'nor to acquire');
SELECT throws_ok($$UPDATE lease SET holder_identity = 'thief'$$, '42501', 'permission denied for table lease', 'nor to become the holder by hand');
ROLLBACK TO s;
GRANT SELECT ON lease TO lease_test_columns;
GRANT UPDATE (labels) ON lease TO lease_test_columns;
SET LOCAL ROLE lease_test_columns;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '42501', 'permission denied for table lease', 'UPDATE on other columns is not enough to renew');
ROLLBACK TO s;
GRANT SELECT (namespace, name) ON lease TO lease_test_columns;
SET LOCAL ROLE lease_test_columns;
SELECT throws_ok($$SELECT lease_holder('l')$$, '42501', 'permission denied for table lease', 'SELECT on the name is not enough to see the holder');
ROLLBACK TO s;
GRANT SELECT (namespace, name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions,
	lock_delay_seconds, not_before, reserved_for, fencing_token, resource_version)
	ON lease TO lease_test_columns;
SET LOCAL ROLE lease_test_columns;
SELECT is(lease_holder('l'), 'me', 'SELECT on the columns that say so is');
ROLLBACK TO s;

-- EXECUTE
REVOKE EXECUTE ON FUNCTION lease_release FROM PUBLIC;
SET LOCAL ROLE lease_test_app;
SELECT throws_ok($$SELECT lease_release('l', 'me')$$, '42501', 'permission denied for function lease_release', 'EXECUTE can be revoked, function by function');
SELECT is(status, 'renewed', 'which leaves the others') FROM lease_renew('l', 'me');
ROLLBACK TO s;

-- in a function that runs as its owner, the owner's privileges count
CREATE FUNCTION pg_temp.renew_for_me() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$SELECT status FROM lease_renew('l', 'me')$$;
SET LOCAL ROLE lease_test_nobody;
SELECT is(pg_temp.renew_for_me(), 'renewed', 'a SECURITY DEFINER function renews for somebody without privileges');
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '42501', NULL, 'who still has none');
ROLLBACK TO s;

-- row-level security without a policy: no rows
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE lease_test_app;
SELECT is(lease_holder('l'), NULL, 'no policy: no holder to see');
SELECT ok(NOT lease_is_held('l'), 'no policy: not held');
SELECT is_empty('SELECT FROM lease_status', 'no policy: an empty view');
SELECT is(status, 'missing', 'no policy: nothing to renew') FROM lease_renew('l', 'me');
SELECT is(status, 'missing', 'no policy: nothing to release') FROM lease_release('l', 'me');
SELECT results_eq($$SELECT * FROM lease_renew_all('me')$$, $$VALUES ('renewed', 0::bigint, NULL)$$, 'no policy: nothing to renew at once');
SELECT throws_ok($$SELECT lease_acquire('new', 'me')$$, '42501', 'new row violates row-level security policy for table "lease"', 'no policy: nothing can be made');
RESET ROLE;

-- a namespace of one's own
CREATE POLICY own_namespace ON lease TO lease_test_app USING (namespace = 'app') WITH CHECK (namespace = 'app');
CREATE TEMP TABLE before AS SELECT xmin::text AS writer, xmax::text AS locker, * FROM lease WHERE namespace <> 'app';
SET LOCAL ROLE lease_test_app;
SELECT is(lease_holder('l', 'app'), 'me', 'with a policy by namespace: its holder can be seen');
SELECT ok(lease_is_held('l', 'me', 'app'), 'with a policy by namespace: it is held');
SELECT is(lease_holder('l'), NULL, 'with a policy by namespace: one elsewhere cannot be seen');
SELECT ok(NOT lease_is_held('l'), 'with a policy by namespace: nor that it is held');
SELECT set_eq('SELECT namespace, name FROM lease_status', $$VALUES ('app', 'l')$$, 'with a policy by namespace: lease_status shows what is there');
SELECT set_eq('SELECT namespace, name FROM kubectl_get_leases', $$VALUES ('app', 'l')$$, 'with a policy by namespace: and so does kubectl_get_leases');
SELECT fencing_token AS token FROM lease WHERE namespace = 'app' \gset
SELECT is(status || ' ' || fencing_token, 'renewed ' || :token, 'with a policy by namespace: renewing here, under the same token') FROM lease_renew('l', 'me', 'app');
SELECT is(status || ' ' || fencing_token, 'renewed ' || :token, 'with a policy by namespace: acquiring what I have') FROM lease_acquire('l', 'me', '1 h', 'app');
SELECT is(status, 'held', 'with a policy by namespace: another has it') FROM lease_acquire('l', 'you', '1 h', 'app');
SELECT is(status, 'missing', 'with a policy by namespace: not renewing elsewhere') FROM lease_renew('l', 'me');
SELECT is(status, 'missing', 'with a policy by namespace: nor releasing') FROM lease_release('l', 'me');
SELECT throws_ok($$SELECT lease_acquire('l', 'me')$$, '42501', 'new row violates row-level security policy for table "lease"', 'with a policy by namespace: nor acquiring what is there');
SELECT throws_ok($$SELECT lease_acquire('new', 'me')$$, '42501', 'new row violates row-level security policy for table "lease"', 'with a policy by namespace: nor making one');
SELECT is(status, 'acquired', 'with a policy by namespace: making one here') FROM lease_acquire('new', 'a', '1 h', 'app');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', '{l}')$$, $$VALUES ('renewed', 0::bigint, NULL), ('missing', 1, 'l')$$,
	'with a policy by namespace: nothing to renew at once elsewhere');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', namespace => 'app')$$, $$VALUES ('renewed', 1::bigint, NULL)$$,
	'with a policy by namespace: renewing here at once');
SELECT is(status, 'released', 'with a policy by namespace: releasing here') FROM lease_release('new', 'a', 'app');
SELECT is(status, 'acquired', 'with a policy by namespace: acquiring what was released') FROM lease_acquire('new', 'b', '1 h', 'app');
RESET ROLE;
SELECT set_eq($$SELECT xmin::text AS writer, xmax::text AS locker, * FROM lease WHERE namespace <> 'app'$$, 'SELECT * FROM before', 'nothing elsewhere has been written or locked');
SELECT is(lease_holder('l'), 'me', 'the owner sees everything');
DROP POLICY own_namespace ON lease;

-- a lease of one's own: a holder can be only who he is
CREATE POLICY see_all ON lease FOR SELECT TO lease_test_app USING (true);
CREATE POLICY change_own ON lease FOR UPDATE TO lease_test_app USING (coalesce(holder_identity, '') IN ('', current_user)) WITH CHECK (holder_identity IN ('', current_user));
CREATE POLICY make_own ON lease FOR INSERT TO lease_test_app WITH CHECK (holder_identity = current_user);
SET LOCAL ROLE lease_test_app;
SELECT is(status, 'acquired', 'with a policy by holder: making one''s own') FROM lease_acquire('own', 'lease_test_app', '1 h');
SELECT is(status, 'renewed', 'with a policy by holder: renewing it') FROM lease_renew('own', 'lease_test_app');
SELECT is(status, 'released', 'with a policy by holder: releasing it') FROM lease_release('own', 'lease_test_app');
SELECT throws_ok($$SELECT lease_acquire('own', 'me')$$, '42501', NULL, 'with a policy by holder: not in another''s name');
SELECT throws_ok($$SELECT lease_acquire('own-2', 'me')$$, '42501', NULL, 'with a policy by holder: nor making one');
SELECT is(status, 'acquired', 'with a policy by holder: in one''s own name') FROM lease_acquire('own', 'lease_test_app', '1 h');
SELECT is(status, 'held', 'with a policy by holder: another''s is seen') FROM lease_acquire('l', 'lease_test_app');
-- documented: what one may see but not update is busy where it would have to be locked
SELECT is(status, 'busy', 'with a policy by holder: not renewing for another') FROM lease_renew('l', 'me');
SELECT is(status, 'busy', 'with a policy by holder: nor releasing') FROM lease_release('l', 'me');
RESET ROLE;
SELECT set_eq($$SELECT xmin::text AS writer, xmax::text AS locker, * FROM lease WHERE namespace <> 'app' AND name <> 'own'$$,
	'SELECT * FROM before', 'and nothing of another''s has been written or locked');

-- a policy that looks at the row after the renewal
DROP POLICY change_own ON lease;
CREATE POLICY short ON lease FOR UPDATE TO lease_test_app USING (true) WITH CHECK (lease_duration_seconds <= 60);
SET LOCAL ROLE lease_test_app;
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '42501', 'new row violates row-level security policy for table "lease"', 'WITH CHECK counts for a renewal');
SELECT throws_ok($$SELECT lease_renew_all('me')$$, '42501', 'new row violates row-level security policy for table "lease"', 'also at once');
SELECT is(status, 'renewed', 'which it may allow') FROM lease_acquire('l', 'me', '60 s');
SELECT is(status, 'renewed', 'then and later') FROM lease_renew('l', 'me');
RESET ROLE;

-- the owner, when he wants it so
ALTER TABLE lease FORCE ROW LEVEL SECURITY;
CREATE ROLE lease_test_owner;
GRANT CREATE ON SCHEMA public TO lease_test_owner;
ALTER TABLE lease OWNER TO lease_test_owner;
SET LOCAL ROLE lease_test_owner;
SELECT is(lease_holder('l'), NULL, 'FORCE ROW LEVEL SECURITY counts for an owner, too');
SELECT is(status, 'missing', 'who then has nothing to renew') FROM lease_renew('l', 'me');
RESET ROLE;
ALTER TABLE lease NO FORCE ROW LEVEL SECURITY;
SET LOCAL ROLE lease_test_owner;
SELECT is(lease_holder('l'), 'me', 'without it the owner sees everything');
SELECT is(status, 'renewed', 'and renews') FROM lease_renew('l', 'me');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
