-- Numbers: each moves by what it stands for, and by nothing else. What takes several sessions, a restart or
-- another database is in test/t/080_stat.pl.
BEGIN;
SELECT no_plan();

SELECT columns_are('lease_stat', ARRAY['datname', 'namespace', 'waiting', 'acquired', 'renewed', 'lost', 'refused', 'busy', 'released', 'taken_over',
	'expired', 'collected', 'wait_count', 'wait_time'], 'lease_stat has these columns');
SELECT columns_are('lease_stat_database', ARRAY['datname', 'waiting', 'gc_runs', 'gc_time', 'gc_last_time', 'gc_last_duration', 'last_error',
	'last_error_time', 'stats_reset'], 'lease_stat_database has these columns');
SELECT ok(reloptions @> '{security_invoker=true}', relname || ' uses the privileges of who asks') FROM pg_class WHERE oid IN ('lease_stat'::regclass, 'lease_stat_database'::regclass);

CREATE FUNCTION pg_temp.numbers() RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(jsonb_object_agg(namespace || ' ' || key, value), '{}')
	FROM lease_stat s, jsonb_each(to_jsonb(s) - '{datname,namespace,waiting,wait_time}'::text[]) WHERE datname = current_database()
$$;

-- What moved when this was called, as "namespace number +1". An error of the call does not matter.
CREATE FUNCTION pg_temp.moved(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before jsonb := pg_temp.numbers();
BEGIN
	BEGIN
		EXECUTE call;
	EXCEPTION WHEN OTHERS THEN
		RAISE DEBUG '%', SQLERRM;
	END;
	RETURN (SELECT coalesce(string_agg(format('%s +%s', key, value::bigint - coalesce(before ->> key, '0')::bigint), ', ' ORDER BY key COLLATE "C"), 'nothing')
		FROM jsonb_each_text(pg_temp.numbers()) WHERE value::bigint <> coalesce(before ->> key, '0')::bigint);
END $$;
CREATE FUNCTION pg_temp.let_expire() RETURNS void LANGUAGE sql AS $$ UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE name = 'l' $$;

-- one lease from its beginning to its end
SELECT is(pg_temp.moved($$SELECT lease_renew('l', 'a', 's')$$), 's lost +1', 'a renewal of what is not there');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'a', '1 h', 's')$$), 's acquired +1', 'an acquisition');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'a', '1 h', 's')$$), 's renewed +1', 'an acquisition of what one has');
SELECT is(pg_temp.moved($$SELECT lease_renew('l', 'a', 's')$$), 's renewed +1', 'a renewal');
SELECT is(pg_temp.moved($$SELECT lease_renew('l', 'a', 's', 999999)$$), 's lost +1', 'a renewal under another token');
SELECT is(pg_temp.moved($$SELECT lease_renew('l', 'b', 's')$$), 's lost +1', 'a renewal by who is not the holder');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'b', '1 h', 's')$$), 's refused +1', 'an acquisition of what somebody else has');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'b', '1 h', 's', wait => '10 ms')$$), 's refused +1, s wait_count +1', 'the same, in vain waited for');
SELECT cmp_ok(wait_time, '>=', 10::float8, 'for so many milliseconds') FROM lease_stat WHERE namespace = 's' AND datname = current_database();
SELECT cmp_ok(wait_time, '<', 10000::float8, 'and not many more') FROM lease_stat WHERE namespace = 's' AND datname = current_database();
SELECT is(pg_temp.moved($$SELECT lease_release('l', 'b', 's')$$), 'nothing', 'a release by who is not the holder');
SELECT is(pg_temp.moved($$SELECT lease_holder('l', 's'), lease_is_held('l', 'a', 's'), (SELECT count(*) FROM lease_status)$$), 'nothing', 'questions');
SELECT is(pg_temp.moved($$SELECT lease_guard('l', fencing_token, 's') FROM lease WHERE name = 'l'$$), 'nothing', 'a guard');
SELECT is(pg_temp.moved($$SELECT lease_guard('l', 999999, 's')$$), 's lost +1', 'a guard under another token');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', NULL, '1 h', 's')$$), 'nothing', 'a wrong argument');
SELECT pg_temp.let_expire();
SELECT is(pg_temp.moved($$SELECT lease_renew('l', 'a', 's')$$), 's lost +1', 'a renewal that comes too late');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'a', '1 h', 's')$$), 's acquired +1, s expired +1', 'its holder acquires it anew');
SELECT pg_temp.let_expire();
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'b', '1 h', 's')$$), 's acquired +1, s expired +1, s taken_over +1', 'somebody else does');
SELECT is(pg_temp.moved($$SELECT lease_release('l', 'b', 's')$$), 's released +1', 'a release');
SELECT is(pg_temp.moved($$SELECT lease_renew('l', 'b', 's')$$), 's lost +1', 'a renewal of what is free');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'c', '1 h', 's', wait => '10 s')$$), 's acquired +1', 'an acquisition of what is free: nothing is taken over, and nobody waits');
SELECT is(pg_temp.moved($$SELECT lease_handover('l', 'c', 'd', 's')$$), 's released +1', 'a handover');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'a', '1 h', 's')$$), 's refused +1', 'an acquisition of what is reserved');
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'd', '1 h', 's')$$), 's acquired +1', 'an acquisition by the successor');
SELECT pg_temp.let_expire();
SELECT is(pg_temp.moved($$SELECT lease_release('l', 'd', 's')$$), 's expired +1, s released +1', 'a release that comes too late');

