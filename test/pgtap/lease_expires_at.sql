-- lease_expires_at(): the one rule of validity, from which all functions and views decide.
BEGIN;
SELECT plan(14);

SELECT is(pg_get_function_arguments('lease_expires_at'::regproc),
	'holder_identity text, renew_time timestamp with time zone, lease_duration_seconds integer, resource_version bigint DEFAULT NULL::bigint',
	'arguments are those of the reference');

SELECT is(lease_expires_at('me', '2026-01-01 00:00+00', 90), '2026-01-01 00:01:30+00', 'a lease expires its duration after renew_time');
SELECT is(lease_expires_at('me', '2026-01-01 00:00:00.000001+00', 1), '2026-01-01 00:00:01.000001+00', 'to the microsecond');
SELECT is(lease_expires_at('me', '2026-03-29 00:30+00', 3600), '2026-03-29 01:30+00', 'whatever the time zone does');
SELECT is(lease_expires_at('', '2026-01-01 00:00+00', 90), NULL, 'a released lease has no expiry');
SELECT is(lease_expires_at(NULL, '2026-01-01 00:00+00', 90), NULL, 'nor has one that was never held');
SELECT is(lease_expires_at('me', NULL, 90), NULL, 'nor one that was never renewed');
SELECT is(lease_expires_at('me', '2026-01-01 00:00+00', NULL), NULL, 'nor one without duration');
SELECT is(lease_expires_at(NULL, NULL, NULL), NULL, 'nor one of which nothing is known');
SELECT is(lease_expires_at('me', '2026-01-01 00:00+00', 2147483647), '2026-01-01 00:00+00'::timestamptz + make_interval(secs => 2147483647),
	'the longest duration is 68 years');
SELECT is(lease_expires_at('me', '294276-12-31 23:59+00', 60), 'infinity', 'at the end of time a lease does not expire');
SELECT is(lease_expires_at('me', '294276-12-31 00:00+00', 2147483647), 'infinity', 'nor past it');

-- the other functions follow it
INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time)
VALUES ('l', 'me', 60, clock_timestamp() - interval '30 s');
SELECT is(expires_at, lease_expires_at(l.holder_identity, l.renew_time, l.lease_duration_seconds), 'lease_acquire() tells the loser the same')
FROM lease l, lease_acquire(l.name, 'you') WHERE name = 'l';
SELECT is(s.expires_at, lease_expires_at(l.holder_identity, l.renew_time, l.lease_duration_seconds), 'and lease_status shows it')
FROM lease l JOIN lease_status s USING (namespace, name) WHERE name = 'l';

SELECT * FROM finish();
ROLLBACK;
