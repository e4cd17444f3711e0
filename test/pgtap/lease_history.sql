-- lease_history and lease_holdings: who held a lease, when, and why it ended. What ends with a
-- session is in test/t/055_session.pl.
BEGIN;
SELECT no_plan();

-- what other tests have committed
DELETE FROM lease_history;

SELECT columns_are('lease_history', ARRAY['namespace', 'name', 'fencing_token', 'holder_identity', 'held_from', 'held_until', 'end_reason'], 'the table has these columns');
SELECT columns_are('lease_holdings', ARRAY['namespace', 'name', 'fencing_token', 'holder_identity', 'held_from', 'held_until', 'end_reason', 'held_during'], 'and the view one more');
SELECT ok(reloptions @> '{security_invoker=true}', 'the view uses the privileges of who asks') FROM pg_class WHERE oid = 'lease_holdings'::regclass;

CREATE FUNCTION pg_temp.history(name text) RETURNS SETOF text LANGUAGE sql AS
	$$SELECT holder_identity || ': ' || end_reason FROM lease_history WHERE name = $1 ORDER BY fencing_token$$;

-- every way a holding ends
SELECT FROM lease_acquire('l', 'a', '1 h');
SELECT is_empty($$SELECT * FROM lease_history$$, 'a holding that goes on is not history');
SELECT FROM lease_renew('l', 'a');
SELECT FROM lease_acquire('l', 'a', '2 h');
SELECT FROM lease_acquire('l', 'b', '1 h');
SELECT is_empty($$SELECT * FROM lease_history$$, 'renewals and losers leave no trace');
SELECT FROM lease_release('l', 'a');
SELECT FROM lease_acquire('l', 'b', '1 h');
SELECT FROM lease_handover('l', 'b', 'c');
SELECT FROM lease_acquire('l', 'c', '1 h');
UPDATE lease SET renew_time = renew_time - interval '2 h' WHERE name = 'l';
SELECT FROM lease_acquire('l', 'c', '1 h');
UPDATE lease SET renew_time = renew_time - interval '2 h' WHERE name = 'l';
SELECT FROM lease_acquire('l', 'd', '1 h');
UPDATE lease SET labels = '{}' WHERE name = 'l';
UPDATE lease SET holder_identity = 'e' WHERE name = 'l';
DELETE FROM lease WHERE name = 'l';
SELECT results_eq($$SELECT * FROM pg_temp.history('l')$$,
	ARRAY['a: released', 'b: handed over', 'c: expired', 'c: taken over', 'd: edited', 'e: deleted'], 'each end of a holding is recorded, with the reason');
