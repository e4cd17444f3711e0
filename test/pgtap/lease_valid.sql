-- lease_valid_*(): Kubernetes' rules for names, labels and the like.
BEGIN;
SELECT no_plan();

-- a value in a description: on one line, and its length if it is long
CREATE FUNCTION pg_temp.show(value text) RETURNS text LANGUAGE sql AS
	$$SELECT CASE WHEN length(value) > 40 THEN format('%s... (%s bytes)', left(value, 8), octet_length(value))
		ELSE regexp_replace(to_json(value)::text, '#', '', 'g') END$$;

SELECT is(lease_valid_name(value), expected, 'name ' || pg_temp.show(value))
FROM (VALUES ('a', true), ('0', true), ('a-b', true), ('a.b', true), ('a--b.c0', true), ('kube-apiserver', true),
	(repeat('a', 253), true), (repeat('a', 254), false), (repeat('a', 100) || '.' || repeat('b', 100), true),
	(rpad('', 253, 'a.'), true), (rpad('', 255, 'a.'), false), ('a.b.c.d', true), ('1.2.3.4', true), ('.', false), ('..', false), ('-', false),
	('', false), ('A', false), ('a_b', false), ('-a', false), ('a-', false), ('.a', false), ('a.', false), ('a..b', false), ('a.-b', false),
	('a b', false), ('a/b', false), (E'a\n', false), (E'a\x01', false), ('é', false), ('invalidName++', false)) v (value, expected);

SELECT is(lease_valid_namespace(value), expected, 'namespace ' || pg_temp.show(value))
FROM (VALUES ('default', true), ('kube-system', true), ('0', true), (repeat('a', 63), true), (repeat('a', 64), false),
	('', false), ('a.b', false), ('Default', false), ('-', false), ('a-', false), ('-a', false), ('a_b', false), ('==invalid_Namespace==', false),
	('a--b', true), ('123-abc', true), (E'a\n', false), ('é', false)) v (value, expected);

SELECT is(lease_valid_labels(jsonb_build_object(key, value)), expected, 'label ' || pg_temp.show(key) || ' = ' || pg_temp.show(value))
FROM (VALUES ('app', 'web', true), ('app', '', true), ('k8s.io/component', 'kube-apiserver', true), ('A_b.C', 'MyValue', true),
	('x', repeat('v', 63), true), ('x', repeat('v', 64), false), (repeat('k', 63), 'v', true), (repeat('k', 64), 'v', false),
	(repeat('p', 253) || '/k', 'v', true), (repeat('p', 254) || '/k', 'v', false), ('example.com/a/b', 'v', false),
	('', 'v', false), ('/k', 'v', false), ('p/', 'v', false), ('K8s.io/k', 'v', false), ('-k', 'v', false), ('k-', 'v', false),
	('k', '-v', false), ('k', 'v-', false), ('k', 'a b', false), ('k', 'a/b', false), ('k', 'é', false), ('k', '.v', false), ('k', 'v_', false),
	('my.name', 'my_value', true), ('123-abc', '12345', true), ('a_b.c-d', 'A-b_C.d', true), ('example.com//k', 'v', false), ('example.com/k/', 'v', false),
	('-example.com/k', 'v', false), ('example..com/k', 'v', false), ('exam_ple.com/k', 'v', false), ('/', 'v', false), ('.k', 'v', false), ('k', E'v\n', false)) v (key, value, expected);
SELECT is(lease_valid_labels(value::jsonb), expected, 'labels ' || value)
FROM (VALUES ('{}', true), ('{"a": "b", "c": "d"}', true), ('{"a": "b", "c": "-"}', false), ('{"a": null}', false), ('{"a": 1}', false),
	('{"a": {}}', false), ('{"a": []}', false), ('[]', false), ('"a"', false), ('null', false)) v (value, expected);

