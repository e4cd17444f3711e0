-- lease_release(): gives up what is mine, as client-go's ReleaseOnCancel does, and ends
-- its token.
BEGIN;
SELECT plan(17);

INSERT INTO lease (name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions) VALUES
	('mine', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '30 s', 5),
	('expired', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '61 s', 5),
	('others', 'you', 60, clock_timestamp(), clock_timestamp(), 5),
	('token', 'me', 60, clock_timestamp(), clock_timestamp(), 5);
INSERT INTO lease (name) VALUES ('never');
CREATE TEMP TABLE before AS SELECT * FROM lease;

SELECT results_eq($$SELECT * FROM lease_release('mine', 'me')$$,
	$$VALUES (true, 'released', '')$$, 'what is mine is released');
SELECT results_eq($$SELECT holder_identity, lease_duration_seconds, lease_transitions FROM lease WHERE name = 'mine'$$,
	$$VALUES ('' COLLATE "C", 1, 5)$$, 'an empty holder, one second, and no transition');
SELECT ok(acquire_time = renew_time AND clock_timestamp() - renew_time < interval '5 s', 'both times are now')
FROM lease WHERE name = 'mine';
SELECT ok(l.fencing_token > b.fencing_token, 'the token changes') FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT ok(l.resource_version > b.resource_version, 'resource_version moves') FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT is(l.uid, b.uid, 'the object stays') FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT is(lease_holder('mine'), NULL, 'nobody holds it');
SELECT results_eq($$SELECT * FROM lease_release('mine', 'me')$$,
	$$VALUES (false, 'free', '')$$, 'once more: it is free');

SELECT is(status, 'released', 'an expired lease of mine is released, too') FROM lease_release('expired', 'me');
SELECT results_eq($$SELECT * FROM lease_release('others', 'me')$$,
	$$VALUES (false, 'held', 'you')$$, 'another''s is not');
SELECT is((SELECT l FROM lease l WHERE name = 'others')::text, (SELECT b FROM before b WHERE name = 'others')::text,
	'nothing is written to it');
SELECT results_eq($$SELECT * FROM lease_release('never', 'me')$$,
	$$VALUES (false, 'free', NULL)$$, 'a lease that was never held');
SELECT results_eq($$SELECT * FROM lease_release('missing', 'me')$$,
	$$VALUES (false, 'missing', NULL)$$, 'a missing lease');

SELECT fencing_token AS token FROM lease WHERE name = 'token' \gset
SELECT is(status, 'held', 'with a token that is not current') FROM lease_release('token', 'me', 'default', :token + 1);
SELECT is(status, 'released', 'with the current token') FROM lease_release('token', 'me', 'default', :token);
SELECT throws_ok($$SELECT lease_release('token', 'me', 'default', 0)$$, '22023', 'fencing token must be greater than zero', 'tokens are positive');
SELECT results_eq($$SELECT acquired, status, lease_transitions FROM lease_acquire('mine', 'you')$$,
	$$VALUES (true, 'acquired', 6)$$, 'a released lease is another''s at once');

SELECT * FROM finish();
ROLLBACK;
