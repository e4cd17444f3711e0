# A primary, a synchronous standby with remote_apply, and a standby of that.  What
# is acknowledged is there on the standby at once, and survives the primary; what
# is not acknowledged, because the standby is away, is told by a warning.  When
# the middle one is promoted, the last one follows it, and leases go on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $first = PostgreSQL::Test::Cluster->new('first');
$first->init(allows_streaming => 1);
$first->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\n");
$first->start;
$first->safe_psql('postgres', 'CREATE EXTENSION lease');

sub standby_of
{
	my ($upstream, $name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$upstream->backup($name);
	$node->init_from_backup($upstream, $name, has_streaming => 1);
	$node->start;
	return $node;
}

my $second = standby_of($first, 'second');
my $third = standby_of($second, 'third');

sub query { return $_[0]->safe_psql('postgres', $_[1]); }

sub until_true
{
	my ($node, $sql, $what) = @_;

	return ok($node->poll_query_until('postgres', $sql), $what);
}

sub set_on_first
{
	my ($settings) = @_;

	$first->append_conf('postgresql.conf', $settings);
	$first->reload;
	return;
}

# Test::Cluster's standbys go by the name of their node.
set_on_first("synchronous_standby_names = 'second'\nsynchronous_commit = remote_apply\n");
until_true($first, q{SELECT sync_state = 'sync' FROM pg_stat_replication}, 'the second is synchronous');

# ---------- At once ----------

my $greatest = 0;
my @late;
my $session = Psql->new($first);
my $reader = Psql->new($second);

foreach my $i (1 .. 20)
{
	my ($token) = $session->do("SELECT fencing_token FROM lease_acquire('l$i', 'a', '1 h')");

	cmp_ok($token, '>', $greatest, "tokens grow: l$i");
	$greatest = $token;
	push @late, $i unless $reader->do("SELECT lease_holder('l$i')") eq 'a';
}
is("@late", '', 'remote_apply: what is acknowledged is on the standby at once');

# ---------- Unknown ----------

# The standby is away: nothing is acknowledged.
$second->stop;

my $waiting = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%unknown%'};
my $client = Psql->new($first);
$client->send("\\set VERBOSITY verbose\n" . q{SELECT status FROM lease_acquire('unknown', 'a', '1 h')});
until_true($first, $waiting, 'an acquisition waits for the standby');
is(query($first, q{SELECT coalesce(lease_holder('unknown'), 'nobody')}), 'nobody', 'others do not see it yet');
is(query($first, q{SELECT status FROM lease_acquire('unknown', 'b')}), 'busy', 'and cannot tell');

query($first, "SELECT pg_cancel_backend($client->{pid})");
is($client->result, 'acquired', 'cancelled, the acquisition says that it has been successful');
like($client->{err}, qr/WARNING:  01000: canceling wait for synchronous replication due to user request/,
	'but a warning says that nobody knows');
is(query($first, q{SELECT lease_holder('unknown')}), 'a', 'here it is held');

# Nor does a caller wait who has said so: then he does without the promise.
is($session->do(q{SET synchronous_commit = local; SELECT status FROM lease_acquire('local', 'a', '1 h')}),
	'acquired', 'with synchronous_commit = local nobody waits');

# ---------- Promoted ----------

# What is lost with the first: nothing that was acknowledged without a warning.
$session->finish;
$reader->finish;
$client->finish;
$first->stop('immediate');
$second->start;
is(query($second, q{SELECT count(*) FROM lease WHERE name ~ '^l\d+$' AND holder_identity = 'a'}), 20,
	'what was acknowledged is on the standby');
is(query($second, q{SELECT count(*) FROM lease WHERE name IN ('unknown', 'local')}), 0,
	'what was not is not, although somebody may believe so');

$second->promote;
is(query($second, q{SELECT status FROM lease_renew('l1', 'a')}), 'renewed', 'promoted: the holder renews');
is(query($second, q{SELECT status FROM lease_acquire('l1', 'b')}), 'held', 'nobody else gets it');
my $token = query($second, q{SELECT fencing_token FROM lease_acquire('after', 'b', '1 h')});
cmp_ok($token, '>', $greatest, 'tokens grow');

$second->wait_for_catchup($third, 'replay', $second->lsn('flush'));
is(query($third, q{SELECT lease_holder('after')}), 'b', 'the cascaded standby follows');
is(query($third, q{SELECT pg_is_in_recovery()}), 't', 'and is still a standby');
is(query($third, q{SELECT fencing_token FROM lease WHERE name = 'after'}), $token, 'with the same tokens');

# And once more.
$second->stop;
$third->promote;
is(query($third, q{SELECT status FROM lease_renew('after', 'b')}), 'renewed', 'the last one, promoted: the holder renews');
cmp_ok(query($third, q{SELECT fencing_token FROM lease_acquire('last', 'c', '1 h')}), '>', $token, 'tokens grow');
$third->stop;

done_testing();
