-- lease_release(): gives up what is mine, as client-go's ReleaseOnCancel does, and ends
-- its token.

-- A refusal must cost nothing: no transaction ID, no lock.  That shows only in a transaction that
-- does nothing else, so this part is committed first, in a namespace of its own.
DELETE FROM lease WHERE namespace = 'test-lease-release';
SELECT FROM lease_acquire('others', 'you', '1 h', 'test-lease-release');
SELECT format('%s %s %s %s', xmin, xmax, ctid, l) AS row_before FROM lease l WHERE namespace = 'test-lease-release' \gset
BEGIN;
SELECT status AS refusal FROM lease_release('others', 'me', 'test-lease-release') \gset
SELECT pg_current_xact_id_if_assigned() IS NULL AS refused_without_xid \gset
COMMIT;
SELECT format('%s %s %s %s', xmin, xmax, ctid, l) AS row_after FROM lease l WHERE namespace = 'test-lease-release' \gset
DELETE FROM lease WHERE namespace = 'test-lease-release';

BEGIN;
SELECT plan(24);

SELECT is(pg_get_function_arguments('lease_release'::regproc),
	'name text, holder text, namespace text DEFAULT ''default''::text, fencing_token bigint DEFAULT NULL::bigint, '
	'OUT released boolean, OUT status text, OUT holder_identity text', 'arguments, defaults and results are those of the reference');
SELECT volatility_is('lease_release', 'volatile', 'lease_release() is volatile: the planner may not merge two calls');
SELECT is(:'refusal'::text, 'held', 'a lease of another is held');
SELECT ok(:'refused_without_xid', 'who is refused is not given a transaction ID');
SELECT is(:'row_after'::text, :'row_before', 'and has neither written nor locked the row');

INSERT INTO lease (name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions) VALUES
	('mine', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '30 s', 5),
	('expired', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '61 s', 5),
	('others', 'you', 60, clock_timestamp(), clock_timestamp(), 5),
	('others-expired', 'you', 60, clock_timestamp(), clock_timestamp() - interval '1 h', 5),
	('token', 'me', 60, clock_timestamp(), clock_timestamp(), 5);
INSERT INTO lease (name) VALUES ('never');
UPDATE lease SET labels = '{"app": "web"}', annotations = '{"note": "x"}', finalizers = '{a/b}', strategy = 'example.com/x' WHERE name = 'mine';
CREATE TEMP TABLE before AS SELECT * FROM lease;

SELECT results_eq($$SELECT * FROM lease_release('mine', 'me')$$,
	$$VALUES (true, 'released', '')$$, 'what is mine is released');
SELECT results_eq($$SELECT holder_identity, lease_duration_seconds, lease_transitions FROM lease WHERE name = 'mine'$$,
	$$VALUES ('' COLLATE "C", 1, 5)$$, 'an empty holder and one second are written, and no transition is counted');
SELECT ok(acquire_time = renew_time AND clock_timestamp() - renew_time < interval '5 s', 'acquire_time and renew_time are now')
FROM lease WHERE name = 'mine';
SELECT ok(l.fencing_token > b.fencing_token, 'the token changes') FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT ok(l.resource_version > b.resource_version, 'resource_version moves') FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT is((l.uid, l.creation_timestamp, l.labels, l.annotations, l.finalizers, l.strategy)::text,
	(b.uid, b.creation_timestamp, b.labels, b.annotations, b.finalizers, b.strategy)::text, 'the rest of the object stays')
FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT is(lease_holder('mine'), NULL, 'nobody holds it any more');
SELECT results_eq($$SELECT * FROM lease_release('mine', 'me')$$,
	$$VALUES (false, 'free', '')$$, 'who releases it once more is told that it is free');

SELECT is(status, 'free', 'nor can it be renewed') FROM lease_renew('mine', 'me');
SELECT is(status, 'released', 'an expired lease of mine is released, too') FROM lease_release('expired', 'me');
SELECT is(status, 'held', 'but not one that another had last, and let expire') FROM lease_release('others-expired', 'me');
SELECT results_eq($$SELECT * FROM lease_release('others', 'me')$$,
	$$VALUES (false, 'held', 'you')$$, 'another''s lease is not released');
SELECT is((SELECT l FROM lease l WHERE name = 'others')::text, (SELECT b FROM before b WHERE name = 'others')::text,
	'nothing is written to it');
SELECT results_eq($$SELECT * FROM lease_release('never', 'me')$$,
	$$VALUES (false, 'free', NULL)$$, 'a lease that was never held is free');
SELECT results_eq($$SELECT * FROM lease_release('missing', 'me')$$,
	$$VALUES (false, 'missing', NULL)$$, 'a missing lease is missing');

SELECT fencing_token AS token FROM lease WHERE name = 'token' \gset
SELECT is(status, 'held', 'a caller with a token that is not current has lost it') FROM lease_release('token', 'me', 'default', :token + 1);
SELECT is(status, 'released', 'a caller with the current token releases it') FROM lease_release('token', 'me', 'default', :token);
SELECT throws_ok($$SELECT lease_release('token', 'me', 'default', 0)$$, '22023', 'fencing token must be greater than zero', 'a token of zero is an error');
SELECT results_eq($$SELECT acquired, status, lease_transitions FROM lease_acquire('mine', 'you')$$,
	$$VALUES (true, 'acquired', 6)$$, 'a released lease is another''s at once');

SELECT * FROM finish();
ROLLBACK;
