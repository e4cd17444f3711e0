-- view kubectl_get_nodes: kubectl's columns and words.
BEGIN;
SELECT no_plan();

DELETE FROM lease;
DELETE FROM lease_node;
SELECT is((SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'kubectl_get_nodes'::regclass AND attnum > 0),
	'{name,status,roles,age,version,internal_ip,external_ip,os_image,kernel_version,container_runtime,creation_timestamp,last_heartbeat,schedulable,labels}'::text[],
	'first the columns of kubectl get nodes -o wide, then more');

CREATE FUNCTION pg_temp.ready(status text) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('conditions', jsonb_build_array(jsonb_build_object('type', 'Ready', 'status', status, 'lastHeartbeatTime', '2022-11-30T15:42:18Z'))) $$;
INSERT INTO lease_node (name, creation_timestamp, labels, unschedulable, status) VALUES
	('kind-control-plane', clock_timestamp() - interval '3 d 2 h', '{"node-role.kubernetes.io/control-plane": "", "kubernetes.io/os": "linux"}', NULL, pg_temp.ready('True') || '{
		"addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "172.18.0.2"}, {"type": "InternalIP", "address": "fd00::2"}, {"type": "ExternalIP", "address": "203.0.113.7"}],
		"nodeInfo": {"kubeletVersion": "v1.32.4", "osImage": "Debian GNU/Linux 12 (bookworm)", "kernelVersion": "6.1.0-18-amd64", "containerRuntimeVersion": "containerd://1.7.24"}}'),
	('not-ready', clock_timestamp(), '{"node-role.kubernetes.io/worker": "x", "kubernetes.io/role": "batch", "node-role.kubernetes.io/a": ""}', false, pg_temp.ready('False')),
	('posted-unknown', clock_timestamp(), '{"kubernetes.io/role": "", "node-role.kubernetes.io/batch": ""}', NULL, pg_temp.ready('Unknown')),
	('no-condition', clock_timestamp(), NULL, true, '{"nodeInfo": {"osImage": ""}}'),
	('nothing', clock_timestamp() + interval '1 h', '{}', true, NULL);
SELECT results_eq($$SELECT name, status, roles, age, version FROM kubectl_get_nodes$$, $$VALUES
	('kind-control-plane' COLLATE "C", 'Ready', 'control-plane', '3d2h', 'v1.32.4'),
	('no-condition', 'Unknown,SchedulingDisabled', '<none>', '0s', ''),
	('not-ready', 'NotReady', 'a,batch,worker', '0s', ''),
	('nothing', 'Unknown,SchedulingDisabled', '<none>', '<invalid>', ''),
	('posted-unknown', 'NotReady', 'batch', '0s', '')$$, 'without leases it is what the nodes have posted, whenever that was');
SELECT results_eq($$SELECT name, internal_ip, external_ip, os_image, kernel_version, container_runtime FROM kubectl_get_nodes WHERE name IN ('kind-control-plane', 'no-condition')$$, $$VALUES
	('kind-control-plane' COLLATE "C", '172.18.0.2', '203.0.113.7', 'Debian GNU/Linux 12 (bookworm)', '6.1.0-18-amd64', 'containerd://1.7.24'),
	('no-condition', '<none>', '<none>', '<unknown>', '<unknown>', '<unknown>')$$, 'the columns of -o wide');

SELECT count(*) AS beats FROM lease_node_heartbeats(ARRAY(SELECT name FROM lease_node) || '{unregistered}') \gset
SELECT results_eq($$SELECT name, status FROM kubectl_get_nodes$$, $$VALUES
	('kind-control-plane' COLLATE "C", 'Ready'), ('no-condition', 'Ready,SchedulingDisabled'), ('not-ready', 'NotReady'), ('nothing', 'Ready,SchedulingDisabled'), ('posted-unknown', 'NotReady')$$,
	'one that sends heartbeats is what it has posted, or Ready; who is not registered is not listed');
UPDATE lease SET renew_time = clock_timestamp() - interval '41 s';
SELECT results_eq($$SELECT name, status FROM kubectl_get_nodes$$, $$VALUES
	('kind-control-plane' COLLATE "C", 'NotReady'), ('no-condition', 'NotReady,SchedulingDisabled'), ('not-ready', 'NotReady'), ('nothing', 'NotReady,SchedulingDisabled'), ('posted-unknown', 'NotReady')$$,
	'one that has fallen silent is not ready, as the node lifecycle controller would have written');
SELECT set_eq($$SELECT name FROM kubectl_get_nodes WHERE NOT schedulable AND last_heartbeat < clock_timestamp() - interval '40 s' AND creation_timestamp > clock_timestamp()$$, ARRAY['nothing'], 'there is more to filter on');

-- as of another time
SELECT is(lease_node_kubectl_status('True', NULL, '2022-11-30 15:42:41.472898Z', '2022-11-30 15:42:18Z', '2022-11-30 15:42:48Z'), 'Ready', 'STATUS at another time: alive');
SELECT is(lease_node_kubectl_status('True', NULL, '2022-11-30 15:42:41.472898Z', '2022-11-30 15:42:18Z', '2022-11-30 15:43:48Z'), 'NotReady', 'STATUS at another time: silent');
SELECT is(lease_node_roles(NULL), '<none>', 'no labels, no roles');
SELECT is(lease_node_roles('{"node-role.kubernetes.io/": "x", "kubernetes.io/role": "b", "node-role.kubernetes.io/b": "", "node-role.kubernetes.io/B": ""}'), 'B,b', 'roles are sorted, each once, and not empty');

SELECT * FROM finish();
ROLLBACK;
