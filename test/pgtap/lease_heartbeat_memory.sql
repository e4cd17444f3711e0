-- lease_heartbeat_memory(): how much of the memory for renewals is used.
BEGIN;
SELECT plan(4);

SELECT is(pg_get_function_result('lease_heartbeat_memory'::regproc), 'record', 'one row');
SELECT is((entries, used), (10000, 0), 'without recovery grace nothing is kept there') FROM lease_heartbeat_memory();
SELECT is(entries::text, current_setting('lease.heartbeat_entries'), 'the room is what the setting says') FROM lease_heartbeat_memory();

CREATE ROLE nobody_special;
SET ROLE nobody_special;
SELECT lives_ok('SELECT * FROM lease_heartbeat_memory()', 'that is no secret');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
