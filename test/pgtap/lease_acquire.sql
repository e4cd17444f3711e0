-- lease_acquire(): client-go's rules for who gets the lease, case by case, and what
-- is written.

-- Losing must cost nothing: no transaction ID, no lock.  That shows only in a transaction that
-- does nothing else, so this part is committed first, in a namespace of its own.
DELETE FROM lease WHERE namespace = 'test-lease-acquire';
SELECT FROM lease_acquire('held', 'bing', '1 h', 'test-lease-acquire');
SELECT format('%s %s %s %s', xmin, xmax, ctid, l) AS held_before FROM lease l WHERE namespace = 'test-lease-acquire' \gset
BEGIN;
SELECT status AS lost FROM lease_acquire('held', 'baz', '1 h', 'test-lease-acquire') \gset
SELECT pg_current_xact_id_if_assigned() IS NULL AS lost_without_xid \gset
COMMIT;
SELECT format('%s %s %s %s', xmin, xmax, ctid, l) AS held_after FROM lease l WHERE namespace = 'test-lease-acquire' \gset
DELETE FROM lease WHERE namespace = 'test-lease-acquire';

BEGIN;
SELECT plan(57);

SELECT is(pg_get_function_arguments('lease_acquire'::regproc),
	'name text, holder text, duration interval DEFAULT ''00:00:15''::interval, namespace text DEFAULT ''default''::text, '
	'wait interval DEFAULT ''00:00:00''::interval, hold_at_least interval DEFAULT ''00:00:00''::interval, '
	'lock_delay interval DEFAULT ''00:00:00''::interval, session boolean DEFAULT false, '
	'OUT acquired boolean, OUT status text, OUT holder_identity text, OUT fencing_token bigint, OUT expires_at timestamp with time zone, '
	'OUT expires_in interval, OUT lease_transitions integer', 'arguments, defaults and results are those of the reference');
SELECT volatility_is('lease_acquire', 'volatile', 'lease_acquire() is volatile: the planner may not merge two calls');
SELECT is(:'lost'::text, 'held', 'a lease of another is held');
SELECT ok(:'lost_without_xid', 'and who loses is not given a transaction ID');
SELECT is(:'held_after'::text, :'held_before', 'and has neither written nor locked the row');

-- A lease in a given state: last renewed so long ago.
CREATE FUNCTION pg_temp.put(name text, holder text, duration int, ago interval, transitions int)
RETURNS void LANGUAGE sql AS $$
	DELETE FROM lease WHERE name = $1;
	INSERT INTO lease (name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions)
	VALUES ($1, $2, $3, clock_timestamp() - $4, clock_timestamp() - $4, $5);
$$;
CREATE TEMP TABLE before AS SELECT * FROM lease WITH NO DATA;
CREATE FUNCTION pg_temp.remember(name text) RETURNS void LANGUAGE sql AS $$
	DELETE FROM before;
	INSERT INTO before SELECT * FROM lease WHERE name = $1;
$$;

-- missing
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('new', 'baz')$$,
	$$VALUES (true, 'acquired', 'baz', 0)$$, 'a missing lease is made, with no transition');
SELECT is(lease_duration_seconds, 15, 'the default duration is 15 s') FROM lease WHERE name = 'new';
SELECT is(namespace, 'default', 'the default namespace is default') FROM lease WHERE name = 'new';
SELECT is(acquire_time, renew_time, 'acquired and renewed at the same moment') FROM lease WHERE name = 'new';
SELECT ok(clock_timestamp() - renew_time BETWEEN '0' AND '5 s', 'and that moment is now') FROM lease WHERE name = 'new';
SELECT ok(clock_timestamp() > now() AND renew_time > now(),
	'the clock is read, not the start of the transaction') FROM lease WHERE name = 'new';
SELECT expires_at, expires_in FROM lease_acquire('new', 'baz', '1 min') \gset
SELECT is(:'expires_at'::timestamptz, renew_time + interval '1 min', 'expires_at is renew_time and duration')
FROM lease WHERE name = 'new';
SELECT is(:'expires_in'::interval, interval '1 min', 'expires_in is the time left');
SELECT status FROM lease_acquire('kube-scheduler', 'baz', '15 s', 'kube-system') \gset
SELECT is(name, 'kube-scheduler', 'a lease can be made in another namespace') FROM lease WHERE namespace = 'kube-system';

-- an object without a record
INSERT INTO lease (name) VALUES ('empty');
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('empty', 'baz')$$,
	$$VALUES (true, 'acquired', 'baz', 1)$$, 'an object that was never held: the first transition');

-- client-go case 3: bing's lease of 3 s is refused, and given when 3 s have passed
SELECT pg_temp.put('case-3', 'bing', 3, '0', 0);
SELECT is(status, 'held', 'the first try comes too early') FROM lease_acquire('case-3', 'baz', '10 s');
UPDATE lease SET renew_time = renew_time - interval '3 s' WHERE name = 'case-3';
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('case-3', 'baz', '10 s')$$,
	$$VALUES (true, 'acquired', 'baz', 1)$$, 'the second gets it, with one transition');
