# What lease_warnings warns of, with other sessions and with time: each warning
# appears, blames the right one, and goes away with its cause.  Thresholds are 5
# and 20 seconds, so all culprits begin first.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use FakeClock;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

# The worker would use transaction IDs, of which there must not be too many.
my $node = PostgreSQL::Test::Cluster->new('warnings');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
# Times are set back instead of waiting, and the server has just started.
lease.recovery_grace = off
lease.worker = off
max_connections = 50
fsync = off
synchronous_commit = off
max_prepared_transactions = 5
autovacuum = off
autovacuum_freeze_max_age = 100000
autovacuum_multixact_freeze_max_age = 10000
hot_standby_feedback = on
wal_receiver_status_interval = 1
});
$node->start;

sub query { return $node->safe_psql('postgres', $_[0]); }

sub until_true
{
	my ($sql, $what, $on) = @_;

	ok(($on // $node)->poll_query_until('postgres', $sql), $what);
}

# A session that has done something and sits there
sub culprit
{
	my $s = Psql->new($node);

	$s->do($_) foreach @_;
	return $s;
}

# Transactions with an ID, far more than any other
sub burn { query("DO \$\$ BEGIN FOR i IN 1 .. $_[0] LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END \$\$"); }

my %make = (
	held => q{SELECT FROM lease_acquire('NAME', 'h', '3 h')},
	expired => q{SELECT FROM lease_acquire('NAME', 'h', '1 h'); UPDATE lease SET renew_time = clock_timestamp() - interval '4 h' WHERE name = 'NAME'},
	free => q{SELECT FROM lease_acquire('NAME', 'h', '1 h'); SELECT FROM lease_release('NAME', 'h')},
);

sub make_lease { query($make{ $_[1] } =~ s/NAME/$_[0]/gr); }

query(q{CREATE EXTENSION lease; CREATE ROLE looker; GRANT SELECT ON lease, lease_lockers, lease_warnings TO looker; CREATE DATABASE other;
	CREATE TABLE big AS SELECT generate_series(1, 20000) AS i});

#
# Whoever is to blame begins
#
my $lock = q{SELECT FROM lease WHERE name = 'NAME' FOR UPDATE};
my $guard = q{SELECT lease_guard('NAME', fencing_token) FROM lease WHERE name = 'NAME'};

# The lease, what it is like, and what a session does; with or without a warning
my @cases = (
	[ 'locked', 'expired', [ 'BEGIN', $lock ], 'takeover blocked' ],
	[ 'deleted', 'expired', [ 'BEGIN', q{DELETE FROM lease WHERE name = 'NAME'} ], 'takeover blocked' ],
	[ 'free', 'free', [ 'BEGIN', $lock ], 'takeover blocked' ],
	[ 'held', 'held', [ 'BEGIN', $lock ], 'renewal blocked' ],
	[ 'updated', 'held', [ 'BEGIN', q{UPDATE lease SET labels = '{"a": "b"}' WHERE name = 'NAME'} ], 'renewal blocked' ],
	# in a subtransaction; in one of more than the server keeps in memory; in one that is over
	[ 'savepoint', 'expired', [ 'BEGIN; SAVEPOINT a; SELECT pg_current_xact_id(); SAVEPOINT b', $lock ], 'takeover blocked' ],
	[ 'savepoints', 'expired', [ 'BEGIN', map({ "SAVEPOINT s$_; SELECT pg_current_xact_id()" } 1 .. 70), $lock ], 'takeover blocked' ],
	[ 'rolled-back', 'expired', [ 'BEGIN; SELECT pg_current_xact_id(); SAVEPOINT a', $lock, 'ROLLBACK TO a' ] ],
	# two guards, which make a MultiXactId, and then the lease expires
	[ 'guarded', 'held', [ 'BEGIN', $guard ], 'takeover blocked' ],
	[ 'guarded', undef, [ 'BEGIN', $guard ], 'takeover blocked' ],
	# a guard of a valid lease is in nobody's way
	[ 'guarded-held', 'held', [ 'BEGIN', $guard ] ],
);
my (%sessions, %warning);
foreach my $case (@cases)
{
	my ($name, $state, $do, $warning) = @$case;

	make_lease($name, $state) if defined $state;
	push @{ $sessions{$name} }, culprit(map { s/NAME/$name/gr } @$do);
	$warning{$name} = $warning;
}
query(q{UPDATE lease SET renew_time = clock_timestamp() - interval '6 h' WHERE name = 'guarded'});
make_lease('prepared', 'expired');
query(q{BEGIN; SELECT FROM lease WHERE name = 'prepared' FOR UPDATE; PREPARE TRANSACTION 'it''s ready'});

my $old = culprit('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM lease');
my $statement = Psql->new($node);
$statement->send('SELECT pg_sleep(1000)');
# A VACUUM has a snapshot, too, but one that is in nobody's way.
my $vacuum = culprit('SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; SET vacuum_cost_page_miss = 10000; SET vacuum_cost_page_hit = 10000');
$vacuum->send('VACUUM big');
my $no_snapshot = culprit('BEGIN; SELECT FROM lease; SELECT 1');
my $elsewhere = culprit('\c other', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class');
$elsewhere->{pid} = $elsewhere->do('SELECT pg_backend_pid()');
until_true("SELECT backend_xmin IS NOT NULL FROM pg_stat_activity WHERE pid = $vacuum->{pid}", 'VACUUM runs');
burn(200);
my $innocent = join ',', map { $_->{pid} } $vacuum, $no_snapshot, $elsewhere;

#
# Row locks
#
is(query(q{SELECT lock_mode, count(*) FROM lease_lockers WHERE name IN ('guarded', 'guarded-held') GROUP BY 1}), 'FOR KEY SHARE|3', 'lockers: guards');
is(query(q{SELECT lock_mode, pid IS NULL, prepared, state, query FROM lease_lockers WHERE name = 'prepared'}), "FOR UPDATE|t|it's ready||", 'lockers: prepared');
is(query(q{SELECT name FROM lease_lockers WHERE name = 'rolled-back'}), '', 'lockers: not what was rolled back');

foreach my $name (sort keys %warning)
{
	next unless defined $warning{$name};
	my $pids = join ',', sort { $a <=> $b } map { $_->{pid} } @{ $sessions{$name} };

	until_true("SELECT coalesce(string_agg(pid::text, ',' ORDER BY pid), '') = '$pids' AND bool_and(warning = '$warning{$name}' AND since = a.xact_start AND detail LIKE 'session ' || pid || ' %')
		FROM lease_warnings JOIN pg_stat_activity a USING (pid, query) WHERE name = '$name'", "$warning{$name}: $name");
}
until_true(q{SELECT count(*) = 1 FROM lease_warnings WHERE name = 'prepared' AND pid IS NULL AND query IS NULL AND detail LIKE 'prepared transaction ''it''''s ready'' has the row locked FOR UPDATE%'},
	'takeover blocked: by a prepared transaction');
is(query(q{SELECT count(*) FROM lease_warnings WHERE name IN ('guarded-held', 'rolled-back')}), 0, 'no warning of a guard of a valid lease, nor of what was rolled back');
is(query(q{SELECT bool_and(value BETWEEN 5 AND 1000 AND abs(extract(epoch FROM duration) - value) < 0.001) FROM lease_warnings WHERE warning LIKE '% blocked'}), 't', 'value and duration: the age of the transaction');
is(query(q{SELECT string_agg(DISTINCT substring(detail FROM '; (.*)'), ', ') FROM lease_warnings WHERE warning LIKE '% blocked'}),
	'the lease can be acquired, the lease expired 3h ago, the lease expires in 179m', 'and when the lease expires');

# Whom he sees, and not what they do: as in pg_stat_activity
is(query(q{SET ROLE looker; SELECT count(DISTINCT name), bool_and(query = '<insufficient privilege>' AND since IS NULL) FROM lease_warnings WHERE warning = 'takeover blocked' AND pid IS NOT NULL}), '5|t',
	'an ordinary role sees who blocks what has expired');
query('GRANT pg_read_all_stats TO looker');
is(query(q{SET ROLE looker; SELECT count(DISTINCT name), bool_or(query = '<insufficient privilege>' OR since IS NULL) FROM lease_warnings WHERE warning = 'takeover blocked' AND pid IS NOT NULL}), '6|f',
	'a member of pg_read_all_stats, what they do');

# A short transaction is no reason to worry.
make_lease('short', 'expired');
my $short = culprit('BEGIN', $lock =~ s/NAME/short/r);
is(query(q{SELECT (SELECT count(*) FROM lease_lockers WHERE name = 'short'), (SELECT count(*) FROM lease_warnings WHERE name = 'short' AND duration < '5 s')}), '1|0', 'no warning before 5 seconds');
$short->do('COMMIT');

#
# Old snapshots
#
until_true("SELECT count(*) = 1 FROM lease_warnings w JOIN pg_stat_activity a USING (pid, query) WHERE warning = 'old snapshot' AND pid = $_->{pid} AND since = a.xact_start
	AND value >= 200 AND duration > '20 s' AND detail = format('session %s keeps row versions of the last %s transactions', pid, value)", 'old snapshot: ' . $_->{in_words})
  foreach map { { %{ $_->[0] }, in_words => $_->[1] } } [ $old, 'a transaction' ], [ $statement, 'a statement' ], [ $sessions{held}[0], 'a transaction with an ID' ];
until_true(q{SELECT count(*) = 1 FROM lease_warnings WHERE warning = 'old snapshot' AND pid IS NULL AND detail LIKE 'prepared transaction ''it''''s ready'' keeps%'}, 'old snapshot: a prepared transaction');
until_true("SELECT bool_and(xact_start < clock_timestamp() - interval '21 s') FROM pg_stat_activity WHERE pid IN ($innocent)", 'others are old enough, too');
is(query("SELECT age(backend_xmin) >= 100 FROM pg_stat_activity WHERE pid = $vacuum->{pid}"), 't', 'and VACUUM has an old snapshot');
is(query("SELECT count(*) FROM lease_warnings WHERE pid IN ($innocent)"), 0, 'no warning of VACUUM, of a transaction without snapshot, or in another database');

#
# Dead rows, and ages: what $old and the prepared transaction do
#
is(query(q{SELECT count(*) FROM lease_warnings WHERE warning IN ('dead rows', 'multixact age', 'transaction id age')}), 0, 'neither dead rows nor old ones yet');
query(q{DO $$ BEGIN FOR i IN 1 .. 11000 LOOP UPDATE lease SET labels = '{}' WHERE name = 'short'; END LOOP; END $$});
until_true(q{SELECT value > 10000 AND since IS NULL AND detail ~ '^table lease has 1\d{4} dead rows and \d+ live ones$' FROM lease_warnings WHERE warning = 'dead rows'}, 'dead rows');

# Each round makes a MultiXactId, of a lock and one in a subtransaction.
make_lease('multi', 'expired');
query(q{DO $$ BEGIN FOR i IN 1 .. 11000 LOOP
	PERFORM FROM lease WHERE name = 'multi' FOR KEY SHARE;
	BEGIN
		PERFORM FROM lease WHERE name = 'multi' FOR NO KEY UPDATE;
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
	END;
END LOOP; END $$});
is(query(q{SELECT value > 10500, detail ~ '^multixact age: table lease' FROM lease_warnings WHERE warning = 'multixact age'}), 't|t', 'multixact age');
is(query(q{SELECT count(*) FROM lease_warnings WHERE warning = 'transaction id age'}), 0, 'transaction ids are still young');
burn(106000);
is(query(q{SELECT value > 105000, detail ~ '^transaction id age: table lease' FROM lease_warnings WHERE warning = 'transaction id age'}), 't|t', 'transaction id age');
is(query(q{SET vacuum_failsafe_age = 0; SET vacuum_multixact_failsafe_age = 0; SELECT string_agg(warning, ', ' ORDER BY warning) FROM lease_warnings WHERE detail ~ ' age: database postgres'}),
	'multixact age, transaction id age', 'and of a database, by the limit of VACUUM');

#
# All good again
#
query(q{ROLLBACK PREPARED 'it''s ready'});
query("SELECT pg_cancel_backend(pid) FROM unnest(ARRAY[$statement->{pid}, $vacuum->{pid}]) pid");
$_->finish foreach map({ @$_ } values %sessions), $old, $statement, $vacuum, $no_snapshot, $elsewhere, $short;
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning IN ('takeover blocked', 'renewal blocked', 'old snapshot')}, 'all of these are gone');
is(query('SELECT count(*) FROM lease_lockers'), 0, 'nobody has a row locked');
query('VACUUM (FREEZE) lease');
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning IN ('dead rows', 'transaction id age', 'multixact age')}, 'VACUUM helps');
is(query('SELECT string_agg(warning, \',\' ORDER BY warning) FROM lease_warnings'), 'autovacuum off,not durable', 'what remains is how this server is set up');
$node->append_conf('postgresql.conf', "fsync = on\nautovacuum = on");
$node->reload;
until_true('SELECT count(*) = 0 FROM lease_warnings', 'and can be changed');
query('ALTER TABLE lease SET UNLOGGED');
is(query(q{SELECT warning, detail FROM lease_warnings}), 'not durable|table lease is unlogged', 'a table that is not logged');
query('ALTER TABLE lease SET LOGGED');
$node->append_conf('postgresql.conf', "fsync = off");
$node->reload;

