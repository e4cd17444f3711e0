# What was acknowledged survives: an acquire and a release outlive every crash,
# also when the caller has turned synchronous_commit off, and no token comes
# back.  What was not committed is gone.  Then the same for a clean restart, and
# for a dump that is restored.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use Crash qw(kill_postmaster_and_restart);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;

# With these settings nothing is written for seconds unless a commit insists.
$node->append_conf('postgresql.conf', q{
synchronous_commit = off
wal_writer_delay = 10s
autovacuum = off
restart_after_crash = on
});
$node->start;
$node->safe_psql('postgres', q{
	SET synchronous_commit = on;
	CREATE EXTENSION lease;
	CREATE TABLE ordinary (round int);
});

sub query { return $node->safe_psql('postgres', $_[0]); }

sub acquire
{
	my ($name, $holder) = @_;
	return query("SELECT status, fencing_token FROM lease_acquire('$name', '$holder', '1 h')");
}

sub token_of
{
	my ($answer) = @_;
	return ($answer =~ /^acquired\|(\d+)$/)[0] // die "not acquired: $answer";
}

my %crash = (
	'immediate stop' => sub {
		$node->stop('immediate');
		$node->start;
	},
	'SIGKILL of the postmaster' => sub { kill_postmaster_and_restart($node); },
	'SIGKILL of a backend' => sub {
		my ($session) = @_;
		my $walwriter = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'};
		my $before = query($walwriter);
		my $pid = $session->query_safe('SELECT pg_backend_pid()');

		kill('KILL', $pid) == 1 or die "could not kill backend $pid: $!";
		$node->poll_query_until('postgres', "SELECT ($walwriter) <> $before")
		  or die 'timed out waiting for the restart after the crash';
	});

my $round = 0;
my $greatest = 0;

foreach my $how (sort keys %crash)
{
	foreach my $last ('acquire', 'release')
	{
		my $name = 'l' . ++$round;
		my $session = $node->background_psql('postgres');
		my $uncommitted = $session->query_safe(
			"BEGIN; SELECT status FROM lease_acquire('open$round', 'a', '1 h')");
		my $token = token_of(acquire($name, 'a'));

		cmp_ok($token, '>', $greatest, "$how, $last: tokens grow");
		is(query("SELECT status FROM lease_release('$name', 'a')"), 'released', "$how: released")
		  if $last eq 'release';
		query("INSERT INTO ordinary VALUES ($round)");
		$crash{$how}->($session);

		is(query("SELECT count(*) FROM ordinary WHERE round = $round"), '0',
			"$how, $last: what did not insist on being written is lost, so this is a test");
		is(query("SELECT lease_holder('$name')"), $last eq 'acquire' ? 'a' : '',
			"$how: the acknowledged $last is there");
		is(query("SELECT fencing_token " . ($last eq 'acquire' ? '=' : '>')
				. " $token FROM lease WHERE name = '$name'"), 't', "$how, $last: so is the token");
		is($uncommitted, 'acquired', "$how, $last: an acquire was not committed");
		is(query("SELECT status FROM lease_renew('open$round', 'a')"), 'missing',
			"$how, $last: and is gone");

		if ($last eq 'acquire')
		{
			is(query("SELECT status, fencing_token FROM lease_renew('$name', 'a')"),
				"renewed|$token", "$how: the holder renews");
			is(acquire($name, 'b'), 'held|', "$how: nobody else gets it");
			$greatest = $token;
		}
		else
		{
			$greatest = token_of(acquire($name, 'b'));
			cmp_ok($greatest, '>', $token + 1, "$how: the next holder's token is greater");
		}
		eval { $session->quit };	# it may have noticed
	}
}

# A renewal may be lost, for the lease counts as renewed after a crash; but only for
# the duration that was on disk.  So one that prolongs it insists.
is(query(q{SELECT status FROM lease_acquire('prolonged', 'a', '1 s')}), 'acquired', 'a short lease');
is(query(q{SELECT status FROM lease_acquire('prolonged', 'a', '1 h')}), 'renewed', '... is prolonged');
query('INSERT INTO ordinary VALUES (0)');
$crash{'immediate stop'}->();
is(query('SELECT count(*) FROM ordinary WHERE round = 0'), '0', 'immediate stop: what did not insist is lost');
is(query(q{SELECT lease_duration_seconds FROM lease WHERE name = 'prolonged'}), '3600', '... the longer duration is there');
is(query(q{SELECT status FROM lease_acquire('prolonged', 'b')}), 'held', '... and nobody else gets it');

# Nothing of all that is special after a clean restart.
my $all = q{SELECT namespace, name, uid, resource_version, creation_timestamp, holder_identity,
	lease_duration_seconds, acquire_time, renew_time, lease_transitions, fencing_token
	FROM lease ORDER BY namespace, name};

$greatest = token_of(acquire('restart', 'a'));
my $before = query($all);
$node->restart;
is(query($all), $before, 'clean restart: all leases are as they were');
is(query(q{SELECT status, fencing_token FROM lease_renew('restart', 'a')}),
	"renewed|$greatest", 'clean restart: the holder renews');
cmp_ok(token_of(acquire('after', 'a')), '>', $greatest, 'clean restart: tokens grow');

# A dump has the leases.  The lease with the greatest token is deleted before:
# nothing in the dump remembers it.
$greatest = token_of(acquire('deleted', 'a'));
query(q{DELETE FROM lease WHERE name = 'deleted'});
$before = query($all);

my $dump = "$PostgreSQL::Test::Utils::tmp_check/lease.sql";
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_dump', '--file', $dump, $node->connstr('postgres') ], 'dump');
$node->command_ok([ 'psql', '--no-psqlrc', '--quiet', '--set=ON_ERROR_STOP=1',
		'--file', $dump, $node->connstr('restored') ], 'restore');
is($node->safe_psql('restored', $all), $before, 'restored: all leases are as they were');
cmp_ok($node->safe_psql('restored',
		q{SELECT fencing_token FROM lease_acquire('deleted', 'b', '1 h')}),
	'>', $greatest, 'restored: tokens grow, also of a lease that was deleted before');
is($node->safe_psql('restored', q{SELECT status FROM lease_renew('restart', 'a')}),
	'renewed', 'restored: the holder renews');

$node->stop;
done_testing();