SELECT results_eq(
	$$SELECT holder_identity, lease_duration_seconds, lease_transitions, acquire_time = renew_time, clock_timestamp() - renew_time < '10 s' FROM lease WHERE name = 'case-3'$$,
	$$VALUES ('baz' COLLATE "C", 10, 1, true, true)$$, 'what is told is also written: holder, duration, transitions and both times');
SELECT (fencing_token, expires_at)::text AS told FROM lease_acquire('case-3', 'baz', '10 s') \gset
SELECT is(:'told', (fencing_token, renew_time + interval '10 s')::text, 'and so are token and expiry') FROM lease WHERE name = 'case-3';

-- released
SELECT pg_temp.put('released', '', 1, '1 s', 3);
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('released', 'baz')$$,
	$$VALUES (true, 'acquired', 'baz', 4)$$, 'a released lease is free at once, and the transition counts');
SELECT ok(acquire_time > clock_timestamp() - interval '1 s', 'the holder after a release has a new acquire_time') FROM lease WHERE name = 'released';

-- another's, valid
SELECT pg_temp.put('held', 'bing', 3600, '1 s', 2);
SELECT pg_temp.remember('held');
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, fencing_token, lease_transitions FROM lease_acquire('held', 'baz')$$,
	$$VALUES (false, 'held', 'bing', NULL::bigint, 2)$$, 'a valid lease of another is held, and its token is not told');
SELECT ok(expires_at = b.renew_time + interval '1 h' AND expires_in BETWEEN '59 min' AND '1 h', 'the loser is told until when')
FROM lease_acquire('held', 'baz') a, before b;
SELECT results_eq($$SELECT * FROM lease WHERE name = 'held'$$, $$SELECT * FROM before$$, 'and nothing was written');

-- another's, expired
SELECT pg_temp.put('expired', 'bing', 3, '1 h', 2);
SELECT pg_temp.remember('expired');
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('expired', 'baz')$$,
	$$VALUES (true, 'acquired', 'baz', 3)$$, 'an expired lease is taken over');
SELECT is((holder_identity, lease_duration_seconds, lease_transitions)::text, '(baz,15,3)', 'and says so') FROM lease WHERE name = 'expired';
SELECT ok(l.acquire_time > b.acquire_time, 'the new holder has a new acquire_time') FROM lease l, before b WHERE l.name = 'expired';
SELECT ok(l.fencing_token > b.fencing_token, 'and a greater token') FROM lease l, before b WHERE l.name = 'expired';
SELECT ok(l.resource_version > b.resource_version, 'resource_version has moved') FROM lease l, before b WHERE l.name = 'expired';
SELECT is(l.uid, b.uid, 'it is still the same object') FROM lease l, before b WHERE l.name = 'expired';

-- the duration in the record decides, not the candidate's
SELECT pg_temp.put('long', 'bing', 7200, '1 h', 0);
SELECT is(status, 'held', 'the holder''s duration counts, not the candidate''s') FROM lease_acquire('long', 'baz', '1 s');

-- without a duration or a time the lease is not valid
SELECT pg_temp.put('noduration', 'bing', NULL, '1 s', 0);
SELECT pg_temp.remember('noduration');
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('noduration', 'baz')$$,
	$$VALUES (true, 'acquired', 'baz', 1)$$, 'a record without duration can be taken at once, and the transition counts');
SELECT ok(l.acquire_time > b.acquire_time AND l.fencing_token > b.fencing_token, 'with a new acquire_time and a greater token')
FROM lease l, before b WHERE l.name = 'noduration';
SELECT pg_temp.put('norenew', 'bing', 3600, NULL, 0);
SELECT is(status, 'acquired', 'a record without renew_time can be taken at once') FROM lease_acquire('norenew', 'baz');

-- mine, valid
SELECT pg_temp.put('mine', 'baz', 10, '5 s', 2);
SELECT pg_temp.remember('mine');
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, fencing_token, lease_transitions FROM lease_acquire('mine', 'baz', '20 s')$$,
	$$SELECT true, 'renewed', 'baz', fencing_token, 2 FROM before$$, 'what is mine is renewed under the same token, without a transition');
SELECT is(l.acquire_time, b.acquire_time, 'a renewal leaves acquire_time') FROM lease l, before b WHERE l.name = 'mine';
SELECT ok(l.renew_time > b.renew_time, 'and moves renew_time') FROM lease l, before b WHERE l.name = 'mine';
SELECT is(lease_duration_seconds, 20, 'the new duration is written') FROM lease WHERE name = 'mine';
SELECT ok(l.resource_version > b.resource_version, 'resource_version has moved') FROM lease l, before b WHERE l.name = 'mine';

-- mine, expired: client-go renews; here the token changes
SELECT pg_temp.put('late', 'baz', 10, '1 h', 2);
SELECT pg_temp.remember('late');
SELECT results_eq(
	$$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('late', 'baz')$$,
	$$VALUES (true, 'acquired', 'baz', 2)$$, 'my own expired lease is acquired anew, without a transition');