#
# A standby
#
query(q{SELECT pg_create_physical_replication_slot('standby_slot', true)});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('warnings_standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_slot_name = 'standby_slot'");
$standby->start;

sub standby_query { return $standby->safe_psql('postgres', $_[0]); }

is(standby_query(q{SELECT count(*) FROM lease_warnings WHERE warning <> 'not durable'}), 0, 'standby: no warnings');
make_lease('locked-on-primary', 'expired');
make_lease('guarded-on-primary', 'held');
my @on_primary = (culprit('BEGIN', $lock =~ s/NAME/locked-on-primary/r), map { culprit('BEGIN', $guard =~ s/NAME/guarded-on-primary/gr) } 1 .. 2);
query(q{UPDATE lease SET renew_time = clock_timestamp() - interval '4 h' WHERE name = 'guarded-on-primary'});
until_true('SELECT count(*) = 3 FROM lease_lockers', 'standby: lockers on the primary', $standby);
is(standby_query('SELECT name, lock_mode, pid, count(*) FROM lease_lockers GROUP BY 1, 2, 3 ORDER BY 1'), "guarded-on-primary|FOR KEY SHARE||2\nlocked-on-primary|FOR UPDATE||1", 'standby: which have no pid here');
is(standby_query(q{SELECT string_agg(DISTINCT substring(detail FROM '^.* primary'), ',') FROM lease_warnings WHERE warning = 'takeover blocked'}), 'a transaction on the primary', 'standby: and warnings');
$_->finish foreach @on_primary;

# An old snapshot there, which feedback makes one here
my $there = Psql->new($standby);
$there->do('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM lease');
my $xmin = $there->do("SELECT backend_xmin FROM pg_stat_activity WHERE pid = $there->{pid}");
until_true("SELECT xmin::text::bigint <= $xmin FROM pg_replication_slots", 'the standby has said so');
burn(10100);
is(query(q{SELECT pid = active_pid, value >= 10000, detail LIKE 'replication slot standby_slot keeps%' FROM lease_warnings, pg_replication_slots WHERE warning = 'old snapshot'}), 't|t|t',
	'old snapshot: on a standby with a slot');
until_true("SELECT count(*) = 1 FROM lease_warnings WHERE warning = 'old snapshot' AND pid = $there->{pid} AND query LIKE 'SELECT backend_xmin%'", 'and there, whose it is', $standby);
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = off');
$standby->reload;
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning = 'old snapshot'}, 'without feedback it does no harm', $standby);
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = on');
$standby->reload;
until_true('SELECT xmin IS NOT NULL FROM pg_replication_slots', 'with feedback again');
$standby->append_conf('postgresql.conf', "primary_slot_name = ''");
$standby->reload;
until_true('SELECT NOT active FROM pg_replication_slots', 'the slot is not used any more');
until_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'walsender' AND backend_xmin IS NOT NULL}, 'the standby is there without it');
burn(10100);
is(query(q{SELECT string_agg(substring(detail FROM '^.* keeps'), ',' ORDER BY detail), count(r.pid) FROM lease_warnings w LEFT JOIN pg_stat_replication r USING (pid) WHERE warning = 'old snapshot'}),
	'standby warnings_standby keeps,unused replication slot standby_slot keeps|1', 'old snapshot: on a standby without slot, and a slot that nobody uses');
