-- view kubectl_get_leases: kubectl's columns and order.
BEGIN;
SELECT plan(4);

INSERT INTO lease (namespace, name, holder_identity, creation_timestamp) VALUES
	('a', 'x', 'me', clock_timestamp() - interval '190 s'),
	('a-b', 'x', '', clock_timestamp() - interval '3 h'),
	('a', 'x-y', NULL, clock_timestamp()),
	('a', 'x.y', NULL, clock_timestamp());

SELECT results_eq($$SELECT namespace, name FROM kubectl_get_leases WHERE namespace LIKE 'a%'$$,
	$$VALUES ('a-b' COLLATE "C", 'x' COLLATE "C"), ('a', 'x'), ('a', 'x-y'), ('a', 'x.y')$$, 'in byte order of namespace/name, as etcd keeps them');
SELECT is(holder, 'me', 'the holder') FROM kubectl_get_leases WHERE (namespace, name) = ('a', 'x');
SELECT is(holder, '', 'an empty cell when there is none') FROM kubectl_get_leases WHERE name = 'x-y';
SELECT is(age, '3m10s', 'the age since creation in kubectl''s words') FROM kubectl_get_leases WHERE (namespace, name) = ('a', 'x');

SELECT * FROM finish();
ROLLBACK;
