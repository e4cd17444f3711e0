-- lease_holder(): who has the lease at this moment, by the rule of lease_acquire().
BEGIN;
SELECT plan(13);

INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('valid', 'me', 60, clock_timestamp() - interval '30 s'),
	('expired', 'me', 60, clock_timestamp() - interval '61 s'),
	('released', '', 60, clock_timestamp()),
	('never', NULL, NULL, NULL),
	('noduration', 'me', NULL, clock_timestamp());

SELECT is(pg_get_function_arguments('lease_holder'::regproc), 'name text, namespace text DEFAULT ''default''::text',
	'arguments and defaults are those of the reference');
SELECT volatility_is('lease_holder', 'volatile', 'lease_holder() is volatile: a later call may have another answer');

SELECT is(lease_holder('valid'), 'me', 'a valid lease has a holder');
SELECT is(lease_holder('expired'), NULL, 'an expired lease has none');
SELECT is(lease_holder('released'), NULL, 'nor has a released one');
SELECT is(lease_holder('never'), NULL, 'nor one that was never held');
SELECT is(lease_holder('noduration'), NULL, 'nor one without a duration');
SELECT is(lease_holder('missing'), NULL, 'nor a missing one');
SELECT is(lease_holder('valid', 'kube-system'), NULL, 'names are per namespace');

UPDATE lease SET renew_time = clock_timestamp() + interval '1 h' WHERE name = 'valid';
SELECT is(lease_holder('valid'), 'me', 'a lease renewed in the future is valid');
SELECT FROM lease_release('valid', 'me');
SELECT is(lease_holder('valid'), NULL, 'a release shows at once in the same transaction');
SELECT FROM lease_acquire('valid', 'you');
SELECT is(lease_holder('valid'), 'you', 'and so does an acquisition');

SELECT is_empty($$SELECT FROM lease WHERE name = 'missing'$$, 'asking makes nothing');

SELECT * FROM finish();
ROLLBACK;
