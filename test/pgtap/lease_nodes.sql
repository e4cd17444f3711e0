-- lease_node_status(), lease_node_posted() and the view lease_nodes: the rule of the node lifecycle controller.
BEGIN;
SELECT no_plan();

-- The rule, with times as seconds after the creation
CREATE FUNCTION pg_temp.at(seconds numeric) RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '2026-01-01' + $1 * interval '1 s' $$;
CREATE TEMP TABLE rule (ready text, heartbeat numeric, now numeric, status text, since numeric, what text);
INSERT INTO rule VALUES
	('True', 100, 120, 'Ready', 10, 'heard of in time, and posted Ready'),
	('True', 100, 140, 'Ready', 10, 'at the very end of the grace period'),
	('True', 100, 140.000001, 'Unknown', 140, 'silent for longer'),
	('True', 100, 100000, 'Unknown', 140, 'and since then'),
	('True', 200, 100, 'Ready', 10, 'a heartbeat in the future'),
	('False', 100, 120, 'NotReady', 10, 'posted that it is not ready'),
	('False', 100, 141, 'Unknown', 140, 'silence is stronger'),
	('Unknown', 100, 120, 'Unknown', 10, 'posted Unknown: a renewed lease alone does not change that'),
	(NULL, 100, 120, 'Ready', 20, 'never posted anything, but lives'),
	(NULL, 100, 141, 'Unknown', 140, 'never posted anything, and is silent'),
	(NULL, NULL, 60, 'NotReady', 0, 'new, not heard of yet'),
	(NULL, NULL, 60.000001, 'Unknown', 60, 'never heard of for longer than it may take to start'),
	('True', NULL, 30, 'NotReady', 0, 'posted without a time');
SELECT is(lease_node_status(pg_temp.at(0), ready, pg_temp.at(heartbeat), pg_temp.at(now)), status, what) FROM rule;
SELECT is(lease_node_status_since(pg_temp.at(0), ready, pg_temp.at(heartbeat), pg_temp.at(10), pg_temp.at(20), pg_temp.at(now)), pg_temp.at(since), 'since when: ' || what) FROM rule;
SELECT is(lease_node_status(NULL, NULL, NULL, pg_temp.at(0)), 'Unknown', 'nothing is known');
SELECT is(lease_node_status(pg_temp.at(0), NULL, NULL, NULL), NULL, 'nor when');
SELECT is(lease_node_status_since(NULL, NULL, NULL, NULL, NULL, pg_temp.at(0)), NULL, 'nor since when');

SELECT is(current_setting('lease.node_monitor_grace_period'), '40s', 'the grace period is that of Kubernetes up to 1.31');
SELECT is(current_setting('lease.node_startup_grace_period'), '1min', 'and so is that of a new node');
SET LOCAL lease.node_monitor_grace_period = '50s';
SELECT is(lease_node_status(pg_temp.at(0), 'True', pg_temp.at(100), pg_temp.at(150)), 'Ready', 'as in 1.32 and later it can be 50 s');
SELECT is(lease_node_status(pg_temp.at(0), 'True', pg_temp.at(100), pg_temp.at(150.1)), 'Unknown', 'and no longer');
SET LOCAL lease.node_startup_grace_period = '5min';
SELECT is(lease_node_status(pg_temp.at(0), NULL, NULL, pg_temp.at(299)), 'NotReady', 'the other one can be set, too');
RESET lease.node_monitor_grace_period;
RESET lease.node_startup_grace_period;

-- what was posted
SELECT is(lease_node_posted(status::jsonb)::text, expected, 'posted: ' || status) FROM (VALUES
	('{}', '(,,)'), ('[]', '(,,)'), ('1', '(,,)'), ('{"conditions": {}}', '(,,)'), ('{"conditions": [1, [], {}]}', '(,,)'),
	('{"conditions": [{"type": "Readyness", "status": "True"}]}', '(,,)'),
	('{"conditions": [{"type": "Ready"}]}', '(,,)'),
	('{"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "Unknown", "lastHeartbeatTime": null}]}', '(Unknown,,)'),
	('{"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "no time", "lastTransitionTime": 1}]}', '(True,,)')) v (status, expected);
SELECT results_eq($$SELECT * FROM lease_node_posted('{"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2022-11-30T15:42:18Z", "lastTransitionTime": "2022-11-29T15:49:28.5+02:00"}]}')$$,
	$$VALUES ('True', timestamptz '2022-11-30 15:42:18+00', timestamptz '2022-11-29 13:49:28.5+00')$$, 'posted, with times');

