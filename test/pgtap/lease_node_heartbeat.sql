-- lease_node_heartbeat(): what kubelet does. What happens when two meet is in
-- test/isolation/specs/heartbeat-*.spec; who may, in permissions.sql.
BEGIN;
SELECT no_plan();

SELECT is(pg_get_function_arguments('lease_node_heartbeat'::regproc),
	'node text, duration interval DEFAULT ''00:00:40''::interval, OUT renewed boolean, OUT status text, OUT holder_identity text, '
	'OUT fencing_token bigint, OUT expires_at timestamp with time zone, OUT expires_in interval',
	'arguments, defaults and results are those of the reference');
SELECT volatility_is('lease_node_heartbeat', 'volatile', 'it is volatile: the planner may not merge two calls');
DELETE FROM lease;
CREATE FUNCTION pg_temp.age(name text, ago interval) RETURNS void LANGUAGE sql AS $$
	UPDATE lease SET renew_time = clock_timestamp() - $2 WHERE lease.name = $1 $$;

-- the first
SELECT results_eq($$SELECT renewed, status, holder_identity, expires_in FROM lease_node_heartbeat('node-1')$$,
	$$VALUES (true, 'acquired', 'node-1', interval '40 s')$$, 'the first heartbeat makes the lease, for 40 s');
SELECT results_eq($$SELECT namespace, holder_identity, lease_duration_seconds, acquire_time IS NULL, lease_transitions IS NULL, labels IS NULL, owner_references IS NULL,
		renew_time BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp() FROM lease WHERE name = 'node-1'$$,
	$$VALUES ('kube-node-lease' COLLATE "C", 'node-1' COLLATE "C", 40, true, true, true, true, true)$$, 'as kubelet makes it: without acquireTime and leaseTransitions');
SELECT is(expires_in, interval '10 s', 'another duration can be asked for') FROM lease_node_heartbeat('node-10', '10 s');
SELECT is(expires_in, interval '10 s', 'and stays: heartbeats do not change it') FROM lease_node_heartbeat('node-10');

-- the next
CREATE TEMP TABLE before AS SELECT * FROM lease;
SELECT pg_temp.age('node-1', '10 s');
SELECT pg_stat_get_xact_tuples_hot_updated('lease'::regclass) AS hot \gset
SELECT results_eq($$SELECT renewed, status, holder_identity, fencing_token, expires_in FROM lease_node_heartbeat('node-1')$$,
	$$SELECT true, 'renewed', 'node-1', fencing_token, interval '40 s' FROM before WHERE name = 'node-1'$$, 'the next one renews it');
SELECT is(pg_stat_get_xact_tuples_hot_updated('lease'::regclass) - :hot, 1::bigint, 'with a HOT update');
SELECT is(to_jsonb(l) - 'renew_time' - 'resource_version', to_jsonb(b) - 'renew_time' - 'resource_version', 'nothing but renewTime has moved')
FROM lease l JOIN before b USING (name) WHERE name = 'node-1';
SELECT ok(l.resource_version > b.resource_version AND l.renew_time > b.renew_time, 'and the version with it')
FROM lease l JOIN before b USING (name) WHERE name = 'node-1';

-- expired: renewed all the same, the same holding
SELECT pg_temp.age('node-1', '1 h');
SELECT results_eq($$SELECT renewed, status, fencing_token, expires_in FROM lease_node_heartbeat('node-1')$$,
	$$SELECT true, 'renewed', fencing_token, interval '40 s' FROM before WHERE name = 'node-1'$$, 'an expired lease of its own is renewed under the same token');
