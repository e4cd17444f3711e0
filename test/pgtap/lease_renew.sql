-- lease_renew(): extends what is mine and valid, and says why not otherwise.

-- A refusal must cost nothing: no transaction ID, no lock.  That shows only in a transaction that
-- does nothing else, so this part is committed first, in a namespace of its own.
DELETE FROM lease WHERE namespace = 'test-lease-renew';
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('test-lease-renew', 'others', 'you', 3600, clock_timestamp()),
	('test-lease-renew', 'expired', 'me', 60, clock_timestamp() - interval '1 h'),
	('test-lease-renew', 'released', '', 1, clock_timestamp());
SELECT string_agg(format('%s %s %s %s', xmin, xmax, ctid, l), E'\n' ORDER BY name) AS rows_before
FROM lease l WHERE namespace = 'test-lease-renew' \gset
BEGIN;
SELECT string_agg((lease_renew(name, 'me', 'test-lease-renew')).status, ' ' ORDER BY name) AS refusals
FROM (VALUES ('expired'), ('missing'), ('others'), ('released')) v (name) \gset
SELECT pg_current_xact_id_if_assigned() IS NULL AS refused_without_xid \gset
COMMIT;
SELECT string_agg(format('%s %s %s %s', xmin, xmax, ctid, l), E'\n' ORDER BY name) AS rows_after
FROM lease l WHERE namespace = 'test-lease-renew' \gset
DELETE FROM lease WHERE namespace = 'test-lease-renew';

BEGIN;
SELECT plan(40);

SELECT is(pg_get_function_arguments('lease_renew'::regproc),
	'name text, holder text, namespace text DEFAULT ''default''::text, OUT renewed boolean, OUT status text, OUT holder_identity text, '
	'INOUT fencing_token bigint DEFAULT NULL::bigint, OUT expires_at timestamp with time zone, OUT expires_in interval',
	'arguments, defaults and results are those of the reference');
SELECT volatility_is('lease_renew', 'volatile', 'lease_renew() is volatile: the planner may not merge two calls');
SELECT is(:'refusals'::text, 'expired missing held free', 'there is a reason for each refusal');
SELECT ok(:'refused_without_xid', 'who is refused is not given a transaction ID');
SELECT is(:'rows_after'::text, :'rows_before', 'and has neither written nor locked a row');

INSERT INTO lease (name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions) VALUES
	('mine', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '30 s', 5),
	('expired', 'me', 60, clock_timestamp() - interval '1 h', clock_timestamp() - interval '61 s', 5),
	('others', 'you', 60, clock_timestamp(), clock_timestamp(), 5),
	('others-expired', 'you', 60, clock_timestamp(), clock_timestamp() - interval '1 h', 5),
	('released', '', 1, clock_timestamp(), clock_timestamp(), 5),
	('future', 'me', 60, clock_timestamp(), clock_timestamp() + interval '1 h', 5);
INSERT INTO lease (name) VALUES ('never');
INSERT INTO lease (name, holder_identity, renew_time) VALUES ('noduration', 'me', clock_timestamp());
CREATE TEMP TABLE before AS SELECT * FROM lease;
CREATE FUNCTION pg_temp.unchanged(name text) RETURNS boolean LANGUAGE sql AS
	$$ SELECT (SELECT l FROM lease l WHERE l.name = $1) = (SELECT ROW(b.*)::lease FROM before b WHERE b.name = $1) $$;

SELECT results_eq(
	$$SELECT renewed, status, holder_identity, fencing_token, expires_in FROM lease_renew('mine', 'me')$$,
	$$SELECT true, 'renewed', 'me', fencing_token, interval '60 s' FROM before WHERE name = 'mine'$$,
	'a valid lease of mine is renewed for its own duration, under the same token');
SELECT ok(l.renew_time > b.renew_time AND clock_timestamp() - l.renew_time < interval '5 s', 'renew_time is now')
FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT is((l.acquire_time, l.lease_transitions, l.lease_duration_seconds, l.uid, l.holder_identity)::text,
	(b.acquire_time, b.lease_transitions, b.lease_duration_seconds, b.uid, b.holder_identity)::text, 'nothing else of the spec has changed')
FROM lease l JOIN before b USING (name) WHERE name = 'mine';
SELECT ok(l.resource_version > b.resource_version, 'resource_version moves')
FROM lease l JOIN before b USING (name) WHERE name = 'mine';

SELECT results_eq($$SELECT renewed, status, holder_identity, fencing_token FROM lease_renew('expired', 'me')$$,
	$$VALUES (false, 'expired', 'me', NULL::bigint)$$, 'an expired lease is not revived');
SELECT ok(expires_in < '0', 'and one is told how long ago it ran out') FROM lease_renew('expired', 'me');
SELECT ok(pg_temp.unchanged('expired'), 'nothing is written to an expired lease');

