-- view lease_status: the same answers as the functions, for all leases at once.
BEGIN;
SELECT plan(8);

INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, lease_transitions, labels) VALUES
	('s', 'valid', 'me', 60, clock_timestamp() - interval '30 s', 2, '{"app": "web"}'),
	('s', 'expired', 'me', 60, clock_timestamp() - interval '90 s', 0, NULL),
	('s', 'released', '', 60, clock_timestamp(), 1, NULL),
	('s', 'never', NULL, NULL, NULL, NULL, NULL);

SELECT results_eq($$SELECT name, status, holder_identity FROM lease_status WHERE namespace = 's' ORDER BY name$$,
	$$VALUES ('expired' COLLATE "C", 'expired', 'me' COLLATE "C"), ('never', 'free', NULL), ('released', 'free', ''), ('valid', 'held', 'me')$$,
	'held, expired, free');
SELECT ok(expires_in BETWEEN '25 s' AND '30 s', 'time left') FROM lease_status WHERE name = 'valid';
SELECT ok(expires_in BETWEEN '-35 s' AND '-30 s', 'negative when expired') FROM lease_status WHERE name = 'expired';
SELECT is(expires_in, NULL, 'none when free') FROM lease_status WHERE name = 'released';
SELECT ok(renewed_ago BETWEEN '30 s' AND '35 s', 'time since the renewal') FROM lease_status WHERE name = 'valid';
SELECT is(duration, interval '60 s', 'duration as an interval') FROM lease_status WHERE name = 'valid';
SELECT is_empty($$SELECT FROM lease_status WHERE (status = 'held') <> lease_is_held(name, namespace => namespace)$$,
	'the view and lease_is_held() agree on every lease');
SELECT is_empty($$SELECT FROM lease_status s JOIN lease l USING (namespace, name)
	WHERE (s.fencing_token, s.renew_time, s.creation_timestamp) <> (l.fencing_token, l.renew_time, l.creation_timestamp)
	OR s.labels IS DISTINCT FROM l.labels OR s.lease_transitions IS DISTINCT FROM l.lease_transitions$$, 'columns of the table are shown as they are');

SELECT * FROM finish();
ROLLBACK;
