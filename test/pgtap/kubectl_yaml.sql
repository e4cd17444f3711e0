-- kubectl_yaml(): objects as kubectl -o yaml prints them.
BEGIN;
SELECT no_plan();

SELECT volatility_is('kubectl_yaml', ARRAY['jsonb'], 'immutable', 'depends on the object only');
SELECT is(kubectl_yaml(NULL), NULL, 'NULL for NULL');

SELECT is(kubectl_yaml('{"metadata": {"name": "a", "labels": {}, "annotations": {"bb": "1", "c": "x", "a": "y"}}, "items": [], "kind": "Lease", "spec": {"list": [1, {"x": null, "y": [2]}, [true, false], [[]]]}}'),
$$items: []
kind: Lease
metadata:
  annotations:
    a: "y"
    bb: "1"
    c: x
  labels: {}
  name: a
spec:
  list:
  - 1
  - x: null
    "y":
    - 2
  - - true
    - false
  - - []
$$, 'maps are indented, lists in maps are not');

SELECT is(kubectl_yaml(j), printed || E'\n', 'alone: ' || j::text) FROM (VALUES
	('{}'::jsonb, '{}'), ('[]', '[]'), ('null', 'null'), ('true', 'true'), ('1', '1'), ('"x"', 'x'), ('"1"', '"1"'), ('"a\nb"', E'|-\n  a\n  b')) v (j, printed);

SELECT is(kubectl_yaml(j), printed || E'\n', 'number ' || j::text) FROM (VALUES
	('-1'::jsonb, '-1'), ('9223372036854775808', '9223372036854776000'), ('12345678901234567890', '12345678901234567000'), ('1.0', '1'), ('1.50', '1.5'),
	('0.0000001', '1e-07'), ('1e20', '1e+20'), ('1e23', '1e+23'), ('1234567.5', '1.2345675e+06'), ('0.0001', '0.0001'), ('0.00001', '1e-05')) v (j, printed);

-- Digits in keys count as numbers, and stand before letters.
SELECT is(kubectl_yaml('{"a10": 1, "a2": 1, "a-b": 1, "a": 1, "A": 1, "ab": 1, "app.kubernetes.io/name": 1, "app": 1, "k9": 1, "k10": 1, "example.com/10": 1, "example.com/9": 1, "k01": 1}'),
	E'A: 1\na: 1\na-b: 1\na2: 1\na10: 1\nab: 1\napp: 1\napp.kubernetes.io/name: 1\nexample.com/9: 1\nexample.com/10: 1\nk01: 1\nk9: 1\nk10: 1\n', 'order of keys');

-- Long keys, and keys of several lines.
SELECT is(kubectl_yaml(jsonb_build_object(repeat('k', 128), 1, repeat('l', 129), 2, E'm\nn', '{"a": [1]}'::jsonb)),
	repeat('k', 128) || E': 1\n? ' || repeat('l', 129) || E'\n: 2\n? |-\n  m\n  n\n: a:\n  - 1\n', 'keys that are not simple');

-- NEL is folded, as YAML's reader folds it when it reads JSON; what that reader refuses, kubectl cannot print.
SELECT is(kubectl_yaml(to_jsonb(s)), printed || E'\n', 'with NEL: ' || printed) FROM (VALUES
	(U&'\0085', ''' '''), (U&'a \0085 b', 'a b'), (U&'a\0085 \0085b', E'|-\n  a\n  b')) v (s, printed);
SELECT throws_ok(format('SELECT kubectl_yaml(to_jsonb(%L::text))', s), '22P05', 'error: yaml: control characters are not allowed', 'a control character')
FROM (VALUES (E'\x7f'), (U&'a\0080'), (U&'\FFFE')) v (s);

-- What sigs.k8s.io/yaml printed.
CREATE TEMP TABLE vector (v jsonb);
\copy vector FROM 'test/kubectl/printed.jsonl' (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')
SELECT cmp_ok(count(*), '>', 50::bigint, 'there are vectors') FROM vector;
SELECT is(kubectl_yaml(v -> 'object'), v ->> 'yaml', left('as sigs.k8s.io/yaml: ' || (v ->> 'object'), 80)) FROM vector;
SELECT is((SELECT jsonb_agg(d) FROM kubectl_manifest(v ->> 'yaml') d), (SELECT jsonb_agg(d) FROM kubectl_manifest(v ->> 'json') d), 'read again it is the same')
FROM vector WHERE v ->> 'json' LIKE '{%' AND v ->> 'json' !~ U&'[\0085]';

-- Nothing is too large.
SELECT cmp_ok(length(kubectl_yaml(to_jsonb(repeat('a ', 1000000)))), '>', 2000000, 'a long string');
CREATE TEMP TABLE deep AS SELECT (repeat('[', 4000) || repeat(']', 4000))::jsonb AS j;
SELECT cmp_ok(length(kubectl_yaml(j)), '>=', 8000, 'deep nesting') FROM deep;
SET LOCAL max_stack_depth = '100kB';
SELECT throws_ok('SELECT kubectl_yaml(j) FROM deep', '54001', NULL, 'nesting that is too deep ends with an error');

SELECT * FROM finish();
ROLLBACK;
