-- kubectl_json(): objects as kubectl -o json prints them.
BEGIN;
SELECT no_plan();

SELECT volatility_is('kubectl_json', ARRAY['jsonb'], 'immutable', 'depends on the object only');
SELECT is(kubectl_json(NULL), NULL, 'NULL for NULL');

SELECT is(kubectl_json('{"metadata": {"name": "a", "labels": {}, "annotations": {"bb": "1", "c": "2", "a": "3", "B": "4"}}, "items": [], "kind": "Lease", "spec": {"list": [1, {"x": null}, [true, false]]}}'),
$${
    "items": [],
    "kind": "Lease",
    "metadata": {
        "annotations": {
            "B": "4",
            "a": "3",
            "bb": "1",
            "c": "2"
        },
        "labels": {},
        "name": "a"
    },
    "spec": {
        "list": [
            1,
            {
                "x": null
            },
            [
                true,
                false
            ]
        ]
    }
}
$$, 'four spaces a level, keys in bytewise order, empty maps and lists in one line');

SELECT is(kubectl_json(j), printed || E'\n', 'number ' || j::text) FROM (VALUES
	('0'::jsonb, '0'), ('-1', '-1'), ('9223372036854775807', '9223372036854775807'), ('9223372036854775808', '9223372036854776000'),
	('12345678901234567890', '12345678901234567000'), ('1.0', '1'), ('1.50', '1.5'), ('0.000001', '0.000001'), ('0.0000001', '1e-7'),
	('1e20', '100000000000000000000'), ('1e21', '1e+21'), ('1e23', '1e+23'), ('1.5e-10', '1.5e-10'), ('-123456.789', '-123456.789'),
	('1.7976931348623157e308', '1.7976931348623157e+308'), ('5e-324', '5e-324'), ('0.1', '0.1')) v (j, printed);
SELECT is(length(kubectl_json('1e400')), 402, 'a number that is no double is printed all the same');

SELECT is(kubectl_json(to_jsonb(s)), printed || E'\n', 'string ' || printed) FROM (VALUES
	('', '""'), ('a"b\c/', '"a\"b\\c/"'), (E'\b\f\n\r\t', '"\b\f\n\r\t"'), (E'\x01\x1f\x7f', E'"\\u0001\\u001f\x7f"'),
	('<a&b>', '"\u003ca\u0026b\u003e"'), (U&'a\2028b\2029\2027\202A', E'"a\\u2028b\\u2029\u2027\u202A"'), (U&'\FEFF\0085 \00E9 \+01F600', U&'"\FEFF\0085 \00E9 \+01F600"')) v (s, printed);

-- What Go's encoding/json printed.
CREATE TEMP TABLE vector (v jsonb);
\copy vector FROM 'test/kubectl/printed.jsonl' (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')
SELECT cmp_ok(count(*), '>', 50::bigint, 'there are vectors') FROM vector;
SELECT is(kubectl_json(v -> 'object'), v ->> 'json', left('as Go: ' || (v ->> 'object'), 70)) FROM vector;

-- Nothing is too large.
SELECT is(length(kubectl_json(to_jsonb(repeat('<', 1000000)))), 6000003, 'a long string');
CREATE TEMP TABLE deep AS SELECT (repeat('[', 4000) || repeat(']', 4000))::jsonb AS j;
SELECT cmp_ok(length(kubectl_json(j)), '>=', 8000, 'deep nesting') FROM deep;
SET LOCAL max_stack_depth = '100kB';
SELECT throws_ok('SELECT kubectl_json(j) FROM deep', '54001', NULL, 'nesting that is too deep ends with an error');

SELECT * FROM finish();
ROLLBACK;
