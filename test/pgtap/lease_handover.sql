-- lease_handover(), and what else keeps back a lease that nobody holds: a minimum hold time, a
-- lock delay. Who waits for it is in test/t/050_waiting.pl.
BEGIN;
SELECT no_plan();

SELECT is(pg_get_function_arguments('lease_handover'::regproc),
	'name text, holder text, successor text, namespace text DEFAULT ''default''::text, fencing_token bigint DEFAULT NULL::bigint, '
	'reserve interval DEFAULT ''00:00:15''::interval, OUT handed_over boolean, OUT status text, OUT holder_identity text',
	'arguments, defaults and results are those of the reference');
SELECT volatility_is('lease_handover', 'volatile', 'lease_handover() is volatile');

-- makes it later, for everything that is kept in a row
CREATE FUNCTION pg_temp.pass(name text, by interval) RETURNS void LANGUAGE sql AS $$
	UPDATE lease SET renew_time = renew_time - by, not_before = not_before - by WHERE lease.name = $1
$$;

-- hand over
SELECT fencing_token AS token FROM lease_acquire('l', 'a', '1 h') \gset
SELECT results_eq($$SELECT * FROM lease_handover('l', 'b', 'c')$$, $$VALUES (false, 'held', 'a')$$, 'only the holder hands over');
SELECT results_eq($$SELECT * FROM lease_handover('l', 'a', 'c', fencing_token => 999999999)$$, $$VALUES (false, 'held', 'a')$$, 'under the current token, if he names one');
SELECT results_eq($$SELECT * FROM lease_handover('none', 'a', 'c')$$, $$VALUES (false, 'missing', NULL::text)$$, 'not what is missing');
SELECT results_eq(format($$SELECT * FROM lease_handover('l', 'a', 'c', fencing_token => %s, reserve => '10 min')$$, :token), $$VALUES (true, 'handed_over', '')$$, 'the holder hands over');
SELECT results_eq($$SELECT holder_identity, lease_duration_seconds, reserved_for, not_before - renew_time, held_since FROM lease WHERE name = 'l'$$,
	$$VALUES ('' COLLATE "C", 1, 'c' COLLATE "C", interval '10 min', NULL::timestamptz)$$, 'nobody has it now, as after a release');
SELECT cmp_ok(fencing_token, '>', :token::bigint, 'and the token is new') FROM lease WHERE name = 'l';
SELECT results_eq($$SELECT * FROM lease_handover('l', 'a', 'd')$$, $$VALUES (false, 'free', '')$$, 'it cannot be handed over twice');
SELECT results_eq($$SELECT acquired, status, holder_identity, fencing_token, lease_transitions FROM lease_acquire('l', 'b')$$,
	$$VALUES (false, 'reserved', '', NULL::bigint, 0)$$, 'another one hears that it is reserved');
SELECT ok(expires_in BETWEEN '9 min 50 s' AND '10 min', 'and for how long') FROM lease_acquire('l', 'b');
SELECT is(expires_at, (SELECT not_before FROM lease WHERE name = 'l'), 'until when') FROM lease_acquire('l', 'b');
SELECT is(status, 'reserved', 'the former holder as well') FROM lease_acquire('l', 'a');
SELECT results_eq($$SELECT status, reserved_for, reserved_until > clock_timestamp(), expires_at FROM lease_status WHERE name = 'l'$$,
	$$VALUES ('reserved', 'c' COLLATE "C", true, NULL::timestamptz)$$, 'lease_status says so, too');
SELECT is(lease_holder('l'), NULL, 'nobody holds it');
SELECT results_eq($$SELECT acquired, status, holder_identity, lease_transitions FROM lease_acquire('l', 'c', '1 h')$$, $$VALUES (true, 'acquired', 'c', 1)$$, 'the successor acquires it');
SELECT results_eq($$SELECT reserved_for, not_before FROM lease WHERE name = 'l'$$, $$VALUES (NULL, NULL::timestamptz)$$, 'and the reservation is over');
SELECT is(status, 'held', 'now it is held like any other') FROM lease_acquire('l', 'b');

SELECT FROM lease_handover('l', 'c', 'd', reserve => '1 min');
SELECT pg_temp.pass('l', '1 min');
SELECT is(status, 'free', 'a reservation that nobody used ends') FROM lease_status WHERE name = 'l';
SELECT is(status, 'acquired', 'then anybody may have it') FROM lease_acquire('l', 'b', '1 h');
SELECT is(status, 'handed_over', 'a reservation of no time at all') FROM lease_handover('l', 'b', 'd', reserve => '0');
SELECT is(status, 'acquired', 'keeps nobody out') FROM lease_acquire('l', 'e', '1 h');
SELECT pg_temp.pass('l', '2 h');
SELECT is(status, 'handed_over', 'an expired lease can be handed over as long as nobody has taken it') FROM lease_handover('l', 'e', 'd');

-- minimum hold time
SELECT FROM lease_acquire('min', 'a', '1 h', hold_at_least => '10 min');
SELECT is(status, 'renewed', 'the holder renews as ever') FROM lease_renew('min', 'a');
SELECT is(status, 'released', 'and may release early') FROM lease_release('min', 'a');
SELECT results_eq($$SELECT status, holder_identity FROM lease_acquire('min', 'b')$$, $$VALUES ('reserved', '')$$, 'but nobody gets it before the minimum is over');
SELECT is(status, 'reserved', 'not the one who had it either') FROM lease_acquire('min', 'a');
SELECT results_eq($$SELECT status, reserved_for FROM lease_status WHERE name = 'min'$$, $$VALUES ('reserved', NULL)$$, 'it is reserved, for nobody');
SELECT pg_temp.pass('min', '10 min');
SELECT is(status, 'acquired', 'afterwards anybody does') FROM lease_acquire('min', 'b', '1 h', hold_at_least => '10 min');
SELECT pg_temp.pass('min', '20 min');
SELECT FROM lease_renew('min', 'b');
SELECT FROM lease_release('min', 'b');
SELECT results_eq($$SELECT status, not_before FROM lease_acquire('min', 'c', '1 s', hold_at_least => '10 min'), lease WHERE lease.name = 'min'$$,
	$$SELECT 'acquired', not_before FROM lease WHERE name = 'min'$$, 'released later, it is free at once');
