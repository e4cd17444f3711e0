-- lease_apiserver_heartbeat() and the view lease_apiservers: identity leases of API servers. What happens
-- when two instances meet is in test/isolation/specs/apiserver-takeover.spec.
BEGIN;
SELECT no_plan();

SELECT is(pg_get_function_arguments('lease_apiserver_heartbeat'::regproc),
	'hostname text, instance uuid, OUT renewed boolean, OUT status text, OUT holder_identity text, '
	'OUT fencing_token bigint, OUT expires_at timestamp with time zone, OUT expires_in interval',
	'arguments and results are those of the reference');
DELETE FROM lease;
DELETE FROM lease_history;
\set one 9cbf54e5-1136-44bd-8f9a-1dcd15c346b4
\set two c5ffa286-8a9a-45d4-91e7-61118ed58d2e
\set name kube-apiserver-c4vwjftbvpc5os2vvzle4qg27a

SELECT results_eq(format($$SELECT renewed, status, holder_identity, expires_in FROM lease_apiserver_heartbeat('kind-control-plane', %L)$$, :'one'),
	format($$VALUES (true, 'acquired', %L, interval '1 h')$$, :'name' || '_' || :'one'), 'the first heartbeat makes the lease, for an hour');
SELECT results_eq('SELECT namespace, name, labels, holder_identity, lease_duration_seconds, acquire_time, lease_transitions, owner_references FROM lease',
	format($$VALUES ('kube-system' COLLATE "C", %L COLLATE "C", '{"k8s.io/component": "kube-apiserver", "kubernetes.io/hostname": "kind-control-plane"}'::jsonb,
		%L COLLATE "C", 3600, NULL::timestamptz, NULL::int, NULL::jsonb)$$, :'name', :'name' || '_' || :'one'),
	'as Kubernetes 1.26 makes it: without acquireTime and leaseTransitions');
CREATE TEMP TABLE before AS SELECT * FROM lease;
UPDATE lease SET renew_time = clock_timestamp() - interval '10 s';
SELECT pg_stat_get_xact_tuples_hot_updated('lease'::regclass) AS hot, pg_stat_get_xact_tuples_updated('lease'::regclass) AS updates \gset
SELECT results_eq(format($$SELECT renewed, status, fencing_token, expires_in FROM lease_apiserver_heartbeat('kind-control-plane', %L)$$, :'one'),
	$$SELECT true, 'renewed', fencing_token, interval '1 h' FROM before$$, 'the next one renews it');
SELECT is(pg_stat_get_xact_tuples_hot_updated('lease'::regclass) - :hot, 1::bigint, 'with a HOT update');
SELECT is(pg_stat_get_xact_tuples_updated('lease'::regclass) - :updates, 1::bigint, 'and no other');
SELECT is(to_jsonb(l) - 'renew_time' - 'resource_version', to_jsonb(b) - 'renew_time' - 'resource_version', 'nothing but renewTime has moved') FROM lease l, before b;
UPDATE lease SET renew_time = clock_timestamp() - interval '2 h';
SELECT results_eq(format($$SELECT status, fencing_token FROM lease_apiserver_heartbeat('kind-control-plane', %L)$$, :'one'),
	$$SELECT 'renewed', fencing_token FROM before$$, 'also when it has expired and was not collected yet');

-- labels are set again
UPDATE lease SET labels = '{"k8s.io/component": "etcd", "app": "x"}', annotations = '{"a": "b"}';
SELECT is((lease_apiserver_heartbeat('kind-control-plane', :'one')).status, 'renewed', 'labels that were changed');
SELECT is(labels, '{"app": "x", "k8s.io/component": "kube-apiserver", "kubernetes.io/hostname": "kind-control-plane"}', 'are set again, others stay') FROM lease;
UPDATE lease SET labels = NULL;
SELECT is((lease_apiserver_heartbeat('kind-control-plane', :'one')).status, 'renewed', 'labels that were taken away');
SELECT is(labels, '{"k8s.io/component": "kube-apiserver", "kubernetes.io/hostname": "kind-control-plane"}', 'as well') FROM lease;

-- a new instance
SELECT fencing_token AS token, uid AS uid FROM lease \gset
UPDATE lease SET labels = '{"app": "x"}';
SELECT ok(status = 'acquired' AND renewed AND fencing_token > :token AND holder_identity = :'name' || '_' || :'two', 'a new instance takes over, with a new token, while the lease is valid')
FROM lease_apiserver_heartbeat('kind-control-plane', :'two');
SELECT ok(uid = :'uid' AND holder_identity = :'name' || '_' || :'two' AND labels = '{"app": "x", "k8s.io/component": "kube-apiserver", "kubernetes.io/hostname": "kind-control-plane"}'
	AND acquire_time IS NULL AND lease_transitions IS NULL, 'the same object, with labels and another holder') FROM lease;
SELECT results_eq('SELECT holder_identity, fencing_token, end_reason FROM lease_history', format($$VALUES (%L COLLATE "C", %s::bigint, 'taken over')$$, :'name' || '_' || :'one', :token), 'the history has the one before');
SELECT results_eq(format($$SELECT renewed, status, holder_identity, fencing_token FROM lease_apiserver_heartbeat('kind-control-plane', %L)$$, :'one'),
	format($$VALUES (false, 'held', %L, NULL::bigint)$$, :'name' || '_' || :'two'), 'the one that was replaced does not come back');
