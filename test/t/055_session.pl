# Leases that end with the session: released at once when the backend goes,
# however it does; left to their duration when the server crashes, or when there
# is no way to release them without waiting.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('session');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
# Times are set back instead of waiting, and the server has just started.
lease.recovery_grace = off
restart_after_crash = on
max_prepared_transactions = 5
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');

sub query { return $node->safe_psql('postgres', $_[0]); }

# Sends SQL that goes on until somebody ends it.
sub sleep_in
{
	my ($s) = @_;

	$s->send('SELECT pg_sleep(1000)');
	$node->poll_query_until('postgres',
		"SELECT state = 'active' AND query LIKE '%pg_sleep%' FROM pg_stat_activity WHERE pid = $s->{pid}")
	  or die 'the query does not run';
}

sub gone
{
	my ($s) = @_;

	return $node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $s->{pid}");
}

# Who holds it, and the words of the history about the last holding.
sub state_of
{
	my ($name) = @_;

	return query("SELECT coalesce(lease_holder('$name'), 'nobody'), "
		  . "(SELECT holder_identity || ': ' || end_reason FROM lease_history WHERE name = '$name' ORDER BY fencing_token DESC LIMIT 1)");
}

my $acquire = q{SELECT status FROM lease_acquire('%s', 'me', '1 h', session => true)};

# All the ways a session ends while the server goes on
my %client_end = (
	'the client quits' => sub { $_[0]->finish; },
	'the client is killed while idle' => sub { my $s = shift; $s->kill_client; $s->finish; },
	'the client is killed in a transaction' => sub {
		my $s = shift;
		$s->do('BEGIN; SELECT 1');
		$s->kill_client;
		$s->finish;
	},
	'the client is killed in a failed transaction' => sub {
		my $s = shift;
		$s->do('BEGIN; SELECT 1/0');
		$s->kill_client;
		$s->finish;
	},
	'pg_terminate_backend while idle' => sub {
		my $s = shift;
		query("SELECT pg_terminate_backend($s->{pid})");
	},
	'pg_terminate_backend while a query runs' => sub {
		my $s = shift;
		sleep_in($s);
		query("SELECT pg_terminate_backend($s->{pid})");
	},
	'pg_terminate_backend in a read-only serializable transaction' => sub {
		my $s = shift;
		$s->do('SET default_transaction_isolation = serializable; SET default_transaction_read_only = on; BEGIN; SELECT 1');
		query("SELECT pg_terminate_backend($s->{pid})");
	},
	'idle_session_timeout' => sub {
		my $s = shift;
		$s->do(q{SET idle_session_timeout = '10ms'});
	},
);
foreach my $how (sort keys %client_end)
{
	my $name = $how =~ s/[^a-z]+/-/gr;
	my $s = Psql->new($node);

	is($s->do(sprintf($acquire, $name)), 'acquired', "$how: acquired");
	my $token = query("SELECT fencing_token FROM lease WHERE name = '$name'");
	$client_end{$how}->($s);
	gone($s);
	is(state_of($name), 'nobody|me: session end', "$how: released at once");
	cmp_ok(query("SELECT fencing_token FROM lease WHERE name = '$name'"), '>', $token, "$how: the token has ended");
	$s->finish;
}

# Several leases, one of them bound by a renewal; and one that is not bound
{
	my $s = Psql->new($node);

	$s->do(sprintf($acquire, 'several-1'));
	$s->do(sprintf($acquire, 'several-2'));
	$s->do(q{SELECT status FROM lease_acquire('several-3', 'me', '1 h')});
	is($s->do(sprintf($acquire, 'several-3')), 'renewed', 'a lease I have is renewed');
	$s->do(q{SELECT status FROM lease_acquire('unbound', 'me', '1 h')});
	$s->finish;
	gone($s);
	is(query(q{SELECT string_agg(name, ',' ORDER BY name) FROM lease_status WHERE status = 'held' AND name ~ '^(several|unbound)'}),
		'unbound', 'all that were bound are released, and only those');
}