SELECT pg_temp.pass('min', '2 s');
SELECT is(status, 'reserved', 'a minimum longer than the duration also keeps others out after expiry') FROM lease_acquire('min', 'd');
SELECT is(status, 'acquired', 'not the holder himself') FROM lease_acquire('min', 'c', '1 h', hold_at_least => '10 min');
SELECT is(status, 'handed_over', 'the holder may hand over within the minimum') FROM lease_handover('min', 'c', 'd');
SELECT is(status, 'acquired', 'to somebody who gets it') FROM lease_acquire('min', 'd', '1 h');

-- lock delay
SELECT FROM lease_acquire('delay', 'a', '1 min', lock_delay => '30 s');
SELECT is(lock_delay_seconds, 30, 'the delay is kept in the row') FROM lease WHERE name = 'delay';
SELECT is(status, 'held', 'while it is valid it is held') FROM lease_acquire('delay', 'b');
SELECT pg_temp.pass('delay', '70 s');
SELECT results_eq($$SELECT status, holder_identity FROM lease_acquire('delay', 'b')$$, $$VALUES ('reserved', 'a')$$, 'lost by expiry, others do not get it for a while');
SELECT is(expires_at, renew_time + interval '90 s', 'until expiry and delay are over') FROM lease_acquire('delay', 'b'), lease WHERE lease.name = 'delay';
SELECT results_eq($$SELECT status, lease_holder('delay') FROM lease_status WHERE name = 'delay'$$, $$VALUES ('reserved', NULL)$$, 'lease_status says so; nobody holds it');
SAVEPOINT s;
SELECT is(status, 'acquired', 'its last holder may come back') FROM lease_acquire('delay', 'a', '1 min', lock_delay => '30 s');
ROLLBACK TO s;
SELECT pg_temp.pass('delay', '20 s');
SELECT is(status, 'acquired', 'after the delay others get it') FROM lease_acquire('delay', 'b', '1 min', lock_delay => '30 s');
SELECT FROM lease_release('delay', 'b');
SELECT is(status, 'acquired', 'a release leaves no delay') FROM lease_acquire('delay', 'c', '1 min');
SELECT is(lock_delay_seconds, NULL, 'the delay is that of the holding') FROM lease WHERE name = 'delay';
SELECT is(status, 'renewed', 'on a renewal the arguments') FROM lease_acquire('delay', 'c', '2 min', hold_at_least => '1 h', lock_delay => '1 h');
SELECT results_eq($$SELECT lock_delay_seconds, not_before FROM lease WHERE name = 'delay'$$, $$VALUES (NULL::int, NULL::timestamptz)$$, 'are those of the acquisition still');
SELECT FROM lease_acquire('far', 'a', '2147483647 s', lock_delay => '2147483647 s');
UPDATE lease SET renew_time = '294276-01-01' WHERE name = 'far';
SELECT is(status, 'held', 'the end of time is far away') FROM lease_acquire('far', 'b', hold_at_least => '2147483647 s');
SELECT lives_ok($$SELECT * FROM lease_status$$, 'also in the view');

-- bad input
SELECT throws_ok(sql, state, message, 'refused: ' || sql) FROM (VALUES
	($$SELECT lease_handover('l', 'a', 'a')$$, '22023', 'lease cannot be handed over to its own holder'),
	($$SELECT lease_handover('l', 'a', '')$$, '22023', 'lease holder must not be empty'),
	($$SELECT lease_handover('l', 'a', NULL)$$, '22004', 'lease holder must not be null'),
	($$SELECT lease_handover('l', 'a', 'b', reserve => NULL)$$, '22004', 'reserve must not be null'),
	($$SELECT lease_handover('l', 'a', 'b', reserve => '-1 us')$$, '22023', 'invalid reserve'),
	($$SELECT lease_handover('l', 'a', 'b', reserve => '1 month')$$, '22023', 'invalid reserve'),
	($$SELECT lease_acquire('l', 'a', wait => '-1 us')$$, '22023', 'invalid wait'),
	($$SELECT lease_acquire('l', 'a', wait => '1 month')$$, '22023', 'invalid wait'),
	($$SELECT lease_acquire('l', 'a', wait => '70 years')$$, '22023', 'invalid wait'),
	($$SELECT lease_acquire('l', 'a', wait => NULL)$$, '22004', 'wait must not be null'),
	($$SELECT lease_acquire('l', 'a', hold_at_least => '-1 s')$$, '22023', 'invalid minimum hold time'),
	($$SELECT lease_acquire('l', 'a', hold_at_least => NULL)$$, '22004', 'minimum hold time must not be null'),
	($$SELECT lease_acquire('l', 'a', lock_delay => '-1 s')$$, '22023', 'invalid lock delay'),
	($$SELECT lease_acquire('l', 'a', lock_delay => '0.5 s')$$, '22023', 'invalid lock delay'),
	($$SELECT lease_acquire('l', 'a', lock_delay => NULL)$$, '22004', 'lock delay must not be null'),
	($$SELECT lease_acquire('l', 'a', session => NULL)$$, '22004', 'session must not be null')) v (sql, state, message);

SELECT * FROM finish();
ROLLBACK;
