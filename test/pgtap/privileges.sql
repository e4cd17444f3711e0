-- Functions run as their caller: GRANT and row-level security decide, on both ways to
-- the rows.
BEGIN;
SELECT plan(31);

CREATE ROLE lease_test_reader;
CREATE ROLE lease_test_renewer;
CREATE ROLE lease_test_app;
CREATE ROLE lease_test_columns;
CREATE ROLE lease_test_nobody;
GRANT SELECT ON lease, lease_status, kubectl_get_leases TO lease_test_reader;
GRANT SELECT, UPDATE ON lease TO lease_test_renewer;
GRANT SELECT, INSERT, UPDATE ON lease TO lease_test_app;
GRANT SELECT ON lease TO lease_test_columns;
GRANT UPDATE (renew_time, lease_duration_seconds) ON lease TO lease_test_columns;

SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT FROM lease_acquire('l', 'me', '1 h', 'app');
INSERT INTO lease (name) VALUES ('free');

-- nothing granted
SET LOCAL ROLE lease_test_nobody;
SELECT throws_ok(call, '42501', 'permission denied for table lease', 'without a grant: ' || call)
FROM (VALUES ('SELECT lease_acquire(''l'', ''me'')'), ('SELECT lease_renew(''l'', ''me'')'), ('SELECT lease_renew_all(''me'')'),
	('SELECT lease_release(''l'', ''me'')'), ('SELECT lease_holder(''l'')'), ('SELECT lease_is_held(''l'')')) c (call);
SELECT throws_ok('SELECT FROM lease_status', '42501', NULL, 'nor the view');

-- SELECT
SET LOCAL ROLE lease_test_reader;
SELECT is(lease_holder('l'), 'me', 'who may SELECT may ask');
SELECT ok(lease_is_held('l'), 'this way or that');
SELECT is(status, 'held', 'or look at the view') FROM lease_status WHERE (namespace, name) = ('default', 'l');
SELECT throws_ok($$SELECT lease_acquire('free', 'me')$$, '42501', NULL, 'but not acquire');
SELECT throws_ok($$SELECT lease_renew('l', 'me')$$, '42501', NULL, 'nor renew');
SELECT throws_ok($$SELECT lease_release('l', 'me')$$, '42501', NULL, 'nor release');

-- SELECT and UPDATE
SET LOCAL ROLE lease_test_renewer;
SELECT is(status, 'acquired', 'who may UPDATE may acquire what is there') FROM lease_acquire('free', 'r');
SELECT is(status, 'renewed', 'and renew') FROM lease_renew('free', 'r');
SELECT throws_ok($$SELECT lease_acquire('new', 'r')$$, '42501', NULL, 'but not make a lease');

-- some columns: the executor decides, column by column
SET LOCAL ROLE lease_test_columns;
SELECT is(status, 'renewed', 'UPDATE on what a renewal writes is enough to renew') FROM lease_renew('l', 'me');
SELECT throws_ok($$SELECT lease_release('l', 'me')$$, '42501', NULL, 'but not to release');
RESET ROLE;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;

-- row-level security without a policy: no rows
SET LOCAL ROLE lease_test_app;
SELECT is(lease_holder('l'), NULL, 'no policy: nothing to see');
SELECT is(status, 'missing', 'nor to renew') FROM lease_renew('l', 'me');
SELECT throws_ok($$SELECT lease_acquire('new', 'me')$$, '42501', NULL, 'nor to make');
RESET ROLE;

-- a namespace of one's own
CREATE POLICY own_namespace ON lease TO lease_test_app USING (namespace = 'app') WITH CHECK (namespace = 'app');
SET LOCAL ROLE lease_test_app;
SELECT is(lease_holder('l', 'app'), 'me', 'a policy by namespace: this one');
SELECT is(lease_holder('l'), NULL, 'not that one');
SELECT is(status, 'renewed', 'renewing here') FROM lease_renew('l', 'me', 'app');
SELECT is(status, 'missing', 'not there') FROM lease_renew('l', 'me');
SELECT is(status, 'missing', 'nor releasing') FROM lease_release('l', 'me');
SELECT throws_ok($$SELECT lease_acquire('l', 'me')$$, '42501', NULL, 'nor acquiring');
SELECT is(status, 'acquired', 'making one here') FROM lease_acquire('new', 'a', '1 h', 'app');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', '{l}')$$, $$VALUES ('renewed', 0::bigint, NULL), ('missing', 1, 'l')$$, 'all at once, there');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', namespace => 'app')$$, $$VALUES ('renewed', 1::bigint, NULL)$$, 'and here');
RESET ROLE;
SELECT is(lease_holder('l'), 'me', 'the owner sees everything, and nothing has happened to it');

SELECT * FROM finish();
ROLLBACK;
