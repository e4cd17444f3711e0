# lease_renew_all() never waits, so it cannot deadlock: two transactions renew the same
# leases, each the other's part second.  A call that waited for a row would end with
# an error.
#
# The same by UPDATE, which waits, shows that this is noticed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
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
	-- 300 names each, in any order, 100 of them in both
	CREATE FUNCTION part(n int) RETURNS text[] LANGUAGE sql AS
	$$SELECT array_agg('l' || 1000 + n * 200 + i ORDER BY random()) FROM generate_series(0, 299) i$$;
});

my ($one, $two) = map { Psql->new($node) } 1 .. 2;

sub renew
{
	my ($session, $part) = @_;

	return $session->do("SELECT string_agg(status || ' ' || n, ', ' ORDER BY status DESC)
		FROM (SELECT status, sum(leases) AS n FROM lease_renew_all('me', part($part)) GROUP BY status) s");
}

$_->do('BEGIN') foreach $one, $two;
is(renew($one, 0), 'renewed 300', 'one renews the first part');
is(renew($two, 1), 'renewed 200, busy 100', 'the other the second, but for what both have');
is(renew($one, 1), 'renewed 100, busy 200', 'the one goes on with the second: its own once more');
is(renew($two, 0), 'renewed 0, busy 300', 'the other with the first, of which it gets nothing');
$_->do('COMMIT') foreach $one, $two;
is($one->error . $two->error, '', 'nobody has waited');
is($node->safe_psql('postgres', q{SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'}), '0', 'no deadlocks');

# The clock is read anew for each lease: what comes after many that take longer, for they
# are guarded and have to be locked, has no older time.
foreach my $call (q{lease_renew_all('me')}, q{lease_renew_all('me', ARRAY(SELECT name FROM lease))})
{
	$one->do(q{BEGIN; SELECT count(*) FROM (SELECT FROM lease WHERE name < 'l1490' FOR KEY SHARE) l});
	is($two->do("SELECT leases FROM $call"), 500, "$call, most of them guarded");
	$one->do('COMMIT');
	is($two->do(q{SELECT count(*) FROM (SELECT renew_time, lag(renew_time) OVER (ORDER BY name) AS before FROM lease) l WHERE renew_time < before}),
		0, 'no renewal has an older time than one before it');
}

my $update = q{UPDATE lease SET renew_time = clock_timestamp() WHERE name = ANY (part(%d))};
$one->do('BEGIN; ' . sprintf $update, 0);
$two->do(sprintf $update, 1);
like($two->error, qr{lock timeout|deadlock detected}, 'UPDATE does wait');

$_->finish foreach $one, $two;
$node->stop;
done_testing();
