-- lease_is_held(): is the lease valid at this moment, and mine or anybody's?
BEGIN;
SELECT plan(15);

INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('valid', 'me', 60, clock_timestamp() - interval '30 s'),
	('expired', 'me', 60, clock_timestamp() - interval '61 s'),
	('released', '', 60, clock_timestamp()),
	('never', NULL, NULL, NULL);

SELECT is(pg_get_function_arguments('lease_is_held'::regproc),
	'name text, holder text DEFAULT NULL::text, namespace text DEFAULT ''default''::text',
	'arguments and defaults are those of the reference');
SELECT volatility_is('lease_is_held', 'volatile', 'lease_is_held() is volatile: a later call may have another answer');

SELECT is(lease_is_held('valid'), true, 'a valid lease is held by somebody');
SELECT is(lease_is_held('valid', 'me'), true, 'it is held by its holder');
SELECT is(lease_is_held('valid', 'you'), false, 'it is not held by another');
SELECT is(lease_is_held('valid', 'm'), false, 'holders are compared as a whole');
SELECT is(lease_is_held('expired'), false, 'an expired lease is held by nobody');
SELECT is(lease_is_held('expired', 'me'), false, 'not even by its holder');
SELECT is(lease_is_held('released'), false, 'a released lease is held by nobody');
SELECT is(lease_is_held('never'), false, 'nor is one that was never held');
SELECT is(lease_is_held('missing'), false, 'a missing lease is not held: false, not NULL');
SELECT is(lease_is_held('missing', 'me'), false, 'whoever is meant');
SELECT is(lease_is_held('valid', namespace => 'kube-system'), false, 'names are per namespace');

SELECT throws_ok($$SELECT lease_is_held('valid', '')$$, '22023', 'lease holder must not be empty', 'an empty holder is an error');
SELECT is_empty($$SELECT n.name FROM (VALUES ('valid'), ('expired'), ('released'), ('never'), ('missing')) n (name)
	WHERE lease_is_held(n.name) <> (lease_holder(n.name) IS NOT NULL)$$, 'it agrees with lease_holder() on every lease');

SELECT * FROM finish();
ROLLBACK;
