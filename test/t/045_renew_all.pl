# lease_renew_all() never waits, so it cannot deadlock: clients renew the same leases
# in transactions of two calls, half of them the second part of the names first, and
# keep their row locks for longer than lock_timeout.  A call that waited for a row
# would end with an error.
#
# The same by UPDATE, which waits, shows that this is noticed.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('renew_all');
$node->init;
$node->append_conf('postgresql.conf', q{
fsync = off
lease.recovery_grace = off
lock_timeout = 100ms
deadlock_timeout = 50ms
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION lease;
	INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time)
	SELECT 'l' || i, 'me', 3600, clock_timestamp() FROM generate_series(1000, 1499) i;
	CREATE TABLE answers (status text, leases bigint);
	CREATE FUNCTION part(n int) RETURNS text[] LANGUAGE sql AS
	$$SELECT array_agg('l' || 1000 + n * 200 + i ORDER BY random()) FROM generate_series(0, 299) i$$;
});

my $renew = q{INSERT INTO answers SELECT status, sum(leases) FROM lease_renew_all('me', part(%d)) GROUP BY status;};
my $update = q{UPDATE lease SET renew_time = clock_timestamp() WHERE name = ANY (part(%d));};

# Two transactions, that meet in opposite order; what each calls, in turn
sub scripts
{
	my ($way, $call) = @_;
	my %scripts;

	foreach my $order ([0, 1], [1, 0])
	{
		$scripts{"045_${way}_$order->[0]"} = join("\n", 'BEGIN;',
			sprintf($call, $order->[0]), q{SELECT pg_sleep(0.15);}, sprintf($call, $order->[1]), 'COMMIT;');
	}
	return \%scripts;
}

$node->pgbench('--no-vacuum --client=8 --jobs=2 --transactions=10', 0,
	[qr{actually processed: 80/80}], [qr/^$/], 'nobody waits, in either order', scripts('renew', $renew));
my %answers = split /[|\n]/, $node->safe_psql('postgres', q{SELECT status, sum(leases) FROM answers GROUP BY status});
is($answers{renewed} + $answers{busy}, 160 * 300, 'each lease was renewed, or busy, in each call');
cmp_ok($answers{busy}, '>', 0, 'they did meet');
is($node->safe_psql('postgres', q{SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'}), '0', 'no deadlocks');

$node->pgbench('--no-vacuum --client=8 --jobs=2 --transactions=10', 2,
	[], [qr{deadlock detected|lock timeout}], 'UPDATEs do wait', scripts('update', $update));

$node->stop;
done_testing();
