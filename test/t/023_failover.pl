# I1 over the loss of an asynchronous primary.  The standby that is promoted lacks
# the last transactions, so it does not know who has a lease by now, or has
# renewed.  Recovery grace keeps a lease for its holder, and the quiet period
# keeps others out until the holder that was forgotten has stopped believing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(clock_gettime usleep CLOCK_MONOTONIC);

my $DURATION = 4;		# seconds

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'lease'
restart_after_crash = on
lease.quiet_period = $DURATION
});
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION lease');
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $session = Psql->new($primary);
my %until;		# until when the holder of a lease believes

sub now { return clock_gettime(CLOCK_MONOTONIC); }

# The answer to a call; who gets or renews a lease, believes from then on.
sub call
{
	my ($function, $name, $holder) = @_;
	my $sent = now();
	my $duration = $function eq 'acquire' ? ", '$DURATION s'" : '';
	my $status = $session->do("SELECT status FROM lease_$function('$name', '$holder'$duration)");

	$until{$name} = $sent + $DURATION if $status =~ /^(acquired|renewed)$/;
	return $status;
}

# What the standby knows: a has these, and has handed over another to b.
is(call('acquire', $_, 'a'), 'acquired', "a acquires $_") foreach 'renewed', 'taken', 'back', 'handed-over';
is($session->do(q{SELECT status FROM lease_handover('handed-over', 'a', 'b', reserve => '1 h')}), 'handed_over', 'a hands over to b');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
$standby->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$standby->reload;
$standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
  or die 'the standby still receives';

# What it does not.
is(call('release', $_, 'a'), 'released', "a releases $_") foreach 'taken', 'back';
is(call('acquire', $_, 'b'), 'acquired', "b acquires $_") foreach 'taken', 'back', 'new', 'handed-over';
is(call('release', 'handed-over', 'b'), 'released', 'b releases handed-over');
is(call('acquire', 'handed-over', 'd'), 'acquired', 'd acquires handed-over');
is(call('renew', 'renewed', 'a'), 'renewed', 'a renews renewed');
my %believes = (new => 'b', taken => 'b', back => 'b', renewed => 'a', 'handed-over' => 'd');
my %lost_until = map { ($_ => $until{$_}) } keys %believes;

$primary->stop('immediate');
$session->finish;
$standby->promote;
$session = Psql->new($standby);
is($session->do(q{SELECT string_agg(name || ' ' || holder_identity, ', ' ORDER BY name) FROM lease}),
	'back a, handed-over , renewed a, taken a', 'promoted: it does not know better');

# Rivals try for them all, until they have them: c, whom the standby does not know,
# and those of whom it believes that the lease is theirs.
my %rival = (new => 'c', taken => 'c', back => 'a', renewed => 'c', 'handed-over' => 'b');
my %answers;
my %got;
until (keys %got == keys %rival)
{
	foreach my $name (grep { !$got{$_} } sort keys %rival)
	{
		my $status = $session->do("SELECT status FROM lease_acquire('$name', '$rival{$name}', '1 h')");

		# busy: the worker is just writing down that the lease has expired
		$answers{$name}{$status} = 1 unless $status eq 'busy';
		$got{$name} = now() if $status =~ /^(acquired|renewed)$/;
	}
	usleep(20_000);
}
foreach my $name (sort keys %believes)
{
	cmp_ok($got{$name}, '>=', $lost_until{$name}, "$name: $rival{$name} does not get it while $believes{$name} believes");
}
is(join(' ', sort keys %{ $answers{new} }), 'acquired reserved', 'new: reserved before');
like(join(' ', sort keys %{ $answers{$_} }), qr/^acquired held( reserved)?$/, "$_: held before") foreach 'renewed', 'taken';

# The quiet period is that of the promotion: neither a crash nor a restart makes it
# begin again, or end.
my $quiet_until = q{SELECT date_trunc('second', grants_from + interval '0.5 s') FROM lease_clock()};

sub crash
{
	my $started = $standby->safe_psql('postgres', q{SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'walwriter'});

	kill 'KILL', $standby->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'});
	$standby->poll_query_until('postgres', "SELECT backend_start > '$started' FROM pg_stat_activity WHERE backend_type = 'walwriter'")
	  or die 'the server does not recover';
	return;
}

$session->finish;
crash();
is($standby->safe_psql('postgres', $quiet_until), '', 'a crash does not begin a quiet period');
$standby->append_conf('postgresql.conf', "lease.quiet_period = 100000\n");
$standby->reload;
$standby->poll_query_until('postgres', 'SELECT grants_from IS NOT NULL FROM lease_clock()') or die 'not quiet';
my $until = $standby->safe_psql('postgres', $quiet_until);
crash();
is($standby->safe_psql('postgres', $quiet_until), $until, 'nor does it end one');
$standby->restart;
is($standby->safe_psql('postgres', $quiet_until), $until, 'nor does a restart');

$standby->stop;
done_testing();
