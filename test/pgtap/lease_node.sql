-- Registered nodes: lease_node_apply(), lease_node_register(), lease_node_object(), lease_node_remove().
BEGIN;
SELECT no_plan();

SELECT is(pg_get_function_arguments('lease_node_apply'::regproc), 'node jsonb', 'arguments of lease_node_apply()');
SELECT is(pg_get_function_arguments('lease_node_register'::regproc),
	'name text, labels jsonb DEFAULT NULL::jsonb, annotations jsonb DEFAULT NULL::jsonb, unschedulable boolean DEFAULT NULL::boolean, spec jsonb DEFAULT NULL::jsonb, status jsonb DEFAULT NULL::jsonb',
	'arguments of lease_node_register()');
SELECT is(pg_get_function_arguments('lease_node_remove'::regproc), 'name text', 'arguments of lease_node_remove()');
DELETE FROM lease;
DELETE FROM lease_node;

-- what goes in comes out
CREATE TEMP TABLE node (what text, object jsonb);
INSERT INTO node VALUES
('a control plane', '{"apiVersion": "v1", "kind": "Node",
	"metadata": {"name": "kind-control-plane", "uid": "dce892fe-9beb-501a-98e7-7be797e8b1aa", "creationTimestamp": "2022-11-27T13:42:48Z", "resourceVersion": "1017",
		"labels": {"kubernetes.io/os": "linux", "node-role.kubernetes.io/control-plane": ""}, "annotations": {"node.alpha.kubernetes.io/ttl": "0"}},
	"spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"], "providerID": "kind://docker/kind/kind-control-plane",
		"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]},
	"status": {"capacity": {"cpu": "8", "memory": "16384256Ki"}, "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2022-11-30T15:42:18Z",
		"lastTransitionTime": "2022-11-29T15:49:28Z", "reason": "KubeletReady", "message": "kubelet is posting ready status"}],
		"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}, "nodeInfo": {"kubeletVersion": "v1.32.4"}}}'),
('a cordoned one', '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "cordoned", "uid": "af206d63-85cb-5daf-afed-74d80c18cfe8", "creationTimestamp": "2022-11-30T15:40:49Z",
	"resourceVersion": "1020", "labels": {}}, "spec": {"unschedulable": true}, "status": {"conditions": [], "addresses": []}}'),
('one with all kinds of metadata', '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "meta", "uid": "af206d63-85cb-5daf-afed-74d80c18cfe9", "creationTimestamp": "1999-12-31T23:59:59Z",
	"resourceVersion": "1", "generation": 3, "managedFields": [{"manager": "kubelet"}], "ownerReferences": [], "finalizers": ["a/b"], "deletionTimestamp": "2022-11-30T15:40:49Z"},
	"spec": {"unschedulable": false}}'),
('one with empty parts', '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "empty", "uid": "af206d63-85cb-5daf-afed-74d80c18cfea", "creationTimestamp": "2022-11-30T15:40:49Z",
	"resourceVersion": "7"}, "spec": {}, "status": {}}'),
