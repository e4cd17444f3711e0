-- lease_guard(): ties the transaction to a fencing token. What happens when sessions meet is
-- in test/isolation/specs/guard-*.
BEGIN;
SELECT plan(33);

SELECT is(pg_get_function_arguments('lease_guard'::regproc),
	'name text, fencing_token bigint, namespace text DEFAULT ''default''::text', 'arguments and defaults are those of the reference');
SELECT volatility_is('lease_guard', 'volatile', 'lease_guard() is volatile');

CREATE FUNCTION pg_temp.token(text) RETURNS bigint LANGUAGE sql AS $$SELECT fencing_token FROM lease WHERE namespace = 'default' AND name = $1$$;
SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT FROM lease_acquire('l', 'you', '1 h', 'other');
SELECT lives_ok($$SELECT lease_guard('l', pg_temp.token('l'))$$, 'the current token passes');
SELECT lives_ok($$SELECT lease_guard('l', pg_temp.token('l'))$$, 'also again');
SELECT is(status, 'renewed', 'the holder renews in a guarded transaction') FROM lease_renew('l', 'me');
SELECT lives_ok($$SELECT lease_guard('l', pg_temp.token('l'))$$, 'a renewal leaves the token as it is');

-- refusals: all of one SQLSTATE, and each says why
PREPARE refused(bigint) AS SELECT lease_guard('l', $1);
SELECT pg_temp.token('l') AS token \gset
SELECT throws_ok(format('EXECUTE refused(%s)', :token + 1), 'LS001', format('lease "l" in namespace "default" is not held under fencing token %s', :token + 1), 'another token is refused');
SELECT throws_ok(format('EXECUTE refused(%s)', fencing_token), 'LS001', NULL, 'the token of the same name in another namespace, too')
FROM lease WHERE namespace = 'other';
CREATE FUNCTION pg_temp.detail(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	EXECUTE sql;
	RETURN 'no error';
EXCEPTION WHEN SQLSTATE 'LS001' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail;
END $$;
SELECT matches(pg_temp.detail(format('EXECUTE refused(%s)', :token + 1)), format('^It is held by "me" under fencing token %s until 2', :token), 'the detail names the holder and his token');
SELECT is(pg_temp.detail($$SELECT lease_guard('none', 1)$$), 'There is no such lease.', 'or says that there is no such lease');
SAVEPOINT s;
UPDATE lease SET renew_time = '2000-01-01' WHERE name = 'l';
SELECT matches(pg_temp.detail(format('EXECUTE refused(%s)', :token)), '^It expired at 2000-01-01 01:00:00.*; its last holder is "me".$', 'or when it expired');
ROLLBACK TO s;
SELECT FROM lease_release('l', 'me');
SELECT is(pg_temp.detail(format('EXECUTE refused(%s)', :token)), 'Nobody holds it.', 'or that nobody holds it');
SELECT throws_ok(format('EXECUTE refused(%s)', pg_temp.token('l')), 'LS001', NULL, 'the token of a released lease is no token to write under');
SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT throws_ok(format('EXECUTE refused(%s)', :token), 'LS001', NULL, 'nor is the one from before the release');
SELECT lives_ok(format('EXECUTE refused(%s)', pg_temp.token('l')), 'the new one is');
ROLLBACK TO s;

-- the ways a holding ends
SELECT throws_ok(format('EXECUTE refused(%s)', :token), 'LS001', NULL, after)
FROM (VALUES ('after a handover', $$SELECT lease_handover('l', 'me', 'you')$$),
	('after a hand-written change of the holder', $$UPDATE lease SET holder_identity = 'you' WHERE name = 'l'$$),
	('after DELETE', $$DELETE FROM lease WHERE name = 'l'$$)) v (after, command)
CROSS JOIN LATERAL (SELECT pg_temp.detail(command)) x;
ROLLBACK TO s;

-- a holder of any length and content
SELECT FROM lease_handover('l', 'me', 'next');
SELECT FROM lease_acquire('l', 'next', '1 h');
SELECT FROM lease_release('l', 'next');
SELECT FROM lease_acquire('l', repeat('ä%s', 300000), '1 h');
SELECT ok(octet_length(pg_temp.detail(format('EXECUTE refused(%s)', :token))) < 300, 'a holder of a megabyte is cut off in the message');
SELECT matches(pg_temp.detail(format('EXECUTE refused(%s)', :token)), '^It is held by "(ä%s){32}\.\.\." under', 'between characters');
ROLLBACK TO s;

-- arguments
SELECT throws_ok(sql, state, message, 'refused: ' || sql) FROM (VALUES
	($$SELECT lease_guard(NULL, 1)$$, '22004', 'lease name must not be null'),
	($$SELECT lease_guard('l', NULL)$$, '22004', 'fencing token must not be null'),
	($$SELECT lease_guard('l', 1, NULL)$$, '22004', 'lease namespace must not be null'),
	($$SELECT lease_guard('l', 0)$$, '22023', 'fencing token must be greater than zero'),
	($$SELECT lease_guard('l', -1)$$, '22023', 'fencing token must be greater than zero'),
	($$SELECT lease_guard('', 1)$$, '22023', 'lease name must not be empty'),
	($$SELECT lease_guard('L', 1)$$, '42602', 'invalid lease name "L"'),
	($$SELECT lease_guard('l', 1, 'a.b')$$, '42602', 'invalid lease namespace "a.b"'),
	($$SELECT lease_guard(repeat('a', 254), 1)$$, '42622', 'lease name is too long')) v (sql, state, message);

-- privileges: those that a row lock takes
CREATE ROLE lease_test_guard;
SET LOCAL ROLE lease_test_guard;
SELECT throws_ok($$SELECT lease_guard('l', 1)$$, '42501', NULL, 'not without a privilege');
RESET ROLE;
GRANT SELECT ON lease TO lease_test_guard;
SET LOCAL ROLE lease_test_guard;
SELECT throws_ok(format('EXECUTE refused(%s)', :token), '42501', NULL, 'SELECT is not enough');
RESET ROLE;
GRANT UPDATE (renew_time) ON lease TO lease_test_guard;
SET LOCAL ROLE lease_test_guard;
SELECT lives_ok(format('EXECUTE refused(%s)', :token), 'UPDATE on any column is, as for FOR KEY SHARE');
RESET ROLE;
SET LOCAL transaction_read_only = on;
SELECT throws_ok($$SELECT lease_guard('l', 1)$$, '25006', 'cannot execute lease_guard() in a read-only transaction', 'not in a read-only transaction');

SELECT * FROM finish();
ROLLBACK;
