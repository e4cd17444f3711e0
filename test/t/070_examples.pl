# The programs under examples/ do what docs/recipes.md says, in every language:
# somebody else takes over when one is killed or gives up, a restart of the
# server is survived, a job runs once, every shard has one owner, a writer that
# slept too long writes nothing.
#
# Each language has a database, so that all can be at it at the same time.
# What a program knows is read from its output, a line for each event.

use strict;
use warnings;

use FindBin;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $examples = "$FindBin::RealBin/../../examples";
my $scratch = $PostgreSQL::Test::Utils::tmp_check;

my $node = PostgreSQL::Test::Cluster->new('examples');
# With WAL senders, a commit may have to wait for a standby.
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\nfsync = off\n");
$node->start;

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
# libpq asks the system for it, node-pg does not.
$ENV{PGUSER} //= getpwuid($<);
# where Debian puts packages, at which its own node looks anyway, and npm
my $global = `npm root --global 2>/dev/null` // '';
chomp $global;
$ENV{NODE_PATH} = join ':', grep { defined && length } $ENV{NODE_PATH}, '/usr/share/nodejs', $global;

# ---------- Languages ----------

sub succeeds { return !system("@_ >/dev/null 2>&1"); }

sub pg_config
{
	my ($what) = @_;
	my ($value) = run_command([ $ENV{PG_CONFIG} || 'pg_config', "--$what" ]);
	return $value;
}

sub compile
{
	my ($program) = @_;

	system_or_bail((split ' ', $ENV{CC} || pg_config('cc')), '-O1', '-Wall', '-Werror', '-std=gnu11',
		'-I' . pg_config('includedir'), '-o', "$scratch/$program",
		"$examples/c/$program.c", "$examples/c/holder.c",
		'-L' . pg_config('libdir'), '-Wl,-rpath,' . pg_config('libdir'), '-lpq');
}

my @programs = qw(leader cron shards writer);
my ($python) = grep { succeeds($_, '-c', '"import psycopg"') } 'python3', '/usr/bin/python3';
my ($nodejs) = grep { succeeds($_, '-e', q{"require('pg')"}) } 'node', 'nodejs';
my %command;		# language -> the words before the arguments

compile($_) foreach @programs;
$command{c} = sub { return "$scratch/$_[0]" };
$command{python} = sub { return ($python, "$examples/python/$_[0].py") } if $python;
$command{node} = sub { return ($nodejs, "$examples/node/$_[0].js") } if $nodejs;
my @languages = sort keys %command;

SKIP:
{
	skip 'no python3-psycopg: the programs in Python', scalar @programs unless $python;
	pass("python: $_") foreach @programs;
}
SKIP:
{
	skip 'no node-pg: the programs in JavaScript', scalar @programs unless $nodejs;
	pass("node: $_") foreach @programs;
}

foreach my $language (@languages, 'sql')
{
	$node->safe_psql('postgres', "CREATE DATABASE $language");
	$node->safe_psql($language, 'CREATE EXTENSION lease');
}

# ---------- Processes ----------

my %running;		# pid -> process

# Starts a program as a holder of that name, for leases of so many seconds.
sub start
{
	my ($language, $program, $holder, $duration, @arguments) = @_;
	my $log = "$scratch/$language.$program.$holder.log";
	# not in the child: an earlier one's output is not to be taken for its own
	open(my $out, '>', $log) or die "could not write $log: $!";
	# PostgreSQL's modules catch these, to stop the servers
	local @SIG{qw(TERM INT)} = qw(DEFAULT DEFAULT);
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		local %ENV = (%ENV, PGDATABASE => $language, PGAPPNAME => $holder,
			LEASE_HOLDER => $holder, LEASE_DURATION => $duration);
		open(STDOUT, '>&', $out);
		open(STDERR, '>&', \*STDOUT);
		{
			no warnings 'exec';
			exec $command{$language}->($program), @arguments;
		}
		POSIX::_exit(127);
	}
	return $running{$pid} = { pid => $pid, log => $log, database => $language,
		holder => $holder, what => "$language: $program $holder" };
}

END
{
	local $?;
	kill('KILL', keys %running);
}

