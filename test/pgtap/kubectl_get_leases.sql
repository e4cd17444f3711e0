-- view kubectl_get_leases: kubectl's columns and order.
BEGIN;
SELECT plan(11);

INSERT INTO lease (namespace, name, holder_identity, creation_timestamp, renew_time) VALUES
	('a', 'x', 'me', clock_timestamp() - interval '190 s', clock_timestamp()),
	('a-b', 'x', '', clock_timestamp() - interval '3 h', NULL),
	('a', 'x-y', NULL, clock_timestamp(), NULL),
	('a', 'x.y', NULL, clock_timestamp(), NULL),
	('a', 'x0', NULL, clock_timestamp() + interval '1 h', NULL),
	('a0', 'x', NULL, clock_timestamp(), NULL);

SELECT columns_are('kubectl_get_leases', ARRAY['namespace', 'name', 'holder', 'age', 'creation_timestamp', 'renew_time', 'labels'], 'the columns are those of kubectl get leases -A, and some to filter on');
SELECT ok(reloptions @> '{security_invoker=true}', 'the view uses the privileges of who asks') FROM pg_class WHERE oid = 'kubectl_get_leases'::regclass;

-- "-" sorts before the "/" that ends a namespace, a digit after it
SELECT results_eq($$SELECT namespace || '/' || name FROM kubectl_get_leases WHERE namespace LIKE 'a%'$$,
	$$VALUES ('a-b/x' COLLATE "C"), ('a/x'), ('a/x-y'), ('a/x.y'), ('a/x0'), ('a0/x')$$, 'leases are in byte order of namespace/name, as etcd keeps them');
SELECT is(holder, 'me', 'holder is the holder') FROM kubectl_get_leases WHERE (namespace, name) = ('a', 'x');
SELECT is(holder, '', 'an empty cell when it was released') FROM kubectl_get_leases WHERE (namespace, name) = ('a-b', 'x');
SELECT is(holder, '', 'and when it was never held') FROM kubectl_get_leases WHERE name = 'x-y';
SELECT is(age, '3m10s', 'age is since the creation, not the last renewal, in kubectl''s words') FROM kubectl_get_leases WHERE (namespace, name) = ('a', 'x');
SELECT is(age, '3h', 'hours are rounded down') FROM kubectl_get_leases WHERE namespace = 'a-b';
SELECT matches(age, '^\d+s$', 'what has just been made is some seconds old') FROM kubectl_get_leases WHERE name = 'x-y';
SELECT is(age, '<invalid>', 'what will be made in an hour has no valid age') FROM kubectl_get_leases WHERE name = 'x0';
SELECT is(holder, 'me', 'an expired holder is shown all the same, as kubectl does') FROM kubectl_get_leases WHERE (namespace, name) = ('a', 'x');

SELECT * FROM finish();
ROLLBACK;