# Somebody who waits gets it at once.
{
	my $s = Psql->new($node);
	my $waiter = Psql->new($node);

	$s->do(sprintf($acquire, 'waited-for'));
	$waiter->send(q{SELECT status FROM lease_acquire('waited-for', 'you', '1 h', wait => '100 s')});
	$node->poll_query_until('postgres', q{SELECT waiting = 1 FROM lease_status WHERE name = 'waited-for'});
	$s->kill_client;
	is($waiter->result, 'acquired', 'who waits for it gets it');
	$s->finish;
	$waiter->finish;
}

# What is no longer this session's grant is left alone.
{
	my $s = Psql->new($node);

	$s->do(sprintf($acquire, $_)) foreach qw(lost released rolled-back-before);
	$s->do('BEGIN');
	$s->do(sprintf($acquire, 'rolled-back'));
	$s->do('ROLLBACK');
	query(q{UPDATE lease SET renew_time = '2000-01-01' WHERE name = 'lost'});
	query(q{SELECT FROM lease_acquire('lost', 'me', '1 h')});
	$s->do(q{SELECT FROM lease_release('released', 'me')});
	query(q{SELECT FROM lease_acquire('released', 'me', '1 h'); SELECT FROM lease_acquire('rolled-back', 'me', '1 h')});
	$s->do('BEGIN');
	$s->do(q{SELECT FROM lease_release('rolled-back-before', 'me')});
	$s->kill_client;
	$s->finish;
	gone($s);
	is(state_of('lost'), 'me|me: expired', 'a lease that somebody else acquired since, even as the same holder, stays his');
	is(state_of('released'), 'me|me: released', 'so does one that was released and acquired by another session');
	is(state_of('rolled-back'), 'me|', 'and one whose grant to this session was rolled back');
	is(state_of('rolled-back-before'), 'nobody|me: session end', 'a release that was not committed is made up for');
}

# What is rolled back changes nothing: the grant before it goes on, and ends with
# the session.
foreach my $rollback ('BEGIN; %s; ROLLBACK', 'BEGIN; SAVEPOINT s; %s; ROLLBACK TO s; COMMIT',
	'BEGIN; SAVEPOINT s; %s; RELEASE s; ROLLBACK')
{
	my $s = Psql->new($node);
	my $again = sprintf($acquire, 'again');

	$s->do($again);
	$s->do(sprintf($rollback, "SELECT FROM lease_release('again', 'me'); $again"));
	$s->finish;
	gone($s);
	is(state_of('again'), 'nobody|me: session end', sprintf("ends with the session after $rollback", 'release and acquire'));
}
{
	my $s = Psql->new($node);
	my $again = sprintf($acquire, 'again');

	$s->do("$again; SELECT FROM lease_release('again', 'me')") foreach 1 .. 3;
	$s->do("BEGIN; SAVEPOINT s; $again; RELEASE s; COMMIT");
	$s->finish;
	gone($s);
	is(state_of('again'), 'nobody|me: session end', 'the last of several grants ends with the session');
}

# A row that somebody has locked cannot be waited for.
{
	my $s = Psql->new($node);
	my $other = Psql->new($node);

	$s->do(sprintf($acquire, 'locked'));
	my $token = $s->do(q{SELECT fencing_token FROM lease WHERE name = 'locked'});
	$other->do("BEGIN; SELECT lease_guard('locked', $token)");
	$s->kill_client;
	ok(gone($s), 'somebody guards the lease: the session ends nevertheless');
	is(state_of('locked'), 'me|', 'and the lease is left to its duration');
	$other->do('COMMIT');
	$s->finish;

	$s = Psql->new($node);
	$s->do(sprintf($acquire, 'history-locked'));
	$other->do('BEGIN; LOCK TABLE lease_history IN SHARE MODE');
	$s->kill_client;
	ok(gone($s), 'somebody has the history locked: the session ends nevertheless');
	is(state_of('history-locked'), 'me|', 'and the lease is left to its duration');
	$other->do('COMMIT');
	$_->finish foreach $s, $other;
}

