-- lease_holder() and lease_is_held(): who has it at this moment, by the rule of
-- lease_acquire(); and lease_expires_at(), which is that rule.
BEGIN;
SELECT plan(26);

INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('valid', 'me', 60, clock_timestamp() - interval '30 s'),
	('expired', 'me', 60, clock_timestamp() - interval '61 s'),
	('released', '', 60, clock_timestamp()),
	('never', NULL, NULL, NULL);

SELECT is(lease_holder('valid'), 'me', 'a valid lease has a holder');
SELECT is(lease_holder('expired'), NULL, 'an expired one has none');
SELECT is(lease_holder('released'), NULL, 'nor has a released one');
SELECT is(lease_holder('never'), NULL, 'nor one that was never held');
SELECT is(lease_holder('missing'), NULL, 'nor a missing one');
SELECT is(lease_holder('valid', 'kube-system'), NULL, 'names are per namespace');

SELECT ok(lease_is_held('valid'), 'held by anybody');
SELECT ok(lease_is_held('valid', 'me'), 'held by me');
SELECT ok(NOT lease_is_held('valid', 'you'), 'not held by another');
SELECT ok(NOT lease_is_held('expired'), 'an expired lease is held by nobody');
SELECT ok(NOT lease_is_held('expired', 'me'), 'not even by its holder');
SELECT ok(NOT lease_is_held('released'), 'nor a released one');
SELECT ok(NOT lease_is_held('missing'), 'nor a missing one');
SELECT ok(NOT lease_is_held('valid', namespace => 'kube-system'), 'names are per namespace');

SELECT throws_ok($$SELECT lease_holder(NULL)$$, '22004', 'lease name must not be null', 'no name');
SELECT throws_ok($$SELECT lease_holder('a', NULL)$$, '22004', 'lease namespace must not be null', 'no namespace');
SELECT throws_ok($$SELECT lease_is_held(NULL)$$, '22004', 'lease name must not be null', 'no name');
SELECT throws_ok($$SELECT lease_is_held('a', '')$$, '22023', 'lease holder must not be empty', 'an empty holder');
SELECT throws_ok($$SELECT lease_is_held('A')$$, '42602', 'invalid lease name "A"', 'an invalid name');

SELECT is(lease_expires_at('me', '2026-01-01 00:00+00', 90), '2026-01-01 00:01:30+00', 'renew_time and duration');
SELECT is(lease_expires_at('', '2026-01-01 00:00+00', 90), NULL, 'nobody');
SELECT is(lease_expires_at(NULL, '2026-01-01 00:00+00', 90), NULL, 'never held');
SELECT is(lease_expires_at('me', NULL, 90), NULL, 'never renewed');
SELECT is(lease_expires_at('me', '2026-01-01 00:00+00', NULL), NULL, 'without duration');
SELECT is(lease_expires_at('me', '294276-12-31 00:00+00', 2147483647), 'infinity', 'past the end of time');
SELECT is(lease_expires_at('me', '2026-01-01 00:00+00', 2147483647), '2026-01-01 00:00+00'::timestamptz + make_interval(secs => 2147483647),
	'the longest duration');

SELECT * FROM finish();
ROLLBACK;