SELECT is(lease_valid_annotations(jsonb_build_object(key, value)), expected, 'annotation ' || pg_temp.show(key))
FROM (VALUES ('note', E'any text: \n"é" ', true), ('K8s.IO/Note', 'upper case is tolerated in the prefix here', true),
	('K8s.IO/' || repeat('N', 63), '', true), ('K8s.IO/' || repeat('N', 64), '', false), (repeat('P', 253) || '/n', '', true), (repeat('P', 254) || '/n', '', false),
	('a/b/c', '', false), ('a//b', '', false), ('/a', '', false), ('a/', '', false), ('', '', false), ('x y', '', false), (repeat('k', 64), '', false)) v (key, value, expected);
SELECT ok(NOT lease_valid_labels('{"K8s.IO/Note": ""}') AND lease_valid_annotations('{"K8s.IO/Note": ""}'),
	'an upper-case prefix is right in a key of annotations and wrong in one of labels');
SELECT ok(lease_valid_annotations(jsonb_build_object('key', repeat('x', 262144 - 3))), 'annotations of 262144 bytes');
SELECT ok(NOT lease_valid_annotations(jsonb_build_object('key', repeat('x', 262144 - 2))), 'annotations of 262145 bytes are too long');
SELECT ok(lease_valid_annotations(jsonb_build_object('a', repeat('x', 200000), 'b', repeat('x', 62142))), 'two annotations of 262144 bytes altogether');
SELECT ok(NOT lease_valid_annotations(jsonb_build_object('a', repeat('x', 200000), 'b', repeat('x', 62143))), 'two annotations of 262145 bytes altogether are too long');
SELECT ok(lease_valid_annotations(jsonb_build_object('ab', repeat('é', 131071))), 'bytes are counted: 131071 letters é and two bytes');
SELECT ok(NOT lease_valid_annotations(jsonb_build_object('abc', repeat('é', 131071))), 'and one byte more is too long');
SELECT ok(NOT lease_valid_annotations('{"a": 1}'), 'annotations are strings');
SELECT ok(NOT lease_valid_annotations('[]'), 'annotations are an object');

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
	('[{"apiVersion": "v1", "kind": "", "name": "n", "uid": "u"}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "name": "", "uid": "u"}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": ""}]', false),
	('[{"kind": "Node", "name": "n", "uid": "u"}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "uid": "u"}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n"}]', false),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": null}]', true),
	('[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "blockOwnerDeletion": 1}]', false),
	('[{}]', false), ('[null]', false), ('null', false),
	('["v1"]', false), ('[[]]', false), ('{}', false), ('1', false)) v (value, expected);

SELECT is(lease_valid_finalizers(value), expected, 'finalizers ' || value::text)
FROM (VALUES ('{}'::text[], true), ('{a}', true), ('{example.com/a,b}', true), ('{a,-}', false), ('{a,NULL}', false), ('{""}', false),
	('{a//b}', false), ('{A.b/c}', false), ('[5:6]={a,b}', true), ('{{a},{b}}', false)) v (value, expected);

SELECT is(lease_valid_strategy(value), expected, 'strategy ' || pg_temp.show(value))
FROM (VALUES ('', true), ('OldestEmulationVersion', true), ('example.com/foobar', true), ('foobar', false),
	('oldestEmulationVersion', false), ('OldestEmulationVersionX', false),
	('Oldest', false), ('Example.com/x', false), ('example.com/-x', false),
	(repeat('p', 253) || '/x', true), (repeat('p', 254) || '/x', false), ('example.com/foobar/toomanyslashes', false), ('/x', false), ('x/', false)) v (value, expected);

-- NULL stands for an absent field, of which there is nothing to say
SELECT ok((lease_valid_name(NULL), lease_valid_namespace(NULL), lease_valid_labels(NULL), lease_valid_annotations(NULL), lease_valid_owner_references(NULL),
	lease_valid_finalizers(NULL), lease_valid_strategy(NULL)) IS NULL, 'of NULL it cannot be said whether it is valid');
SELECT volatility_is(name, 'immutable', name || '() is immutable, as a constraint demands')
FROM unnest('{lease_valid_name,lease_valid_namespace,lease_valid_labels,lease_valid_annotations,lease_valid_owner_references,lease_valid_finalizers,lease_valid_strategy}'::name[]) name;

SELECT * FROM finish();
ROLLBACK;
