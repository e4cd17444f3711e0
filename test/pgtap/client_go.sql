-- The test cases of client-go's leader election (tools/leaderelection/leaderelection_test.go), by their names.
-- As there, the candidate is baz and the lease foo/bar.
--
-- One thing differs in all of them: client-go judges a lease by when the candidate last saw its record change
-- ("observed"), because its clock is not the holder's; a candidate that sees a lease for the first time waits for
-- one duration. Here the server's one clock writes renew_time and judges it. So where client-go's table has a time
-- of observation in the past or in the future, here renew_time is that long ago, or now.
BEGIN;
SELECT no_plan();
DELETE FROM lease;

-- A case: the record before (NULL: no such object), the call, and what is there afterwards
CREATE FUNCTION pg_temp.given(holder text, duration int, ago interval, transitions int DEFAULT 0) RETURNS void LANGUAGE sql AS $$
	DELETE FROM lease;
	INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions)
	VALUES ('foo', 'bar', holder, duration, clock_timestamp() - ago, clock_timestamp() - ago, transitions) $$;
CREATE FUNCTION pg_temp.try() RETURNS boolean LANGUAGE sql AS $$ SELECT acquired FROM lease_acquire('bar', 'baz', '10 s', 'foo') $$;
CREATE FUNCTION pg_temp.holds(holder text, transitions int, description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is(holder_identity, holder, description || ': holder') FROM lease;
	RETURN NEXT is(lease_transitions, transitions, description || ': transitions') FROM lease;
END $$;

SELECT ok(pg_temp.try(), 'acquire from no object: acquired');
SELECT pg_temp.holds('baz', 0, 'acquire from no object');
SELECT ok(lease_duration_seconds = 10 AND acquire_time = renew_time AND strategy IS NULL AND preferred_holder IS NULL, 'acquire from no object: a whole record') FROM lease;

SELECT pg_temp.given(NULL, NULL, NULL, NULL);
SELECT ok(pg_temp.try(), 'acquire from object without annotations: acquired');
SELECT pg_temp.holds('baz', 1, 'acquire from object without annotations');

-- Not observed yet: client-go waits for the holder's 3 s. Here the 3 s count from renew_time.
SELECT pg_temp.given('bing', 3, '0');
SELECT ok(NOT pg_temp.try(), 'acquire from led object with the lease duration seconds: not at once');
SELECT pg_temp.holds('bing', 0, 'acquire from led object with the lease duration seconds, at once');
UPDATE lease SET renew_time = renew_time - interval '3 s';
SELECT ok(pg_temp.try(), 'acquire from led object with the lease duration seconds: after the 3 s of its holder, not the 10 s of the candidate');
SELECT pg_temp.holds('baz', 1, 'acquire from led object with the lease duration seconds, later');

SELECT pg_temp.given(NULL, NULL, NULL, NULL);
SELECT ok(pg_temp.try(), 'acquire from unled object: acquired');
SELECT pg_temp.holds('baz', 1, 'acquire from unled object');

SELECT pg_temp.given('bing', 10, '1000 h');
SELECT ok(pg_temp.try(), 'acquire from led, unacked object: acquired');
SELECT pg_temp.holds('baz', 1, 'acquire from led, unacked object');

SELECT pg_temp.given('', 10, '-1000 h');
SELECT ok(pg_temp.try(), 'acquire from empty led, acked object: acquired, whatever its time says');
SELECT pg_temp.holds('baz', 1, 'acquire from empty led, acked object');

SELECT pg_temp.given('bing', 10, '0');
SELECT ok(NOT pg_temp.try(), 'don''t acquire from led, acked object: held');
SELECT pg_temp.holds('bing', 0, 'don''t acquire from led, acked object');

SELECT pg_temp.given('baz', 10, '5 s', 0);
SELECT acquire_time AS acquired FROM lease \gset
SELECT ok(pg_temp.try(), 'renew already acquired object: renewed');
SELECT pg_temp.holds('baz', 0, 'renew already acquired object');
SELECT ok(acquire_time = :'acquired' AND renew_time > acquire_time, 'renew already acquired object: acquireTime stays') FROM lease;

-- The same two for coordinated leader election, where another component decides who leads: strategy and
-- preferredHolder are kept here and not acted upon, so the answers are the same.
SELECT pg_temp.given('bing', 10, '0');
UPDATE lease SET strategy = 'OldestEmulationVersion', preferred_holder = 'baz';
SELECT ok(NOT pg_temp.try(), 'coordinated: don''t acquire from led, acked object: held');
SELECT pg_temp.holds('bing', 0, 'coordinated: don''t acquire from led, acked object');
SELECT pg_temp.given('baz', 10, '5 s');
UPDATE lease SET strategy = 'OldestEmulationVersion';
SELECT ok(pg_temp.try(), 'coordinated: renew already acquired object: renewed');
SELECT pg_temp.holds('baz', 0, 'coordinated: renew already acquired object');

-- TestReleaseLease
SELECT pg_temp.given('baz', 10, '5 s');
SELECT ok(pg_temp.try(), 'release acquired lock: acquired');
SELECT is(status, 'released', 'release acquired lock: released') FROM lease_release('bar', 'baz', 'foo');
SELECT pg_temp.holds('', 0, 'release acquired lock');
SELECT ok(lease_duration_seconds = 1 AND acquire_time = renew_time AND clock_timestamp() - renew_time < '10 s', 'release acquired lock: for 1 s from now') FROM lease;

-- TestReleaseMethodCallsGet: a release decides on the record as it is, not on what the caller remembers
SELECT pg_temp.given('bing', 10, '0');
SELECT is(status, 'held', 'release calls Get: another one leads') FROM lease_release('bar', 'baz', 'foo');
SELECT pg_temp.holds('bing', 0, 'release calls Get');
DELETE FROM lease;
SELECT is(status, 'missing', 'release calls Get: the object is gone') FROM lease_release('bar', 'baz', 'foo');

-- TestReleaseRetriesOnConflict: there is no conflict, for the row is locked when it is decided on. A row that changes
-- in between is looked at again; one that is locked answers busy (test/isolation/specs/release-acquire.spec).
SELECT pg_temp.given('baz', 10, '0');
UPDATE lease SET labels = '{"changed": "since"}';
SELECT is(status, 'released', 'release retries on conflict: a version that has moved on is no matter') FROM lease_release('bar', 'baz', 'foo');

-- TestReleaseOnCancellation, of an update and of a get: who is cancelled in a renewal releases afterwards.
-- A statement that is cancelled has done nothing.
SELECT pg_temp.given('baz', 10, '5 s');
SELECT to_jsonb(l) AS before FROM lease l \gset
SAVEPOINT cancelled;
SELECT is((lease_renew('bar', 'baz', 'foo')).status, 'renewed', 'release on cancellation of update: a renewal');
ROLLBACK TO cancelled;
SELECT is(to_jsonb(l), :'before'::jsonb, 'release on cancellation of update: that is cancelled has changed nothing') FROM lease l;
SELECT is(status, 'released', 'release on cancellation of update: released afterwards') FROM lease_release('bar', 'baz', 'foo');
SELECT pg_temp.holds('', 0, 'release on cancellation of update');
SELECT pg_temp.given('baz', 10, '5 s');
SAVEPOINT cancelled;
SELECT is(lease_holder('bar', 'foo'), 'baz', 'release on cancellation of get: a look');
ROLLBACK TO cancelled;
SELECT is(status, 'released', 'release on cancellation of get: released afterwards') FROM lease_release('bar', 'baz', 'foo');
SELECT pg_temp.holds('', 0, 'release on cancellation of get');

-- TestLeaderElectionConfigValidation. Durations are arguments of each call; renew deadline and retry period are the
-- caller's loop, and nothing here knows them.
SELECT throws_ok($$SELECT lease_acquire('bar', '', '15 s', 'foo')$$, '22023', 'lease holder must not be empty', 'config validation: Lock identity is empty');
SELECT throws_ok($$SELECT lease_acquire('bar', 'baz', '0', 'foo')$$, '22023', 'invalid lease duration', 'config validation: leaseDuration must be greater than zero');
SELECT is(pg_get_function_arguments('lease_acquire'::regproc) ~ '^name text, holder text, duration interval DEFAULT ''00:00:15''', true, 'config validation: the default is client-go''s 15 s');

-- TestFastPathLeaderElection: no object, then renewals without a Get. Here renewals read the row that they lock; they
-- cost one index probe, one lock and one HOT update each.
DELETE FROM lease;
SELECT pg_stat_get_xact_tuples_updated('lease'::regclass) AS updates, pg_stat_get_xact_tuples_hot_updated('lease'::regclass) AS hot \gset
SELECT results_eq($$SELECT status FROM (VALUES (1), (2), (3)) v (i), lease_acquire('bar', 'baz', make_interval(secs => 15 + i - i), 'foo')$$,
	$$VALUES ('acquired'), ('renewed'), ('renewed')$$, 'fast path: create, update, update');
SELECT pg_temp.holds('baz', 0, 'fast path');
SELECT ok(pg_stat_get_xact_tuples_updated('lease'::regclass) - :updates = 2 AND pg_stat_get_xact_tuples_hot_updated('lease'::regclass) - :hot = 2, 'fast path: two writes');
-- ... and its fallback: an update that fails with a conflict is made again on the newest version.
UPDATE lease SET annotations = '{"changed": "since"}';
SELECT is(status, 'renewed', 'fast path fallback: renewed on the newest version') FROM lease_acquire('bar', 'baz', '15 s', 'foo');
SELECT pg_temp.holds('baz', 0, 'fast path fallback');
SELECT is(annotations, '{"changed": "since"}', 'fast path fallback: metadata stays') FROM lease;

-- Conversion of a LeaseSpec to a record and back: every field has a column of its own.
UPDATE lease SET acquire_time = '2026-01-02 03:04:05.678901Z', strategy = 'OldestEmulationVersion', preferred_holder = 'bing', lease_transitions = 7;
SELECT is((lease_renew('bar', 'baz', 'foo')).status, 'renewed', 'round trip: a renewal');
SELECT ok(acquire_time = '2026-01-02 03:04:05.678901Z' AND strategy = 'OldestEmulationVersion' AND preferred_holder = 'bing' AND lease_transitions = 7
	AND holder_identity = 'baz' AND lease_duration_seconds = 15, 'round trip: keeps all fields') FROM lease;

-- TestCheckMethodRace: asking while acquiring. Asking takes no lock, see test/t/030_concurrency.pl.
SELECT ok(lease_is_held('bar', 'baz', 'foo'), 'check: asks the row, not a copy');

-- What follows from the algorithm and is easily got wrong (kubernetes/client-go, tryAcquireOrRenew):
SELECT pg_temp.given('baz', 10, '1 h', 3);
SELECT acquire_time AS acquired FROM lease \gset
SELECT ok(pg_temp.try(), 'the same holder after its lease has expired: acquired');
SELECT pg_temp.holds('baz', 3, 'the same holder after its lease has expired');
SELECT is(acquire_time, :'acquired', 'the same holder after its lease has expired: acquireTime stays') FROM lease;
SELECT is((lease_release('bar', 'baz', 'foo')).status, 'released', 'the same holder after its own release');
SELECT ok(pg_temp.try(), 'the same holder after its own release: acquired');
SELECT pg_temp.holds('baz', 4, 'the same holder after its own release');
SELECT pg_temp.given('bing', NULL, '0');
SELECT ok(pg_temp.try(), 'a record without duration is not valid');
SELECT pg_temp.holds('baz', 1, 'a record without duration is not valid');
SELECT pg_temp.given('bing', 10, '-1000 h');
SELECT ok(NOT pg_temp.try(), 'a renewTime in the future: held until then; client-go would wait 10 s from when it first saw it');

SELECT * FROM finish();
ROLLBACK;