SELECT is(to_jsonb(l) - 'renew_time' - 'resource_version', to_jsonb(b) - 'renew_time' - 'resource_version', 'it is the same holding, since the same time')
FROM lease l JOIN before b USING (name) WHERE name = 'node-1';
SELECT is_empty($$SELECT FROM lease_history WHERE name = 'node-1'$$, 'and nothing in the history says that it ended');
SELECT is(held_until, NULL, 'it goes on') FROM lease_holdings WHERE name = 'node-1';
UPDATE lease SET renew_time = clock_timestamp() + interval '1 h' WHERE name = 'node-1';
SELECT ok(expires_in > '1 h', 'a time in the future does not go back') FROM lease_node_heartbeat('node-1');
UPDATE lease SET lease_duration_seconds = NULL WHERE name = 'node-1';
SELECT is(status, 'renewed', 'a record without duration') FROM lease_node_heartbeat('node-1');
SELECT is(lease_duration_seconds, 40, 'gets one') FROM lease WHERE name = 'node-1';

-- acquireTime and leaseTransitions that are there stay as they are
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions, labels, annotations)
VALUES ('kube-node-lease', 'odd', 'odd', 7, '2020-01-01', clock_timestamp(), 5, '{"a": "b"}', '{"c": "d"}');
SELECT is(status, 'renewed', 'a lease that somebody else has made is renewed') FROM lease_node_heartbeat('odd');
SELECT results_eq($$SELECT lease_duration_seconds, acquire_time, lease_transitions, labels, annotations FROM lease WHERE name = 'odd'$$,
	$$VALUES (7, timestamptz '2020-01-01', 5, '{"a": "b"}'::jsonb, '{"c": "d"}'::jsonb)$$, 'and keeps all it had');

-- somebody else's, and nobody's
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('kube-node-lease', 'others', 'you', 40, clock_timestamp()), ('kube-node-lease', 'lost', 'you', 40, clock_timestamp() - interval '1 h'),
	('kube-node-lease', 'empty', NULL, NULL, NULL);
SELECT results_eq($$SELECT renewed, status, holder_identity, fencing_token FROM lease_node_heartbeat('others')$$,
	$$VALUES (false, 'held', 'you', NULL::bigint)$$, 'what somebody else holds is not renewed');
SELECT is(holder_identity, 'you', 'nor taken') FROM lease WHERE name = 'others';
SELECT fencing_token AS token FROM lease WHERE name = 'lost' \gset
SELECT ok(status = 'acquired' AND fencing_token > :token, 'what somebody else has lost is taken, with a new token') FROM lease_node_heartbeat('lost');
SELECT results_eq($$SELECT holder_identity, acquire_time, lease_transitions FROM lease WHERE name = 'lost'$$,
	$$VALUES ('lost' COLLATE "C", NULL::timestamptz, NULL::int)$$, 'without acquireTime and leaseTransitions');
SELECT is(end_reason, 'taken over', 'the history has the holding that ended') FROM lease_history WHERE name = 'lost';
SELECT is(status, 'acquired', 'an empty object becomes the node''s') FROM lease_node_heartbeat('empty');
SELECT is((lease_release('node-10', 'node-10', 'kube-node-lease')).status, 'released', 'released');
SELECT is(status, 'acquired', 'and taken again') FROM lease_node_heartbeat('node-10');
SELECT is((lease_handover('node-10', 'node-10', 'x', 'kube-node-lease')).status, 'handed_over', 'handed over');
SELECT is(status, 'reserved', 'and kept back for somebody else') FROM lease_node_heartbeat('node-10');
SELECT is((lease_node_heartbeat('default-ns')).status, 'acquired', 'a heartbeat needs no Node');
SELECT is(count(*), 0::bigint, 'and makes none') FROM lease_node;

-- the owner
SELECT is(lease_node_register('node-2'), 'registered', 'a node is registered');
SELECT is(status, 'acquired', 'and sends its first heartbeat') FROM lease_node_heartbeat('node-2');
SELECT is(owner_references, (SELECT jsonb_build_array(jsonb_build_object('apiVersion', 'v1', 'kind', 'Node', 'name', name, 'uid', uid)) FROM lease_node WHERE name = 'node-2'),
	'the lease belongs to the Node') FROM lease WHERE name = 'node-2';
