-- lease_gc(): collects expired identity leases of API servers, and nothing else. What happens when
-- somebody renews or guards one meanwhile is in test/isolation/specs/guard-gc.spec and gc-renew.spec.
BEGIN;
SELECT no_plan();

SELECT is(pg_get_function_arguments('lease_gc'::regproc), 'OUT collected bigint, OUT history_removed bigint', 'arguments and results are those of the reference');

INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
SELECT namespace, name, holder, duration, clock_timestamp() - ago, labels::jsonb
FROM (VALUES
	('kube-system', 'expired', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-apiserver"}'),
	('kube-system', 'expired-1-27', 'x', 3600, interval '2 h', '{"apiserver.kubernetes.io/identity": "kube-apiserver", "a": "b"}'),
	('kube-system', 'never-renewed', 'x', 3600, NULL, '{"k8s.io/component": "kube-apiserver"}'),
	('kube-system', 'no-duration', 'x', NULL, interval '1 s', '{"k8s.io/component": "kube-apiserver"}'),
	('kube-system', 'keep-valid', 'x', 3600, interval '59 min', '{"k8s.io/component": "kube-apiserver"}'),
	('kube-system', 'keep-other-label', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-scheduler"}'),
	('kube-system', 'keep-no-label', 'x', 3600, interval '2 h', NULL),
	('other', 'keep-other-namespace', 'x', 3600, interval '2 h', '{"k8s.io/component": "kube-apiserver"}'))
	v (namespace, name, holder, duration, ago, labels);
SELECT results_eq('SELECT * FROM lease_gc()', 'VALUES (4::bigint, 0::bigint)', 'four have expired');
SELECT results_eq($$SELECT name FROM lease WHERE namespace IN ('kube-system', 'other') ORDER BY name$$,
	ARRAY['keep-no-label', 'keep-other-label', 'keep-other-namespace', 'keep-valid']::text[] COLLATE "C", 'the others are still there');
SELECT results_eq('SELECT * FROM lease_gc()', 'VALUES (0::bigint, 0::bigint)', 'the second time there is nothing to do');

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
SET LOCAL transaction_read_only = on;
SELECT throws_ok('SELECT lease_gc()', '25006', 'cannot execute lease_gc() in a read-only transaction', 'not in a read-only transaction');

SELECT * FROM finish();
ROLLBACK;