SELECT is(l.acquire_time, b.acquire_time, 'acquire_time stays, as in client-go') FROM lease l, before b WHERE l.name = 'late';
SELECT ok(l.fencing_token > b.fencing_token, 'but the token is greater: the old holding has ended') FROM lease l, before b WHERE l.name = 'late';

-- mine before a release
SELECT pg_temp.put('again', 'baz', 10, '1 s', 2);
SELECT released FROM lease_release('again', 'baz') \gset
SELECT results_eq(
	$$SELECT status, lease_transitions FROM lease_acquire('again', 'baz')$$,
	$$VALUES ('acquired', 3)$$, 'after a release the same holder counts as another');

-- renew_time never goes back
SELECT pg_temp.put('future', 'baz', 10, '-1 h', 0);
SELECT pg_temp.remember('future');
SELECT is(status, 'renewed', 'a renew_time in the future is valid') FROM lease_acquire('future', 'baz', '10 s');
SELECT is(l.renew_time, b.renew_time, 'and is not taken back') FROM lease l, before b WHERE l.name = 'future';

-- what is not the election's stays
SELECT pg_temp.put('labelled', 'bing', 3, '1 h', 0);
UPDATE lease SET strategy = 'example.com/x', preferred_holder = 'bong', labels = '{"app": "web"}', annotations = '{"note": "x"}', finalizers = '{a/b}',
	owner_references = '[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]' WHERE name = 'labelled';
SELECT pg_temp.remember('labelled');
SELECT status FROM lease_acquire('labelled', 'baz') \gset
SELECT results_eq(
	$$SELECT labels, annotations, finalizers, owner_references, uid, creation_timestamp, strategy, preferred_holder FROM lease WHERE name = 'labelled'$$,
	$$SELECT labels, annotations, finalizers, owner_references, uid, creation_timestamp, strategy, preferred_holder FROM before$$,
	'a takeover leaves metadata, strategy and preferred_holder as they were');

-- transitions do not overflow
SELECT pg_temp.put('many', 'bing', 3, '1 h', 2147483647);
SELECT is(lease_transitions, 2147483647, 'lease_transitions stops at the greatest integer') FROM lease_acquire('many', 'baz');

-- durations
SELECT is(expires_in, interval '1 s', 'the shortest duration is a second') FROM lease_acquire('d1', 'baz', '1 s');
SELECT is(expires_in, interval '24 h', 'a day is 24 hours') FROM lease_acquire('d2', 'baz', '1 day');
SELECT is(expires_in, make_interval(secs => 2147483647), 'the longest is 2147483647 seconds')
FROM lease_acquire('d3', 'baz', make_interval(secs => 2147483647));

-- any text can hold a lease
SELECT is(holder_identity, E'O''Brien\n"\x1b[31m"日本 ', 'a holder with quotes, newline, ESC and other scripts')
FROM lease_acquire('odd', E'O''Brien\n"\x1b[31m"日本 ');
SELECT is(length(holder_identity), 1000000, 'a holder of a million bytes') FROM lease_acquire('big', repeat('x', 1000000));
SELECT is(status, 'renewed', 'who can renew, too') FROM lease_acquire('big', repeat('x', 1000000));
SELECT is(status, 'held', 'holders are compared byte by byte') FROM lease_acquire('odd', E'o''Brien\n"\x1b[31m"日本 ');

-- several in one statement, each seeing those before it
SELECT results_eq(
	$$SELECT (lease_acquire('many-' || n % 2, 'h' || n)).status FROM generate_series(1, 4) n$$,
	$$VALUES ('acquired'), ('acquired'), ('held'), ('held')$$, 'calls in one statement see each other');

-- At the very microsecond of its expiry a lease is not valid any more.  To hit it, hundreds of
-- leases that run out one after another are asked for until they are free: who is told that one
-- is held must be told of time left.
CREATE FUNCTION pg_temp.least_time_left() RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
	least interval := '1 h';
	answer record;
BEGIN
	INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time)
	SELECT 'edge-' || n, 'bing', 1, start - interval '0.9 s' + n * interval '200 us' FROM generate_series(1, 500) n;
	FOR n IN 1 .. 500 LOOP
		LOOP
			SELECT * INTO answer FROM lease_acquire('edge-' || n, 'baz');
			EXIT WHEN answer.acquired;
			least := least(least, answer.expires_in);
		END LOOP;
	END LOOP;
	RETURN least;
END $$;
SELECT cmp_ok(pg_temp.least_time_left(), '>', interval '0', 'a lease is held only before its expiry, not at the moment of it');

-- tokens only grow
SELECT ok(every(greater), 'each grant has a greater token than all before it') FROM (
	SELECT fencing_token > lag(fencing_token) OVER (ORDER BY n) IS NOT FALSE AS greater
	FROM generate_series(1, 10) n, LATERAL lease_acquire('t' || n, 'baz')) t;

SELECT * FROM finish();
ROLLBACK;
