-- lease_renewed_at(): when a lease was last renewed, in its row or in memory.  Here nothing
-- is in memory, as the servers of these tests go without recovery grace; 046_memory.pl has the rest.
BEGIN;
SELECT plan(8);

SELECT is(pg_get_function_arguments('lease_renewed_at'::regproc),
	'namespace text, name text, fencing_token bigint, resource_version bigint, renew_time timestamp with time zone', 'arguments are those of the reference');
SELECT is(pg_get_function_result('lease_renewed_at'::regproc), 'timestamp with time zone', 'and so is the result');

SET lease.heartbeat_storage = 'memory';
SELECT ok(acquired, 'a lease') FROM lease_acquire('l', 'me', '1 h');
SELECT ok(renewed, 'renewed') FROM lease_renew('l', 'me');
SELECT ok(renewed, 'and again') FROM lease_renew('l', 'me');
SELECT is(lease_renewed_at(namespace, name, fencing_token, resource_version, renew_time), renew_time, 'without recovery grace every renewal is in the row') FROM lease;
SELECT is(lease_renewed_at('default', 'missing', 1, 1, 'epoch'), 'epoch'::timestamptz, 'of what is not in memory the row is right');
SELECT is(lease_renewed_at('default', 'l', 1, 1, NULL), NULL, 'what was never renewed has no time');

SELECT * FROM finish();
ROLLBACK;
