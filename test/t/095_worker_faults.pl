# The workers are ended at random for a minute while sessions acquire, renew and
# release: nothing is forgotten, nothing is collected that must not be, and in
# the end all is as if nothing had happened.
#
# LEASE_FAULT_SECONDS is how long, LEASE_SEED repeats a sequence of faults.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{LEASE_FAULT_SECONDS} // 60;
my $seed = $ENV{LEASE_SEED} // int(rand(1e9));

srand($seed);
note "seed $seed";

my $node = PostgreSQL::Test::Cluster->new('worker_faults');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
fsync = off
restart_after_crash = on
lease.gc_interval = 1
log_statement = none
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION lease;
	INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
	SELECT 'kube-system', 'alive-' || i, 'h', 3600, clock_timestamp(), '{"apiserver.kubernetes.io/identity": "kube-apiserver"}' FROM generate_series(1, 20) AS i;
});

# Leases of a second for 50 names, and identity leases that are over.
my $script = $node->basedir . '/load.sql';
append_to_file($script, q{
\set name random(1, 50)
\set holder random(1, 5)
\set choice random(1, 20)
\if :choice <= 12
SELECT FROM lease_acquire('l-' || :name, 'h-' || :holder, '1 s');
\elif :choice <= 16
SELECT FROM lease_renew('l-' || :name, 'h-' || :holder);
\elif :choice <= 18
SELECT FROM lease_release('l-' || :name, 'h-' || :holder);
\elif :choice = 19
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
	VALUES ('kube-system', 'dead-' || replace(CAST(gen_random_uuid() AS text), '-', ''), 'h', 1, clock_timestamp() - interval '1 h', '{"apiserver.kubernetes.io/identity": "kube-apiserver"}');
\else
UPDATE lease SET renew_time = clock_timestamp() WHERE name = 'alive-' || :name;
\endif
});

sub start_load
{
	my ($out, $in) = ('', '');

	return IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-T', $seconds, '--rate=400', '-f', $script, $node->connstr('postgres') ],
		'<', \$in, '>&', \$out);
}

# The server may just be recovering.
sub try_query
{
	my ($status, $out) = eval { $node->psql('postgres', $_[0]) };

	# psql may have ended before it could be told what to ask
	die $@ if $@ && $@ !~ /Broken pipe/;
	return ($status // 1) == 0 ? $out : '';
}

sub pids { return split /\n/, try_query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'lease $_[0]'"); }

my %done;
my @faults = (
	[ 'worker terminated', 6, sub { kill 'TERM', pids('worker') } ],
	[ 'launcher terminated', 3, sub { kill 'TERM', pids('launcher') } ],
	[ 'both terminated', 2, sub { kill 'TERM', pids('worker'), pids('launcher') } ],
	[ 'statement cancelled', 2, sub { kill 'INT', pids('worker') } ],
	[ 'worker killed', 1, sub { kill 'KILL', pids('worker') } ],
	[ 'worker stopped for a while', 2, sub { my @p = pids('worker'); my $n = kill 'STOP', @p; usleep(rand(1_500_000)); kill 'CONT', @p; $n } ],
	[ 'settings changed', 2, sub { try_query('ALTER SYSTEM SET lease.gc_interval = ' . (1 + int(rand(3)))); $node->reload; 1 } ],
	[ 'switched off and on', 1, sub { try_query('ALTER SYSTEM SET lease.worker = off'); $node->reload; usleep(rand(500_000)); try_query('ALTER SYSTEM RESET lease.worker'); $node->reload; 1 } ]);
my @weighted = map { ($_) x $_->[1] } @faults;

my $load = start_load();
for (my $end = time() + $seconds; time() < $end;)
{
	my ($name, undef, $code) = @{ $weighted[ rand @weighted ] };

	$done{$name}++ if $code->() > 0;
	usleep(rand(2_000_000));	# between faults: not a wait for anything

	# A crash of the server ends the load.
	eval { $load->pump_nb };
	if (!$load->pumpable)
	{
		eval { $load->finish };
		$load = start_load();
	}
}
$load->kill_kill;
note "$_: " . ($done{$_} // 0) foreach map { $_->[0] } @faults;

# ---------- Afterwards ----------

$node->poll_query_until('postgres', q{SELECT true}) or die 'the server does not recover';
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
$node->reload;

sub until_none
{
	my ($what, $sql) = @_;

	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS ($sql)"), $what)
	  or diag $node->safe_psql('postgres', $sql);
	return;
}

cmp_ok($done{'worker terminated'} // 0, '>', 0, 'workers were ended');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM lease_history'), '>', 50, 'leases have changed hands');
until_none('no lease has expired unnoticed', q{
	SELECT l.* FROM lease_status l WHERE l.status = 'expired' AND l.namespace = 'default'
	AND NOT EXISTS (SELECT FROM lease_history h WHERE (h.namespace, h.name, h.fencing_token) = (l.namespace, l.name, l.fencing_token) AND h.end_reason = 'expired')});
until_none('all identity leases that were over are collected', q{SELECT * FROM lease WHERE name LIKE 'dead-%'});
is($node->safe_psql('postgres', q{SELECT count(*) FROM lease WHERE name LIKE 'alive-%'}), 20, '... and no other');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM (SELECT held_from, lag(held_until) OVER (PARTITION BY namespace, name ORDER BY fencing_token) AS before FROM lease_history) AS h
	WHERE held_from < before}), 0, 'no two holders at a time');
ok($node->poll_query_until('postgres', q{
	SELECT count(*) = 2 AND count(DISTINCT backend_type) = 2 FROM pg_stat_activity WHERE backend_type LIKE 'lease %'}), 'one launcher, one worker');

$node->stop;
unlike(slurp_file($node->logfile), qr/XX000|PANIC|TRAP|terminated by signal (?!9)/, 'no internal error');
done_testing();
