-- kubectl_manifest(): the documents of a manifest.
BEGIN;
SELECT no_plan();

SELECT volatility_is('kubectl_manifest', ARRAY['text'], 'immutable', 'depends on the text only');

CREATE FUNCTION pg_temp.documents(manifest text) RETURNS jsonb LANGUAGE sql AS $$SELECT coalesce(jsonb_agg(d), '[]') FROM kubectl_manifest(manifest) d$$;

SELECT is(pg_temp.documents(manifest), documents::jsonb, description) FROM (VALUES
	(E'a: 1\n---\nb: 2\n', '[{"a": 1}, {"b": 2}]', 'two documents'),
	(E'---\na: 1\n--- # comment\n---\n# nothing\n---\nnull\n---\n', '[{"a": 1}]', 'empty ones are left out'),
	('', '[]', 'an empty text'), (E'---', '[]', 'a separator'), ('~', '[]', 'null'),
	(E'a: 1\r\nb: |\r\n  x\r\n', '[{"a": 1, "b": "x\n"}]', 'CR LF'),
	(U&'\FEFFa: 1', '[{"a": 1}]', 'a byte order mark'),
	('{"a": 1} {"b": [2]}null{"c": 3}', '[{"a": 1}, {"b": [2]}, {"c": 3}]', 'JSON, one after another'),
	('{"a": {"b": "y", "c": null}}', '[{"a": {"b": "y", "c": null}}]', 'JSON'),
	('- 1', '[[1]]', 'a list'), ('x', '["x"]', 'a string'),
	('[yes, No, ON, off, y, n, true, "yes", ''no'']', '[[true, false, true, false, true, false, true, "yes", "no"]]', 'booleans of YAML 1.1'),
	('[010, 0o17, 0x1F, 0b11, 1_000, -1, +1, 12:30, 08, 18446744073709551615]', '[[8, 15, 31, 3, 1000, -1, 1, "12:30", 8, 18446744073709551615]]', 'integers'),
	('[1.50, .5, 1e3, 1e400, 0.1e-6]', '[[1.5, 0.5, 1000, "1e400", 1e-7]]', 'floats'),
	('[~, null, Null, nil, ""]', '[[null, null, null, "nil", ""]]', 'null'),
	('[2022-01-01, 2022-11-30T18:04:27.912073Z]', '[["2022-01-01", "2022-11-30T18:04:27.912073Z"]]', 'times are strings'),
	('[!!str 1, !!int "1", !!float 1, !!binary aGk=, !other x, ! 1]', '[["1", 1, 1, "hi", "x", "1"]]', 'tags'),
	(E'1: a\n1.5: b\nyes: c\n0x10: d\n', '[{"1": "a", "1.5": "b", "true": "c", "16": "d"}]', 'keys become strings'),
	(E'a: 1\na: 2\n', '[{"a": 2}]', 'of a key that stands twice the last one counts'),
	(E'a: &x {k: 1, l: 2}\nb: *x\nc: {<<: *x, k: 3}\nd: {<<: [{k: 4}, *x]}\n',
	 '[{"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}, "c": {"k": 3, "l": 2}, "d": {"k": 4, "l": 2}}]', 'anchors, aliases and merge keys')
	) v (manifest, documents, description);

SELECT throws_ok(format('SELECT kubectl_manifest(%L)', manifest), '22P02', 'error: error parsing STDIN: ' || message, message) FROM (VALUES
	(E'a: b: c\n', 'error converting YAML to JSON: yaml: mapping values are not allowed in this context'),
	(E'a: 1\nb: [1\n', 'error converting YAML to JSON: yaml: line 2: did not find expected '','' or '']'''),
	(E'a:\n\tb: 1\n', 'error converting YAML to JSON: yaml: line 2: found character that cannot start any token'),
	(E'a: 1\n--- b: 2\n', 'invalid Yaml document separator: b: 2'),
	('a: *x', 'error converting YAML to JSON: yaml: unknown anchor ''x'' referenced'),
	('a: &x [*x]', 'error converting YAML to JSON: yaml: anchor ''x'' value contains itself'),
	('<<: 1', 'error converting YAML to JSON: yaml: map merge requires map or sequence of maps as the value'),
	('!!int x', 'error converting YAML to JSON: yaml: cannot decode !!str `x` as a !!int'),
	(E'a: \x01', 'error converting YAML to JSON: yaml: control characters are not allowed'),
	('a: .nan', 'error converting YAML to JSON: json: unsupported value: NaN'),
	('{1: a}', 'json: offset 2: invalid character ''1'' looking for beginning of object key string'),
	('{"a":1,}', 'json: offset 8: invalid character ''}'' looking for beginning of object key string'),
	('{"a" 1}', 'json: offset 6: invalid character ''1'' after object key'),
	('{"a":[1 2]}', 'json: offset 9: invalid character ''2'' after array element'),
	('{"a":tru}', 'json: offset 9: invalid character ''}'' in literal true (expecting ''e'')'),
	('{"a":"\q"}', 'json: offset 8: invalid character ''q'' in string escape code'),
	('{"a":-}', 'json: offset 7: invalid character ''}'' in numeric literal'),
	('{"a": 1} x', 'json: offset 10: invalid character ''x'' looking for beginning of value'),
	('{"a":', 'unexpected EOF')) v (manifest, message);

-- What sigs.k8s.io/yaml reads and refuses.
CREATE TEMP TABLE vector (v jsonb);
\copy vector FROM 'test/kubectl/manifests.jsonl' (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')
SELECT cmp_ok(count(*), '>', 50::bigint, 'there are vectors') FROM vector;
SELECT is(pg_temp.documents(v ->> 'manifest'), v -> 'documents', left('read: ' || (v ->> 'manifest'), 70)) FROM vector WHERE v ? 'documents';
SELECT throws_ok(format('SELECT kubectl_manifest(%L)', v ->> 'manifest'), v ->> 'error', left('refused: ' || (v ->> 'error'), 70)) FROM vector WHERE v ? 'error';

-- Attacks.
SELECT throws_ok($$SELECT kubectl_manifest(E'a: &a [x, x, x, x, x, x, x, x, x]\n' || (SELECT string_agg(format(E'%s: &%s [*%s, *%s, *%s, *%s, *%s, *%s, *%s, *%s, *%s]\n', k, k, j, j, j, j, j, j, j, j, j), '')
	FROM (SELECT chr(97 + i) AS k, chr(96 + i) AS j FROM generate_series(1, 9) i) x))$$,
	'22P02', 'error: error parsing STDIN: error converting YAML to JSON: yaml: document contains excessive aliasing', 'a bomb of aliases');
SELECT throws_ok(format('SELECT kubectl_manifest(repeat(%L, 100000))', s), '54001', NULL, s || ' nested deeply ends with an error') FROM (VALUES ('['), ('- '), ('{"a":'), ('[{? ')) v (s);
SELECT throws_ok($$SELECT kubectl_manifest('a: "\0"')$$, '22P05', NULL, 'NUL cannot be stored');
SELECT is(octet_length(kubectl_manifest('a: ' || repeat('x', 1000000)) ->> 'a'), 1000000, 'a long string');

SELECT * FROM finish();
ROLLBACK;
