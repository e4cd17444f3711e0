-- lease_node_heartbeats(): heartbeats of many nodes in one statement.
BEGIN;
SELECT no_plan();

SELECT is(pg_get_function_arguments('lease_node_heartbeats'::regproc), 'nodes text[], duration interval DEFAULT ''00:00:40''::interval', 'arguments and defaults are those of the reference');
SELECT is(pg_get_function_result('lease_node_heartbeats'::regproc), 'TABLE(status text, leases bigint, name text)', 'and so is the result');
DELETE FROM lease;
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('kube-node-lease', 'a', 'a', 40, clock_timestamp() - interval '10 s'), ('kube-node-lease', 'b', 'b', 40, clock_timestamp() - interval '1 h'),
	('kube-node-lease', 'c', 'you', 40, clock_timestamp()), ('kube-node-lease', 'd', 'you', 40, clock_timestamp()), ('default', 'e', 'e', 40, clock_timestamp());
SELECT results_eq($$SELECT * FROM lease_node_heartbeats('{e,d,c,b,a,a}')$$,
	$$VALUES ('renewed', 2::bigint, NULL), ('acquired', 1, NULL), ('held', 1, 'c'), ('held', 1, 'd')$$,
	'how many were renewed and made, and those that were not, in the order of the names, each once');
SELECT set_eq($$SELECT namespace, name FROM lease WHERE renew_time > clock_timestamp() - interval '5 s' AND holder_identity = name$$,
	$$VALUES ('kube-node-lease', 'a'), ('kube-node-lease', 'b'), ('kube-node-lease', 'e'), ('default', 'e')$$, 'in the namespace of the nodes');
SELECT results_eq($$SELECT * FROM lease_node_heartbeats('{}')$$, $$VALUES ('renewed', 0::bigint, NULL), ('acquired', 0, NULL)$$, 'no nodes, no heartbeats');
SELECT is(lease_node_register('owned'), 'registered', 'a registered one');
SELECT results_eq($$SELECT * FROM lease_node_heartbeats('{owned}', '1 min')$$, $$VALUES ('renewed', 0::bigint, NULL), ('acquired', 1, NULL)$$, 'among them');
SELECT ok(jsonb_array_length(owner_references) = 1 AND lease_duration_seconds = 60, 'gets its lease with owner and duration') FROM lease WHERE name = 'owned';
SELECT results_eq($$SELECT * FROM lease_node_heartbeats(ARRAY(SELECT 'n' || i FROM generate_series(1, 5000) i))$$,
	$$VALUES ('renewed', 0::bigint, NULL), ('acquired', 5000, NULL)$$, 'thousands are made in one call');
SELECT results_eq($$SELECT * FROM lease_node_heartbeats(ARRAY(SELECT 'n' || i FROM generate_series(1, 5000) i))$$,
	$$VALUES ('renewed', 5000::bigint, NULL), ('acquired', 0, NULL)$$, 'and renewed');
SELECT throws_ok($$SELECT lease_node_heartbeats(NULL)$$, '22004', 'nodes must not be null', 'NULL is an error');
SELECT throws_ok($$SELECT lease_node_heartbeats('{a,NULL}')$$, '22004', 'lease name must not be null', 'a NULL among the nodes is an error');
SELECT throws_ok($$SELECT lease_node_heartbeats('{{a},{b}}')$$, '2202E', 'array of lease names must have one dimension', 'a matrix of nodes is an error');
SELECT throws_ok($$SELECT lease_node_heartbeats('{a,B}')$$, '42602', 'invalid lease name "B"', 'an invalid name among them is an error');
SELECT throws_ok($$SELECT lease_node_heartbeats('{a}', '-1 s')$$, '22023', 'invalid lease duration', 'a negative duration is an error');
SET LOCAL transaction_read_only = on;
SELECT throws_ok($$SELECT lease_node_heartbeats('{a}')$$, '25006', 'cannot execute lease_node_heartbeats() in a read-only transaction', 'not in a read-only transaction');

SELECT * FROM finish();
ROLLBACK;