-- many at once, by hand, in vain
SELECT is(pg_temp.moved($$SELECT lease_acquire('m' || n, 'a', '1 h', 's') FROM generate_series(1, 3) n$$), 's acquired +3', 'each call counts');
SELECT is(pg_temp.moved($$SELECT lease_renew_all('a', '{m1,m2,m3,m4}', 's')$$), 's lost +1, s renewed +3', 'and each lease of lease_renew_all()');
SELECT is(pg_temp.moved($$SELECT lease_acquire('m1', 'a', '1 h', 's'); SELECT 1/0$$), 's renewed +1', 'what is rolled back has been done');
SELECT is(pg_temp.moved($$UPDATE lease SET holder_identity = 'x' WHERE name = 'm1'; DELETE FROM lease WHERE name = 'm2'; UPDATE lease SET labels = '{}' WHERE namespace = 's'$$),
	'nothing', 'changes by hand');
SELECT is(pg_temp.moved($$UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE name = 'm3'; DELETE FROM lease WHERE name = 'm3'$$),
	's expired +1', 'but for a holding that had run out');

-- namespaces
SELECT is(pg_temp.moved($$SELECT lease_acquire('l', 'a', '1 h', 'other'), lease_acquire('l', 'a', '1 h', repeat('n', 63))$$),
	repeat('n', 63) || ' acquired +1, other acquired +1', 'each namespace has its own numbers');

-- triggers that guard
CREATE TABLE fenced (a int);
CREATE TRIGGER fence BEFORE INSERT ON fenced FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('s', 'g');
SELECT FROM lease_acquire('g', 'a', '1 h', 's');
SELECT is(pg_temp.moved($$INSERT INTO fenced VALUES (1)$$), 's lost +1', 'a write without the token');
SELECT is(pg_temp.moved($$SELECT lease_guard('g', fencing_token, 's') FROM lease WHERE (namespace, name) = ('s', 'g'); INSERT INTO fenced VALUES (1)$$), 'nothing', 'a write with it');

-- heartbeats
SELECT is(pg_temp.moved($$SELECT lease_node_heartbeat('stat-1')$$), 'kube-node-lease acquired +1', 'the first heartbeat of a node');
SELECT is(pg_temp.moved($$SELECT lease_node_heartbeat('stat-1')$$), 'kube-node-lease renewed +1', 'the next');
SELECT is(pg_temp.moved($$SELECT lease_node_heartbeats('{stat-1,stat-2,stat-3}')$$), 'kube-node-lease acquired +2, kube-node-lease renewed +1', 'those of many');
UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE name = 'stat-1';
SELECT is(pg_temp.moved($$SELECT lease_node_heartbeat('stat-1')$$), 'kube-node-lease renewed +1', 'one that comes late');
SELECT FROM lease_acquire('stat-4', 'x', '1 h', 'kube-node-lease');
SELECT is(pg_temp.moved($$SELECT lease_node_heartbeat('stat-4')$$), 'kube-node-lease refused +1', 'one for a lease of somebody else''s');
SELECT is(pg_temp.moved($$SELECT lease_apiserver_heartbeat('stat', '00000000-0000-0000-0000-000000000001')$$), 'kube-system acquired +1', 'the first heartbeat of an API server');
SELECT is(pg_temp.moved($$SELECT lease_apiserver_heartbeat('stat', '00000000-0000-0000-0000-000000000002')$$), 'kube-system acquired +1, kube-system taken_over +1', 'that of its next instance');
SELECT is(pg_temp.moved($$SELECT lease_apiserver_heartbeat('stat', '00000000-0000-0000-0000-000000000001')$$), 'kube-system refused +1', 'one of the instance before');

-- collection
CREATE TEMP TABLE before AS SELECT * FROM lease_stat_database WHERE datname = current_database();
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels) VALUES
	('kube-system', 'stat-held', 'x', 3600, clock_timestamp() - interval '2 h', '{"k8s.io/component": "kube-apiserver"}'),
	('kube-system', 'stat-free', '', 1, clock_timestamp() - interval '2 h', '{"k8s.io/component": "kube-apiserver"}');