# Heartbeats on another connection have it locked half of the time, but only for an
# instant.
{
	my ($out, $err) = ('', '');
	my $script = "$PostgreSQL::Test::Utils::tmp_check/heartbeat.sql";

	append_to_file($script, "BEGIN;\nSELECT FROM lease_renew('heartbeat', 'me');\n\\sleep 4 ms\nCOMMIT;\n\\sleep 4 ms\n");
	my $pgbench = IPC::Run::start([ 'pgbench', '-n', '-T', 100, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$out, '2>', \$err);
	my $released = 0;
	foreach (1 .. 10)
	{
		my $s = Psql->new($node);

		$s->do(sprintf($acquire, 'heartbeat'));
		$node->poll_query_until('postgres', q{SELECT renew_time > acquire_time FROM lease WHERE name = 'heartbeat'});
		$s->finish;
		gone($s);
		$released++ if state_of('heartbeat') eq 'nobody|me: session end';
		query(q{SELECT FROM lease_release('heartbeat', 'me')});
	}
	is($released, 10, 'a lease that is being renewed elsewhere is released nevertheless');
	$pgbench->signal('TERM');
	eval { $pgbench->finish };
}

# Roles: the one that acquired releases, though the session has changed to another.
query(q{
	CREATE ROLE app;
	GRANT SELECT, INSERT, UPDATE ON lease TO app;
	CREATE ROLE renewer;
	GRANT SELECT ON lease TO renewer;
	GRANT UPDATE (renew_time, lease_duration_seconds) ON lease TO renewer;
	CREATE ROLE nobody;
	SELECT FROM lease_acquire('renewed-only', 'me', '1 h');
});
{
	my $s = Psql->new($node);

	$s->do('SET ROLE app');
	$s->do(sprintf($acquire, 'as-role'));
	$s->do('SET ROLE nobody');
	$s->kill_client;
	$s->finish;
	gone($s);
	is(state_of('as-role'), 'nobody|me: session end', 'it is released as the role that acquired it');

	$s = Psql->new($node);
	$s->do('SET ROLE renewer');
	is($s->do(sprintf($acquire, 'renewed-only')), 'renewed', 'who may renew only');
	$s->kill_client;
	$s->finish;
	gone($s);
	is(state_of('renewed-only'), 'me|', 'cannot release by leaving either');

	$s = Psql->new($node);
	$s->do(sprintf($acquire, 'before'));
	$s->do('SET ROLE app');
	$s->do(sprintf($acquire, 'may-not-any-more'));
	$s->do('RESET ROLE');
	$s->do(sprintf($acquire, 'after'));
	query('REVOKE ALL ON lease FROM app');
	$s->kill_client;
	$s->finish;
	gone($s);
	is(join(', ', map { state_of($_) } qw(before may-not-any-more after)),
		'nobody|me: session end, me|, nobody|me: session end',
		'a lease that its role may not release any more does not keep the others from it');
}

# The extension is gone.
{
	my $s = Psql->new($node);

	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$s->do('\c other');
	$s->do('CREATE EXTENSION lease');
	my $pid = $s->do('SELECT pg_backend_pid()');
	$s->do(sprintf($acquire, 'x'));
	$s->do('DROP EXTENSION lease');
	$s->finish;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"),
		'a session ends also when the extension was dropped meanwhile');
}

# The server stops.  Fast: the backends end in order.
{
	my $s = Psql->new($node);

	$s->do(sprintf($acquire, 'fast'));
	$node->stop('fast');
	$node->start;
	is(state_of('fast'), 'nobody|me: session end', 'a fast shutdown releases');
	$s->finish;
}

# A crash leaves no time for anything: the duration decides.
foreach my $crash (
	[ 'immediate shutdown' => sub { $node->stop('immediate'); $node->start; } ],
	[ 'a backend is killed' => sub {
			my ($victim) = @_;
			my $log = $node->logfile;
			my $offset = -s $log;
			kill 'KILL', $victim->{pid};
			for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
			{
				last if slurp_file($log, $offset) =~ /ready to accept connections/;
				select(undef, undef, undef, 0.1);
			}
			$node->poll_query_until('postgres', 'SELECT true');
		} ])
{
	my ($how, $do) = @$crash;
	my $name = $how =~ s/ /-/gr;
	my $s = Psql->new($node);

	$s->do(sprintf($acquire, $name));
	$do->($s);
	is(state_of($name), 'me|', "$how: not released");
	$s->finish;
}

unlike(slurp_file($node->logfile), qr/TRAP|PANIC/, 'nothing went wrong in the server');
$node->stop;
done_testing();
