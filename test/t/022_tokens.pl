# I2: the tokens of a lease only grow and are never issued twice, whatever happens
# to the server: a crash, promotions of standbys that lack the last transactions,
# also of two on the same timeline, a restore of a base backup or of a dump to an
# earlier time, an upgrade, the extension made anew.  Between the grants the lease
# is released or deleted, so nothing of it is left but the tokens.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use Crash qw(kill_postmaster_and_restart);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# ---------- The tokens ----------

my %seen;				# token => where
my $greatest = 0;

# 32 values of a sequence are in the WAL before they are used, and are skipped
# after a crash or a promotion.  So that this alone does not help, more are used.
my $cycles = 30;
my $cycle = q{
	SELECT FROM lease l, lease_release(l.name, l.holder_identity) WHERE l.name = 'job' AND l.holder_identity <> '';
	SELECT fencing_token FROM lease WHERE name = 'job';
	SELECT fencing_token FROM lease_acquire('job', 'a', '1 h');
	DELETE FROM lease WHERE name = 'job';
	SELECT fencing_token FROM lease_acquire('job', 'b', '1 h');
};

# The lease changes hands, each time in a transaction that is acknowledged.
sub grants
{
	my ($node, $where, $database) = @_;
	my @tokens = split /\n/, $node->safe_psql($database // 'postgres', $cycle x $cycles);
	my $before = $greatest;
	my (@again, @smaller);

	cmp_ok(scalar @tokens, '>=', 3 * $cycles - 1, "$where: " . @tokens . ' tokens');
	foreach my $token (@tokens)
	{
		push @again, "$token ($seen{$token})" if $seen{$token};
		push @smaller, $token if $token <= $greatest;
		$seen{$token} //= $where;
		$greatest = $token if $token > $greatest;
	}
	is(scalar @again, 0, "$where: none was issued before") or diag("first: $again[0]");
	is(scalar @smaller, 0, "$where: they grow") or diag("first: $smaller[0], after $before");
	return;
}

# The greatest token that a server knows of
sub known_to
{
	my ($node, $database) = @_;

	return $node->safe_psql($database // 'postgres',
		'SELECT max(fencing_token) FROM (SELECT fencing_token FROM lease UNION ALL SELECT fencing_token FROM lease_history) t');
}

sub has_lost_tokens
{
	my ($node, $what, $database) = @_;

	return cmp_ok(known_to($node, $database), '<', $greatest, "$what: the last grants are lost");
}

# Servers that do not know of each other do not begin in the same second.
sub next_second
{
	my $second = int(time());

	usleep(20_000) until int(time()) > $second;
	return;
}

# ---------- The servers ----------

sub new_server
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	# Nothing is written for seconds unless a commit insists.
	$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
synchronous_commit = off
wal_writer_delay = 10s
autovacuum = off
lease.gc_interval = 0
});
	return $node;
}

sub standby_of
{
	my ($upstream, $name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$upstream->backup($name);
	$node->init_from_backup($upstream, $name, has_streaming => 1);
	$node->start;
	$upstream->wait_for_catchup($node, 'replay', $upstream->lsn('flush'));
	return $node;
}

# From now on it gets nothing from the server before it.
sub cut_off
{
	my ($standby) = @_;

	$standby->append_conf('postgresql.conf', "primary_conninfo = ''\n");
	$standby->reload;
	$standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
	  or die 'the standby still receives';
	return;
}

sub promote
{
	my ($standby, $what) = @_;

	next_second();
	$standby->promote;
	has_lost_tokens($standby, $what);
	return;
}

sub timeline { return hex $_[0]->safe_psql('postgres', 'SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)'); }

# ---------- A crash ----------

my $a = new_server('a');
$a->start;
$a->safe_psql('postgres', 'CREATE EXTENSION lease');
grants($a, 'the first server');
kill_postmaster_and_restart($a);
is(known_to($a), $greatest, 'after a crash: nothing is lost');
grants($a, 'after a crash');

# ---------- Promotions ----------

my $b = standby_of($a, 'b');
my $c = standby_of($a, 'c');
cut_off($_) foreach $b, $c;
grants($a, 'the first server, alone');
$a->stop('immediate');
promote($b, 'promoted');
grants($b, 'promoted');

my $d = standby_of($b, 'd');
cut_off($d);
grants($b, 'the second server, alone');
$b->stop('immediate');
promote($d, 'promoted again');
grants($d, 'promoted again');

# It has never heard of the second server.
promote($c, 'promoted beside it');
is(join(' ', map { timeline($_) } $c, $d), '2 3', 'the timelines: the second server was on 2 as well');
grants($c, 'promoted beside it');

# ---------- Back to an earlier time ----------

$c->enable_archiving;
$c->restart;
$c->backup('pitr');
$c->safe_psql('postgres', q{SELECT pg_create_restore_point('earlier')});
grants($c, 'after the restore point');
my $segment = $c->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
$c->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver")
  or die 'nothing is archived';
$c->stop('immediate');

my $e = PostgreSQL::Test::Cluster->new('e');
$e->init_from_backup($c, 'pitr', has_restoring => 1, standby => 0);
$e->append_conf('postgresql.conf', q{
recovery_target_name = 'earlier'
recovery_target_action = promote
archive_mode = off
});
next_second();
$e->start;
$e->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'still in recovery';
has_lost_tokens($e, 'point-in-time recovery');
grants($e, 'point-in-time recovery');

# ---------- A dump that is older than the last grants ----------

my $dump = "$PostgreSQL::Test::Utils::tmp_check/tokens.sql";
$e->command_ok([ 'pg_dump', '--clean', '--if-exists', '--file', $dump, $e->connstr('postgres') ], 'a dump');
grants($e, 'after the dump');

sub restore
{
	my ($node, $database, $what) = @_;

	next_second();
	$node->command_ok([ 'psql', '--no-psqlrc', '--quiet', '--set=ON_ERROR_STOP=1', '--file', $dump, $node->connstr($database) ],
		"restore: $what");
	has_lost_tokens($node, $what, $database);
	grants($node, $what, $database);
	return;
}

# d has been there for longer than e, whose tokens are in the dump.
foreach my $node ($e, $d)
{
	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	restore($node, 'restored', 'restored into another database, of server ' . $node->name);
}
restore($e, 'postgres', 'restored in place');

# ---------- The extension ----------

$e->safe_psql('postgres', 'DO $$ BEGIN EXECUTE format($e$ALTER EXTENSION lease UPDATE TO %L$e$, (SELECT extversion FROM pg_extension WHERE extname = $e$lease$e$)); END $$');
grants($e, 'ALTER EXTENSION UPDATE');
next_second();
$e->safe_psql('postgres', 'DROP EXTENSION lease; CREATE EXTENSION lease');
grants($e, 'DROP and CREATE EXTENSION');

# ---------- An upgrade ----------

SKIP:
{
	my $bindir = $e->config_data('--bindir');
	skip 'no pg_upgrade', 4 unless -x "$bindir/pg_upgrade";

	my $f = new_server('f');
	$e->stop;
	chdir $PostgreSQL::Test::Utils::tmp_check or die $!;
	command_ok([ 'pg_upgrade', '--no-sync', '--old-bindir', $bindir, '--new-bindir', $bindir,
			'--old-datadir', $e->data_dir, '--new-datadir', $f->data_dir,
			'--old-port', $e->port, '--new-port', $f->port, '--socketdir', $e->host ],
		'pg_upgrade');
	$f->start;
	grants($f, 'pg_upgrade');
	$f->stop;
}

$d->stop;
done_testing();