SELECT is((lease_node_posted(jsonb_build_object('conditions', jsonb_build_array(jsonb_build_object('type', 'Ready', 'lastHeartbeatTime', t))))).last_heartbeat, expected::timestamptz, 'a time: ' || t) FROM (VALUES
	('2022-11-30T15:42:18Z', '2022-11-30 15:42:18Z'), ('2022-11-30T15:42:18.472898Z', '2022-11-30 15:42:18.472898Z'), ('2022-11-30T15:42:18.4728989Z', '2022-11-30 15:42:18.472898Z'),
	('2022-11-30T15:42:18.1+05:30', '2022-11-30 10:12:18.1Z'), ('2022-11-30T15:42:18-08:00', '2022-11-30 23:42:18Z'), ('2024-02-29T00:00:00Z', '2024-02-29Z'), ('0001-01-01T00:00:00Z', '0001-01-01 00:00:00Z'),
	('2022-11-30 15:42:18Z', NULL), ('2022-11-30T15:42:18', NULL), ('2022-11-30T15:42:18.Z', NULL), ('2022-11-30T15:42:18ZZ', NULL), ('2022-11-30T15:42:18Z ', NULL), (' 2022-11-30T15:42:18Z', NULL),
	('2022-11-30T15:42:60Z', NULL), ('2022-11-30T24:00:00Z', NULL), ('2022-13-01T00:00:00Z', NULL), ('2022-00-01T00:00:00Z', NULL), ('2023-02-29T00:00:00Z', NULL), ('2022-11-31T00:00:00Z', NULL),
	('2022-11-30T15:-2:18Z', NULL), ('2022-11-30T15:42:18+25:00', NULL), ('2022-11-30T15:42:18+1:000', NULL), ('2022-11-30T15:42:18+', NULL), ('+022-11-30T15:42:18Z', NULL), ('', NULL), ('infinity', NULL), ('2022-11', NULL)) v (t, expected);

-- the view
DELETE FROM lease;
DELETE FROM lease_node;
CREATE FUNCTION pg_temp.posted(status text, ago interval) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('conditions', jsonb_build_array(jsonb_build_object('type', 'Ready', 'status', status,
		'lastHeartbeatTime', to_char((clock_timestamp() - ago) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'lastTransitionTime', '2022-11-29T15:49:28Z'))) $$;
INSERT INTO lease_node (name, creation_timestamp, unschedulable, status) VALUES
	('ready', '2020-01-01', NULL, pg_temp.posted('True', '4 min')), ('not-ready', '2020-01-01', NULL, pg_temp.posted('False', '4 min')),
	('cordoned', '2020-01-01', true, pg_temp.posted('True', '10 s')), ('silent', '2020-01-01', NULL, pg_temp.posted('True', '4 min')),
	('posts-only', '2020-01-01', false, pg_temp.posted('True', '10 s')), ('never', '2020-01-01', NULL, NULL), ('new', clock_timestamp() - interval '1 s', NULL, NULL);
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('kube-node-lease', 'silent', 'silent', 40, clock_timestamp() - interval '2 min'), ('kube-node-lease', 'long', 'long', 3600, clock_timestamp() - interval '2 min'),
	('kube-node-lease', 'short', 'short', 1, clock_timestamp() - interval '39 s'), ('default', 'elsewhere', 'x', 40, clock_timestamp());
SELECT count(*) AS beats FROM lease_node_heartbeats('{ready,not-ready,cordoned,unregistered}') \gset
SELECT results_eq($$SELECT name, status, schedulable, registered FROM lease_nodes ORDER BY name$$, $$VALUES
	('cordoned' COLLATE "C", 'Ready', false, true), ('long', 'Unknown', true, false), ('never', 'Unknown', true, true), ('new', 'NotReady', true, true),
	('not-ready', 'NotReady', true, true), ('posts-only', 'Ready', true, true), ('ready', 'Ready', true, true), ('short', 'Ready', true, false),
	('silent', 'Unknown', true, true), ('unregistered', 'Ready', true, false)$$, 'one row a registered node or node lease; how long the lease is valid does not matter');
SELECT is(since, l.renew_time + interval '40 s', 'Unknown since the grace period was over') FROM lease_nodes JOIN lease l USING (name) WHERE name = 'silent';
SELECT is(since, timestamptz '2022-11-29 15:49:28+00', 'NotReady since it said so') FROM lease_nodes WHERE name = 'not-ready';
SELECT is(since, timestamptz '2022-11-29 15:49:28+00', 'Ready since it said so') FROM lease_nodes WHERE name = 'ready';
SELECT is(since, last_heartbeat, 'Ready since its first heartbeat where it said nothing') FROM lease_nodes WHERE name = 'unregistered';
SELECT is(last_heartbeat, renew_time, 'the last heartbeat is the lease''s') FROM lease_nodes WHERE name = 'ready';
SELECT ok(last_heartbeat < clock_timestamp() - interval '5 s' AND renew_time IS NULL, 'or what was posted') FROM lease_nodes WHERE name = 'posts-only';
UPDATE lease SET renew_time = clock_timestamp() - interval '1 h' WHERE name = 'cordoned';
SELECT ok(last_heartbeat > renew_time AND status = 'Ready', 'whichever is later') FROM lease_nodes WHERE name = 'cordoned';
SELECT is(last_heartbeat, NULL, 'never is NULL') FROM lease_nodes WHERE name = 'never';
SELECT is((lease_node_heartbeat('silent')).status, 'renewed', 'a heartbeat of one that was silent');
SELECT is(status, 'Ready', 'makes it ready again, for nothing had to be written to say that it was not') FROM lease_nodes WHERE name = 'silent';
SELECT is(posted_ready, 'False', 'what it posted is there as well') FROM lease_nodes WHERE name = 'not-ready';
SELECT ok(reloptions @> '{security_invoker=true}', relname || ' uses the privileges of who asks') FROM pg_class WHERE relname IN ('lease_nodes', 'kubectl_get_nodes', 'lease_apiservers');

SELECT * FROM finish();
ROLLBACK;