SELECT is((lease_apiserver_heartbeat('kind-control-plane', :'two')).status, 'renewed', 'the new one goes on');
UPDATE lease SET renew_time = clock_timestamp() - interval '2 h';
SELECT is((lease_apiserver_heartbeat('kind-control-plane', :'one')).status, 'acquired', 'but when the new one is gone, it does');
SELECT is((lease_release(:'name', :'name' || '_' || :'one', 'kube-system')).status, 'released', 'released');
SELECT is((lease_apiserver_heartbeat('kind-control-plane', :'two')).status, 'acquired', 'anybody may have it');

-- the form of later versions
SET LOCAL lease.apiserver_identity = '1.27';
SELECT is(holder_identity, 'apiserver-c7uylvfxlbqccnk6myfkwetzze_' || :'one', '1.27: name and holder') FROM lease_apiserver_heartbeat('kind-control-plane', :'one');
SELECT results_eq($$SELECT labels, lease_duration_seconds FROM lease WHERE name = 'apiserver-c7uylvfxlbqccnk6myfkwetzze'$$,
	$$VALUES ('{"apiserver.kubernetes.io/identity": "kube-apiserver", "kubernetes.io/hostname": "kind-control-plane"}'::jsonb, 3600)$$, '1.27: labels');
SELECT is((lease_apiserver_heartbeat('kind-control-plane', :'one')).status, 'renewed', '1.27: renewed');
RESET lease.apiserver_identity;

-- the view
SELECT FROM lease_apiserver_heartbeat('minikube', :'two');
UPDATE lease SET renew_time = clock_timestamp() - interval '61 min' WHERE labels ->> 'kubernetes.io/hostname' = 'minikube';
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels) VALUES
	('kube-system', 'by-hand', 'me', 10, clock_timestamp(), '{"k8s.io/component": "kube-apiserver"}'),
	('kube-system', 'never-held', NULL, NULL, NULL, '{"k8s.io/component": "kube-apiserver"}'),
	('kube-system', 'other', 'me', 10, clock_timestamp(), '{"k8s.io/component": "kube-scheduler"}'),
	('default', 'other', 'me', 10, clock_timestamp(), '{"k8s.io/component": "kube-apiserver"}');
SELECT results_eq('SELECT name, hostname, instance, live FROM lease_apiservers', format($$VALUES
	('apiserver-c7uylvfxlbqccnk6myfkwetzze' COLLATE "C", 'kind-control-plane', uuid %1$L, true), ('by-hand', NULL, NULL, true),
	(%3$L, 'kind-control-plane', %2$L, true), ('kube-apiserver-kcdegeihzlqbkh65rirrc5zxju', 'minikube', %2$L, false), ('never-held', NULL, NULL, false)$$, :'one', :'two', :'name'),
	'the view has all with either label, and who is live');
SELECT is(count(*), 3::bigint, 'which are counted easily') FROM lease_apiservers WHERE live;
SELECT ok(last_renewal = renew_time AND expires_at = renew_time + interval '1 h', 'last renewal and expiry') FROM lease_apiservers JOIN lease USING (name) WHERE hostname = 'minikube';
UPDATE lease SET renew_time = clock_timestamp() - interval '61 min';
SELECT is(collected, 5::bigint, 'lease_gc() collects all of them') FROM lease_gc();
SELECT is_empty('SELECT FROM lease_apiservers', 'in both forms');

-- hostnames
SELECT is((lease_apiserver_heartbeat(hostname, :'one')).status, 'acquired', 'a hostname: ' || hostname) FROM (VALUES (repeat('x', 63)), ('a'), ('Host_1.Example')) v (hostname);
SELECT throws_ok(format('SELECT lease_apiserver_heartbeat(%L, gen_random_uuid())', repeat('x', 64)), '42622', 'hostname is too long', 'over 63 bytes it cannot be a label');
SELECT throws_ok(format('SELECT lease_apiserver_heartbeat(%L, gen_random_uuid())', repeat('ä', 32)), '42622', 'hostname is too long', 'bytes count');
SELECT throws_ok($$SELECT lease_apiserver_heartbeat('a b', gen_random_uuid())$$, '42602', 'invalid hostname "a b"', 'nor with a blank');
SELECT throws_ok($$SELECT lease_apiserver_heartbeat('a.', gen_random_uuid())$$, '42602', 'invalid hostname "a."', 'nor with a dot at the end');
SELECT throws_ok($$SELECT lease_apiserver_heartbeat('', gen_random_uuid())$$, '22023', 'hostname must not be empty', 'nor can it be empty');
SELECT throws_ok($$SELECT lease_apiserver_heartbeat(NULL, gen_random_uuid())$$, '22004', 'hostname must not be null', 'NULL is an error');
SELECT throws_ok($$SELECT lease_apiserver_heartbeat('a', NULL)$$, '22004', 'instance must not be null', 'and so is a NULL instance');
SET LOCAL transaction_read_only = on;
SELECT throws_ok($$SELECT lease_apiserver_heartbeat('a', gen_random_uuid())$$, '25006', 'cannot execute lease_apiserver_heartbeat() in a read-only transaction', 'not in a read-only transaction');

SELECT results_eq('SELECT live, expired FROM lease_apiserver_count', 'SELECT count(*) FILTER (WHERE live), count(*) FILTER (WHERE NOT live) FROM lease_apiservers', 'and they are counted');

SELECT * FROM finish();
ROLLBACK;
