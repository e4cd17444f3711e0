# Attempts to take, extend, forge or delete another's lease that take more than one
# session.  test/pgtap/attacks.sql has those of one session.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('attacks');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\nmax_prepared_transactions = 10\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION lease;
CREATE ROLE app LOGIN;
CREATE ROLE squatter LOGIN;
CREATE ROLE squatter_2 LOGIN IN ROLE squatter;
CREATE ROLE renewer LOGIN;
CREATE ROLE collector LOGIN;
GRANT SELECT, INSERT, UPDATE ON lease TO app, squatter;
GRANT SELECT, UPDATE (renew_time, lease_duration_seconds) ON lease TO renewer;
GRANT SELECT, UPDATE, DELETE ON lease TO collector;
SQL

sub query
{
	my ($role, $sql) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', $sql,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ]);

	return $stderr =~ /ERROR:  (\w{5})/ ? $1 : $stdout;
}

my @sessions;

# Begins to run statements, a transaction each, in a session of this role.
sub begin_session
{
	my ($role, @statements) = @_;
	my %s = (out => '', timer => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$s{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres'), '-U', $role, map { ('-c', $_) } @statements ],
		'<', \undef, '>', \$s{out}, '2>&1', $s{timer});
	push @sessions, \%s;
	return \%s;
}

sub end_session
{
	my ($s) = @_;

	$s->{run}->finish if $s->{run};
	$s->{run} = undef;
	chomp $s->{out};
	return $s->{out};
}

END
{
	my $status = $?;
	foreach (@sessions) { $_->{run}->kill_kill if $_->{run} }
	$? = $status;
}

sub wait_for_waiters
{
	my ($holders, $message) = @_;
	ok($node->poll_query_until('postgres', "SELECT coalesce(string_agg(holder_identity, ' ' ORDER BY since), '') = '$holders' FROM lease_waiters()"), $message);
}

my $superuser = $node->safe_psql('postgres', 'SELECT current_user');
my $status_of = q{SELECT coalesce(holder_identity, '') || ' ' || status FROM lease_status WHERE name = '%s'};

# Nobody becomes another
foreach my $statement ("SET ROLE $superuser", "SET SESSION AUTHORIZATION $superuser", 'SET ROLE app', 'SET SESSION AUTHORIZATION app')
{
	is(query('renewer', $statement), '42501', "renewer: $statement");
}

# Who may renew, but not release, binds somebody else's lease to a session and leaves.
$node->safe_psql('postgres', q{SELECT lease_acquire('l', 'me', '1 h')});
is(query('renewer', q{SELECT released FROM lease_release('l', 'me')}), '42501', 'who may only renew may not release');
is(query('renewer', q{SELECT status FROM lease_acquire('l', 'me', '1 h', session => true)}), 'renewed', 'but renew, for the session');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'renewer'}), 'the session ends');
is($node->safe_psql('postgres', sprintf $status_of, 'l'), 'me held', 'the lease is still held');

# Privileges revoked in the middle of it
my $s = begin_session('app', q{SELECT status FROM lease_acquire('l', 'app', wait => '1 h')});
wait_for_waiters('app', 'one waits');
$node->safe_psql('postgres', 'REVOKE UPDATE ON lease FROM app');
$node->safe_psql('postgres', q{SELECT lease_release('l', 'me')});
like(end_session($s), qr/^ERROR:  42501$/, 'who may not any more, when it is his turn, does not get it');
is($node->safe_psql('postgres', sprintf $status_of, 'l'), ' free', 'and it is free');
$node->safe_psql('postgres', 'GRANT UPDATE ON lease TO app');

# A session whose role has lost the privilege to release: the duration decides.
$node->safe_psql('postgres', 'CREATE TABLE go (i int); GRANT SELECT ON go TO PUBLIC');
$s = begin_session($superuser, 'SET ROLE app', q{SELECT status FROM lease_acquire('l', 'app', '1 h', session => true)},
	'RESET ROLE', q{SELECT status FROM lease_acquire('m', 'app', '1 h', session => true)}, q{SET application_name = 'app'; DO $$BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.05); END LOOP; END$$});
ok($node->poll_query_until('postgres', sprintf("SELECT ($status_of) = 'app held'", 'm')), 'leases are acquired for a session');
$node->safe_psql('postgres', 'REVOKE UPDATE ON lease FROM app; INSERT INTO go VALUES (1)');
is(end_session($s), "acquired\nacquired", 'which ends when its role may not release any more');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'app'}), 'it has ended');
is($node->safe_psql('postgres', sprintf $status_of, 'l'), 'app held', 'the lease runs until it expires');
is($node->safe_psql('postgres', sprintf $status_of, 'm'), ' free', 'another of the session, acquired by a role that may, is released');
$node->safe_psql('postgres', q{GRANT UPDATE ON lease TO app; SELECT lease_release('l', 'app')});

# Who may see a lease but not change it waits for it: it must not stand in the way of who may.
$node->safe_psql('postgres', <<'SQL');
SELECT lease_acquire('l', 'me', '1 h');
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY app ON lease TO app USING (true);
CREATE POLICY collector ON lease TO collector USING (true);
CREATE POLICY see ON lease FOR SELECT TO squatter USING (true);
CREATE POLICY own ON lease FOR UPDATE TO squatter USING (name = 'squatter');
CREATE POLICY make ON lease FOR INSERT TO squatter WITH CHECK (name = 'squatter');
SQL
my @squatters = map { begin_session($_, "SELECT status FROM lease_acquire('l', '$_', wait => '1 h')") } qw(squatter squatter_2);
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM lease_waiters()}), 'two wait who may not have it');
$s = begin_session('app', q{SELECT status FROM lease_acquire('l', 'app', '1 h', wait => '1 h')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM lease_waiters()}), 'and then one who may');
$node->safe_psql('postgres', q{SELECT lease_release('l', 'me')});
is(end_session($s), 'acquired', 'who gets it, while they wait');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM lease_waiters()}), 'they still do');

$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM lease_waiters()});
like(end_session($_), qr/57P01|terminat|closed/, 'a waiter is terminated') foreach @squatters;
wait_for_waiters('', 'nobody waits');

# The time that history is kept for is not the collector's to choose, not even before the
# library is loaded (it always is, if preloaded; here it is not).
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$node->safe_psql('postgres', q{INSERT INTO lease_history VALUES ('default', 'old', 1, 'me', now() - interval '2 d', now() - interval '1 d', 'released')});
is(query('collector', q{SET lease.history_retention = 0; SELECT history_removed FROM lease_gc()}), '0', 'set before the library is loaded, it does not count');
is(query('collector', q{SELECT lease_holder('l'); SET lease.history_retention = 0}), '42501', 'afterwards it is refused');
is(query('collector', q{ALTER ROLE collector SET lease.history_retention = 0}), '42501', 'and so it is for the sessions to come');
is(query($superuser, q{SELECT lease_is_held('x'); SET lease.history_retention = 0; SELECT history_removed > 0 FROM lease_gc()}), "f\nt", 'a superuser may choose');

$node->stop;
done_testing();
