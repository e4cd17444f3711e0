# The background workers: one for each database that has the extension, found
# without anybody's help, in nobody's way, and back after whatever ends them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('worker');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
# Times are set back instead of waiting, and the server has just started.
lease.recovery_grace = off
fsync = off
autovacuum = off
restart_after_crash = on
});
$node->start;

sub query { return $node->safe_psql($_[1] // 'postgres', $_[0]); }

sub until_true
{
	my ($sql, $what, $on) = @_;

	return ok(($on // $node)->poll_query_until('postgres', $sql), $what);
}

my $workers = q{SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_stat_activity WHERE backend_type = 'lease worker'};

sub pid_of
{
	return query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'lease worker' AND datname = '$_[0]'");
}

# The databases with a worker, in the order of their names
sub until_workers
{
	my ($databases, $what) = @_;

	return until_true("SELECT '$databases' = ($workers)", $what);
}

# Waits for a line of the log after an offset.
sub until_logged
{
	my ($pattern, $offset, $what) = @_;
	my $until = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (slurp_file($node->logfile, $offset) !~ $pattern)
	{
		return fail($what) if time() > $until;
		usleep(20_000);
	}
	return pass($what);
}

sub log_end { return -s $node->logfile; }

# Makes a lease that expires in a moment.
sub expire_soon
{
	my ($name, $database) = @_;

	query("INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time)
		VALUES ('$name', 'h', 1, clock_timestamp() - interval '0.9 s')", $database);
	return;
}

# Does the worker of the database do its work?
my $work = 0;
sub is_at_work
{
	my ($database, $what) = @_;

	my $name = 'work-' . ++$work;

	expire_soon($name, $database);
	return ok($node->poll_query_until($database, "SELECT end_reason = 'expired' FROM lease_history WHERE name = '$name'"), $what);
}

# ---------- Found, and visible ----------

until_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'lease launcher'}, 'a launcher');
query('CREATE DATABASE plain');
is(query($workers), '', 'no worker where there is no extension');

query('CREATE EXTENSION lease');
until_workers('postgres', 'CREATE EXTENSION starts a worker');
is_at_work('postgres', '... which works');
until_true(q{SELECT bool_and(state = 'idle' AND xact_start IS NULL AND backend_xid IS NULL AND backend_xmin IS NULL
		AND wait_event IN ('LeaseWorkerMain', 'LeaseLauncherMain') AND query <> '') AND count(*) = 2
	FROM pg_stat_activity WHERE backend_type LIKE 'lease %'}, 'asleep: no transaction, no snapshot, a wait event by name, what it did last');
is(query(q{SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE backend_type LIKE 'lease %' AND state = 'idle'}), 0, '... and no lock');

$node->restart;
until_workers('postgres', 'found at server start');

query('CREATE DATABASE second');
query('CREATE EXTENSION lease', 'second');
until_workers('postgres second', 'a worker for each database');
is_at_work('second', '... which works');
query('DROP EXTENSION lease', 'second');
until_workers('postgres', 'DROP EXTENSION ends it');
query('BEGIN; CREATE EXTENSION lease; ROLLBACK', 'second');
query('BEGIN; DROP EXTENSION lease; ROLLBACK');
query('BEGIN; CREATE EXTENSION lease; DROP EXTENSION lease; CREATE EXTENSION lease; COMMIT', 'second');
until_workers('postgres second', 'what counts is what committed');

# ---------- In nobody's way ----------

sub quickly
{
	my ($sql, $what, $database) = @_;
	my $start = time();
	my ($status, undef, $error) = $node->psql($database // 'postgres', "SET lock_timeout = '4 s'; $sql");

	is($status, 0, "$what is not blocked") or diag $error;
	cmp_ok(time() - $start, '<', 4, '... nor delayed for long');
}

quickly('CREATE DATABASE copy TEMPLATE second', 'CREATE DATABASE ... TEMPLATE');
until_workers('copy postgres second', '... and the copy has a worker, too');
is_at_work('copy', '... which works');
quickly('ALTER DATABASE copy RENAME TO renamed', 'ALTER DATABASE ... RENAME');
until_workers('postgres renamed second', '... and its worker comes back');
is_at_work('renamed', '... and works');
quickly('DROP DATABASE renamed', 'DROP DATABASE');
quickly('DROP DATABASE second WITH (FORCE)', 'DROP DATABASE ... WITH (FORCE)');
until_workers('postgres', '... and their workers are gone');

# An update does nothing but change the catalog, as long as there is one version.
quickly(q{ALTER EXTENSION lease UPDATE}, 'ALTER EXTENSION ... UPDATE');
quickly('BEGIN; DROP EXTENSION lease; CREATE EXTENSION lease; COMMIT', 'DROP EXTENSION');
until_workers('postgres', '... and when it is there again, so is the worker');

# An interrupted DROP DATABASE leaves a database to which nobody can connect.
query('CREATE DATABASE interrupted');
query('CREATE EXTENSION lease', 'interrupted');
until_workers('interrupted postgres', 'a worker in a database');
query("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'interrupted'");
query('CREATE DATABASE later');
query('CREATE EXTENSION lease', 'later');
my $restarted = log_end();
$node->restart;
until_workers('later postgres', '... has none when it is invalid, and is not in the way of those after it');
unlike(slurp_file($node->logfile, $restarted), qr/cannot connect to invalid database/, '... nor is one sent there');
query('DROP DATABASE interrupted');
query('DROP DATABASE later');
until_workers('postgres', '... until it is dropped');

# DDL in progress is not waited for, and what it hides is not forgotten.
my $ddl = Psql->new($node);
expire_soon('hidden');
$ddl->do('BEGIN; LOCK TABLE lease');
my $expires = query(q{SELECT clock_timestamp() + interval '0.2 s'});
until_true("SELECT clock_timestamp() > '$expires'", 'DDL has the table while a lease expires');
is(query(q{SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE backend_type = 'lease worker' AND NOT granted}), 0, 'the worker does not queue for it');
$ddl->do('COMMIT');
until_true(q{SELECT end_reason = 'expired' FROM lease_history WHERE name = 'hidden'}, 'a lease that expired during DDL');

# ---------- Whatever ends them ----------

foreach my $end (
	[ 'pg_terminate_backend()', sub { query("SELECT pg_terminate_backend($_[0])") } ],
	[ 'SIGTERM', sub { kill 'TERM', $_[0] } ],
	[ 'pg_cancel_backend()', sub { query("SELECT pg_cancel_backend($_[0])") } ])
{
	my ($how, $code) = @$end;
	my $pid = pid_of('postgres');
	my $offset = log_end();

	$code->($pid);
	until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'lease worker' AND pid <> $pid", "$how: another worker");
	like(slurp_file($node->logfile, $offset), qr/terminating background worker "lease worker" due to administrator command|canceling statement due to user request/, '... and the log says why');
	is_at_work('postgres', '... which works');

	my $launcher = query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'lease launcher'});
	$pid = pid_of('postgres');
	$code->($launcher);
	until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'lease launcher' AND pid <> $launcher", "$how: another launcher");
	is(pid_of('postgres'), $pid, '... the worker goes on');
}

my $offset = log_end();
kill 'KILL', pid_of('postgres');
until_logged(qr/background worker "lease worker" \(PID \d+\) was terminated by signal 9/, $offset, 'SIGKILL');
until_workers('postgres', '... the server recovers and starts another');
is_at_work('postgres', '... which works');

# Both at once: the launcher that comes back must not start a second worker.
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'lease %' ORDER BY backend_type});
until_workers('postgres', 'both ended: both are back');
query('CREATE DATABASE third');
query('CREATE EXTENSION lease', 'third');
until_workers('postgres third', '... once each');
quickly('DROP DATABASE third', 'DROP DATABASE');