SELECT FROM lease_acquire('l', 'f', '1 h');
SELECT FROM lease_release('l', 'f');
DELETE FROM lease WHERE name = 'l';
SELECT is(count(*), 7::bigint, 'a free lease that is deleted ends no holding') FROM lease_history;
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
VALUES ('kube-system', 'gone', 'g', 10, clock_timestamp() - interval '1 h', '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM lease_gc();
SELECT results_eq($$SELECT * FROM pg_temp.history('gone')$$, ARRAY['g: collected'], 'what is collected as well');

-- when
SELECT FROM lease_acquire('t', 'a', '1 h');
SELECT held_since AS since FROM lease WHERE name = 't' \gset
SELECT FROM lease_renew('t', 'a');
SELECT is(held_since, :'since', 'a renewal does not begin a new holding') FROM lease WHERE name = 't';
SELECT FROM lease_release('t', 'a');
SELECT ok(held_from = :'since' AND held_until BETWEEN held_from AND clock_timestamp() AND held_until <= (SELECT renew_time FROM lease WHERE name = 't') + interval '1 s',
	'a holding lasts from its grant to its release') FROM lease_history WHERE name = 't';
SELECT FROM lease_acquire('u', 'a', '10 s');
UPDATE lease SET renew_time = renew_time - interval '1 min', held_since = held_since - interval '1 h' WHERE name = 'u';
SELECT lease_expires_at(holder_identity, renew_time, lease_duration_seconds) AS expiry FROM lease WHERE name = 'u' \gset
SELECT results_eq($$SELECT held_until, end_reason FROM lease_holdings WHERE name = 'u'$$, format($$VALUES (%L::timestamptz, 'expired')$$, :'expiry'),
	'one that has expired ended then, though nobody has noticed yet');
SELECT FROM lease_release('u', 'a');
SELECT results_eq($$SELECT held_until, end_reason FROM lease_history WHERE name = 'u'$$, format($$VALUES (%L::timestamptz, 'released')$$, :'expiry'),
	'also when it is released later');
SELECT FROM lease_acquire('u', 'b', '1 h');
SELECT results_eq($$SELECT holder_identity, held_until, end_reason, upper_inf(held_during) OR upper(held_during) = 'infinity' FROM lease_holdings WHERE name = 'u' ORDER BY held_from DESC LIMIT 1$$,
	$$VALUES ('b' COLLATE "C", NULL::timestamptz, NULL, true)$$, 'one that goes on has no end yet');

-- who was leader at 03:12?
DELETE FROM lease_history;
INSERT INTO lease_history VALUES
	('default', 'leader', 1, 'a', '2026-11-22 23:00Z', '2026-11-23 03:12Z', 'taken over'),
	('default', 'leader', 2, 'b', '2026-11-23 03:12Z', '2026-11-23 03:13Z', 'released'),
	('default', 'leader', 4, 'c', '2026-11-23 03:15Z', '2026-11-23 04:00Z', 'released');
SELECT is((SELECT holder_identity FROM lease_holdings WHERE name = 'leader' AND held_during @> at), holder, format('at %s: %s', at, coalesce(holder, 'nobody')))
FROM (VALUES ('2026-11-23 03:11:59.999999Z'::timestamptz, 'a'), ('2026-11-23 03:12Z', 'b'), ('2026-11-23 03:13Z', NULL), ('2026-11-23 03:15Z', 'c')) v (at, holder);

-- a user's trigger that calls the functions, within a statement of theirs
CREATE FUNCTION pg_temp.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.name = 'audited' AND NEW.holder_identity = '' THEN
		PERFORM lease_acquire('audit', 'x', '1 h');
		PERFORM lease_release('audit', 'x');
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.audit();
SELECT FROM lease_acquire('audited', 'a', '1 h');
SELECT FROM lease_release('audited', 'a');
SELECT results_eq($$SELECT * FROM pg_temp.history('audited')$$, ARRAY['a: released'], 'a trigger that does something else meanwhile does not change the reason');
DROP TRIGGER audit ON lease;
DELETE FROM lease_history WHERE name ~ '^audit';

-- what is rolled back is no history
SAVEPOINT s;
SELECT FROM lease_release('u', 'b');
ROLLBACK TO s;
SELECT is_empty($$SELECT * FROM lease_history WHERE name = 'u'$$, 'a release that is rolled back is not recorded');

-- retention
SELECT is(current_setting('lease.history_retention'), '30d', 'thirty days are kept');
UPDATE lease_history SET held_until = clock_timestamp() - make_interval(days => 28 + fencing_token::int);
SELECT results_eq($$SELECT history_removed FROM lease_gc()$$, ARRAY[2::bigint], 'lease_gc() forgets what is older');
SELECT results_eq($$SELECT fencing_token FROM lease_history$$, ARRAY[1::bigint], 'and nothing else');
SET LOCAL lease.history_retention = -1;
UPDATE lease_history SET held_until = '2000-01-01';
SELECT results_eq($$SELECT history_removed FROM lease_gc()$$, ARRAY[0::bigint], '-1 keeps everything');
SET LOCAL lease.history_retention = 0;
SELECT results_eq($$SELECT history_removed FROM lease_gc()$$, ARRAY[1::bigint], '0 nothing');

-- nobody can change it who may change leases
CREATE ROLE lease_test_history;
GRANT SELECT, INSERT, UPDATE, DELETE ON lease TO lease_test_history;
SET LOCAL ROLE lease_test_history;
SELECT FROM lease_acquire('h', 'me', '1 h');
SELECT is(status, 'released', 'a caller needs no privilege on the history') FROM lease_release('h', 'me');
SELECT throws_ok(sql, '42501', 'permission denied for table lease_history', 'but has none: ' || sql)
FROM (VALUES ('SELECT * FROM lease_history'), ('DELETE FROM lease_history'), ($$UPDATE lease_history SET holder_identity = 'you'$$)) v (sql);
SELECT throws_ok('SET lease.history_retention = 0', '42501', NULL, 'nor can he have it forgotten');
RESET ROLE;
SELECT results_eq($$SELECT * FROM pg_temp.history('h')$$, ARRAY['me: released'], 'it was recorded');

-- a holding that the worker has seen expire is set back by hand, and then ends
SELECT FROM lease_acquire('back', 'me', '1 s');
INSERT INTO lease_history (namespace, name, fencing_token, holder_identity, held_from, held_until, end_reason)
SELECT namespace, name, fencing_token, holder_identity, held_since, held_since + interval '1 s', 'expired' FROM lease WHERE name = 'back';
UPDATE lease SET renew_time = '2000-01-01 00:00+00' WHERE name = 'back';
SELECT is(status, 'acquired', 'a holding ends before it was known to') FROM lease_acquire('back', 'you');
SELECT results_eq($$SELECT held_from <= held_until, end_reason FROM lease_holdings WHERE name = 'back' AND holder_identity = 'me'$$, $$VALUES (true, 'taken over')$$,
	'in the history it does not end before it began, and the view can show it');

SELECT * FROM finish();
ROLLBACK;