sub wait_until
{
	my ($what, $condition) = @_;

	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $condition->();
		select(undef, undef, undef, 0.05);
	}
	die "timed out waiting for $what";
}

sub output { return -e $_[0]{log} ? slurp_file($_[0]{log}) : ''; }

# Waits for such a line (write qr/^.../m); returns what is in parentheses in the expression.
sub line
{
	my ($process, $expression) = @_;
	my @found;

	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return wantarray ? @found : $found[0] if @found = output($process) =~ $expression;
		last if !$running{$process->{pid}} || $process->{ended};
		select(undef, undef, undef, 0.05);
		$process->{ended} = waitpid($process->{pid}, POSIX::WNOHANG) > 0;
	}
	die "$process->{what} did not say $expression:\n" . output($process);
}

# Sends a signal and waits for the end; returns the exit status as in $?.
sub end
{
	my ($process, $signal) = @_;

	kill($signal, $process->{pid}) if $signal;
	waitpid($process->{pid}, 0);
	delete $running{$process->{pid}};
	return $?;
}

sub query { my ($language, $sql) = @_; return $node->safe_psql($language, $sql); }

# Stops a process, its own or the one that serves it, while it is idle.
sub suspend
{
	my ($process, $pid) = @_;
	my $state = "SELECT state FROM pg_stat_activity"
	  . " WHERE application_name = '$process->{holder}' AND datname = current_database()";

	wait_until("$process->{what} to be idle", sub {
		kill('STOP', $pid);
		$node->poll_query_until($process->{database}, "SELECT NOT EXISTS ($state AND state = 'active')")
		  if $pid == $process->{pid};
		return 1 if query($process->{database}, $state) eq 'idle';
		kill('CONT', $pid);
		return 0;
	});
}

# A rival acquires it, as if its holder had not been heard of for an hour.  The answer
# and the token.
sub take_over
{
	my ($language, $name) = @_;

	return split /\|/, query($language, qq{
		BEGIN;
		UPDATE lease SET renew_time = renew_time - interval '1 h' WHERE name = '$name';
		SELECT status, fencing_token FROM lease_acquire('$name', 'rival', '1 h');
		COMMIT});
}

# Has psql run a file of examples/sql, going on after errors.
sub run_sql
{
	my ($database, $file, $holder, @variables) = @_;
	my ($stdout, $stderr);

	$node->psql($database, "\\i $examples/sql/$file.sql", stdout => \$stdout, stderr => \$stderr,
		on_error_stop => 0, extra_params => [ '-v', "me=$holder", map { ('-v', $_) } @variables ]);
	$stderr =~ s/^.*NOTICE.*\n?//mg;
	return ($stdout, $stderr);
}

# ---------- Leader election ----------

my (%first, %second, %token);

foreach my $l (@languages)
{
	$first{$l} = start($l, 'leader', 'first', 2, 'l');
}
foreach my $l (@languages)
{
	$token{$l} = line($first{$l}, qr/^leader token=(\d+)$/m);
	$second{$l} = start($l, 'leader', 'second', 2, 'l');
}
foreach my $l (@languages)
{
	$node->poll_query_until($l, q{SELECT count(*) > 0 FROM lease_waiters() WHERE holder_identity = 'second'});
	unlike(output($second{$l}), qr/leader/, "$l: while one leads, the other waits");
	end($first{$l}, 'KILL');
}
foreach my $l (@languages)
{
	my $token = line($second{$l}, qr/^leader token=(\d+)$/m);

	cmp_ok($token, '>', $token{$l}, "$l: the leader is killed, and the other takes over");
	$first{$l} = start($l, 'leader', 'third', 2, 'l');
	$node->poll_query_until($l, q{SELECT count(*) > 0 FROM lease_waiters() WHERE holder_identity = 'third'});
	is(end($second{$l}, 'TERM'), 0, "$l: a leader that is asked to stop stops");
	like(output($second{$l}), qr/^done$/m, "$l: and says so");
	$token{$l} = line($first{$l}, qr/^leader token=(\d+)$/m);
	is(query($l, q{SELECT end_reason FROM lease_history WHERE holder_identity = 'second'}),
		'released', "$l: it has released the lease");
}

