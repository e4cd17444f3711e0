-- lease_gc(): collects expired identity leases of API servers, and nothing else. What happens when
-- somebody renews or guards one meanwhile is in test/isolation/specs/guard-gc.spec, heartbeat-gc.spec and gc-gc.spec.
BEGIN;
SELECT no_plan();

SELECT is(pg_get_function_arguments('lease_gc'::regproc), 'OUT collected bigint, OUT history_removed bigint, OUT more boolean',
	'arguments and results are those of the reference');

CREATE FUNCTION pg_temp.make(namespace text, name text, holder text, duration integer, ago interval, labels text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
	VALUES (namespace, name, holder, duration, clock_timestamp() - ago, labels::jsonb) $$;
CREATE FUNCTION pg_temp.collected() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', collected, history_removed, more) FROM lease_gc() $$;
CREATE VIEW pg_temp.names AS SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') AS names FROM lease;

-- ---------- What comes with the extension: Kubernetes' rule ----------

SELECT FROM pg_temp.make('kube-system', 'expired', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM pg_temp.make('kube-system', 'expired-1-27', 'x', 3600, interval '2 h', '{"apiserver.kubernetes.io/identity": "kube-apiserver", "a": "b"}');
SELECT FROM pg_temp.make('kube-system', 'never-renewed', 'x', 3600, NULL, '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM pg_temp.make('kube-system', 'no-duration', 'x', NULL, interval '1 s', '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM pg_temp.make('kube-system', 'expired-unheld', NULL, 3600, interval '2 h', '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM pg_temp.make('kube-system', 'keep-valid', 'x', 3600, interval '59 min', '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM pg_temp.make('kube-system', 'keep-in-the-future', 'x', 3600, interval '-1 h', '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM pg_temp.make('kube-system', 'keep-other-label', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-scheduler"}');
SELECT FROM pg_temp.make('kube-system', 'keep-no-label', 'x', 3600, interval '2 h', NULL);
SELECT FROM pg_temp.make('other', 'keep-other-namespace', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-apiserver"}');
SELECT FROM pg_temp.make('kube-system', 'keep-finalizers', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-apiserver"}');
UPDATE lease SET finalizers = '{example.com/f}' WHERE name = 'keep-finalizers';
SELECT FROM pg_temp.make('kube-system', 'keep-reserved', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-apiserver"}');
UPDATE lease SET not_before = clock_timestamp() + interval '1 h' WHERE name = 'keep-reserved';
SELECT is(pg_temp.collected(), '5 0 f', 'five have expired, or lack a time; whoever holds them');
SELECT is((SELECT names FROM pg_temp.names),
	'keep-finalizers keep-in-the-future keep-no-label keep-other-label keep-other-namespace keep-reserved keep-valid', 'the others are still there');
SELECT is(pg_temp.collected(), '0 0 f', 'the second time there is nothing to do');
SELECT results_eq('SELECT name, end_reason, held_until < clock_timestamp() FROM lease_history WHERE name LIKE ''expired%'' ORDER BY name',
	$$VALUES ('expired' COLLATE "C", 'collected', true), ('expired-1-27', 'collected', true)$$, 'who held one is in the history');

-- ---------- Policies ----------

DELETE FROM lease;
DELETE FROM lease_gc_policy;
SELECT FROM pg_temp.make('a', 'one', 'x', 1, interval '2 h', '{"app": "web", "tier": "front"}');
SELECT FROM pg_temp.make('b', 'two', 'x', 1, interval '2 h', '{"app": "web"}');
SELECT FROM pg_temp.make('b', 'three', 'x', 1, interval '10 min', NULL);
SELECT FROM pg_temp.make('b', 'four', 'x', 3600, interval '1 min', '{"app": "web"}');
SELECT is(pg_temp.collected(), '0 0 f', 'without a policy nothing is collected');

CREATE FUNCTION pg_temp.left_by(namespace text, selector text, expired_for interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	INSERT INTO lease_gc_policy (name, namespace, selector, expired_for) VALUES ('p', namespace, selector, expired_for);
	PERFORM lease_gc();
	SELECT names INTO result FROM pg_temp.names;
	RAISE SQLSTATE 'LT000' USING MESSAGE = result;
EXCEPTION WHEN SQLSTATE 'LT000' THEN	-- rolled back
	RETURN result;
END
$$;
SELECT is(pg_temp.left_by(namespace, selector, expired_for), names, concat_ws(' ', 'policy:', quote_nullable(namespace), quote_literal(selector), expired_for, 'leaves', names))
FROM (VALUES
	(NULL, '', interval '0', 'four'),
	('b', '', '0', 'four one'),
	('c', '', '0', 'four one three two'),
	(NULL, 'app=web', '0', 'four three'),
	(NULL, 'app=web,tier', '0', 'four three two'),
	(NULL, 'app', '0', 'four three'),
	(NULL, '!app', '0', 'four one two'),
	(NULL, 'app!=web', '0', 'four one two'),
	(NULL, 'app in (web, x)', '0', 'four three'),
	(NULL, 'app notin (web)', '0', 'four one two'),
	(NULL, '', '1 h', 'four three'),
	(NULL, '', '1 day', 'four one three two'),
	('a', 'app=web', '1 h', 'four three two')) v (namespace, selector, expired_for, names);

-- of several policies for a lease, one is enough
INSERT INTO lease_gc_policy (name, selector, expired_for) VALUES ('1-late', 'app=web', '24855 days'), ('2-early', '!app', '0'), ('3-early', 'tier!=front', '0');
SELECT is(pg_temp.collected(), '2 0 f', 'three policies');
SELECT is((SELECT names FROM pg_temp.names), 'four one', '... any of which is enough');

UPDATE lease_gc_policy SET enabled = false;
UPDATE lease SET renew_time = NULL WHERE name = 'one';
SELECT is(pg_temp.collected(), '0 0 f', 'policies that are disabled collect nothing');
UPDATE lease_gc_policy SET enabled = true;

-- NULL counts as expired, however long the policy waits, as in Kubernetes
SELECT is(pg_temp.collected(), '1 0 f', 'a lease without a time is not kept by expired_for');

-- ---------- How many at once ----------

DELETE FROM lease;
DELETE FROM lease_history;
DELETE FROM lease_gc_policy;
INSERT INTO lease_gc_policy (name, namespace, selector, batch_size) VALUES ('few', 'few', '', 3);
INSERT INTO lease (namespace, name) SELECT 'few', 'l-' || i FROM generate_series(1, 7) AS i;
SELECT is(array_agg(pg_temp.collected()), '{3 0 t,3 0 t,1 0 f}', 'batch_size: three at once, and more says whether to go on') FROM generate_series(1, 3);
INSERT INTO lease_gc_policy (name, selector) VALUES ('many', '');
INSERT INTO lease (name) SELECT 'l-' || i FROM generate_series(1, 1100) AS i;
SELECT cmp_ok(collected, '<=', 1000::bigint, 'not more than a thousand') FROM lease_gc();
SELECT more FROM lease_gc() \gset
SELECT ok(:'more' OR NOT EXISTS (SELECT FROM lease), 'more, if there are');

-- What is kept does not stand in the way of what comes after it in the table.
TRUNCATE lease;
DELETE FROM lease_history;
INSERT INTO lease (name, not_before) SELECT 'kept-' || i, clock_timestamp() + interval '1 h' FROM generate_series(1, 1001) AS i;
INSERT INTO lease (name, finalizers) SELECT 'final-' || i, '{example.com/f}' FROM generate_series(1, 1001) AS i;
INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time, lock_delay_seconds)
SELECT 'delayed-' || i, 'h', 1, clock_timestamp() - interval '1 min', 3600 FROM generate_series(1, 1001) AS i;
INSERT INTO lease (name) VALUES ('last');
SELECT is(pg_temp.collected(), '1 0 f', 'leases that are kept back or have finalizers hide no other');
SELECT is(count(*), 3003::bigint, '... and stay') FROM lease;
UPDATE lease SET renew_time = renew_time - interval '1 h' WHERE name IN ('delayed-1', 'delayed-2');
SELECT is(pg_temp.collected(), '2 0 f', 'until the lock delay is over');
TRUNCATE lease;
DELETE FROM lease_history;

-- ---------- The history ----------

DELETE FROM lease;
DELETE FROM lease_history;
SELECT FROM lease_acquire('goes-on', 'h', '1 h');
INSERT INTO lease_history (namespace, name, fencing_token, holder_identity, held_from, held_until, end_reason)
SELECT 'default', 'old-' || i, i, 'h', clock_timestamp() - interval '40 days', clock_timestamp() - interval '31 days', 'released' FROM generate_series(1, 1500) AS i
UNION ALL SELECT 'default', 'new', 1, 'h', clock_timestamp() - interval '40 days', clock_timestamp() - interval '29 days', 'released'
UNION ALL SELECT namespace, name, fencing_token, 'h', clock_timestamp() - interval '40 days', clock_timestamp() - interval '31 days', 'expired' FROM lease;
SELECT is(array_agg(pg_temp.collected()), '{0 1000 t,0 500 f,0 0 f}', 'a thousand holdings at once that ended longer ago than lease.history_retention') FROM generate_series(1, 3);
SELECT set_eq('SELECT name::text FROM lease_history', ARRAY['goes-on', 'new'], '... but not that of the current token, whose end is still to come');
SET LOCAL lease.history_retention = -1;
UPDATE lease_history SET held_until = '2000-01-02', held_from = '2000-01-01';
SELECT is(pg_temp.collected(), '0 0 f', '-1: nothing is forgotten');
RESET lease.history_retention;

-- ---------- Privileges ----------

DELETE FROM lease;
DELETE FROM lease_history;
DELETE FROM lease_gc_policy;
INSERT INTO lease_gc_policy (name, selector) VALUES ('all', '');
SELECT FROM pg_temp.make('default', 'keep-valid', 'x', 3600, '0', NULL);
CREATE ROLE lease_test_gc;
SET LOCAL ROLE lease_test_gc;
SELECT throws_ok('SELECT lease_gc()', '42501', 'permission denied for table lease', 'not without privileges');
RESET ROLE;
UPDATE lease SET renew_time = '2000-01-01' WHERE name = 'keep-valid';
GRANT SELECT, UPDATE ON lease TO lease_test_gc;
SET LOCAL ROLE lease_test_gc;
SELECT throws_ok('SELECT lease_gc()', '42501', 'permission denied for table lease', 'nor without DELETE');
RESET ROLE;
GRANT DELETE ON lease TO lease_test_gc;
SET LOCAL ROLE lease_test_gc;
SELECT results_eq('SELECT collected FROM lease_gc()', ARRAY[1::bigint], 'with DELETE it is');
RESET ROLE;

-- with row-level security, the executor scans
CREATE POLICY gc ON lease TO lease_test_gc USING (name LIKE 'seen-%');
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
INSERT INTO lease (name, finalizers) SELECT 'seen-' || i, '{example.com/f}' FROM generate_series(1, 2500) AS i;
INSERT INTO lease (name) VALUES ('not-seen'), ('seen-last');
SELECT FROM pg_temp.make('default', 'seen-valid', 'x', 3600, '0', NULL);
SET LOCAL ROLE lease_test_gc;
SELECT is(pg_temp.collected(), '1 0 f', 'row-level security: of those that he sees');
RESET ROLE;
SELECT is(count(*), 2502::bigint, '... not the others') FROM lease WHERE name <> 'seen-last';
SET LOCAL transaction_read_only = on;
SELECT throws_ok('SELECT lease_gc()', '25006', 'cannot execute lease_gc() in a read-only transaction', 'not in a read-only transaction');

SELECT * FROM finish();
ROLLBACK;
