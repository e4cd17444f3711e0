-- view lease_status: the same answers as the functions, for all leases at once.
BEGIN;
SELECT plan(20);

INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions, labels) VALUES
	('s', 'valid', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '30 s', 2, '{"app": "web"}'),
	('s', 'expired', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '90 s', 0, NULL),
	('s', 'noduration', 'me', NULL, NULL, clock_timestamp(), 0, NULL),
	('s', 'released', '', 60, NULL, clock_timestamp(), 1, NULL),
	('s', 'never', NULL, NULL, NULL, NULL, NULL, NULL);

SELECT columns_are('lease_status', ARRAY['namespace', 'name', 'holder_identity', 'status', 'detail', 'expires_in', 'renewed_ago', 'in_grace', 'fencing_token',
	'lease_transitions', 'waiting', 'duration', 'acquire_time', 'renew_time', 'expires_at', 'reserved_until', 'reserved_for', 'creation_timestamp', 'labels'], 'the view has these columns');
SELECT ok(reloptions @> '{security_invoker=true}', 'the view uses the privileges of who asks') FROM pg_class WHERE oid = 'lease_status'::regclass;

SELECT results_eq($$SELECT name, status, holder_identity FROM lease_status WHERE namespace = 's' ORDER BY name$$,
	$$VALUES ('expired' COLLATE "C", 'expired', 'me' COLLATE "C"), ('never', 'free', NULL), ('noduration', 'expired', 'me'),
		('released', 'free', ''), ('valid', 'held', 'me')$$, 'a lease is held, expired or free');
-- who types no more than SELECT * FROM lease_status
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, lock_delay_seconds, not_before, reserved_for) VALUES
	('d', 'expired', 'me', 10, clock_timestamp() - interval '5 min', NULL, NULL, NULL),
	('d', 'delayed', 'me', 10, clock_timestamp() - interval '5 min', 86400 * 10, NULL, NULL),
	('d', 'handed-over', '', 1, clock_timestamp(), NULL, clock_timestamp() + interval '10 d 1 min', 'you'),
	('d', 'minimum', '', 1, clock_timestamp(), NULL, clock_timestamp() + interval '10 d 1 min', NULL),
	('d', 'held', 'me', 864060, clock_timestamp(), NULL, NULL, NULL),
	('d', 'held-without-renewal', 'me', NULL, clock_timestamp(), NULL, NULL, NULL),
	('d', 'never', NULL, NULL, NULL, NULL, NULL, NULL),
	('d', 'released', '', 1, clock_timestamp(), NULL, NULL, NULL);
SELECT results_eq($$SELECT name, regexp_replace(detail, 'expired \S+ ago', 'expired ... ago') FROM lease_status WHERE namespace = 'd' ORDER BY name$$,
	$$VALUES ('delayed' COLLATE "C", 'only me can acquire it for another 9d'),
		('expired', 'me did not renew it, expired ... ago; anybody can acquire it'),
		('handed-over', 'only you can acquire it for another 10d'),
		('held', 'me has it; expires in 10d unless renewed'),
		('held-without-renewal', 'me did not renew it; anybody can acquire it'),
		('minimum', 'nobody can acquire it for another 10d'),
		('never', 'never held; anybody can acquire it'),
		('released', 'released; anybody can acquire it')$$, 'detail says it in words');
DELETE FROM lease WHERE namespace = 'd';

SELECT ok(expires_in BETWEEN '25 s' AND '30 s', 'expires_in is the time left') FROM lease_status WHERE name = 'valid';
SELECT ok(expires_in BETWEEN '-35 s' AND '-30 s', 'which is negative when expired') FROM lease_status WHERE name = 'expired';
SELECT is(expires_in, NULL, 'and NULL when free') FROM lease_status WHERE name = 'released';
SELECT is(expires_at, NULL, 'a free lease has no expiry') FROM lease_status WHERE name = 'released';
SELECT is(expires_at, renew_time + interval '60 s', 'a held one has') FROM lease_status WHERE name = 'valid';
SELECT is(expires_at, renew_time + interval '60 s', 'an expired one had') FROM lease_status WHERE name = 'expired';
SELECT ok(renewed_ago BETWEEN '30 s' AND '35 s', 'renewed_ago is the time since the renewal') FROM lease_status WHERE name = 'valid';
SELECT is(duration, interval '60 s', 'the duration is an interval') FROM lease_status WHERE name = 'valid';
SELECT is(duration, NULL, 'or NULL if there is none') FROM lease_status WHERE name = 'noduration';
SELECT is_empty($$SELECT name FROM lease_status WHERE (status = 'held') <> lease_is_held(name, namespace => namespace)$$,
	'the view and lease_is_held() agree on every lease');
SELECT is_empty($$SELECT name FROM lease_status WHERE namespace = 's' AND status <> 'held' AND (lease_acquire(name, 'you', '1 h', namespace)).status <> 'acquired'$$,
	'what the view does not call held can be acquired');
SELECT is(status, 'held', 'and is held from then on') FROM lease_status WHERE name = 'never';
SELECT is_empty($$SELECT name FROM lease_status s JOIN lease l USING (namespace, name)
	WHERE (s.holder_identity, s.fencing_token, s.acquire_time, s.renew_time, s.creation_timestamp, s.labels, s.lease_transitions)
	IS DISTINCT FROM (l.holder_identity, l.fencing_token, l.acquire_time, l.renew_time, l.creation_timestamp, l.labels, l.lease_transitions)$$,
	'columns of the table are shown as they are');

-- The clock is read for each row, not at the start of the transaction; and a lease is not held at
-- the very microsecond of its expiry: hundreds that run out one after another are looked at.
CREATE FUNCTION pg_temp.least_time_left() RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
	least interval := '1 h';
	shown record;
BEGIN
	INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time)
	SELECT 'edge-' || n, 'bing', 1, start - interval '0.9 s' + n * interval '100 us' FROM generate_series(1, 500) n;
	FOR n IN 1 .. 500 LOOP
		LOOP
			SELECT status, expires_in INTO shown FROM lease_status WHERE name = 'edge-' || n;
			EXIT WHEN shown.status <> 'held' OR clock_timestamp() > start + interval '10 s';
			least := least(least, shown.expires_in);
		END LOOP;
	END LOOP;
	RETURN least;
END $$;
SELECT cmp_ok(pg_temp.least_time_left(), '>', interval '0', 'a lease is shown as held only before its expiry');
SELECT is(count(*), 500::bigint, 'and as expired after it, in a transaction that began before')
FROM lease_status WHERE name LIKE 'edge-%' AND status = 'expired' AND expires_at > now();

SELECT FROM lease_release('never', 'you', 's');
SELECT is(status, 'free', 'a release shows') FROM lease_status WHERE name = 'never';

SELECT * FROM finish();
ROLLBACK;