# ---------- Settings ----------

sub set_and_reload
{
	query("ALTER SYSTEM SET $_[0]");
	$node->reload;
}

my $identity = q{INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
	SELECT 'kube-system', 'apiserver-' || i, 'h', 3600, clock_timestamp() - i * interval '2 hours', '{"apiserver.kubernetes.io/identity": "kube-apiserver"}'
	FROM generate_series(0, 3) AS i};

my $pid = pid_of('postgres');
query($identity);
set_and_reload('lease.gc_interval = 1');
until_true(q{SELECT array_agg(name) = '{apiserver-0}' FROM lease WHERE namespace = 'kube-system'}, 'collected after a reload with another interval');
is(pid_of('postgres'), $pid, '... by the same worker');
is(query(q{SELECT count(*) FROM lease_history WHERE end_reason = 'collected'}), 3, '... and the history says so');
until_true(q{SELECT gc_runs > 0 AND gc_time > 0 AND gc_last_time <= clock_timestamp() FROM lease_stat_database}, '... and lease_stat_database');
until_true(q{SELECT collected = 3 FROM lease_stat WHERE namespace = 'kube-system'}, '... and lease_stat');
set_and_reload('lease.gc_interval = 0');
query('DELETE FROM lease');
query($identity);
is_at_work('postgres', 'with interval 0');
is(query(q{SELECT count(*) FROM lease WHERE namespace = 'kube-system'}), 4, '... nothing is collected');