$there->finish;
query(q{SELECT pg_drop_replication_slot('standby_slot')});
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning = 'old snapshot'}, 'gone with them');

$standby->stop;
$node->stop;
unlike(slurp_file($_->logfile), qr/TRAP|PANIC|was terminated by signal/, 'nothing went wrong in the server') foreach $node, $standby;

#
# The clock is set.
#
SKIP:
{
	skip 'needs libfaketime (Debian package libfaketime)', 1 unless FakeClock::library();

	my $node = PostgreSQL::Test::Cluster->new('clock');
	my $ask = sub { return $node->safe_psql('postgres', $_[0]); };

	$node->init;
	$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'lease'});
	my $clock = FakeClock->new($node);
	$clock->start;
	$ask->('CREATE EXTENSION lease');
	is($ask->('SELECT * FROM lease_clock_steps()'), '0||', 'clock: no steps');
	$clock->set(0.05);
	is($ask->('SELECT * FROM lease_clock_steps()'), '0||', 'clock: a twentieth of a second is none');
	$clock->set(3600);
	is($ask->(q{SELECT steps, round(extract(epoch FROM last_step)), clock_timestamp() - last_step_at < '1 minute' FROM lease_clock_steps()}), '1|3600|t', 'clock: a step forward');
	is($ask->('SELECT steps FROM lease_clock_steps()'), 1, 'clock: is seen once');
	is($ask->(q{SELECT since <= clock_timestamp(), duration < '1 minute', round(value), detail LIKE 'the server''s clock was set forward by %' FROM lease_warnings WHERE warning = 'clock step'}), 't|t|3600|t',
		'clock: and warned of');
	$clock->set(0);
	is($ask->(q{SELECT since BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp(), round(value), detail LIKE 'the server''s clock was set back by %' FROM lease_warnings WHERE warning = 'clock step'}),
		't|-3600|t', 'clock: a step back');
	is($ask->('SELECT steps FROM lease_clock_steps()'), 2, 'clock: counted');

	# Without preloading, a session that looks again and again
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', q{''});
	$node->stop;
	$clock->start;
	my $session = Psql->new($node);
	is($session->do('SELECT * FROM lease_clock_steps()'), '0||', 'clock, not preloaded: no steps');
	$clock->set(3600);
	is($session->do(q{SELECT round(value) FROM lease_warnings WHERE warning = 'clock step'}), 3600, 'clock, not preloaded: a step that a session sees');
	is($ask->('SELECT * FROM lease_clock_steps()'), '0||', 'clock, not preloaded: others do not');
	$session->finish;
	$node->stop;
}

done_testing();
