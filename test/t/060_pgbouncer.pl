# Everything through the real PgBouncer in transaction mode, where the statements
# of one client run on whatever server connection is free: a holder is who knows
# the lease's holder_identity and token, not who has a connection.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my ($program) = grep { -x } map { "$_/pgbouncer" }
  split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin', '/usr/local/bin';
plan skip_all => 'needs PgBouncer (Debian package pgbouncer)' unless $program;

my $node = PostgreSQL::Test::Cluster->new('pgbouncer');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION lease;
CREATE TABLE report (line text);
CREATE TABLE fenced (line text);
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON fenced
FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('job');
SQL

# Two pools of two server connections: "pool" for work, and "waiting" for calls
# that wait, since such a call keeps its server connection for as long as it waits.
my $dir = PostgreSQL::Test::Utils::tempdir_short;
my $user = getpwuid($>);
my $server = 'host=' . $node->host . ' port=' . $node->port . " dbname=postgres user=$user";
append_to_file("$dir/pgbouncer.ini", <<"INI");
[databases]
pool = $server
waiting = $server
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = $dir
auth_type = any
admin_users = $user
pool_mode = transaction
default_pool_size = 2
logfile = $dir/log
INI

my $bouncer = IPC::Run::start([ $program, '--quiet', "$dir/pgbouncer.ini" ], '<', \undef, '>', '/dev/null', '2>&1');
my @clients;

END
{
	my $status = $?;
	kill_client($_) foreach @clients;
	$bouncer->kill_kill if $bouncer;
	$? = $status;
}

foreach (1 .. 600)
{
	last if -S "$dir/.s.PGSQL.6432" || !$bouncer->pumpable;
	usleep(100_000);
}

