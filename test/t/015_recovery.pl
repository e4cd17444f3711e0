# When a server has just become able to write, a lease that was held counts as
# renewed at that moment: the holder's renewals may have been lost.  After its
# start, after a crash, and after a promotion; with and without preloading.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(clock_gettime usleep CLOCK_MONOTONIC);

my $node;
sub query { return $node->safe_psql('postgres', $_[0]); }

sub until_true
{
	my ($sql, $what) = @_;

	return ok($node->poll_query_until('postgres', $sql), $what);
}

sub reload_with
{
	query("LOAD 'lease'; ALTER SYSTEM SET $_[0]");
	$node->reload;
	my ($name, $value) = $_[0] =~ /(\S+) = (.*)/;
	return until_true("SELECT current_setting('$name') ~ '^$value'", "with $_[0]");
}

# Stops all processes of the server for more than so many seconds.
sub stop_for_longer_than
{
	my ($seconds) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @pids = ($postmaster);

	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		open(my $fh, '<', $file) or next;
		push @pids, $1 if (<$fh> // '') =~ /^(\d+) .*\) \S $postmaster /;
	}
	kill 'STOP', @pids;
	my $until = clock_gettime(CLOCK_MONOTONIC) + $seconds;
	usleep(10_000) until clock_gettime(CLOCK_MONOTONIC) > $until;
	kill 'CONT', @pids;
	return;
}

# Leases that nobody has renewed for a day.
my $setup = q{
	CREATE EXTENSION lease;
	INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
	VALUES ('default', 'hour', 'a', 3600, clock_timestamp() - interval '1 day', NULL),
		('default', 'hour-renewed', 'a', 3600, clock_timestamp() - interval '1 day', NULL),
		('default', 'hour-released', '', 3600, clock_timestamp() - interval '1 day', NULL),
		('kube-node-lease', 'node', 'node', 40, clock_timestamp() - interval '1 day', NULL),
		('kube-system', 'apiserver', 'b', 3600, clock_timestamp() - interval '1 day', '{"apiserver.kubernetes.io/identity": "kube-apiserver"}')};

# The moment from which leases count is the end of recovery, of which the start of
# the walwriter is the best sign that there is.
sub counts_since_walwriter
{
	my ($what) = @_;

	return is(query(q{SELECT backend_start - counts_from BETWEEN - interval '0.1 s' AND interval '0.1 s', grants_from IS NULL
		FROM pg_stat_activity, lease_clock() WHERE backend_type = 'walwriter'}), 't|t', "$what: leases count from the end of recovery");
}

sub is_in_grace
{
	my ($what) = @_;

	counts_since_walwriter($what);
	is(query(q{SELECT status, in_grace, expires_at = counts_from + interval '1 hour', detail LIKE '% has it, not renewed since the server recovered %' FROM lease_status, lease_clock() WHERE name = 'hour'}),
		'held|t|t|t', "$what: what was held counts as renewed then");
	is(query(q{SELECT status, in_grace, expires_at IS NULL FROM lease_status WHERE name = 'hour-released'}), 'free|f|t', "$what: what was released does not");
	is(query(q{SELECT lease_holder('hour'), lease_is_held('hour', 'a'), status FROM lease_acquire('hour', 'rival')}), 'a|t|held', "$what: nobody else gets it");
	is(query(q{SELECT lease_guard('hour', fencing_token) FROM lease WHERE name = 'hour'}), '', "$what: its holder can write");
	is(query(q{SELECT status FROM lease_nodes WHERE name = 'node'}), 'Ready', "$what: no node counts as silent yet");
	is(query(q{SELECT live FROM lease_apiservers}), 't', "$what: nor an API server");
	is(query(q{SELECT collected FROM lease_gc()}), 0, "$what: which is not collected");
	is(query(q{SELECT count(*) FROM lease_history}), 0, "$what: nothing is written for that");
	return;
}

