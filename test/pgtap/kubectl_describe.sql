-- kubectl_describe(): what the real kubectl prints is compared in test/t/100_kubectl.pl; here is what it never gets.
BEGIN;
SELECT no_plan();

SELECT lives_ok(format('SELECT kubectl_describe(%L, %L)', object, lease), format('described: %s %s', object, lease))
FROM unnest(ARRAY['1', 'null', '"x"', 'true', '[]', '[1]', '[{"a": [1]}]', '{}', '{"kind": "Node"}', '{"kind": "Node", "metadata": [], "spec": 1, "status": "x"}', '{"metadata": {"labels": [1], "annotations": "x"}}',
	'{"kind": "Node", "status": {"conditions": [1, [], null], "addresses": [[]], "capacity": [1], "nodeInfo": []}, "spec": {"taints": [1, []], "podCIDRs": [[1], {}]}}', '{"a": [[1], [[]], {}, null]}']) AS object,
	unnest(ARRAY[NULL, '1', '[]', '{}', '{"spec": []}']) AS lease;
SELECT lives_ok(format('SELECT kubectl_jsonpath(%L, %L)', object, template), format('template %s of %s', template, object))
FROM unnest(ARRAY['1', 'null', '"x"', '[]', '[1]', '{}']) AS object, unnest(ARRAY['{.a}', '{..a}', '{.*}', '{@}', 'x']) AS template;

SELECT * FROM finish();
ROLLBACK;
