-- Heartbeats and nodes above READ COMMITTED.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT no_plan();
SELECT results_eq($$SELECT (lease_node_heartbeat(n)).status FROM (VALUES ('rr'), ('rr')) v (n)$$, $$VALUES ('acquired'), ('renewed')$$, 'REPEATABLE READ: the same');
SELECT is(lease_node_register('rr'), 'registered', 'REPEATABLE READ: registered');
SELECT is((lease_node_heartbeat('rr')).status, 'renewed', 'REPEATABLE READ: renewed');
SELECT is(jsonb_array_length(owner_references), 1, 'REPEATABLE READ: owned') FROM lease WHERE name = 'rr';
SELECT is(lease_node_remove('rr'), 'removed', 'REPEATABLE READ: removed');
SELECT * FROM finish();
ROLLBACK;