foreach my $preload ('lease', '')
{
	my $how = $preload ? 'preloaded' : 'not preloaded';

	$node = PostgreSQL::Test::Cluster->new($preload ? 'preloaded' : 'plain');
	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = '$preload'
lease.gc_interval = 0
restart_after_crash = on
fsync = off
});
	$node->start;
	query($setup);
	is_in_grace("$how, started");

	$node->restart;
	is_in_grace("$how, restarted");

	# ---------- A crash ----------

	my $before = query(q{SELECT counts_from FROM lease_clock()});
	my $started = query('SELECT pg_postmaster_start_time()');
	my $victim = Psql->new($node);
	my $session = Psql->new($node);
	kill 'KILL', $victim->{pid};
	$session->send('SELECT 1');		# ends with the server
	eval { $session->{handle}->finish };
	eval { $victim->{handle}->finish };
	until_true(q{SELECT true}, "$how: the server recovers");
	is(query('SELECT pg_postmaster_start_time()'), $started, '... under the same postmaster');
	is(query("SELECT counts_from > '$before' FROM lease_clock()"), 't', '... leases count from later on');
	is_in_grace("$how, crashed");

	# ---------- A promotion ----------

	$node->backup('backup');
	my $primary = $node;
	my $standby = PostgreSQL::Test::Cluster->new($preload ? 'standby_preloaded' : 'standby_plain');
	$standby->init_from_backup($primary, 'backup', has_streaming => 1);
	$standby->start;
	$node = $standby;
	is(query('SELECT counts_from IS NULL FROM lease_clock()'), 't', "$how, standby: no grace, it grants nothing");
	is(query(q{SELECT status, in_grace FROM lease_status WHERE name = 'hour'}), 'expired|f', '... and shows what the rows say');
	$session = Psql->new($node);
	is($session->do(q{SELECT status, in_grace FROM lease_status WHERE name = 'hour'}), 'expired|f', '... also in a session that stays');
	$primary->stop('immediate');
	$node->promote;
	is($session->do(q{SELECT status, in_grace FROM lease_status WHERE name = 'hour'}), 'held|t', "$how, promoted: the session knows");
	is_in_grace("$how, promoted");
	is($session->do(q{SELECT status FROM lease_acquire('new', 'a')}), 'acquired', '... and goes on');
	$session->finish;

	# ---------- It ends ----------

	is(query(q{SELECT status FROM lease_renew('hour-renewed', 'a')}), 'renewed', "$how: the holder renews");
	is(query(q{SELECT status, in_grace, expires_at = renew_time + interval '1 hour' FROM lease_status WHERE name = 'hour-renewed'}), 'held|f|t', '... and has it for its duration from then on');
	query(q{INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES ('short', 'a', 1, clock_timestamp() - interval '1 day')});
	until_true(q{SELECT status = 'expired' FROM lease_status WHERE name = 'short'}, "$how: who does not is over after the duration");
	is(query(q{SELECT expires_at = counts_from + interval '1 s', not in_grace FROM lease_status, lease_clock() WHERE name = 'short'}), 't|t', '... counted from the end of recovery');
	is(query(q{SELECT status FROM lease_acquire('short', 'rival')}), 'acquired', '... and another gets it');

	# ---------- It stands still ----------

	# As when the machine sleeps: all its processes are stopped for a while.
	my $counts_from = query('SELECT counts_from FROM lease_clock()');
	is(query(q{SELECT status FROM lease_acquire('slept', 'a', '1 s')}), 'acquired', "$how: a lease");
	stop_for_longer_than(1);
	is(query(q{SELECT status FROM lease_acquire('slept', 'rival', '1 h')}), 'acquired', '... runs out while the server stands still');
	is(query('SELECT counts_from FROM lease_clock()'), $counts_from, '... which is no recovery, and no step of the clock');

	# ---------- The setting ----------

	reload_with('lease.recovery_grace = off');
	is(query(q{SELECT counts_from IS NULL, status, in_grace FROM lease_clock(), lease_status WHERE name = 'hour'}), 't|expired|f', "$how: switched off, rows are taken at their word");
	is(query(q{SELECT status FROM lease_nodes WHERE name = 'node'}), 'Unknown', '... as are those of nodes');
	is(query(q{SELECT collected FROM lease_gc()}), 1, '... and of API servers');
	is(query(q{SELECT status FROM lease_acquire('hour', 'rival')}), 'acquired', '... and anybody can acquire the lease');
	reload_with('lease.recovery_grace = on');
	$session = Psql->new($node);
	$session->do('SET lease.recovery_grace = off');
	is($session->do('SELECT counts_from IS NOT NULL FROM lease_clock()'), 't', '... which no session decides for itself');
	$session->finish;

	# ---------- Quiet ----------

	# It ends with a second: up to one later than promised, rather than earlier.
	query(q{SELECT FROM lease_acquire('mine', 'a', '1 h')});
	reload_with('lease.quiet_period = 1000');
	is(query(q{SELECT grants_from - counts_from BETWEEN interval '990 s' AND interval '1001 s' FROM lease_clock()}), 't', "$how: a quiet period after a promotion");
	foreach my $name ('hour-released', 'missing')
	{
		is(query("SELECT a.acquired, a.status, a.fencing_token IS NULL, a.expires_at = c.grants_from FROM lease_clock() c, lease_acquire('$name', 'b') a"),
			'f|reserved|t|t', "$how: nobody gets what was $name, and hears until when");
	}
	is(query(q{SELECT status, reserved_until = grants_from, detail LIKE 'the server was promoted; nobody can acquire it for another %' FROM lease_status, lease_clock() WHERE name = 'hour-released'}),
		'reserved|t|t', '... lease_status says so');
	is(query(q{SELECT status FROM lease_renew('mine', 'a')}), 'renewed', "$how: who holds a lease can renew it");
	is(query(q{SELECT acquired, status FROM lease_acquire('mine', 'a', '1 h')}), 'f|reserved', '... but who asks for it may have given it up');
	is(query(q{SELECT status FROM lease_release('mine', 'a')}), 'released', '... and release it');
	reload_with('lease.quiet_period = ' . query('SELECT ceil(extract(epoch FROM now - counts_from) + 3) FROM lease_clock()'));
	$session = Psql->new($node);
	$session->send(q{SELECT status FROM lease_acquire('missing', 'b', wait => '100 s')});
	until_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^SELECT status' AND (wait_event = 'LeaseAcquire' OR wait_event_type = 'Extension')}, "$how: one waits");
	is($session->result, 'acquired', '... until it is over');
	$session->finish;
	reload_with('lease.quiet_period = 1000');
	$node->restart;
	is(query(q{SELECT grants_from < counts_from + interval '1000 s', status FROM lease_clock(), lease_acquire('another', 'b')}), 't|reserved', "$how: a restart neither ends it nor begins another");
	$node->stop;
}

done_testing();