# Longer away than the lease lasts: they stop leading by their own clocks.
$node->stop;
line($first{$_}, qr/^lost l /m) foreach @languages;
like(output($first{$_}), qr/^unknown /m, "$_: first it could not tell, then it lost the lease")
  foreach @languages;
$node->start;
foreach my $l (@languages)
{
	is(line($first{$l}, qr/^lost(?:.*\n)*leader token=(\d+)$/m), $token{$l},
		"$l: when the server is back, it leads again: nobody else can have had the lease");
	is(end($first{$l}, 'TERM'), 0, "$l: stopped");
}

# A server that does not answer in time, a restart, a synchronous standby that
# does not answer: they go on leading.
foreach my $l (@languages)
{
	$first{$l} = start($l, 'leader', 'fourth', 9, 'l');
	$token{$l} = line($first{$l}, qr/^leader token=(\d+)$/m);
	$second{$l} = start($l, 'leader', 'fifth', 9, 'l');
}
my %backend;
foreach my $l (@languages)
{
	$backend{$l} = query($l, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'fourth' AND datname = current_database()});
	suspend($first{$l}, $backend{$l});
}
foreach my $l (@languages)
{
	line($first{$l}, qr/^unknown no answer in time\nrenewed$/m);
	unlike(output($first{$l}), qr/^lost/m, "$l: who hears nothing connects anew in time");
	kill('CONT', $backend{$l});
}
$node->restart;
foreach my $l (@languages)
{
	$node->poll_query_until($l, q{SELECT renew_time > pg_postmaster_start_time() FROM lease});
	unlike(output($first{$l}), qr/^lost/m, "$l: a restart of the server does not cost the leadership");
	is(query($l, q{SELECT fencing_token FROM lease WHERE name = 'l'}), $token{$l}, "$l: it is the same one");
	unlike(output($second{$l}), qr/^leader/m, "$l: the other goes on waiting");
	is(end($second{$l}, 'TERM'), 0, "$l: and can be stopped");
}
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'\n");
$node->reload;
foreach my $l (@languages)
{
	wait_until("$l to hear that its commit was not waited for", sub {
		query($l, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
		return output($first{$l}) =~ /^unknown committed here/m;
	});
	pass("$l: a renewal that may not be on the standby does not count");
}
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$node->reload;
foreach my $l (@languages)
{
	line($first{$l}, qr/^unknown committed here(?:.*\n)*renewed$/m);
	unlike(output($first{$l}), qr/^lost/m, "$l: the next one does");
	is(end($first{$l}, 'TERM'), 0, "$l: stopped");
}

# ---------- A job that runs once ----------

foreach my $l (@languages)
{
	my $ran = "$scratch/$l.ran";
	my @hosts = map { start($l, 'cron', "host$_", 2, 'job', 60, 'sh', '-c', "echo ran >> $ran") } 1 .. 3;

	is_deeply([ map { end($_) } @hosts ], [ 0, 0, 0 ], "$l: three hosts start the job, none complains");
	is(slurp_file($ran), "ran\n", "$l: it ran once");
	is(scalar(grep { output($_) =~ /^running token=\d+\n(?:.*\n)*done status=0$/m } @hosts), 1, "$l: one ran it");
	is(scalar(grep { output($_) =~ /^skipped (?:held|reserved)$/m } @hosts), 2, "$l: two did not");

	my $late = start($l, 'cron', 'late', 2, 'job', 60, 'sh', '-c', "echo ran >> $ran");
	is(end($late), 0, "$l: a fourth comes when the job is done");
	is(output($late), "skipped reserved\n", "$l: and leaves it alone");
}

# Processes of that group that are more than entries waiting to be removed
sub alive_in_group
{
	my ($pgid) = @_;
	my $alive = 0;

	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		open(my $fh, '<', $file) or next;
		$alive++ if (<$fh> // '') =~ /\) (\S) \d+ $pgid / && $1 ne 'Z';
	}
	return $alive;
}

# A job outlives a restart of the server.
my (%job, %pid);
foreach my $l (@languages)
{
	$job{$l} = start($l, 'cron', 'host', 9, 'through', 0, 'sh', '-c', 'echo "pid $$"; sleep 1000; exit 0');
	$pid{$l} = line($job{$l}, qr/^pid (\d+)$/m);
}
$node->restart;
foreach my $l (@languages)
{
	$node->poll_query_until($l, q{SELECT renew_time > pg_postmaster_start_time() FROM lease WHERE name = 'through'});
	unlike(output($job{$l}), qr/^lost/m, "$l: a restart of the server does not cost a job its lease");
	cmp_ok(alive_in_group($pid{$l}), '>', 1, "$l: and the job goes on");
	end($job{$l}, 'TERM');
}

# From here on leases are taken over from those who hold them, and not because the
# server has just started.
$node->append_conf('postgresql.conf', "lease.recovery_grace = off\n");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('lease.recovery_grace') = 'off'") or die 'no reload';

# A job whose lease is lost is killed with all that it has started.
foreach my $l (@languages)
{
	$job{$l} = start($l, 'cron', 'host', 2, 'long', 0, 'sh', '-c', 'echo "pid $$"; sleep 1000; exit 0');
}
foreach my $l (@languages)
{
	$pid{$l} = line($job{$l}, qr/^pid (\d+)$/m);
	cmp_ok(alive_in_group($pid{$l}), '>', 1, "$l: a job has processes");
	is((take_over($l, 'long'))[0], 'acquired', "$l: the lease of a running job is lost");
}
foreach my $l (@languages)
{
	line($job{$l}, qr/^lost long held$/m);
	isnt(end($job{$l}), 0, "$l: the program fails");
	wait_until("$l: the processes of the job to be gone", sub { !alive_in_group($pid{$l}) });
}
foreach my $l (@languages)
{
	$job{$l} = start($l, 'cron', 'host', 2, 'term', 0, 'sh', '-c', 'echo "pid $$"; sleep 1000; exit 0');
	$pid{$l} = line($job{$l}, qr/^pid (\d+)$/m);
	isnt(end($job{$l}, 'TERM'), 0, "$l: a program that is asked to stop stops its job");
	wait_until("$l: the processes of the job to be gone", sub { !alive_in_group($pid{$l}) });
	is(query($l, q{SELECT lease_holder('term')}), '', "$l: the lease is free");
}

# ---------- Shards ----------

# What a process believes to own
sub owned
{
	my ($process) = @_;
	my %owned;

	foreach (split /\n/, output($process))
	{
		$owned{$1} = 1 if /^own (\S+)/;
		delete $owned{$1} if /^(?:gave|lost) (\S+)/;
	}
	return sort keys %owned;
}

my @shards = map { "shard-$_" } 0 .. 5;

sub wait_for_shards
{
	my ($how_many, @processes) = @_;

	wait_until("the shards to be balanced", sub {
		return !grep { my @owned = owned($_); @owned != $how_many } @processes;
	});
	return join ' ', sort map { owned($_) } @processes;
}

foreach my $l (@languages)
{
	$first{$l} = start($l, 'shards', 'first', 2, scalar @shards);
}
foreach my $l (@languages)
{
	is(wait_for_shards(6, $first{$l}), "@shards", "$l: one process owns all shards");
	$second{$l} = start($l, 'shards', 'second', 2, scalar @shards);
}
foreach my $l (@languages)
{
	is(wait_for_shards(3, $first{$l}, $second{$l}), "@shards", "$l: two own half of them each, no shard twice");
	is(query($l, q{SELECT string_agg(DISTINCT holder_identity || ' ' || status, ', ') FROM lease_status WHERE name LIKE 'shard-%'}),
		'first held, second held', "$l: the database says so, too");
}
$node->restart;
foreach my $l (@languages)
{
	$node->poll_query_until($l, q{SELECT count(*) = 6 FROM lease_status
		WHERE name LIKE 'shard-%' AND status = 'held' AND renew_time > pg_postmaster_start_time()});
	is(wait_for_shards(3, $first{$l}, $second{$l}), "@shards", "$l: after a restart of the server they own half of them each");
	end($first{$l}, 'KILL');
}
foreach my $l (@languages)
{
	is(wait_for_shards(6, $second{$l}), "@shards", "$l: one is killed, and the other owns all");
	is(end($second{$l}, 'TERM'), 0, "$l: it is asked to stop");
	is(query($l, q{SELECT count(*) FROM lease_status WHERE namespace = 'shards' AND status = 'held'}), '0',
		"$l: and has released all");
}

# ---------- Fenced writers ----------

# The statements for psql make the table, and a trigger that guards it.
foreach my $l (@languages)
{
	run_sql($l, 'writer', 'setup');
	query($l, 'ALTER TABLE journal DISABLE TRIGGER fence; TRUNCATE journal; ALTER TABLE journal ENABLE TRIGGER fence');
	$first{$l} = start($l, 'writer', 'writer', 2, 'journal');
}
foreach my $l (@languages)
{
	$token{$l} = line($first{$l}, qr/^wrote 2 token=(\d+)$/m);
	suspend($first{$l}, $first{$l}{pid});
	my (undef, $rival) = take_over($l, 'journal');
	cmp_ok($rival, '>', $token{$l}, "$l: the writer sleeps too long, and a rival gets its lease");
	my $rows = q{SELECT string_agg(format('%s %s', line, token), ',' ORDER BY line) FROM journal};
	my $written = query($l, $rows);

	kill('CONT', $first{$l}{pid});
	line($first{$l}, qr/^refused token=$token{$l}\b/m);
	is(query($l, $rows), $written, "$l: when it wakes up it writes nothing");
	is(query($l, q{SELECT lease_holder('journal')}), 'rival', "$l: and the rival is left alone");
	query($l, q{SELECT lease_release('journal', 'rival')});
	cmp_ok(line($first{$l}, qr/^refused(?:.*\n)*wrote \d+ token=(\d+)$/m), '>', $rival,
		"$l: under a new token it writes again");
	like(query($l, q{SELECT string_agg(DISTINCT token::text, ',') FROM journal}), qr/^\d+,\d+$/,
		"$l: two tokens have written");
}
$node->restart;
foreach my $l (@languages)
{
	my $written = query($l, 'SELECT count(*) FROM journal');

	ok($node->poll_query_until($l, "SELECT count(*) > $written AND count(*) = max(line) - min(line) + 1 FROM journal"),
		"$l: after a restart of the server it goes on writing, and leaves no gap");
	is(end($first{$l}, 'TERM'), 0, "$l: stopped");
}

# ---------- psql ----------

my ($stdout, $stderr) = run_sql('sql', 'cron', 'a');
is("$stdout$stderr", 'done', 'sql: a job runs');
($stdout, $stderr) = run_sql('sql', 'cron', 'b');
is("$stdout$stderr", 'skipped reserved', 'sql: on one host only');
is(query('sql', 'SELECT count(*), min(made_by) FROM report'), '1|a', 'sql: once');

($stdout, $stderr) = run_sql('sql', 'shards', 'a', 'count=4', 'share=2');
is($stderr, '', 'sql: shards');
($stdout, $stderr) = run_sql('sql', 'shards', 'b', 'count=4', 'share=3');
is($stderr, '', 'sql: shards of another');
is(query('sql', q{SELECT string_agg(format('%s %s', name, holder_identity), ',' ORDER BY name) FROM lease_status WHERE namespace = 'shards' AND status = 'held'}),
	'shard-0 a,shard-1 a,shard-2 b,shard-3 b', 'sql: each shard has one owner');

($stdout, $stderr) = run_sql('sql', 'writer', 'a');
is(query('sql', q{SELECT string_agg(line::text, ',' ORDER BY line) FROM journal}), '1,2',
	'sql: writes under a token are there, others are not');
is(scalar(() = $stderr =~ /ERROR/g), 2, 'sql: without one, or with an old one, there is an error');

{
	local $command{sql} = sub { return ('psql', '-X', '-q', '-At', '-v', 'me=a', '-v', 'every=0.1', '-f', "$examples/sql/leader.sql") };
	my $leader = start('sql', 'leader', 'a', 15);

	is(line($leader, qr/^acquired\|(?:.*\n)+?(renewed)\|/m), 'renewed', 'sql: a leader renews by acquiring');
	end($leader, 'KILL');
}

$node->stop;
done_testing();
