# Collection in batches, policies in a dump, and changes of very many leases in one
# transaction.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('collection');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
# Times are set back instead of waiting, and the server has just started.
lease.recovery_grace = off
fsync = off
autovacuum = off
lease.worker = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');

sub query { return $node->safe_psql('postgres', $_[0]); }

sub make_dead
{
	query("DELETE FROM lease; DELETE FROM lease_history;
		INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time, labels)
		SELECT 'kube-system', 'apiserver-' || i, 'h', 1, clock_timestamp() - interval '1 day', jsonb_build_object('apiserver.kubernetes.io/identity', 'kube-apiserver')
		FROM generate_series(1, $_[0]) AS i");
	return;
}

# ---------- CALL lease_gc_all() ----------

make_dead(2500);
is(query('CALL lease_gc_all()'), '2500|0', 'all is collected by one CALL');
cmp_ok(query('SELECT count(DISTINCT CAST(xmin AS text)) FROM lease_history'), '>=', 3, '... in several transactions');
is(query('SELECT count(*) > 1000 FROM lease_history GROUP BY xmin ORDER BY 1 DESC LIMIT 1'), 'f', '... of which none has more than a thousand');

make_dead(3000);
query(q{UPDATE lease_gc_policy SET batch_size = 1});
my $caller = Psql->new($node);
$caller->send('CALL lease_gc_all()');
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM lease_history') or die 'nothing is collected';
query("SELECT pg_cancel_backend($caller->{pid})");
$caller->result;
is($caller->error, 'ERROR:  canceling statement due to user request', 'cancelled in the middle');
my ($left, $collected) = split /\|/, query('SELECT (SELECT count(*) FROM lease), (SELECT count(*) FROM lease_history)');
is($left + $collected, 3000, '... each lease is there, or in the history');
cmp_ok($left, '>', 0, '... and what was not done yet is left');
$caller->finish;
query(q{UPDATE lease_gc_policy SET batch_size = 1000});

my (undef, undef, $error) = $node->psql('postgres', q{\set VERBOSITY sqlstate
BEGIN; CALL lease_gc_all()});
like($error, qr/ERROR:  2D000/, 'not in a transaction block');
is(query('SELECT count(*) FROM lease'), $left, '... and nothing is done');

# ---------- A dump ----------

query(q{UPDATE lease_gc_policy SET expired_for = '24855 days' WHERE name = 'apiserver-identity';
	INSERT INTO lease_gc_policy VALUES ('jobs', 'jobs', 'app in (nightly, weekly)', '7 days', 100)});
my $policies = 'SELECT * FROM lease_gc_policy ORDER BY name';
my $expected = query($policies);
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
query('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ], '... and restore');
is($node->safe_psql('restored', $policies), $expected, 'policies that were changed and added survive a dump');
is($node->safe_psql('restored', 'SELECT count(*) FROM lease'), $left, '... as do leases');

# ---------- Very many in one transaction ----------

# Once the list of what to do at the end was searched for each row.
sub seconds_to_insert
{
	my ($count) = @_;
	my $start;

	query('TRUNCATE lease');
	$start = time();
	query("INSERT INTO lease (name) SELECT 'l-' || i FROM generate_series(1, $count) AS i");
	return time() - $start;
}

seconds_to_insert(2000);
my ($few, $many) = (seconds_to_insert(10_000), seconds_to_insert(100_000));
cmp_ok($many / $few, '<', 40, "ten times as many leases do not take a hundred times as long ($few s, $many s)");

my $waiter = Psql->new($node);
query(q{SELECT FROM lease_acquire('waited', 'h', '1 h')});
$waiter->send(q{SELECT status, clock_timestamp() FROM lease_acquire('waited', 'w', wait => '100 s')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM lease_waiters()}) or die 'nobody waits';
my $deleted_at = query(q{BEGIN; DELETE FROM lease WHERE name <> 'waited'; DELETE FROM lease; SELECT clock_timestamp(); COMMIT});
my ($answer, $at) = split /\|/, $waiter->result;
is($answer, 'acquired', 'who waits is woken by a transaction that frees very many leases');
cmp_ok(query("SELECT extract(epoch FROM '$at'::timestamptz - '$deleted_at'::timestamptz)"), '<', 0.5, '... at once');

$node->stop;
done_testing();
