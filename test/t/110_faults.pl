# The clients of 030_concurrency.pl work while a nemesis torments the server, in
# all the ways listed below, in an order and at moments chosen at random.  In the
# end the history of all calls must be that of a correct lease, and the server
# healthy.
#
# A minute has time for each kind once, on a machine that is not too busy; then
# they come again in another order.
#
#	LEASE_FAULT_SECONDS=600			for longer
#	LEASE_SEED=1234					a sequence again; the printed seed is that of the last one
#	LEASE_FAULTS=ddl,kill-backend	only these
#	LEASE_PRELOAD=0					without shared_preload_libraries
#	LEASE_STORAGE=memory			renewals stay in memory, but for a lease or two (111_faults_memory.pl)
#	LEASE_TEST_CLIENTS=32			more clients
#
# disk-full needs a mount namespace (see SmallDisk.pm); where the kernel allows none to
# the user, it is left out.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use SmallDisk;

use Clients;
use File::Path qw(rmtree);
use History;
use IO::Socket::UNIX;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(time usleep);

plan skip_all => 'needs /proc' unless -r '/proc/self/stat';

my $seconds = $ENV{LEASE_FAULT_SECONDS} || 60;
my $clients = $ENV{LEASE_TEST_CLIENTS} || 16;
my $seed = $ENV{LEASE_SEED} // int(rand(1e5)) + 1;
my $preload = $ENV{LEASE_PRELOAD} // 1;

# The longest duration the clients use, in seconds.
my $max_duration = 3;

