# 32 clients fight for a handful of leases for a while, in all the ways that
# clients have: transactions kept open or rolled back, every isolation level,
# row locks and deletions by hand, pauses longer than the lease, lost
# connections, writes under a guard.  What they were told, and when, is then
# checked: never two holders (I1), tokens that only grow (I2), no write under an
# old one (I3), no holder disturbed by its own writes (I4), answers that are
# true, no call that waits (I6).  110_faults.pl does the same while the server suffers.
#
# LEASE_TEST_SECONDS and LEASE_TEST_SEED make it longer, or repeat what the
# clients did; LEASE_TEST_CLIENTS changes their number.  LEASE_STORAGE=memory:
# renewals stay in memory (031_concurrency_memory.pl).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use Clients;
use History;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{LEASE_TEST_SECONDS} || 20;
my $clients = $ENV{LEASE_TEST_CLIENTS} || 32;
my $seed = $ENV{LEASE_TEST_SEED} || int(rand(100_000)) + 1;

my $node = PostgreSQL::Test::Cluster->new('concurrency');
$node->init;
$node->append_conf('postgresql.conf', "max_connections = @{[ 2 * $clients + 20 ]}\n");
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\n" . Clients::storage('memory'))
  if ($ENV{LEASE_STORAGE} // '') eq 'memory';
$node->start;
$node->safe_psql('postgres', $Clients::SCHEMA);

$History::MEMORY = ($ENV{LEASE_STORAGE} // '') eq 'memory';
note("seed $seed: LEASE_TEST_SEED=$seed repeats what the clients do");
my $run = Clients->start($node->connstr('postgres'), $clients, $seconds, $seed);
ok($run->finish($node), "$clients clients ran for $seconds s with seed $seed");

my ($count, @complaints) = History::check(History::read_directory($run->{directory}));
note(join ', ', map { "$count->{$_} $_" } sort keys %$count);

is($node->safe_psql('postgres', 'SELECT used > 0 FROM lease_heartbeat_memory()'), ($ENV{LEASE_STORAGE} // '') eq 'memory' ? 't' : 'f',
	'renewals were kept where they should be');
is(scalar @complaints, 0, "the history of seed $seed is that of a correct lease")
  or diag(join "\n", splice(@complaints, 0, 20));

# And it was a history worth looking at.
foreach my $least ([ grant => 50 ], [ expiry => 5 ], [ held => 1000 ], [ renewed => 100 ],
	[ busy => 50 ], [ released => 20 ], [ written => 20 ])
{
	my ($what, $n) = @$least;
	cmp_ok($count->{$what}, '>=', $n, "enough happened: $what");
}

# A siege: all want the same lease all the time.  Who loses stays in the
# transaction for a moment; who wins commits, renews and gives it up at once.
# Nobody else has anything to lock then, so the winner is never told "busy".
my $siege = "$PostgreSQL::Test::Utils::tmp_check/siege.sql";
append_to_file($siege, q{
BEGIN;
SELECT acquired FROM lease_acquire('siege', 'c' || :client_id, '1 h') \gset
\if :acquired
COMMIT;
INSERT INTO answer SELECT status FROM lease_renew('siege', 'c' || :client_id);
INSERT INTO answer SELECT status FROM lease_release('siege', 'c' || :client_id);
\else
SELECT pg_sleep(0.005);
COMMIT;
\endif
});
$node->safe_psql('postgres', 'CREATE TABLE answer (status text)');
$node->command_ok([ 'pgbench', '--no-vacuum', '--file', $siege, '--client', $clients,
		'--jobs', 2, '--time', int($seconds / 2) + 1, '--random-seed', $seed,
		$node->connstr('postgres') ], 'siege');
is($node->safe_psql('postgres', 'SELECT status FROM answer GROUP BY 1 ORDER BY 1'),
	"released\nrenewed", 'siege: no loser disturbs a winner');

$node->stop;
done_testing();
