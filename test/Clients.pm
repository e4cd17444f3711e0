# Runs the clients of history.c; History.pm judges what they wrote down.

package Clients;

use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

# What the clients need in the database.
our $SCHEMA = q{
	CREATE EXTENSION lease;
	CREATE ROLE tenant;
	GRANT SELECT, INSERT, UPDATE, DELETE ON lease TO tenant;
	ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
	CREATE POLICY everything ON lease TO tenant USING (true);
	INSERT INTO lease (name) VALUES ('l0'), ('l1'), ('l2'), ('l3');

	-- Numbers put the guarded writes in the order of their commits.
	CREATE TABLE counter (name text PRIMARY KEY, n bigint);
	CREATE TABLE written (name text, n bigint, token bigint, client text, PRIMARY KEY (name, n));
	INSERT INTO counter VALUES ('l0', 0), ('l1', 0), ('l2', 0), ('l3', 0), ('d0', 0), ('d1', 0);
	GRANT SELECT, UPDATE ON counter TO tenant;
	GRANT SELECT, INSERT ON written TO tenant;
};

sub pg_config
{
	my ($what) = @_;
	my ($value) = run_command([ $ENV{PG_CONFIG} || 'pg_config', "--$what" ]);
	return $value;
}

# Settings for where renewals are kept.  There is not room for all leases, and what is
# in memory is written back all the time.
sub storage
{
	my ($where) = @_;

	return qq{
lease.heartbeat_storage = $where
lease.heartbeat_entries = 5
lease.heartbeat_flush_interval = 1
};
}

# Builds the program and starts so many clients for so long.
sub start
{
	my ($class, $conninfo, $clients, $seconds, $seed) = @_;
	my $program = "$PostgreSQL::Test::Utils::tmp_check/history";
	my $self = bless { directory => "$program.$$", out => '' }, $class;

	mkdir $self->{directory} or die "could not create directory $self->{directory}: $!";
	system_or_bail((split ' ', $ENV{CC} || pg_config('cc')), '-O1', '-Wall', '-std=gnu11',
		'-I' . pg_config('includedir'), '-o', $program, "$FindBin::RealBin/../history.c",
		'-L' . pg_config('libdir'), '-Wl,-rpath,' . pg_config('libdir'), '-lpq');
	$self->{handle} = IPC::Run::start([ $program, $conninfo, $clients, $seconds, $seed, $self->{directory} ],
		'<', \undef, '>&', \$self->{out});
	return $self;
}

# Now, as clients write it down.
sub now { return int(1e6 * clock_gettime(CLOCK_MONOTONIC)); }

# Something that others than clients have to say; see History.pm.
sub note_down
{
	my ($self, %r) = @_;

	append_to_file("$self->{directory}/faults.log",
		join(' ', map { $r{$_} // '-' } qw(client txn level op name duration sent received answer holder token)) . "\n");
	return;
}

# The process of a client.
sub pid
{
	my ($self, $client) = @_;

	return (slurp_file("$self->{directory}/pids") =~ /^\Q$client\E (\d+)$/m)[0];
}

sub stop { $_[0]->{handle}->signal('TERM'); return; }

# Waits for their end, adds what they have written to the table, and says whether
# all went well.
sub finish
{
	my ($self, $node) = @_;
	my $fine = $self->{handle}->finish;

	diag($1) while $self->{out} =~ /^(history: .*)$/mg;
	foreach my $row (split /\n/, $node->safe_psql('postgres', 'SELECT client, name, n, token FROM written'))
	{
		my ($client, $name, $n, $token) = split /\|/, $row;
		$self->note_down(client => $client, op => 'row', name => $name, holder => $n, token => $token, sent => 0, received => 0);
	}
	return $fine;
}

1;