set_and_reload('lease.worker = off');
until_workers('', 'switched off');
set_and_reload('lease.worker = on');
until_workers('postgres', 'switched on');
query('ALTER SYSTEM RESET ALL');
$node->reload;

# What was set for the database or for all does not hinder the worker.
foreach my $setting ("default_transaction_read_only = on", "default_transaction_isolation = 'serializable'",
	"search_path = ''", "session_replication_role = replica", "row_security = off", "lock_timeout = 1")
{
	$pid = pid_of('postgres');
	query("ALTER DATABASE postgres SET $setting; SELECT pg_terminate_backend($pid)");
	until_true("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'lease worker' AND pid <> $pid", "another worker, under $setting");
	$node->psql('postgres', "ALTER DATABASE postgres RESET ALL");
	$node->psql('template1', "ALTER DATABASE postgres RESET ALL");
	is_at_work('postgres', '... works');
}

# ---------- Versions ----------

# Those that are served are in 026_upgrade.pl.
my $ours = query("SELECT default_version FROM pg_available_extensions WHERE name = 'lease'");
foreach my $version ('0.9', '99.0')
{
	$offset = log_end();
	query("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'lease'");
	query("ALTER EXTENSION plpgsql UPDATE");	# tells the worker that something has changed
	until_logged(qr/LOG:  lease worker for database "postgres" is idle\n.*DETAIL:  The library has version \Q$ours\E, the extension has version $version\.\n.*HINT:  Restart the server if/,
		$offset, "version $version: an idle worker");
	query("UPDATE pg_extension SET extversion = '$ours' WHERE extname = 'lease'");
	query("ALTER EXTENSION plpgsql UPDATE");
	is_at_work('postgres', 'with the right version it works again');
	my $lines = () = slurp_file($node->logfile, $offset) =~ /is idle/g;
	is($lines, 1, '... having said so once');
}

# ---------- An error ----------

$offset = log_end();
query('ALTER TABLE lease RENAME COLUMN reserved_for TO renamed');
until_logged(qr/ERROR:  column "reserved_for" of table "lease" does not exist/, $offset, 'an error ends the worker, and is in the log');
until_true(q{SELECT last_error = 'column "reserved_for" of table "lease" does not exist' AND last_error_time <= clock_timestamp() FROM lease_stat_database}, '... and in lease_stat_database');
query('ALTER TABLE lease RENAME COLUMN renamed TO reserved_for');
is_at_work('postgres', 'when it is repaired, another works');

# ---------- Standby ----------

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
query(q{SELECT FROM lease_acquire('on-standby', 'h', '1 s')});
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'on-standby'}, 'a standby follows', $standby);
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'lease %'}), 0, '... without launcher or worker');
$standby->promote;
until_true("SELECT 'postgres' = ($workers)", '... until it is promoted', $standby);
$standby->safe_psql('postgres', q{SELECT FROM lease_acquire('promoted', 'h', '1 s')});
until_true(q{SELECT end_reason = 'expired' FROM lease_history WHERE name = 'promoted'}, '... and then the worker works', $standby);
$standby->stop;

# ---------- Out of worker slots ----------

query('CREATE DATABASE second');
query('CREATE EXTENSION lease', 'second');
until_workers('postgres second', 'two workers');
set_and_reload('max_worker_processes = 3');
$offset = log_end();
$node->restart;
until_logged(qr/LOG:  could not start a lease worker: out of background worker slots\n.*HINT:  Increase max_worker_processes/, $offset, 'out of worker slots');
until_true("SELECT ($workers) IN ('postgres', 'second')", 'one of two has found room');
is(query("SELECT count(*) FROM lease_acquire('anyway', 'h', '1 h') WHERE status = 'acquired'"), 1, 'leases work anyway');
my $with = query($workers);
my $without = $with eq 'postgres' ? 'second' : 'postgres';
query('DROP EXTENSION lease', $with);
until_workers($without, 'when the other goes, it is found');
my $lines = () = slurp_file($node->logfile, $offset) =~ /could not start a lease worker/g;
is($lines, 1, '... having been said once');

$node->stop;
unlike(slurp_file($node->logfile), qr/XX000|PANIC|TRAP|server process \(PID/, 'no internal error');
done_testing();
