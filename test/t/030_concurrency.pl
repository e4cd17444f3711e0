# 32 clients fight for a handful of leases for a while, in all the ways that
# clients have: transactions kept open or rolled back, every isolation level,
# row locks and deletions by hand, pauses longer than the lease, lost
# connections.  What they were told, and when, is then checked: never two
# holders (I1), tokens that only grow (I2), answers that are true, no call that
# waits (I6).
#
# LEASE_TEST_SECONDS and LEASE_TEST_SEED make it longer, or repeat what the
# clients did; LEASE_TEST_CLIENTS changes their number.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use History;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{LEASE_TEST_SECONDS} || 20;
my $clients = $ENV{LEASE_TEST_CLIENTS} || 32;
my $seed = $ENV{LEASE_TEST_SEED} || int(rand(100_000)) + 1;

# First the checker itself: a small history is fine, and each of these ways to
# spoil it is found.
sub complaints_of
{
	my ($count, @complaints) = History::check(History::parse(grep { /\S/ } split /\n/, $_[0]));
	s/:.*//s foreach @complaints;
	return join ', ', @complaints;
}

# a holds the lease for a second from its renewal at 500000, releases it, b
# takes it; c loses in between.
my $fine = <<'END';
a 0 rc acquire l0 1  100000  101000 acquired a 1
a 0 rc renew   l0 0  500000  501000 renewed a 1
c 0 rc acquire l0 1  900000  901000 held a -
a 0 rc release l0 0 1200000 1201000 released - -
b 1 rc acquire l0 2 1300000 1301000 acquired b 3
b 1 rc end     -  0 1400000 1401000 commit - -
c 0 rc renew   l0 0 1500000 1501000 held b -
c 0 rc holder  l0 0 1600000 1601000 read b -
END

is(complaints_of($fine), '', 'checker: nothing wrong with a correct history');

foreach my $case (
	[ 'two holders for 0.099 s', 'b gets it, and a has not released it',
		'', qr/^a 0 rc release.*\n/m ],
	[ 'token issued twice', 'a token comes back, though its grant was rolled back',
		"c 9 rc acquire l0 1 1210000 1211000 acquired c 3\nc 9 rc end - 0 1212000 1213000 rollback - -" ],
	[ 'token not greater than before', 'a lower token for a later grant',
		"d 0 rc acquire d0 1 100 200 acquired d 9\nd 0 rc acquire d0 1 300 400 acquired d 8" ],
	[ 'two holders for 1.099 s, renewed after the lease was granted anew',
		'a renews after it was granted to b',
		'a 0 rc renew l0 0 1500000 1501000 renewed a 1', qr/^a 0 rc release.*\n/m ],
	[ 'renewed a holding that was never granted', 'a renewal without a grant',
		'c 0 rc renew l0 0 1210000 1211000 renewed c 2' ],
	[ 'the holder named cannot have it', 'c is told of somebody who released it',
		'c 0 rc acquire l0 1 1250000 1251000 held a -' ],
	[ 'the holder named cannot have it', 'c is told of somebody whose lease ran out',
		'c 0 rc acquire l0 1 3500000 3501000 held b -' ],
	[ 'the holder named cannot have it', 'c reads what was not committed yet',
		'c 0 rc holder l0 0 1350000 1351000 read b -' ],
	[ 'refused, but it has the lease', 'a hears it has expired when it has not',
		'a 0 rc renew l0 0 1000000 1001000 expired a -' ],
	[ 'held, but not seen', 'a reader sees no holder',
		'c 0 rc holder l0 0 1000000 1001000 read - -' ],
	[ 'busy, but nobody had it locked', 'c could not tell, and there was no reason',
		'c 0 rc acquire l0 1 1000000 1001000 busy - -' ],
	[ 'busy, but nobody had it locked', 'a guard is no reason not to renew',
		"c 9 rc share l0 0 990000 991000 shared - -\nc 9 rc end - 0 1100000 1101000 commit - -\n"
		  . 'a 0 rc renew l0 0 1000000 1001000 busy - -' ],
	[ 'busy, but nobody had it locked', 'a loser under row-level security lets go at once',
		"t 9 rc acquire l0 1 990000 991000 held a -\nt 9 rc end - 0 1100000 1101000 commit - -\n"
		  . 'a 0 rc renew l0 0 1000000 1001000 busy - -' ],
	[ 'unexpected answer', 'an error that is none of the documented ones',
		'c 0 rc acquire l0 1 1000000 1001000 XX000 - -' ],
	[ 'unexpected answer', 'a serialization failure in READ COMMITTED',
		'c 0 rc acquire l0 1 1000000 1001000 40001 - -' ],
	[ 'took longer than a second', 'a call that waits',
		'c 0 rc acquire l0 1 200000 1201000 held a -' ])
{
	my ($expected, $what, $lines, $without) = @$case;
	my $history = $fine;

	$history =~ s/$without// if $without;
	is(complaints_of("$history$lines\n"), $expected, "checker: $what");
}

# Now the real thing.
my $node = PostgreSQL::Test::Cluster->new('concurrency');
$node->init;
$node->append_conf('postgresql.conf', "max_connections = @{[ $clients + 20 ]}\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION lease;
	CREATE ROLE tenant;
	GRANT SELECT, INSERT, UPDATE, DELETE ON lease TO tenant;
	ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
	CREATE POLICY everything ON lease TO tenant USING (true);
	INSERT INTO lease (name) VALUES ('l0'), ('l1'), ('l2'), ('l3');
});

my $program = "$PostgreSQL::Test::Utils::tmp_check/history";
my $directory = "$program.$$";
mkdir $directory or die "could not create directory $directory: $!";

sub pg_config
{
	my ($what) = @_;
	my ($value) = run_command([ $ENV{PG_CONFIG} || 'pg_config', "--$what" ]);
	return $value;
}

system_or_bail((split ' ', $ENV{CC} || pg_config('cc')), '-O1', '-Wall', '-std=gnu11',
	'-I' . pg_config('includedir'), '-o', $program, "$FindBin::RealBin/../history.c",
	'-L' . pg_config('libdir'), '-Wl,-rpath,' . pg_config('libdir'), '-lpq');

note("seed $seed: LEASE_TEST_SEED=$seed repeats what the clients do");
is(system($program, $node->connstr('postgres'), $clients, $seconds, $seed, $directory), 0,
	"$clients clients ran for $seconds s with seed $seed");

my ($count, @complaints) = History::check(History::read_directory($directory));
note(join ', ', map { "$count->{$_} $_" } sort keys %$count);

is(scalar @complaints, 0, "the history of seed $seed is that of a correct lease")
  or diag(join "\n", splice(@complaints, 0, 20));

# And it was a history worth looking at.
foreach my $least ([ grant => 50 ], [ expiry => 5 ], [ held => 1000 ], [ renewed => 100 ],
	[ busy => 50 ], [ released => 20 ])
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
