-- kubectl_yaml() and kubectl_json(): what sigs.k8s.io/yaml and encoding/json print. More is in
-- test/t/100_kubectl.pl.
BEGIN;
SELECT no_plan();

-- 154 texts that need quotes, or do not, as the real kubectl prints them
\set json `cat test/kubectl/quoting.json`
\set yaml `cat test/kubectl/quoting.yaml`
SELECT is(line, expected, 'line ' || n)
FROM regexp_split_to_table(kubectl_yaml(:'json'), '\n') WITH ORDINALITY AS got (line, n)
FULL JOIN regexp_split_to_table(:'yaml' || E'\n', '\n') WITH ORDINALITY AS e (expected, n) USING (n);

SELECT is(kubectl_yaml(object::jsonb), yaml, 'YAML of ' || object) FROM (VALUES
	('{}', E'{}\n'), ('[]', E'[]\n'), ('null', E'null\n'), ('"a"', E'a\n'), ('1.50', E'1.5\n'), ('[1, [2, [3]], {"a": []}]', E'- 1\n- - 2\n  - - 3\n- a: []\n'),
	('{"a": {"b": {"c": [{"d": 1, "e": [2]}]}}}', E'a:\n  b:\n    c:\n    - d: 1\n      e:\n      - 2\n'),
	('{"b": 1, "a": 2, "B": 3, "a10": 4, "a2": 5, "1": 6}', E'"1": 6\nB: 3\na: 2\na2: 5\na10: 4\nb: 1\n'),
	('{"true": true, "": null}', E'"": null\n"true": true\n')) v (object, yaml);
SELECT is(kubectl_yaml(jsonb_build_object('k', repeat('word ', 40) || 'end')), E'k: word word word word word word word word word word word word word word word word\n'
	'  word word word word word word word word word word word word word word word word\n  word word word word word word word word end\n', 'long text is folded');
SELECT is(kubectl_yaml(jsonb_build_object(repeat('k', 129), 'v')), '? ' || repeat('k', 129) || E'\n: v\n', 'a key that is too long for one line');
SELECT is(length(kubectl_yaml(jsonb_build_object('k', repeat('x', 10000000)))), 10000004, 'ten megabytes');
SELECT throws_ok($$SELECT kubectl_yaml((repeat('[', 6000) || repeat(']', 6000))::jsonb), kubectl_yaml((repeat('[', 100000) || repeat(']', 100000))::jsonb)$$, '54001', NULL, 'what is nested too deeply is an error');

SELECT is(kubectl_json(object::jsonb), json, 'JSON of ' || object) FROM (VALUES
	('{}', E'{}\n'), ('[]', E'[]\n'), ('{"b": [], "aa": {}, "a": 1}', E'{\n    "a": 1,\n    "aa": {},\n    "b": []\n}\n'),
	('["<&>\u2028\u2029\u0001\t\"\\\\é"]', E'[\n    "\\u003c\\u0026\\u003e\\u2028\\u2029\\u0001\\t\\"\\\\\\\\é"\n]\n')) v (object, json);

SELECT * FROM finish();
ROLLBACK;
