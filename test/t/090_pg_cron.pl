# lease_gc() on schedule, by the real pg_cron: scheduled, seen in
# cron.job_run_details, collected.  And together with the background worker: who
# comes second finds nothing to do.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sharedir = `pg_config --sharedir`;
chomp $sharedir;
plan skip_all => 'pg_cron is not installed' if !-e "$sharedir/extension/pg_cron.control";

my $node = PostgreSQL::Test::Cluster->new('pg_cron');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_cron,lease'
# Times are set back instead of waiting, and the server has just started.
lease.recovery_grace = off
cron.database_name = 'postgres'
cron.use_background_workers = on
max_worker_processes = 20
fsync = off
lease.gc_interval = 0
});
$node->start;

sub query { return $node->safe_psql('postgres', $_[0]); }
sub until_true { return ok($node->poll_query_until('postgres', $_[0]), $_[1]); }

query(q{
	CREATE EXTENSION pg_cron;
	CREATE EXTENSION lease;
	CREATE ROLE collector LOGIN;
	GRANT SELECT, UPDATE, DELETE ON lease TO collector;
	CREATE ROLE bystander LOGIN;
	GRANT USAGE ON SCHEMA cron TO collector, bystander;
	CREATE FUNCTION identity_lease(name text, ago interval) RETURNS void LANGUAGE sql AS $$
		INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
		VALUES ('kube-system', name, 'h', 3600, clock_timestamp() - ago, '{"apiserver.kubernetes.io/identity": "kube-apiserver"}') $$;
	SELECT identity_lease('dead-' || i, '2 hours') FROM generate_series(1, 3) AS i;
	SELECT identity_lease('alive-' || i, '0') FROM generate_series(1, 3) AS i;
});

# ---------- Every minute ----------

query(q{SELECT cron.schedule('lease-gc', '* * * * *', 'SELECT lease_gc()')});
query(q{SET SESSION AUTHORIZATION collector; SELECT cron.schedule('lease-gc-of-collector', '* * * * *', 'SELECT * FROM lease_gc()')});
query(q{SET SESSION AUTHORIZATION bystander; SELECT cron.schedule('lease-gc-of-bystander', '* * * * *', 'SELECT lease_gc()')});
query(q{SELECT cron.schedule('lease-gc-all', '* * * * *', 'CALL lease_gc_all()')});
is(query(q{SELECT schedule, command, database, active FROM cron.job WHERE jobname = 'lease-gc'}),
	'* * * * *|SELECT lease_gc()|postgres|t', 'scheduled');

until_true(q{SELECT count(DISTINCT jobid) = 4 FROM cron.job_run_details WHERE end_time IS NOT NULL}, 'the minute is over, and all jobs have run');
my $details = q{SELECT DISTINCT status, return_message FROM cron.job_run_details JOIN cron.job USING (jobid) WHERE jobname = '%s'};
is(query(sprintf $details, 'lease-gc'), 'succeeded|SELECT 1', 'cron.job_run_details: succeeded');
is(query(sprintf $details, 'lease-gc-of-collector'), 'succeeded|SELECT 1', '... for a role with the privileges it takes');
is(query(sprintf $details, 'lease-gc-of-bystander'), 'failed|ERROR: permission denied for table lease', '... for one without, the error');
is(query(sprintf $details, 'lease-gc-all'), 'succeeded|CALL', '... and CALL, which commits in between');
is(query(q{SELECT string_agg(name, ' ' ORDER BY name) FROM lease}), 'alive-1 alive-2 alive-3', 'collected, what has expired and nothing else');
is(query(q{SELECT string_agg(name || ' ' || end_reason, ', ' ORDER BY name) FROM lease_history}),
	'dead-1 collected, dead-2 collected, dead-3 collected', '... once each');

# ---------- Both at once ----------

# @reboot runs when the server starts, as the worker does.
query(q{
	SELECT cron.unschedule(jobid) FROM cron.job;
	SELECT cron.schedule('at-start-' || i, '@reboot', 'SELECT lease_gc()') FROM generate_series(1, 5) AS i;
	ALTER SYSTEM SET lease.gc_interval = 1;
	SELECT identity_lease('dead-' || i, '2 hours') FROM generate_series(4, 5003) AS i;
});
$node->restart;
until_true(q{SELECT count(*) = 5 FROM cron.job_run_details JOIN cron.job USING (jobid) WHERE jobname LIKE 'at-start-%' AND status = 'succeeded'}, 'five jobs at once, and the worker');
until_true(q{SELECT NOT EXISTS (SELECT FROM lease WHERE name LIKE 'dead-%')}, 'all is collected');
is(query(q{SELECT count(*), count(DISTINCT name) FROM lease_history WHERE end_reason = 'collected'}), '5003|5003', '... once each');
is(query(q{SELECT count(*) FROM lease}), 3, '... and nothing else');

$node->stop;
unlike(slurp_file($node->logfile), qr/deadlock|XX000|PANIC|ERROR:  (?!permission denied)/, 'no error but the one');
done_testing();
