-- lease_valid_*(): Kubernetes' rules for names, labels and the like.
BEGIN;
SELECT no_plan();

SELECT is(lease_valid_name(value), expected, 'name ' || left(value, 30))
FROM (VALUES ('a', true), ('0', true), ('a-b', true), ('a.b', true), ('a--b.c0', true), ('kube-apiserver', true),
	(repeat('a', 253), true), (repeat('a', 254), false), (repeat('a', 100) || '.' || repeat('b', 100), true),
	('', false), ('A', false), ('a_b', false), ('-a', false), ('a-', false), ('.a', false), ('a.', false), ('a..b', false), ('a.-b', false),
	('a b', false), ('a/b', false), (E'a\n', false), (E'a\x01', false), ('é', false), ('invalidName++', false)) v (value, expected);

SELECT is(lease_valid_namespace(value), expected, 'namespace ' || left(value, 30))
FROM (VALUES ('default', true), ('kube-system', true), ('0', true), (repeat('a', 63), true), (repeat('a', 64), false),
	('', false), ('a.b', false), ('Default', false), ('-', false), ('a-', false), ('==invalid_Namespace==', false)) v (value, expected);

SELECT is(lease_valid_labels(jsonb_build_object(key, value)), expected, 'label ' || left(key, 30) || '=' || left(value, 30))
FROM (VALUES ('app', 'web', true), ('app', '', true), ('k8s.io/component', 'kube-apiserver', true), ('A_b.C', 'MyValue', true),
	('x', repeat('v', 63), true), ('x', repeat('v', 64), false), (repeat('k', 63), 'v', true), (repeat('k', 64), 'v', false),
	(repeat('p', 253) || '/k', 'v', true), (repeat('p', 254) || '/k', 'v', false), ('example.com/a/b', 'v', false),
	('', 'v', false), ('/k', 'v', false), ('p/', 'v', false), ('K8s.io/k', 'v', false), ('-k', 'v', false), ('k-', 'v', false),
	('k', '-v', false), ('k', 'v-', false), ('k', 'a b', false), ('k', 'a/b', false), ('k', 'é', false)) v (key, value, expected);
SELECT is(lease_valid_labels(value::jsonb), expected, 'labels ' || value)
FROM (VALUES ('{}', true), ('{"a": "b", "c": "d"}', true), ('{"a": "b", "c": "-"}', false), ('{"a": null}', false), ('{"a": 1}', false),
	('{"a": {}}', false), ('{"a": []}', false), ('[]', false), ('"a"', false), ('null', false)) v (value, expected);

SELECT is(lease_valid_annotations(jsonb_build_object(key, value)), expected, 'annotation ' || left(key, 30))
FROM (VALUES ('note', E'any text: \n"é" ', true), ('K8s.IO/Note', 'upper case is tolerated in the prefix here', true),
	('a/b/c', '', false), ('', '', false), ('x y', '', false), (repeat('k', 64), '', false)) v (key, value, expected);
SELECT ok(lease_valid_annotations(jsonb_build_object('key', repeat('x', 262144 - 3))), 'annotations of 262144 bytes');
SELECT ok(NOT lease_valid_annotations(jsonb_build_object('key', repeat('x', 262144 - 2))), 'not one byte more');
SELECT ok(NOT lease_valid_annotations(jsonb_build_object('a', repeat('x', 200000), 'b', repeat('x', 62143))), 'altogether');
SELECT ok(NOT lease_valid_annotations('{"a": 1}'), 'annotations are strings');
SELECT ok(NOT lease_valid_annotations('[]'), 'in an object');

SELECT is(lease_valid_owner_references(value::jsonb), expected, 'ownerReferences ' || value)
FROM (VALUES ('[]', true),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]', true),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true, "blockOwnerDeletion": false}]', true),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}, {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "v", "controller": false}]', true),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}, {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "v", "controller": true}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": "yes"}]', false),
	('[{"apiVersion": "", "kind": "Node", "name": "n", "uid": "u"}]', false),
	('[{"apiVersion": "v1", "name": "n", "uid": "u"}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "name": 1, "uid": "u"}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": null}]', false),
	('["v1"]', false), ('[[]]', false), ('{}', false), ('1', false)) v (value, expected);

SELECT is(lease_valid_finalizers(value), expected, 'finalizers ' || value::text)
FROM (VALUES ('{}'::text[], true), ('{a}', true), ('{example.com/a,b}', true), ('{a,-}', false), ('{NULL}', false), ('{{a},{b}}', false)) v (value, expected);

SELECT is(lease_valid_strategy(value), expected, 'strategy ' || value)
FROM (VALUES ('', true), ('OldestEmulationVersion', true), ('example.com/foobar', true), ('foobar', false),
	('oldestEmulationVersion', false), ('OldestEmulationVersionX', false), ('example.com/foobar/toomanyslashes', false), ('/x', false), ('x/', false)) v (value, expected);

SELECT * FROM finish();
ROLLBACK;