('the least', '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "least", "uid": "af206d63-85cb-5daf-afed-74d80c18cfeb", "creationTimestamp": "2022-11-30T15:40:49Z", "resourceVersion": "7"}}');
SELECT is(lease_node_apply(object), 'registered', what || ' is registered') FROM node;
SELECT is(lease_node_object(object #>> '{metadata,name}'), object, what || ' comes out as it went in') FROM node;
SELECT is(lease_node_apply(object), 'updated', what || ' is updated') FROM node;
SELECT is(lease_node_object(object #>> '{metadata,name}'), object, what || ' is still the same') FROM node;
SELECT results_eq($$SELECT lease_node_object(n) FROM lease_node n ORDER BY name$$, $$SELECT object FROM node ORDER BY object #>> '{metadata,name}' COLLATE "C"$$, 'all of them');
SELECT is(lease_node_object('nobody'), NULL, 'who is not registered has no object');

-- what is missing is made, and stays
SELECT is(lease_node_apply('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new", "uid": null, "creationTimestamp": null}}'), 'registered', 'uid and the like need not be given');
SELECT lease_node_object('new') AS new \gset
SELECT ok(uid IS NOT NULL AND clock_timestamp() - creation_timestamp < '10 s' AND extract(microsecond FROM creation_timestamp) % 1000000 = 0
	AND resource_version > 1600000000000000, 'they are made') FROM lease_node WHERE name = 'new';
SELECT is(lease_node_apply('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new", "labels": {"a": "b"}}}'), 'updated', 'and on an update');
SELECT is(lease_node_object('new') #- '{metadata,labels}' #- '{metadata,resourceVersion}', :'new'::jsonb #- '{metadata,resourceVersion}', 'they stay');
SELECT cmp_ok((lease_node_object('new') #>> '{metadata,resourceVersion}')::bigint, '>', (:'new'::jsonb #>> '{metadata,resourceVersion}')::bigint, 'but for the version, which grows');
SELECT is(lease_node_register('new', unschedulable => true, annotations => '{"x": "y"}', spec => '{"podCIDR": "10.0.0.0/24"}', status => '{"phase": "Running"}'), 'updated', 'the same from its parts');
SELECT is(lease_node_object('new') #- '{metadata,resourceVersion}' #- '{metadata,creationTimestamp}' #- '{metadata,uid}',
	'{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new", "annotations": {"x": "y"}}, "spec": {"podCIDR": "10.0.0.0/24", "unschedulable": true}, "status": {"phase": "Running"}}',
	'what was not given is gone');
SELECT is(lease_node_apply('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "zone", "creationTimestamp": "2022-11-30T15:40:49.987654+01:30"}}'), 'registered', 'a time in another zone, with fractions');
SELECT is(lease_node_object('zone') #>> '{metadata,creationTimestamp}', '2022-11-30T14:10:49Z', 'is kept in whole seconds');
SET LOCAL TimeZone = 'Asia/Kolkata';
SELECT is(lease_node_object('zone') #>> '{metadata,creationTimestamp}', '2022-11-30T14:10:49Z', 'and shown in UTC whatever the time zone is');
RESET TimeZone;

-- what is no Node
SELECT throws_ok(format('SELECT lease_node_apply(%L)', object), code, message, 'not a Node: ' || object) FROM (VALUES
	('[]', '22023', 'invalid Node object'), ('"x"', '22023', 'invalid Node object'), ('{}', '22023', 'invalid Node object'),
	('{"apiVersion": "v2", "kind": "Node", "metadata": {"name": "x"}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node"}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": []}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": 1}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}, "more": 1}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}, "spec": 1}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}, "spec": {"unschedulable": "true"}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}, "status": "x"}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "labels": []}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "creationTimestamp": "yesterday"}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "creationTimestamp": "2022-02-30T00:00:00Z"}}', '22023', 'invalid Node object'),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "uid": "y"}}', '22P02', NULL),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "resourceVersion": "y"}}', '22P02', NULL),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "X"}}', '42602', NULL),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "labels": {"a": 1}}}', '23514', NULL),
	('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x", "annotations": {"": "x"}}}', '23514', NULL)) v (object, code, message);
SELECT throws_ok('SELECT lease_node_apply(NULL)', '22004', 'node must not be null', 'NULL is an error');
SELECT throws_ok('SELECT lease_node_register(NULL)', '22004', 'node name must not be null', 'so is a NULL name');
SELECT throws_ok($$SELECT lease_node_register('x', status => '[]')$$, '23514', NULL, 'a status that is no object');
SELECT is_empty($$SELECT FROM lease_node WHERE name IN ('x', 'X')$$, 'nothing was registered');

-- removing
SELECT is(lease_node_remove('new'), 'removed', 'a node without a lease is removed');
SELECT is(lease_node_remove('new'), 'missing', 'once');
SELECT count(*) AS beats FROM lease_node_heartbeats('{kind-control-plane,cordoned,least,unregistered,empty}') \gset
SELECT is(lease_node_remove('kind-control-plane'), 'removed', 'one with a lease');
SELECT is_empty($$SELECT FROM lease WHERE name = 'kind-control-plane'$$, 'takes it along');
SELECT is(end_reason, 'deleted', 'as its history says') FROM lease_history WHERE name = 'kind-control-plane';
UPDATE lease SET owner_references = NULL WHERE name = 'cordoned';
UPDATE lease SET owner_references = owner_references || '{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "y"}' WHERE name = 'least';
SELECT is(lease_node_remove(n), 'removed', n || ' is removed') FROM (VALUES ('cordoned'), ('least')) v (n);
SELECT set_eq('SELECT name FROM lease', ARRAY['cordoned', 'least', 'unregistered', 'empty'], 'a lease that is not its own, or not its only, stays');
SELECT is(lease_node_apply('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "empty", "uid": "00000000-0000-0000-0000-000000000001"}}'), 'updated', 'made anew with another uid');
SELECT is(lease_node_remove('empty'), 'removed', 'it is another node');
SELECT isnt_empty($$SELECT FROM lease WHERE name = 'empty'$$, 'and the lease of the one before stays');
SELECT is(lease_node_register('kept'), 'registered', 'a node');
CREATE RULE none AS ON DELETE TO lease_node DO INSTEAD NOTHING;
SELECT throws_ok($$SELECT lease_node_remove('kept')$$, '09000', 'node was not written', 'what a rule has suppressed is not acknowledged');
DROP RULE none ON lease_node;

SELECT is(lease_node_remove('unregistered'), 'missing', 'what is not registered cannot be removed');
SELECT is((lease_node_heartbeat('kind-control-plane')).status, 'acquired', 'a node that goes on after all gets a lease');
SELECT is(owner_references, NULL, 'without owner') FROM lease WHERE name = 'kind-control-plane';
SELECT throws_ok('SELECT lease_node_remove(NULL)', '22004', 'node name must not be null', 'NULL is an error');
SELECT throws_ok($$SELECT lease_node_remove('A')$$, '42602', NULL, 'an invalid name is an error');
SET LOCAL transaction_read_only = on;
SELECT throws_ok(call, '25006', NULL, 'not in a read-only transaction: ' || call) FROM (VALUES
	('SELECT lease_node_remove(''a'')'), ('SELECT lease_node_register(''a'')'), ('SELECT lease_node_apply(''{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}'')')) v (call);

SELECT * FROM finish();
ROLLBACK;