SELECT is(pg_temp.moved('SELECT lease_gc()'), 'kube-system collected +2, kube-system expired +1', 'a collection');
SELECT ok(d.gc_runs > b.gc_runs AND d.gc_time > b.gc_time, 'a run of the collection, which took time') FROM lease_stat_database d JOIN before b USING (datname);
SELECT ok(gc_last_time BETWEEN now() AND clock_timestamp() AND gc_last_duration > 0 AND gc_last_duration <= gc_time, 'and was the last')
FROM lease_stat_database WHERE datname = current_database();

-- reset
SELECT FROM lease_stat_reset();
SELECT is_empty('SELECT FROM lease_stat WHERE datname = current_database()', 'reset: no number is left');
SELECT results_eq('SELECT waiting, gc_runs, gc_time, gc_last_time, gc_last_duration, last_error FROM lease_stat_database WHERE datname = current_database()',
	'VALUES (0::bigint, 0::bigint, 0::float8, NULL::timestamptz, NULL::float8, NULL::text)', 'reset: nor of the database');
SELECT ok(stats_reset > now(), 'and since when') FROM lease_stat_database WHERE datname = current_database();
SELECT is(pg_temp.moved($$SELECT lease_renew('l', 'a', 's')$$), 's lost +1', 'then it goes on');

-- who may see it
CREATE ROLE stat_nobody;
CREATE ROLE stat_reader;
CREATE ROLE stat_column_reader;
CREATE ROLE stat_monitor IN ROLE pg_read_all_stats;
GRANT SELECT ON lease_stat, lease_stat_database TO stat_nobody, stat_reader, stat_column_reader, stat_monitor;
GRANT SELECT ON lease TO stat_reader;
GRANT SELECT (namespace, name) ON lease TO stat_column_reader;
SELECT is_empty($$SELECT c.relname FROM pg_class c, aclexplode(relacl) a WHERE c.oid IN ('lease_stat'::regclass, 'lease_stat_database'::regclass) AND a.grantee = 0$$,
	'nothing is granted to everybody');
CREATE TEMP VIEW seen AS SELECT coalesce(string_agg(namespace, ' ' ORDER BY namespace), '') AS namespaces FROM lease_stat_namespaces() WHERE datname = current_database();
GRANT SELECT ON seen TO PUBLIC;
SELECT FROM lease_renew('l', 'a', 'empty');
SELECT FROM lease_renew('l', 'a', 'other');

SET LOCAL ROLE stat_nobody;
SELECT throws_ok(call, '42501', 'permission denied for table lease', 'who may not look at leases: ' || call)
FROM (VALUES ('TABLE lease_stat'), ('TABLE lease_stat_database'), ('SELECT lease_stat_namespaces()'), ('SELECT lease_stat_databases()')) v (call);
SELECT throws_ok('SELECT lease_stat_reset()', '42501', 'permission denied for function lease_stat_reset', 'nobody may reset it');
SET LOCAL ROLE stat_reader;
SELECT is(namespaces, 'empty other s', 'who may SELECT from the table sees it') FROM seen;
SELECT is(count(*), 1::bigint, 'and about this database') FROM lease_stat_database;
SELECT throws_ok('SELECT lease_stat_reset()', '42501', 'permission denied for function lease_stat_reset', 'but may not reset it');
SET LOCAL ROLE stat_monitor;
SELECT is(namespaces, 'empty other s', 'who may read all statistics sees it as well') FROM seen;
SELECT throws_ok('SELECT lease_stat_reset()', '42501', 'permission denied for function lease_stat_reset', 'but may not reset it');
RESET ROLE;
GRANT EXECUTE ON FUNCTION lease_stat_reset() TO stat_nobody;

SET LOCAL ROLE stat_column_reader;
SELECT is(namespaces, 'other s', 'a column is enough, for namespaces with leases') FROM seen;
RESET ROLE;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON lease FOR SELECT TO stat_reader USING (namespace = 's');
SET LOCAL ROLE stat_reader;
SELECT is(namespaces, 's', 'row-level security: namespaces in which one sees leases') FROM seen;
SELECT is((SELECT string_agg(namespace, ' ') FROM lease_stat), 's', 'also in the view');
SELECT is(waiting, 0::bigint, 'and the numbers of the database') FROM lease_stat_database;
SET LOCAL ROLE stat_monitor;
SELECT is(namespaces, 'empty other s', 'but for who may read all statistics') FROM seen;
SET LOCAL ROLE stat_nobody;
SELECT lives_ok('SELECT lease_stat_reset()', 'who was granted it may reset');
RESET ROLE;
SELECT is_empty('SELECT FROM lease_stat WHERE datname = current_database()', 'what he need not see');

SELECT * FROM finish();
ROLLBACK;