SELECT is(lease_node_register('node-1'), 'registered', 'one that sends heartbeats already');
SELECT is(status, 'renewed', 'sends one more') FROM lease_node_heartbeat('node-1');
SELECT is(owner_references #>> '{0,uid}', (SELECT uid::text FROM lease_node WHERE name = 'node-1'), 'then its lease belongs to it, too') FROM lease WHERE name = 'node-1';
UPDATE lease SET owner_references = '[{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "y"}]' WHERE name = 'node-1';
SELECT is(status, 'renewed', 'an owner that is there') FROM lease_node_heartbeat('node-1');
SELECT is(owner_references #>> '{0,uid}', 'y', 'stays') FROM lease WHERE name = 'node-1';
UPDATE lease SET owner_references = '[]' WHERE name = 'node-1';
SELECT is(status, 'renewed', 'an empty list') FROM lease_node_heartbeat('node-1');
SELECT is(jsonb_array_length(owner_references), 1, 'is filled') FROM lease WHERE name = 'node-1';
SELECT pg_stat_get_xact_tuples_updated('lease'::regclass) AS updates, to_jsonb(n) AS node FROM lease_node n WHERE name = 'node-1' \gset
SELECT is((lease_node_heartbeat('node-1')).status, 'renewed', 'from then on');
SELECT is(pg_stat_get_xact_tuples_updated('lease'::regclass) - :updates, 1::bigint, 'a heartbeat is one write');
SELECT is(to_jsonb(n), :'node', 'and none to the Node') FROM lease_node n WHERE name = 'node-1';

-- many of one node in a statement
SELECT is(array_agg(DISTINCT status), ARRAY['renewed'], 'a node can send many heartbeats in one statement')
FROM (SELECT (lease_node_heartbeat('node-1')).status FROM generate_series(1, 100)) r;

-- the executor's way
CREATE FUNCTION pg_temp.unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER by_executor BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged();
SELECT results_eq($$SELECT (lease_node_heartbeat(n)).status FROM (VALUES ('node-1'), ('others'), ('by-executor'), ('by-executor')) v (n)$$,
	$$VALUES ('renewed'), ('held'), ('acquired'), ('renewed')$$, 'through the executor it is the same');
DROP TRIGGER by_executor ON lease;
SAVEPOINT no_index;
ALTER TABLE lease DROP CONSTRAINT lease_pkey;
UPDATE lease SET owner_references = NULL WHERE name = 'node-1';
SELECT results_eq($$SELECT (lease_node_heartbeat(n)).status FROM (VALUES ('node-1'), ('node-1'), ('others')) v (n)$$, $$VALUES ('renewed'), ('renewed'), ('held')$$, 'and without the index');
SELECT is(jsonb_array_length(owner_references), 1, 'with an owner as well') FROM lease WHERE name = 'node-1';
ROLLBACK TO no_index;

SELECT throws_ok($$SELECT lease_node_heartbeat(NULL)$$, '22004', 'node name must not be null', 'NULL is an error');
SELECT throws_ok($$SELECT lease_node_heartbeat('')$$, '22023', 'lease name must not be empty', 'an empty name is an error');
SELECT throws_ok($$SELECT lease_node_heartbeat('Node')$$, '42602', 'invalid lease name "Node"', 'an invalid name is an error');
SELECT throws_ok($$SELECT lease_node_heartbeat('n', NULL)$$, '22004', 'lease duration must not be null', 'a NULL duration is an error');
SELECT throws_ok($$SELECT lease_node_heartbeat('n', '0')$$, '22023', 'invalid lease duration', 'no duration is an error');
SET LOCAL transaction_read_only = on;
SELECT throws_ok($$SELECT lease_node_heartbeat('n')$$, '25006', 'cannot execute lease_node_heartbeat() in a read-only transaction', 'not in a read-only transaction');

SELECT * FROM finish();
ROLLBACK;