SELECT results_eq($$SELECT renewed, status, holder_identity, fencing_token FROM lease_renew('others', 'me')$$,
	$$VALUES (false, 'held', 'you', NULL::bigint)$$, 'another''s lease is held');
SELECT ok(pg_temp.unchanged('others'), 'nothing is written to another''s lease');
SELECT is(status, 'held', 'also one that has expired: another had it last') FROM lease_renew('others-expired', 'me');
SELECT results_eq($$SELECT renewed, status, holder_identity, expires_at FROM lease_renew('released', 'me')$$,
	$$VALUES (false, 'free', '', NULL::timestamptz)$$, 'a released lease is free');
SELECT results_eq($$SELECT renewed, status, holder_identity FROM lease_renew('never', 'me')$$,
	$$VALUES (false, 'free', NULL)$$, 'a lease that was never held is free');
SELECT results_eq($$SELECT renewed, status, holder_identity, fencing_token, expires_at, expires_in FROM lease_renew('missing', 'me')$$,
	$$VALUES (false, 'missing', NULL, NULL::bigint, NULL::timestamptz, NULL::interval)$$, 'a missing lease is missing');
SELECT is_empty($$SELECT FROM lease WHERE name = 'missing'$$, 'and is not made');
SELECT is(status, 'missing', 'names are per namespace') FROM lease_renew('mine', 'me', 'kube-system');
SELECT is(status, 'expired', 'a record without duration cannot be renewed') FROM lease_renew('noduration', 'me');

SELECT is(status, 'renewed', 'a renew_time in the future is valid') FROM lease_renew('future', 'me');
SELECT is(l.renew_time, b.renew_time, 'renew_time never goes back')
FROM lease l JOIN before b USING (name) WHERE name = 'future';
SELECT ok(l.resource_version > b.resource_version, 'resource_version moves all the same')
FROM lease l JOIN before b USING (name) WHERE name = 'future';

INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time, resource_version)
VALUES ('version', 'me', 60, clock_timestamp(), 4000000000000000);
SELECT FROM lease_renew('version', 'me');
SELECT is(resource_version, 4000000000000001, 'also where it is ahead of the clock') FROM lease WHERE name = 'version';

-- the token, when given, must be the current one
SELECT fencing_token AS token FROM lease WHERE name = 'mine' \gset
SELECT is(status, 'renewed', 'a caller with the current token renews') FROM lease_renew('mine', 'me', 'default', :token);
SELECT results_eq($$SELECT renewed, status, holder_identity, fencing_token FROM lease_renew('mine', 'me', fencing_token => 1000000000)$$,
	$$VALUES (false, 'held', 'me', NULL::bigint)$$, 'with another token than the current one a namesake has it');
SELECT fencing_token AS expired_token FROM lease WHERE name = 'expired' \gset
SELECT is(status, 'expired', 'an expired lease is not revived with its token either')
FROM lease_renew('expired', 'me', 'default', :expired_token);
SELECT is(status, 'held', 'with another token than its own it is somebody else''s')
FROM lease_renew('expired', 'me', 'default', :expired_token + 1000000000);
SELECT is(status, 'held', 'holders are compared as a whole, byte by byte') FROM lease_renew('mine', 'mee');
SELECT throws_ok($$SELECT lease_renew('mine', 'me', 'default', 0)$$, '22023', 'fencing token must be greater than zero',
	'a token of zero is an error');
SELECT throws_ok($$SELECT lease_renew('mine', 'me', 'default', -1)$$, '22023', 'fencing token must be greater than zero',
	'and so is a negative one');

-- many in one statement and one transaction
SELECT pg_stat_get_xact_tuples_updated('lease'::regclass) AS updates \gset
SELECT is(array_agg(status), array_fill('renewed'::text, '{100}'), 'one lease can be renewed many times in a statement')
FROM (SELECT (lease_renew('mine', 'me')).status FROM generate_series(1, 100)) r;
SELECT is(pg_stat_get_xact_tuples_updated('lease'::regclass) - :updates, 100::bigint, 'and each time the row is written');
SELECT is(fencing_token, :token::bigint, 'a hundred renewals later it still has the same token') FROM lease WHERE name = 'mine';
SELECT is(count(*), 1::bigint, 'and there still is one row of it') FROM lease WHERE name = 'mine';

-- a statement that changes the row it renews is told so
SELECT throws_ok($$UPDATE lease SET labels = '{}' WHERE name = 'mine' AND (lease_renew(name, 'me')).renewed$$,
	'27000', NULL, 'a statement cannot renew a lease and change the same row');
SAVEPOINT s;
SELECT FROM lease_renew('mine', 'me');
ROLLBACK TO s;
SELECT is(count(*), 1::bigint, 'after a renewal was rolled back there is one row') FROM lease WHERE name = 'mine';
SELECT is(status, 'renewed', 'which can be renewed') FROM lease_renew('mine', 'me');
SELECT is(fencing_token, :token::bigint, 'under the same token') FROM lease WHERE name = 'mine';

SELECT * FROM finish();
ROLLBACK;