$History::MEMORY = ($ENV{LEASE_STORAGE} // '') eq 'memory';
srand($seed);
note("seed $seed: LEASE_SEED=$seed repeats the sequence of faults, and what the clients do");

# How long a call may take here.  Some locks are held for longer.
$History::LIMIT = 2_000_000;

# One server, and a place for a standby.
my ($primary, $standby) = map { PostgreSQL::Test::Cluster->new($_) } qw(a b);

sub wal_directory { return ($SmallDisk::PATH // $_[0]->basedir) . '/wal_' . $_[0]->name; }

$primary->init(allows_streaming => 1, extra => [ '--waldir', wal_directory($primary), '--wal-segsize=1' ]);
$primary->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\n") if $preload;

# Nothing is written for seconds unless a commit insists.
$primary->append_conf('postgresql.conf', qq{
synchronous_commit = off
wal_writer_delay = 10s
restart_after_crash = on
max_connections = @{[ 2 * $clients + 20 ]}
min_wal_size = 2MB
max_wal_size = 16MB
wal_keep_size = 8MB
log_statement = none
log_error_verbosity = verbose
lease.gc_interval = 1
});
$primary->append_conf('postgresql.conf', Clients::storage($ENV{LEASE_STORAGE} // 'table')) if $preload;
$primary->start;
$primary->safe_psql('postgres', $Clients::SCHEMA);

# They find the one that is the primary.
my $run = Clients->start(
	sprintf('host=%s,%s port=%d,%d dbname=postgres target_session_attrs=read-write connect_timeout=10 application_name=history',
		$primary->host, $standby->host, $primary->port, $standby->port),
	$clients, $seconds + 120, $seed);

# Our own sessions do not mind what is done to the settings of the server.
$ENV{PGOPTIONS} = '-c statement_timeout=0 -c lock_timeout=30s';

# ---------- Tools ----------

# What it prints, or undef: the server may just be away, and psql have ended before it
# could be told what to ask.
sub try
{
	my ($sql, $node) = @_;
	my ($status, $out) = eval { ($node // $primary)->psql('postgres', $sql) };

	die $@ if $@ && $@ !~ /Broken pipe/;
	return ($status // 1) == 0 ? $out : undef;
}

sub wait_until
{
	my ($what, $condition) = @_;

	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $condition->();
		usleep(50_000);
	}
	die "timed out waiting for $what";
}

# From so many seconds to so many: time for the clients, not a wait for anything.
sub let_them_work
{
	my ($from, $to) = @_;

	usleep(1e6 * ($from + rand($to - $from)));
	return;
}

sub session { return Psql->new($primary); }

# Runs it, and writes down when that was.
sub during
{
	my ($name, $excuses, $code) = @_;
	my $from = Clients::now();

	$code->();
	$run->note_down(op => 'fault', name => $name, answer => $excuses, sent => $from, received => Clients::now());
	return;
}

# A process that is dead but not waited for by its parent does not run any more.
sub state_of
{
	my ($pid) = @_;

	open(my $fh, '<', "/proc/$pid/stat") or return;
	return (<$fh> // '') =~ /\) (\S) (\d+)/;
}

sub is_running { return ((state_of($_[0]))[0] // 'Z') ne 'Z'; }

sub postmaster { return (slurp_file($_[0]->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0]; }

# All processes of a server, the postmaster first.
sub processes
{
	my ($postmaster) = @_;

	return ($postmaster, grep { ((state_of($_))[1] // 0) == $postmaster } map { m{(\d+)} } glob '/proc/[0-9]*');
}

# Starts the server when all of the old one is gone.
sub start_again
{
	my ($node, @old) = @_;

	wait_until('the server to be gone', sub { !grep { kill 0, $_ } @old });
	wait_until('the server to start', sub { $node->start(fail_ok => 1) });
	return;
}

my $WALWRITER = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'};

# Ends a process of the server, so that it restarts all, and waits for that.
sub crash
{
	my ($which) = @_;
	my $before = try($WALWRITER) // '';

	wait_until('a process to kill', sub {
		my $pid = try("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND $which ORDER BY random() LIMIT 1");
		return $pid && kill('KILL', $pid) == 1;
	});
	wait_until('the restart after a crash', sub {
		my $now = try($WALWRITER);
		return $now && $now ne $before;
	});
	return;
}

sub set
{
	my ($node, %settings) = @_;

	$node->safe_psql('postgres', join '', map { "ALTER SYSTEM SET $_ = '$settings{$_}';\n" } sort keys %settings);
	$node->reload;
	return;
}

sub reset_all
{
	$primary->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
	$primary->reload;
	return;
}

# ---------- Promotions ----------

sub make_standby
{
	my ($quiet) = @_;

	rmtree($standby->data_dir);
	system_or_bail('pg_basebackup', '--pgdata', $standby->data_dir, '--waldir', wal_directory($standby),
		'--dbname', $primary->connstr('postgres'), '--checkpoint=fast', '--no-sync');
	$standby->append_conf('postgresql.conf', "port = @{[ $standby->port ]}\nlease.quiet_period = $quiet\n");
	$standby->enable_streaming($primary);
	# Its old postmaster may be dead and still there, until its parent has waited for it.
	wait_until('the standby to start', sub { $standby->start(fail_ok => 1) });
	wait_until('the standby', sub { try(q{SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'}) });
	return;
}

# The standby gets nothing any more.
sub cut_off
{
	$standby->append_conf('postgresql.conf', "primary_conninfo = ''\n");
	$standby->reload;
	wait_until('the standby to be cut off', sub { try('SELECT count(*) = 0 FROM pg_stat_wal_receiver', $standby) eq 't' });
	return;
}

# Kills the primary, really, and promotes the standby.  With synchronous
# replication nothing is lost that was acknowledged, though some commits gave up
# waiting for the standby.  Without, all since the standby was cut off.
sub promote
{
	my ($name, $synchronous) = @_;
	my $quiet = $synchronous ? 0 : $max_duration;
	my ($cut, $from);

	make_standby($quiet);
	my $there = Psql->new($standby);
	if ($synchronous)
	{
		set($primary, synchronous_commit => 'on', synchronous_standby_names => '*');
		wait_until('synchronous replication', sub { (try('SELECT sync_state FROM pg_stat_replication') // '') eq 'sync' });
		my $lsn = try('SELECT pg_current_wal_insert_lsn()');
		wait_until('the standby to have all', sub { (try("SELECT flush_lsn >= '$lsn' FROM pg_stat_replication") // '') eq 't' });
	}
	let_them_work(0.3, 1);

	$cut = $from = Clients::now();
	cut_off() if !$synchronous || rand() < 0.5;
	let_them_work(0.3, 1);
	if ($synchronous)
	{
		try(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND random() < 0.7});
		let_them_work(0.1, 0.3);
	}
	else
	{
		$from = Clients::now();
	}

	my @old = processes(postmaster($primary));
	kill 'STOP', $old[0];
	kill 'KILL', reverse @old;
	$primary->kill9;
	wait_until('the primary to be dead', sub { !grep { is_running($_) } @old });

	my $replayed = '';
	wait_until('the standby to have replayed what it has', sub {
		my $before = $replayed;
		return ($replayed = $there->do('SELECT pg_last_wal_replay_lsn()')) eq $before;
	});
	my @known = split /\n/, $there->do(q{
		SELECT name, coalesce(nullif(holder_identity, ''), '-'), lease_duration_seconds, fencing_token FROM lease
		WHERE namespace = 'default' AND fencing_token IS NOT NULL});
	my $sent = Clients::now();
	$there->do('SELECT pg_promote()') eq 't' or die 'the standby was not promoted';
	my %when = (sent => $sent, received => Clients::now());
	$there->finish;

	$run->note_down(op => 'promoted', duration => $quiet, %when);
	foreach my $lease ($synchronous ? () : @known)
	{
		my %r;
		@r{qw(name holder duration token)} = split /\|/, $lease;
		$run->note_down(op => 'cut', txn => $cut, %r, %when);
	}
	$run->note_down(op => 'fault', name => $name, answer => 'down', sent => $from, received => $when{received});
	rmtree(wal_directory($primary));
	($primary, $standby) = ($standby, $primary);
	return;
}

# ---------- The faults ----------

my $snapshot;
my %fault;

$fault{'kill-backend'} = sub {
	during($_[0], 'down', sub { crash('true') });
};

# Renewals are all that is possible for a while, and those need not be flushed.
$fault{'kill-unflushed'} = sub {
	my ($name) = @_;

	during($name, 'locked', sub {
		my $s = session();

		$s->do('BEGIN; LOCK TABLE counter IN EXCLUSIVE MODE; ALTER SEQUENCE lease_fencing_token_seq CACHE 1');
		let_them_work(0.5, 1);
		during($name, 'down', sub { crash(q{backend_type = 'client backend'}) });
		$s->kill_client;
	});
};

$fault{'immediate-shutdown'} = sub {
	during($_[0], 'down', sub { $primary->stop('immediate'); $primary->start; });
};

$fault{'kill-postmaster'} = sub {
	during($_[0], 'down', sub {
		my @old = processes(postmaster($primary));
		$primary->kill9;
		start_again($primary, @old);
	});
};

$fault{'promote-synchronous'} = sub { promote($_[0], 1); };
$fault{'promote-asynchronous'} = sub { promote($_[0], 0); };

# Leaders who do not notice that their time is over.
$fault{'paused-holder'} = sub {
	my @holders = grep { $_ } split /\n/, try(q{SELECT DISTINCT holder_identity FROM lease_status WHERE status = 'held'}) // '';
	my %pid = map { ($_ => $run->pid($_)) } grep { $run->pid($_) } @holders;
	my $from = Clients::now();

	kill 'STOP', values %pid;
	let_them_work($max_duration, $max_duration + 0.5);
	kill 'CONT', values %pid;
	foreach my $client (sort keys %pid)
	{
		$run->note_down(client => $client, op => 'fault', name => $_[0], answer => 'paused', sent => $from, received => Clients::now());
	}
};

# For longer than any call may take.
$fault{'idle-in-transaction'} = sub {
	during($_[0], 'locked', sub {
		my $s = session();

		$s->do(q{BEGIN; SELECT status FROM unnest('{l0,l1,l2,l3,d0,d1}'::text[]) AS name, lease_acquire(name, 'idle', '2 s')});
		$s->do(q{SELECT name FROM lease FOR UPDATE SKIP LOCKED});
		let_them_work(2.5, 3.5);
		if (rand() < 0.5) { try("SELECT pg_terminate_backend($s->{pid}, 5000)"); $s->kill_client; }
		else              { $s->do('ROLLBACK'); $s->finish; }
	});
};

$fault{timeouts} = sub {
	during($_[0], 'slow', sub {
		set($primary, statement_timeout => '15ms', lock_timeout => '5ms');
		let_them_work(1, 2);
		reset_all();
	});
};

$fault{'terminated-waiters'} = sub {
	during($_[0], 'ended', sub {
		for (1 .. 6)
		{
			my $how = rand() < 0.6 ? 'terminate' : 'cancel';
			try("SELECT count(pg_${how}_backend(pid)) FROM pg_stat_activity WHERE wait_event IN ('LeaseAcquire', 'Extension') AND random() < 0.7");
			let_them_work(0.1, 0.3);
		}
	});
};

$fault{'disk-full'} = sub {
	my $ballast = "$SmallDisk::PATH/ballast";

	during($_[0], 'down', sub {
		my @old = processes(postmaster($primary));

		open(my $fh, '>', $ballast) or die "could not open $ballast: $!";
		1 while syswrite($fh, 'x' x 65536);
		close $fh;
		# More than fits into what is there to be used again
		try(q{SELECT pg_logical_emit_message(true, '', repeat('x', 1000000)) FROM generate_series(1, 64)});
		let_them_work(0.1, 0.5);
		unlink $ballast;
		$primary->stop('immediate', fail_ok => 1);
		start_again($primary, @old);
	});
};

# A connection that does nothing, without a process for it; undef if the server refuses.
sub hog
{
	my $socket = IO::Socket::UNIX->new(Peer => sprintf('%s/.s.PGSQL.%d', $primary->host, $primary->port)) or return;
	my $startup = pack('nn(Z*)4x', 3, 0, user => scalar getpwuid($>), database => 'postgres');

	syswrite($socket, pack('N', 4 + length $startup) . $startup);
	sysread($socket, my $answer, 1);
	return ($answer // '') eq 'R' ? $socket : undef;
}

# Who loses the connection gets no other for a while.
$fault{connections} = sub {
	during($_[0], 'ended', sub {
		my $s = session();
		my @hogs;

		for (1 .. 3)
		{
			while (my $hog = hog()) { push @hogs, $hog; }
			$s->do(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'history' AND random() < 0.2});
			let_them_work(0.1, 0.3);
		}
		$s->finish;
	});
};

$fault{collection} = sub {
	during($_[0], 'collected', sub {
		my $until = time() + 1.5;

		try(q{INSERT INTO lease_gc_policy (name, namespace, selector) VALUES ('all', 'default', '')});
		try('CALL lease_gc_all()') while time() < $until;
		try(q{DELETE FROM lease_gc_policy WHERE name = 'all'});
	});
};

# Each changes which way leads to the rows, or what is planned and cached.
my @ddl = (
	'ALTER TABLE lease ADD CONSTRAINT extra CHECK (renew_time IS NOT NULL OR holder_identity IS NULL)',
	'ALTER TABLE lease DROP CONSTRAINT IF EXISTS extra',
	'ALTER TABLE lease DISABLE ROW LEVEL SECURITY',
	'ALTER TABLE lease ENABLE ROW LEVEL SECURITY',
	'CREATE INDEX extra ON lease (holder_identity)',
	'DROP INDEX IF EXISTS extra',
	'REINDEX TABLE lease',
	'ALTER TABLE lease SET (fillfactor = 50)');

$fault{ddl} = sub {
	during($_[0], 'locked', sub {
		my $s = session();

		foreach my $ddl ((shuffle @ddl)[ 0, 1 ])
		{
			$s->do("BEGIN; $ddl");
			rand() < 0.25 ? let_them_work(2.2, 2.6) : let_them_work(0, 0.3);
			$s->do(rand() < 0.7 ? 'COMMIT' : 'ROLLBACK');
			let_them_work(0, 0.1);
		}
		$s->finish;
	});
};

$fault{'vacuum-full'} = sub {
	during($_[0], 'locked', sub {
		try('VACUUM FULL lease; VACUUM FULL lease_history; VACUUM FULL counter; VACUUM FULL written') for 1 .. 2;
	});
};

# Stays through the faults that follow, until the next one of its kind.
$fault{snapshot} = sub {
	during($_[0], 'nothing', sub {
		$snapshot->kill_client if $snapshot;
		$snapshot = session();
		# It has no lock that would keep DDL waiting.
		$snapshot->do('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_snapshot()');
	});
};

# ---------- Now ----------

# One mistake often shows in thousands of answers.
sub few_of_each
{
	my %seen;

	return grep { /^([^:]*)/ && $seen{$1}++ < 5 } @_;
}

if (!$SmallDisk::PATH)
{
	delete $fault{'disk-full'};
	note('no disk-full: the kernel does not allow a mount namespace to this user');
}

my @kinds = $ENV{LEASE_FAULTS} ? split(/,/, $ENV{LEASE_FAULTS}) : sort keys %fault;
my %done = map { ($_ => 0) } @kinds;
my $began = time();

# The worker, too, locks what has expired, to say so.
$run->note_down(op => 'fault', name => 'worker', answer => 'collected', sent => 0, received => 9_000_000_000_000_000) if $preload;

wait_until('clients', sub { (try('SELECT count(*) FROM lease_status WHERE holder_identity IS NOT NULL') // 0) > 0 });
for (my @next; time() < $began + $seconds;)
{
	@next = shuffle @kinds unless @next;

	my $kind = shift @next;
	my $code = $fault{$kind} // die "no such fault: $kind";
	my $from = time();

	$code->($kind);
	$done{$kind}++;
	note(sprintf('%6.1f s: %s, %.1f s', $from - $began, $kind, time() - $from));
	let_them_work(0, 0.7);
}
let_them_work(0.5, 1);
$run->stop;
ok($run->finish($primary), "$clients clients ran for $seconds s with seed $seed");

my @records = History::read_directory($run->{directory});
my ($count, @complaints) = History::check(@records);
note(join ', ', map { "$count->{$_} $_" } sort keys %$count);
note('faults: ' . join ', ', map { "$done{$_} $_" } @kinds);
is(scalar @complaints, 0, "the history of seed $seed is that of a correct lease")
  or diag(join "\n", few_of_each(@complaints), 'before the first of them:', History::before($complaints[0], 60, @records));

# And it was a history worth looking at.
cmp_ok($count->{$_}, '>', $seconds / 5, "enough happened: $_") foreach qw(grant renewed held released written);

# ---------- The server afterwards ----------

$snapshot->kill_client if $snapshot;
ok($primary->poll_query_until('postgres', q{
		SELECT bool_and((lease_acquire(name, 'last', '1 s', wait => '5 s')).acquired) FROM unnest('{l0,l1,l2,l3,d0,d1}'::text[]) AS name}),
	'every lease can be acquired');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'no transaction is left over');

if ($primary->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'}))
{
	is($primary->safe_psql('postgres', q{
		CREATE EXTENSION amcheck;
		SELECT bool_and(bt_index_check(i.indexrelid, true)::text = '') FROM pg_index AS i
		JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
		WHERE i.indrelid IN ('lease'::regclass, 'lease_history'::regclass) AND a.amname = 'btree'}), 't', 'the indexes are whole');
}

my @bad;
foreach my $log (map { slurp_file($_) } grep { -e } map { $_->logfile } $primary, $standby)
{
	push @bad, grep { !/ PANIC:  53100:/ } $log =~ /^(.*(?: PANIC: |ERROR:  XX|FATAL:  XX|TRAP:| leak).*)$/mg;
	push @bad, $log =~ /^(.*terminated by signal (?:4|7|8|11)\b.*)$/mg;
	push @bad, $log =~ /^(.*terminated by signal 6\b.*)$/mg unless $done{'disk-full'};
}
is(scalar @bad, 0, 'nothing in the logs that must not be') or diag(join "\n", splice(@bad, 0, 20));

$primary->stop;
done_testing();
