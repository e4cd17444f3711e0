# What lease_warnings warns of, with other sessions and with time: each warning
# appears, blames the right one, and goes away with its cause.  Thresholds are 5
# and 20 seconds, so all culprits begin first, and then there is some waiting.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('warnings');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
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
$node->safe_psql('postgres', 'CREATE EXTENSION lease; CREATE ROLE looker LOGIN; GRANT SELECT ON lease, lease_lockers, lease_warnings TO looker');

sub query { return $node->safe_psql('postgres', $_[0]); }

sub until_true
{
	my ($sql, $what, $on) = @_;

	ok(($on // $node)->poll_query_until('postgres', $sql), $what);
}

# Sessions that have done something and sit there
sub culprit
{
	my $s = Psql->new($node);

	$s->do($_) foreach @_;
	return $s;
}

# Transactions with an ID, far more than any other
sub burn { $_[0]->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1 .. $_[1] LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END \$\$"); }

my %acquire = (
	held => q{SELECT FROM lease_acquire('NAME', 'h', '1 h')},
	expired => q{SELECT FROM lease_acquire('NAME', 'h', '1 h'); UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE name = 'NAME'},
	free => q{SELECT FROM lease_acquire('NAME', 'h', '1 h'); SELECT FROM lease_release('NAME', 'h')},
);
my $lock = q{BEGIN; SELECT FROM lease WHERE name = 'NAME' FOR UPDATE};
my $guard = q{BEGIN; SELECT lease_guard('NAME', fencing_token) FROM lease WHERE name = 'NAME'};

# Lease, what it is like, and who sits on it
my %culprits;

sub sits_on
{
	my ($name, $state, @do) = @_;

	query($acquire{$state} =~ s/NAME/$name/gr) if defined $state;
	push @{ $culprits{$name} }, culprit(map { s/NAME/$name/gr } @do);
	return $culprits{$name}[-1];
}

#
# Row locks
#
sits_on('expired-locked', 'expired', $lock);
sits_on('expired-deleted', 'expired', q{BEGIN; DELETE FROM lease WHERE name = 'NAME'});
sits_on('free-locked', 'free', $lock);
sits_on('held-locked', 'held', $lock);
sits_on('held-updated', 'held', q{BEGIN; UPDATE lease SET labels = '{"a": "b"}' WHERE name = 'NAME'});

# in a subtransaction; and in one of more than the server keeps in memory
sits_on('expired-savepoint', 'expired', 'BEGIN; SAVEPOINT a; SELECT pg_current_xact_id(); SAVEPOINT b', $lock =~ s/BEGIN; //r);
sits_on('expired-savepoints', 'expired', 'BEGIN', map({ "SAVEPOINT s$_; CREATE TEMP TABLE t$_ ()" } 1 .. 70), $lock =~ s/BEGIN; //r);
sits_on('expired-rolled-back', 'expired', 'BEGIN; SELECT pg_current_xact_id(); SAVEPOINT a', $lock =~ s/BEGIN; //r, 'ROLLBACK TO a');

# two guards, which make a MultiXactId, and the renewal that they let pass
sits_on('expired-guarded', 'held', $guard);
sits_on('expired-guarded', undef, $guard);
query(q{UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE name = 'expired-guarded'});
# a guard of a valid lease is in nobody's way
sits_on('held-guarded', 'held', $guard);

# a prepared transaction
query($acquire{expired} =~ s/NAME/expired-prepared/gr);
query(q{BEGIN; SELECT FROM lease WHERE name = 'expired-prepared' FOR UPDATE; PREPARE TRANSACTION 'it''s ready'});

# who looks from an old snapshot
query($acquire{held} =~ s/NAME/seen-of-old/r);
my $old = culprit(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM lease});
query(q{SELECT FROM lease_renew('seen-of-old', 'h')}) foreach 1 .. 3;
sits_on('seen-of-old', undef, $lock);
is($old->do(q{SELECT lock_mode, pid FROM lease_lockers WHERE name = 'seen-of-old'}), "FOR UPDATE|$culprits{'seen-of-old'}[0]{pid}",
	'a lock on a newer version than the one that a snapshot shows');

#
# Snapshots.  $old holds one.
#
my $old_statement = Psql->new($node);
$old_statement->send('SELECT pg_sleep(1000)');
my $only_idle = culprit('BEGIN; SELECT FROM lease; SELECT 1');
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $elsewhere = culprit('\c other', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class');
$elsewhere->{pid} = $elsewhere->do('SELECT pg_backend_pid()');
burn($node, 200);
my $young_to = culprit('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM lease');

# Who is who
sub pids_of { return join(',', sort { $a <=> $b } map { $_->{pid} } @_); }

sub blamed_for
{
	my ($warning, $name) = @_;

	return "SELECT coalesce(string_agg(pid::text, ',' ORDER BY pid), 'nobody') FROM lease_warnings WHERE warning = '$warning'"
	  . (defined $name ? " AND name = '$name'" : '');
}

# lease_lockers knows at once
is(query(q{SELECT lock_mode, count(*) FROM lease_lockers WHERE name IN ('expired-guarded', 'held-guarded') GROUP BY 1}), 'FOR KEY SHARE|3', 'lockers: guards');
is(query(q{SELECT lock_mode, pid IS NULL, prepared, state, query FROM lease_lockers WHERE name = 'expired-prepared'}), "FOR UPDATE|t|it's ready||", 'lockers: prepared');
is(query(q{SELECT name FROM lease_lockers WHERE name = 'expired-rolled-back'}), '', 'lockers: not what was rolled back');

foreach my $name (sort grep { !/^held-guarded|^expired-rolled-back/ } keys %culprits)
{
	my $warning = $name =~ /^(?:expired|free)/ ? 'takeover blocked' : 'renewal blocked';
	my $pids = pids_of(@{ $culprits{$name} });

	until_true("SELECT '$pids' = (" . blamed_for($warning, $name) . ')', "$warning: $name by $pids");
	is(query("SELECT count(*) FROM lease_warnings JOIN pg_stat_activity a USING (pid, query) WHERE name = '$name' AND since = a.xact_start AND detail ~ a.pid::text"),
		scalar @{ $culprits{$name} }, "$name: with the query and the time");
}
until_true("SELECT 'default|t|t' = array_to_string(ARRAY(SELECT concat_ws('|', namespace, pid IS NULL, query IS NULL) FROM lease_warnings "
	  . "WHERE name = 'expired-prepared' AND detail ~ 'ROLLBACK PREPARED ''it''''s ready'''), ',')", 'takeover blocked: by a prepared transaction');
is(query(q{SELECT count(*) FROM lease_warnings WHERE name IN ('held-guarded', 'expired-rolled-back')}), 0, 'no warning of a guard of a valid lease, nor of what was rolled back');
is(query(q{SELECT bool_and(value BETWEEN 5 AND 1000 AND duration BETWEEN '5 s' AND '1000 s') FROM lease_warnings WHERE warning LIKE '% blocked'}), 't',
	'value and duration are the age of the transaction');
is(query(q{SELECT string_agg(DISTINCT substring(detail FROM 'expired 2h|expires in \d+m'), ',') ~ '^expired 2h,expires in 59m$' FROM lease_warnings WHERE name ~ 'locked'}), 't',
	'the expiry is told');

# An ordinary role is told by whom, not what he does.
is($node->safe_psql('postgres', q{SELECT count(DISTINCT name), bool_and(query = '<insufficient privilege>') FROM lease_warnings WHERE warning = 'takeover blocked' AND pid IS NOT NULL AND name LIKE 'expired%'},
		extra_params => [ '-U', 'looker' ]), '5|t', 'an ordinary role sees who blocks what has expired');

# A short transaction that just has an expired lease is no reason to worry.
query($acquire{expired} =~ s/NAME/expired-now/gr);
my $short = culprit($lock =~ s/NAME/expired-now/r);
is(query(q{SELECT (SELECT count(*) FROM lease_lockers WHERE name = 'expired-now'), (SELECT count(*) FROM lease_warnings WHERE name = 'expired-now' AND duration < '5 s')}), '1|0',
	'no warning before 5 seconds');
$short->do('COMMIT');

# Old snapshots
until_true("SELECT pid = $_->{pid} AND query = a.query AND value >= 200 AND duration > '20 s' FROM lease_warnings w JOIN pg_stat_activity a USING (pid, query) "
	  . "WHERE warning = 'old snapshot' AND pid = $_->{pid} AND w.since = a.xact_start", 'old snapshot: ' . $_->{pid})
  foreach $old, $old_statement, $culprits{'held-locked'}[0];
until_true(q{SELECT count(*) = 1 FROM lease_warnings WHERE warning = 'old snapshot' AND pid IS NULL AND detail LIKE '%COMMIT PREPARED ''it''''s ready''%'},
	'old snapshot: a prepared transaction');
until_true("SELECT xact_start < clock_timestamp() - interval '21 s' FROM pg_stat_activity WHERE pid = $young_to->{pid}", 'one that is old enough, too');
is(query("SELECT count(*) FROM lease_warnings WHERE pid IN ($only_idle->{pid}, $young_to->{pid}, $elsewhere->{pid})"), 0,
	'not of a transaction without snapshot, nor of one since which little was written, nor in another database');
burn($node, 200);
is(query("SELECT count(*) FROM lease_warnings WHERE pid IN ($only_idle->{pid}, $young_to->{pid}, $elsewhere->{pid})"), 1, 'until something was');

# A VACUUM has a snapshot that is in nobody's way.
{
	query('CREATE TABLE big AS SELECT generate_series(1, 20000) AS i');
	my $vacuum = culprit('SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; SET vacuum_cost_page_miss = 10000; SET vacuum_cost_page_hit = 10000');
	$vacuum->send('VACUUM big');
	until_true("SELECT backend_xmin IS NOT NULL FROM pg_stat_activity WHERE pid = $vacuum->{pid} AND xact_start < clock_timestamp() - interval '21 s'", 'a long VACUUM');
	burn($node, 200);
	is(query("SELECT age(backend_xmin) >= 100 FROM pg_stat_activity WHERE pid = $vacuum->{pid}"), 't', 'with an old snapshot');
	is(query("SELECT count(*) FROM lease_warnings WHERE pid = $vacuum->{pid}"), 0, 'is not warned of');
	query("SELECT pg_cancel_backend($vacuum->{pid})");
	$vacuum->finish;
}

#
# Dead rows, and ages: what $old and the prepared transaction do
#
query(q{DO $$ BEGIN FOR i IN 1 .. 10100 LOOP UPDATE lease SET labels = '{}' WHERE name = 'expired-now'; END LOOP; END $$; SELECT pg_stat_force_next_flush()});
until_true(q{SELECT value > 10000 AND since IS NULL AND detail LIKE '%never vacuumed%' FROM lease_warnings WHERE warning = 'dead rows'}, 'dead rows');

# Each round makes two MultiXactIds of a lock and one in a subtransaction.
query(q{DO $$ BEGIN FOR i IN 1 .. 11000 LOOP
	PERFORM FROM lease WHERE name = 'expired-now' FOR KEY SHARE;
	BEGIN
		PERFORM FROM lease WHERE name = 'expired-now' FOR NO KEY UPDATE;
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
	END;
END LOOP; END $$});
until_true(q{SELECT value > 10500 AND detail LIKE '%table lease%' FROM lease_warnings WHERE warning = 'multixact age'}, 'multixact age');
is(query(q{SELECT count(*) FROM lease_warnings WHERE warning = 'transaction id age'}), 0, 'transaction ids are still young');
burn($node, 106000);
until_true(q{SELECT value > 105000 AND detail LIKE '%table lease%' FROM lease_warnings WHERE warning = 'transaction id age'}, 'transaction id age');
is(query(q{SET vacuum_failsafe_age = 0; SET vacuum_multixact_failsafe_age = 0; SELECT DISTINCT substring(detail FROM 'database postgres are \d+ \w+ old') ~ 'database postgres are 1\d+ (transactions|multixacts) old'
	FROM lease_warnings WHERE warning IN ('transaction id age', 'multixact age') AND detail ~ 'database postgres'}), 't', 'and of a database, by the limit of VACUUM');

#
# All good again
#
foreach my $name (sort keys %culprits)
{
	$_->finish foreach @{ $culprits{$name} };
}
query(q{ROLLBACK PREPARED 'it''s ready'});
query("SELECT pg_cancel_backend($old_statement->{pid})");
$_->finish foreach $old, $old_statement, $only_idle, $elsewhere, $young_to, $short;
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning IN ('takeover blocked', 'renewal blocked', 'old snapshot')}, 'all of these are gone');
is(query('SELECT count(*) FROM lease_lockers'), 0, 'nobody has a row locked');
query('VACUUM (FREEZE) lease; SELECT pg_stat_force_next_flush()');
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning IN ('dead rows', 'transaction id age', 'multixact age')}, 'VACUUM helps');

is(query('SELECT string_agg(warning, \',\' ORDER BY warning) FROM lease_warnings'), 'autovacuum off,not durable', 'what remains is how this server is set up');
query(q{ALTER SYSTEM SET fsync = on; });
query(q{ALTER SYSTEM SET autovacuum = on});
query('SELECT pg_reload_conf()');
until_true('SELECT count(*) = 0 FROM lease_warnings', 'and can be changed');
query(q{ALTER SYSTEM RESET ALL});
query('SELECT pg_reload_conf()');
query('ALTER TABLE lease SET UNLOGGED');
is(query(q{SELECT count(*) FROM lease_warnings WHERE warning = 'not durable'}), 1, 'a table that is not logged');
query('ALTER TABLE lease SET LOGGED');

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

is(standby_query(q{SELECT count(*) FROM lease_warnings WHERE warning NOT IN ('not durable')}), 0, 'standby: no warnings');

sits_on('expired-on-primary', 'expired', $lock);
sits_on('expired-guarded-on-primary', 'held', $guard);
sits_on('expired-guarded-on-primary', undef, $guard);
query(q{UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE name = 'expired-guarded-on-primary'});
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
until_true(q{SELECT count(*) = 1 FROM lease_lockers WHERE name = 'expired-on-primary' AND lock_mode = 'FOR UPDATE' AND pid IS NULL}, 'standby: a locker on the primary', $standby);
is(standby_query(q{SELECT count(*) FROM lease_lockers WHERE name = 'expired-guarded-on-primary' AND lock_mode = 'FOR KEY SHARE' AND pid IS NULL}), 2, 'standby: two guards on the primary');
is(standby_query(q{SELECT detail ~ 'on the primary' FROM lease_warnings WHERE name = 'expired-on-primary'}), 't', 'standby: is warned of');
$_->do('ROLLBACK') foreach map { @{ $culprits{$_} } } 'expired-on-primary', 'expired-guarded-on-primary';

# An old snapshot there, which feedback makes one here
my $there = Psql->new($standby);
$there->do('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM lease');
my $xmin = $there->do("SELECT backend_xmin FROM pg_stat_activity WHERE pid = $there->{pid}");
until_true("SELECT xmin::text::bigint <= $xmin FROM pg_replication_slots", 'the standby has said so');
burn($node, 10100);
is(query(q{SELECT pid = active_pid, value >= 10000, detail ~ 'slot standby_slot .*end old transactions on the standby' FROM lease_warnings, pg_replication_slots WHERE warning = 'old snapshot'}), 't|t|t',
	'old snapshot: on a standby with a slot');
until_true("SELECT count(*) = 1 FROM lease_warnings WHERE warning = 'old snapshot' AND pid = $there->{pid} AND query LIKE 'SELECT backend_xmin%'", 'and there, whose it is', $standby);
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = off');
$standby->reload;
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning = 'old snapshot'}, 'without feedback it does no harm', $standby);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nprimary_slot_name = ''");
$standby->reload;
query(q{SELECT pg_drop_replication_slot('standby_slot')}) if $node->poll_query_until('postgres', 'SELECT NOT active FROM pg_replication_slots');
until_true(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'walsender' AND backend_xmin IS NOT NULL}, 'the standby is there without slot');
burn($node, 10100);
is(query(q{SELECT w.pid = r.pid, value >= 10000, detail ~ 'standby warnings_standby ' FROM lease_warnings w, pg_stat_replication r WHERE warning = 'old snapshot'}), 't|t|t',
	'old snapshot: on a standby without slot');
$there->finish;
until_true(q{SELECT count(*) = 0 FROM lease_warnings WHERE warning = 'old snapshot'}, 'gone with it');

# A slot that nobody uses
query(q{SELECT pg_create_physical_replication_slot('standby_slot', true)});
$standby->append_conf('postgresql.conf', "primary_slot_name = 'standby_slot'");
$standby->reload;
until_true(q{SELECT count(xmin) = 1 FROM pg_replication_slots}, 'the standby uses a slot');
$standby->stop;
burn($node, 10100);
is(query(q{SELECT pid IS NULL, detail ~ 'pg_drop_replication_slot\(''standby_slot''\)' FROM lease_warnings WHERE warning = 'old snapshot'}), 't|t', 'old snapshot: an unused slot');
query(q{SELECT pg_drop_replication_slot('standby_slot')});
is(query(q{SELECT count(*) FROM lease_warnings WHERE warning = 'old snapshot'}), 0, 'gone with it');

unlike(slurp_file($_->logfile), qr/TRAP|PANIC|was terminated by signal/, 'nothing went wrong in the server') foreach $node, $standby;

#
# Without preloading
#
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', q{''});
$node->restart;
is(query('SELECT * FROM lease_clock_steps()'), '||', 'not preloaded: nothing is known about the clock');
is(query(q{SELECT count(*) FROM lease_warnings WHERE warning NOT IN ('autovacuum off', 'not durable')}), 0, 'not preloaded: the rest works');
$node->stop;

#
# The clock is set.  Only that of one server, by libfaketime.
#
SKIP:
{
	my ($library) = grep { -e } map { "$_/faketime/libfaketime.so.1" } glob('/usr/lib/*-linux-gnu /usr/lib /usr/lib64 /usr/local/lib');
	skip 'needs libfaketime (Debian package faketime)', 1 unless $library;

	my $clock = PostgreSQL::Test::Cluster->new('clock');
	my $file = $clock->basedir . '/time';
	my $set = sub { append_to_file("$file.new", "$_[0]\n"); rename("$file.new", $file) or die; };
	my $ask = sub { return $clock->safe_psql('postgres', $_[0]); };

	$clock->init;
	$clock->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'");
	$set->('+0');
	{
		local %ENV = (%ENV, LD_PRELOAD => $library, FAKETIME_TIMESTAMP_FILE => $file, FAKETIME_NO_CACHE => 1, FAKETIME_DONT_FAKE_MONOTONIC => 1);
		$clock->start;
	}
	$ask->('CREATE EXTENSION lease');
	is($ask->('SELECT * FROM lease_clock_steps()'), '0||', 'clock: no steps');
	$set->('+0.05');
	is($ask->('SELECT * FROM lease_clock_steps()'), '0||', 'clock: a twentieth of a second is none');
	$set->('+3600');
	is($ask->(q{SELECT steps, round(extract(epoch FROM last_step)), clock_timestamp() - last_step_at < '1 minute' FROM lease_clock_steps()}), '1|3600|t', 'clock: a step forward');
	is($ask->('SELECT steps FROM lease_clock_steps()'), 1, 'clock: is seen once');
	is($ask->(q{SELECT pid IS NULL, since <= clock_timestamp(), duration < '1 minute', round(value), detail LIKE '%forward by 3600.0 s%early%' FROM lease_warnings WHERE warning = 'clock step'}),
		't|t|t|3600|t', 'clock: and warned of');
	$set->('+0');
	is($ask->(q{SELECT round(value), since BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp(), detail LIKE '%back by 36%late%' FROM lease_warnings WHERE warning = 'clock step'}),
		'-3600|t|t', 'clock: a step back');
	is($ask->('SELECT steps FROM lease_clock_steps()'), 2, 'clock: counted');
	$clock->stop;
}

done_testing();