# A client that stays connected: psql, fed piece by piece.
sub client
{
	my ($database) = @_;
	my %c = (in => '', out => '', timer => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$c{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', "host=$dir port=6432 dbname=$database application_name=$database" ],
		'<', \$c{in}, '>', \$c{out}, '2>&1', $c{timer});
	push @clients, \%c;
	return \%c;
}

# Sends it a statement.
sub begin_call
{
	my ($c, $sql) = @_;

	$c->{timer}->start;
	$c->{out} = '';
	$c->{in} .= "$sql;\n\\echo done\n";
	$c->{run}->pump_nb;
}

# Waits for what comes back.
sub end_call
{
	my ($c) = @_;

	$c->{run}->pump until $c->{out} =~ /^done$/m;
	$c->{out} =~ s/\n?done\n//;
	return $c->{out};
}

sub call
{
	begin_call(@_);
	return end_call($_[0]);
}

# It is gone without a word.
sub kill_client
{
	$_[0]{run}->kill_kill(grace => 0) if $_[0]{run};
	$_[0]{run} = undef;
}

sub admin
{
	my ($command) = @_;
	command_ok([ 'psql', '-X', '-q', '-d', "host=$dir port=6432 dbname=pgbouncer", '-c', $command ], "PgBouncer: $command");
}

# Both backends of the pool, found by having two transactions at once.
my ($pin1, $pin2) = (client('pool'), client('pool'));
my @backends;

sub pin
{
	call($pin1, 'BEGIN');
	call($pin2, 'BEGIN');
	@backends = map { call($_, 'SELECT pg_backend_pid()') } $pin1, $pin2;
}

pin();
call($_, 'COMMIT') foreach $pin1, $pin2;
my ($x, $y) = @backends;
isnt($x, $y, 'the pool has two server connections');

# A client's call on the backend of this process ID: the only one that is free.
sub call_on
{
	my ($pid, $c, $sql) = @_;

	pin();
	my ($free, $taken) = $backends[0] == $pid ? ($pin1, $pin2) : ($pin2, $pin1);
	call($free, 'COMMIT');
	my $result = call($c, $sql);
	call($taken, 'COMMIT');
	return $result;
}

my ($a, $b) = (client('pool'), client('pool'));

# Statements of one client, on one backend and the other
is(call_on($x, $a, q{SELECT pg_backend_pid(), status FROM lease_acquire('job', 'a', '1 h')}), "$x|acquired",
	'a client acquires on one backend');
is(call_on($y, $a, q{SELECT pg_backend_pid(), status FROM lease_renew('job', 'a')}), "$y|renewed", 'and renews on the other');
is(call_on($x, $b, q{SELECT status, holder_identity FROM lease_acquire('job', 'b', '1 h')}), 'held|a',
	'another client does not get it on the backend that acquired');
is(call_on($y, $b, q{SELECT status FROM lease_release('job', 'b')}), 'held', 'and cannot release it');
my $token = call($a, q{SELECT fencing_token FROM lease WHERE name = 'job'});

# A guard and the write that it protects: one transaction, so one backend
call($a, 'BEGIN');
is(call($a, "SELECT lease_guard('job', $token)"), '', 'a transaction is guarded');
is(call($a, q{INSERT INTO report VALUES ('guarded')}), '', 'and writes');
is(call($b, q{SELECT status FROM lease_renew('job', 'a')}), 'renewed', 'while a heartbeat on the other backend renews');
is(call($b, q{SELECT status FROM lease_release('job', 'a')}), 'busy', 'and a release there has to wait');
call($a, 'COMMIT');
is($node->safe_psql('postgres', 'SELECT line FROM report'), 'guarded', 'they are committed together');

# The same by trigger.  SET LOCAL ends with the transaction, so the backend goes
# back to the pool without the token.
call($a, 'BEGIN');
call($a, "SET LOCAL lease.fencing_tokens = '$token'");
is(call($a, q{INSERT INTO fenced VALUES ('a')}), '', 'with SET LOCAL lease.fencing_tokens the trigger lets a transaction write');
call($a, 'COMMIT');
foreach my $pid ($x, $y)
{
	like(call_on($pid, $b, q{INSERT INTO fenced VALUES ('b')}), qr/ERROR:  LS001/, 'and nobody else on the backends of the pool');
}

# Why not SET: it stays with the backend, and the next client has it.
call_on($x, $a, "SET lease.fencing_tokens = '$token'");
is(call_on($x, $b, q{INSERT INTO fenced VALUES ('b')}), '', 'after a plain SET the next client on that backend writes under the token');
call_on($x, $b, 'RESET lease.fencing_tokens');
is($node->safe_psql('postgres', 'SELECT string_agg(line, $$ $$) FROM fenced'), 'a b', 'the trigger has let through these two');

# Stale tokens
is(call_on($x, $a, q{SELECT status FROM lease_release('job', 'a')}), 'released', 'the lease is released on a backend');
is(call_on($y, $b, q{SELECT status FROM lease_acquire('job', 'b', '1 h')}), 'acquired', 'another client acquires it on the other');
like(call($a, "SELECT lease_guard('job', $token)"), qr/ERROR:  LS001/, 'the old token is refused');

# Waiting
sub wait_until_waiting
{
	my ($holders, $message) = @_;
	ok($node->poll_query_until('postgres', <<"SQL"), $message);
SELECT coalesce(string_agg(w.holder_identity, ' ' ORDER BY w.since), '') = '$holders'
FROM lease_waiters() w JOIN pg_stat_activity s USING (pid) WHERE s.application_name = 'waiting'
SQL
}

my ($c, $d) = (client('waiting'), client('waiting'));
my $acquire = q{SELECT status FROM lease_acquire('job', '%s', '1 h', wait => '1 h')};

begin_call($c, sprintf $acquire, 'c');
wait_until_waiting('c', 'a client waits through PgBouncer');
is(call($b, q{SELECT status FROM lease_renew('job', 'b')}), 'renewed', 'the holder renews meanwhile, by the other pool');
is(call($b, q{SELECT status FROM lease_release('job', 'b')}), 'released', 'and releases');
is(end_call($c), 'acquired', 'which wakes the client that waits');

begin_call($d, sprintf $acquire, 'd');
wait_until_waiting('d', 'one waits');
my $e = client('waiting');
begin_call($e, sprintf $acquire, 'e');
wait_until_waiting('d e', 'and another, later');
is(call_on($y, $a, q{SELECT status FROM lease_handover('job', 'c', 'e')}), 'handed_over', 'the lease is handed over to the later one');
is(end_call($e), 'acquired', 'who gets it');

# A client that dies leaves the queue.  PgBouncer then closes the server
# connection, which the backend notices.
my $f = client('waiting');
begin_call($f, sprintf $acquire, 'f');
wait_until_waiting('d f', 'one waits first, and another');
kill_client($d);
wait_until_waiting('f', 'the first dies, and does not wait any more');
is(call($a, q{SELECT status FROM lease_release('job', 'e')}), 'released', 'the lease is released');
is(end_call($f), 'acquired', 'and the other gets it');

# session => true means the server connection, which is the pool's
my $g = client('pool');
is(call_on($x, $g, q{SELECT status FROM lease_acquire('session', 'g', '1 h', session => true)}), 'acquired',
	'a lease is acquired for the session');
kill_client($g);
is(call_on($y, $a, q{SELECT lease_holder('session')}), 'g', 'it is still held when the client has gone');
is(call_on($x, $a, q{SELECT lease_holder('session')}), 'g', 'as its backend is still there');
admin('RECONNECT pool');
ok($node->poll_query_until('postgres', q{SELECT lease_holder('session') IS NULL}),
	'it is released when PgBouncer closes the server connection');
is($node->safe_psql('postgres', q{SELECT end_reason FROM lease_history WHERE name = 'session'}), 'session end', 'as the history says');

kill_client($_) foreach @clients;
$bouncer->signal('INT');
$bouncer->finish;
$bouncer = undef;
$node->stop;
done_testing();
