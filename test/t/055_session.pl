# Leases that end with the session: released at once when the backend goes,
# however it does; left to their duration when the server crashes, or when there
# is no way to release them without waiting.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('session');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
restart_after_crash = on
max_prepared_transactions = 5
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');

sub query { return $node->safe_psql('postgres', $_[0]); }

# A psql that stays connected.
sub connect_psql
{
	my %s = (in => '', out => '', err => '');

	$s{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
		'<', \$s{in}, '>', \$s{out}, '2>', \$s{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$s{pid} = do_in(\%s, 'SELECT pg_backend_pid()');
	return \%s;
}

# Runs SQL in it and returns what it prints.
sub do_in
{
	my ($s, $sql) = @_;

	$s->{out} = '';
	$s->{in} .= "$sql;\n\\echo done\n";
	$s->{handle}->pump until $s->{out} =~ /^done$/m;
	my ($result) = $s->{out} =~ /\A(.*?)\n?done$/ms;
	return $result;
}

# Sends SQL that will not answer.
sub send_to
{
	my ($s, $sql) = @_;

	$s->{in} .= "$sql;\n";
	$s->{handle}->pump_nb;
	$node->poll_query_until('postgres',
		"SELECT state = 'active' AND query LIKE '%pg_sleep%' FROM pg_stat_activity WHERE pid = $s->{pid}")
	  or die 'the query does not run';
}

sub end_of
{
	my ($s) = @_;

	# A server started meanwhile has inherited the pipe, so it has to be told.
	# What it says when it has lost its connection does not matter here.
	$s->{in} .= "\\q\n";
	eval { $s->{handle}->finish; };
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
	'the client quits' => sub { end_of($_[0]); },
	'the client is killed while idle' => sub { my $s = shift; $s->{handle}->signal('KILL'); end_of($s); },
	'the client is killed in a transaction' => sub {
		my $s = shift;
		do_in($s, 'BEGIN; SELECT 1');
		$s->{handle}->signal('KILL');
		end_of($s);
	},
	'the client is killed in a failed transaction' => sub {
		my $s = shift;
		do_in($s, 'BEGIN; SELECT 1/0');
		$s->{handle}->signal('KILL');
		end_of($s);
	},
	'pg_terminate_backend while idle' => sub {
		my $s = shift;
		query("SELECT pg_terminate_backend($s->{pid})");
	},
	'pg_terminate_backend while a query runs' => sub {
		my $s = shift;
		send_to($s, 'SELECT pg_sleep(1000)');
		query("SELECT pg_terminate_backend($s->{pid})");
	},
	'pg_terminate_backend in a read-only serializable transaction' => sub {
		my $s = shift;
		do_in($s, 'SET default_transaction_isolation = serializable; SET default_transaction_read_only = on; BEGIN; SELECT 1');
		query("SELECT pg_terminate_backend($s->{pid})");
	},
	'idle_session_timeout' => sub {
		my $s = shift;
		do_in($s, q{SET idle_session_timeout = '10ms'});
	},
);
foreach my $how (sort keys %client_end)
{
	my $name = $how =~ s/[^a-z]+/-/gr;
	my $s = connect_psql();

	is(do_in($s, sprintf($acquire, $name)), 'acquired', "$how: acquired");
	my $token = query("SELECT fencing_token FROM lease WHERE name = '$name'");
	$client_end{$how}->($s);
	gone($s);
	is(state_of($name), 'nobody|me: session end', "$how: released at once");
	cmp_ok(query("SELECT fencing_token FROM lease WHERE name = '$name'"), '>', $token, "$how: the token has ended");
	end_of($s);
}

# Several leases, one of them bound by a renewal; and one that is not bound
{
	my $s = connect_psql();

	do_in($s, sprintf($acquire, 'several-1'));
	do_in($s, sprintf($acquire, 'several-2'));
	do_in($s, q{SELECT status FROM lease_acquire('several-3', 'me', '1 h')});
	is(do_in($s, sprintf($acquire, 'several-3')), 'renewed', 'a lease I have is renewed');
	do_in($s, q{SELECT status FROM lease_acquire('unbound', 'me', '1 h')});
	end_of($s);
	gone($s);
	is(query(q{SELECT string_agg(name, ',' ORDER BY name) FROM lease_status WHERE status = 'held' AND name ~ '^(several|unbound)'}),
		'unbound', 'all that were bound are released, and only those');
}

# Somebody who waits gets it at once.
{
	my $s = connect_psql();
	my $waiter = connect_psql();

	do_in($s, sprintf($acquire, 'waited-for'));
	$waiter->{in} .= q{SELECT status FROM lease_acquire('waited-for', 'you', '1 h', wait => '100 s');} . "\n\\echo done\n";
	$waiter->{out} = '';
	$waiter->{handle}->pump_nb;
	$node->poll_query_until('postgres', q{SELECT waiting = 1 FROM lease_status WHERE name = 'waited-for'});
	$s->{handle}->signal('KILL');
	$waiter->{handle}->pump until $waiter->{out} =~ /^done$/m;
	like($waiter->{out}, qr/^acquired$/m, 'who waits for it gets it');
	end_of($s);
	end_of($waiter);
}

# What is no longer this session's grant is left alone.
{
	my $s = connect_psql();

	do_in($s, sprintf($acquire, $_)) foreach qw(lost released rolled-back-before);
	do_in($s, 'BEGIN');
	do_in($s, sprintf($acquire, 'rolled-back'));
	do_in($s, 'ROLLBACK');
	query(q{UPDATE lease SET renew_time = '2000-01-01' WHERE name = 'lost'});
	query(q{SELECT FROM lease_acquire('lost', 'me', '1 h')});
	do_in($s, q{SELECT FROM lease_release('released', 'me')});
	query(q{SELECT FROM lease_acquire('released', 'me', '1 h'); SELECT FROM lease_acquire('rolled-back', 'me', '1 h')});
	do_in($s, 'BEGIN');
	do_in($s, q{SELECT FROM lease_release('rolled-back-before', 'me')});
	$s->{handle}->signal('KILL');
	end_of($s);
	gone($s);
	is(state_of('lost'), 'me|me: expired', 'a lease that somebody else acquired since, even as the same holder, stays his');
	is(state_of('released'), 'me|me: released', 'so does one that was released and acquired by another session');
	is(state_of('rolled-back'), 'me|', 'and one whose grant to this session was rolled back');
	is(state_of('rolled-back-before'), 'nobody|me: session end', 'a release that was not committed is made up for');
}

# A row that somebody has locked cannot be waited for.
{
	my $s = connect_psql();
	my $other = connect_psql();

	do_in($s, sprintf($acquire, 'locked'));
	my $token = do_in($s, q{SELECT fencing_token FROM lease WHERE name = 'locked'});
	do_in($other, "BEGIN; SELECT lease_guard('locked', $token)");
	$s->{handle}->signal('KILL');
	ok(gone($s), 'somebody guards the lease: the session ends nevertheless');
	is(state_of('locked'), 'me|', 'and the lease is left to its duration');
	do_in($other, 'COMMIT');
	end_of($_) foreach $s, $other;
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
	my $s = connect_psql();

	do_in($s, 'SET ROLE app');
	do_in($s, sprintf($acquire, 'as-role'));
	do_in($s, 'SET ROLE nobody');
	$s->{handle}->signal('KILL');
	end_of($s);
	gone($s);
	is(state_of('as-role'), 'nobody|me: session end', 'it is released as the role that acquired it');

	$s = connect_psql();
	do_in($s, 'SET ROLE renewer');
	is(do_in($s, sprintf($acquire, 'renewed-only')), 'renewed', 'who may renew only');
	$s->{handle}->signal('KILL');
	end_of($s);
	gone($s);
	is(state_of('renewed-only'), 'me|', 'cannot release by leaving either');

	$s = connect_psql();
	do_in($s, sprintf($acquire, 'before'));
	do_in($s, 'SET ROLE app');
	do_in($s, sprintf($acquire, 'may-not-any-more'));
	do_in($s, 'RESET ROLE');
	do_in($s, sprintf($acquire, 'after'));
	query('REVOKE ALL ON lease FROM app');
	$s->{handle}->signal('KILL');
	end_of($s);
	gone($s);
	is(join(', ', map { state_of($_) } qw(before may-not-any-more after)),
		'nobody|me: session end, me|, nobody|me: session end',
		'a lease that its role may not release any more does not keep the others from it');
}

# The extension is gone.
{
	my $s = connect_psql();

	$node->safe_psql('postgres', 'CREATE DATABASE other');
	do_in($s, '\c other');
	do_in($s, 'CREATE EXTENSION lease');
	my $pid = do_in($s, 'SELECT pg_backend_pid()');
	do_in($s, sprintf($acquire, 'x'));
	do_in($s, 'DROP EXTENSION lease');
	end_of($s);
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"),
		'a session ends also when the extension was dropped meanwhile');
}

# The server stops.  Fast: the backends end in order.
{
	my $s = connect_psql();

	do_in($s, sprintf($acquire, 'fast'));
	$node->stop('fast');
	$node->start;
	is(state_of('fast'), 'nobody|me: session end', 'a fast shutdown releases');
	end_of($s);
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
	my $s = connect_psql();

	do_in($s, sprintf($acquire, $name));
	$do->($s);
	is(state_of($name), 'me|', "$how: not released");
	end_of($s);
}

unlike(slurp_file($node->logfile), qr/TRAP|PANIC/, 'nothing went wrong in the server');
$node->stop;
done_testing();
