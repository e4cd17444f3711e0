# The two ways to a row, directly and through the executor: the pgTAP suites pass where
# something on the table forces renewals onto the executor's way; the same calls are
# answered alike on both ways, and leave the same rows; renewals are HOT, and the table
# does not grow.
#
#	LEASE_GROWTH_RENEWALS=200000	so many, before a release

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $renewals = $ENV{LEASE_GROWTH_RENEWALS} || 20000;

# What somebody may put on the table, in a database of its own each.
my %obstacles = (
	nothing => '',
	trigger => q{
		CREATE FUNCTION unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER unchanged BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION unchanged();
	},
	constraint => 'ALTER TABLE lease ADD CONSTRAINT added CHECK (renew_time IS NULL OR resource_version IS NOT NULL)',
	generated => 'ALTER TABLE lease ADD COLUMN added bigint GENERATED ALWAYS AS (resource_version + 1) STORED',
	policy => q{
		ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
		CREATE POLICY added ON lease TO tenant USING (namespace <> 'secret');
	});

my $node = PostgreSQL::Test::Cluster->new('paths');
$node->init;
$node->append_conf('postgresql.conf', slurp_file('test/lease.conf'));
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE tenant');
foreach my $database (sort keys %obstacles)
{
	$node->safe_psql('postgres', qq{CREATE DATABASE "$database"});
	$node->safe_psql($database, "CREATE EXTENSION pgtap; CREATE EXTENSION lease; $obstacles{$database};
		GRANT SELECT, INSERT, UPDATE, DELETE ON lease TO tenant");
}

# Which way?  The trigger of the extension fires for what the executor writes, and not
# for a renewal that is written directly.
sub renews_by_executor
{
	my ($database) = @_;
	my $role = $database eq 'policy' ? 'tenant' : 'postgres';

	return $node->safe_psql($database, qq{
		BEGIN;
		SET LOCAL track_functions = 'all';
		SELECT count(*) - count(*) FROM lease_acquire('which', 'way', '1 h');
		CREATE FUNCTION pg_temp.fired() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
			\$\$SELECT coalesce(pg_stat_get_xact_function_calls('lease_on_write'::regproc), 0)\$\$;
		SELECT pg_temp.fired() AS before \\gset
		SET LOCAL ROLE $role;
		SELECT status FROM lease_renew('which', 'way');
		SELECT pg_temp.fired() - :before;
		ROLLBACK}) eq "0\nrenewed\n1";
}

foreach my $database (sort keys %obstacles)
{
	is(renews_by_executor($database) ? 'executor' : 'directly', $database eq 'nothing' ? 'directly' : 'executor',
		"$database on the table: which way a renewal takes");
}

# The suites in which leases are acquired and renewed.  They are the superuser's, so no
# policy applies; and two compare whole rows, and know nothing of a column more.
my @suites = qw(bad_input client_go hostile_text isolation_levels lease_acquire lease_apiserver_heartbeat
	lease_guard lease_guard_trigger lease_handover lease_history lease_node_heartbeat
	lease_node_heartbeats lease_on_write lease_release lease_renew lease_renew_all lease_stat);
my %knows_columns = map { $_ => 1 } qw(lease_apiserver_heartbeat lease_node_heartbeat);

foreach my $database (qw(trigger constraint generated))
{
	foreach my $suite (grep { $database ne 'generated' || !$knows_columns{$_} } @suites)
	{
		my $output = '';
		my $passed = IPC::Run::run([ 'pg_prove', '--verbose', '--host' => $node->host, '--port' => $node->port,
			'--dbname' => $database, "test/pgtap/$suite.sql" ], '>', \$output, '2>&1');

		ok($passed, "$suite passes with $database on the table")
		  or diag(join "\n", grep { !/^ok/ } split /\n/, $output);
	}
}

# One play for two who want leases, and the owner of the table: who says what.
my @play = (
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_acquire('l', 'a', '1 h') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_acquire('l', 'b', '1 h') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('l', 'b') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a', fencing_token => (SELECT fencing_token FROM lease WHERE name = 'l')) r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a', fencing_token => 1) r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_acquire('l', 'a', '1 h') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_acquire('l', 'a', '2 h') r} ],
	# a renewal that is not committed yet, or is not to be
	[ A => q{BEGIN} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{SELECT array_agg((lease_renew('l', 'a')).status) FROM generate_series(1, 3)} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_release('l', 'a') r} ],
	[ A => q{COMMIT} ],
	[ A => q{BEGIN} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{SAVEPOINT s} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{ROLLBACK TO s} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{ROLLBACK} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	# guards go together with renewals, also one's own; other locks do not
	[ B => q{BEGIN} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_guard('l', (SELECT fencing_token FROM lease WHERE name = 'l')) r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{COMMIT} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{BEGIN} ],
	[ B => q{SELECT name FROM lease WHERE name = 'l' FOR UPDATE} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{ROLLBACK} ],
	[ B => q{BEGIN} ],
	[ B => q{UPDATE lease SET labels = '{"by": "hand"}' WHERE name = 'l'} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ B => q{COMMIT} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	# a statement that changes the row itself
	[ A => q{UPDATE lease SET labels = jsonb_build_object('status', (lease_renew('l', 'a')).status) WHERE name = 'l'} ],
	[ A => q{WITH u AS (UPDATE lease SET labels = '{"x": "y"}' WHERE name = 'l' RETURNING name) SELECT (lease_renew(name, 'a')).status FROM u} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	# at the higher levels
	[ A => q{BEGIN ISOLATION LEVEL REPEATABLE READ} ],
	[ A => q{SELECT count(*) FROM lease} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{ROLLBACK} ],
	# many, and in a function that catches errors
	[ A => q{SELECT status, holder_identity FROM lease_acquire('m', 'a', '1 h')} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew_all('a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew_all('a', '{l,m,n}') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew_all('b', '{l,m,n}') r} ],
	[ A => q{DO $$BEGIN PERFORM lease_renew('l', 'a'); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN PERFORM lease_renew('m', 'a'); END$$} ],
	# the end of it
	[ A => q{SELECT to_jsonb(r) FROM lease_handover('m', 'a', 'b', reserve => '1 h') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('m', 'a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_acquire('m', 'a', '1 h') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_acquire('m', 'b', '1 h', hold_at_least => '30 min') r} ],
	[ B => q{SELECT to_jsonb(r) FROM lease_renew('m', 'b') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_release('l', 'a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_acquire('l', 'a', '1 h') r} ],
	[ owner => q{UPDATE lease SET renew_time = renew_time - interval '2 h' WHERE name = 'l'} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_acquire('l', 'a', '1 h') r} ],
	[ A => q{SELECT to_jsonb(r) FROM lease_renew('l', 'a') r} ]);

# What a statement returns, or its SQLSTATE.
sub outcome
{
	my ($session, $sql) = @_;
	my $result = $session->do("$sql;\n\\echo :SQLSTATE\n");

	$result =~ s/\n?00000$//;
	return $result;
}

# Plays it, and returns what was said and what the rows were after each step.  Times,
# tokens, versions and uids differ from one play to the next; which of them are the same,
# and which new, does not.
sub play
{
	my ($database) = @_;
	my %session = map { $_ => Psql->new($node, $database) } qw(A B owner);
	my %name;
	my @said;

	$node->safe_psql($database, 'DELETE FROM lease');
	$node->safe_psql($database, 'DELETE FROM lease_history');
	if ($database eq 'policy')
	{
		$session{$_}->do('SET ROLE tenant') foreach qw(A B);
	}
	foreach my $step (@play)
	{
		my ($who, $sql) = @$step;
		my $answer = outcome($session{$who}, $sql);

		$answer =~ s/"expires_in": "[^"]*"/"expires_in": "some"/g;
		my $rows = $node->safe_psql($database, q{SELECT to_jsonb(l) - 'added' FROM lease l ORDER BY name;
			SELECT to_jsonb(h) FROM lease_history h ORDER BY name, fencing_token});
		# in whole seconds: two leases may have the same, or not
		$rows =~ s/"creation_timestamp": "[^"]*"/"creation_timestamp": "some"/g;
		my $text = "$who: $sql\n$answer\n$rows\n";
		$text =~ s/("[0-9]{4}-[^"]*"|\b[0-9]{14,16}\b|"[0-9a-f]{8}-[0-9a-f-]*")/$name{$1} \/\/= '<' . (1 + keys %name) . '>'/ge;
		push @said, $text;
	}
	$_->finish foreach values %session;
	return @said;
}

my @directly = play('nothing');
foreach my $status (qw(renewed acquired held expired free missing busy reserved released handed_over))
{
	ok((grep { /"status": "$status"/ } @directly), "what is played has the answer $status");
}
is_deeply([ play('nothing') ], \@directly, 'played again, it is the same');
foreach my $database (grep { $_ ne 'nothing' } sort keys %obstacles)
{
	my @said = play($database);

	is($said[$_], $directly[$_], "with $database on the table, step $_") foreach 0 .. $#play;
}

# A renewal of a row that nobody is in the way of does not lock it first: one WAL record
# less.  Where something is on the table, or more has to be written, it does.
SKIP:
{
	skip 'a server with assertions', 26 if $node->safe_psql('postgres', 'SHOW debug_assertions') eq 'on';

	my %renewal = (
		'lease_renew()' => q{SELECT renewed FROM lease_renew('one', 'me')},
		'lease_renew_all(), by names' => q{SELECT leases FROM lease_renew_all('me', '{one,two}') WHERE status = 'renewed'},
		'lease_renew_all(), by holder' => q{SELECT leases FROM lease_renew_all('me') WHERE status = 'renewed'},
		'lease_acquire() by the holder' => q{SELECT status FROM lease_acquire('one', 'me', '1 h')},
		'lease_node_heartbeat()' => q{SELECT renewed FROM lease_node_heartbeat('node')},
		'lease_node_heartbeats()' => q{SELECT leases FROM lease_node_heartbeats('{node}') WHERE status = 'renewed'});
	my $setup = q{SELECT lease_acquire(name, 'me', '1 h') FROM unnest('{one,two}'::text[]) name; SELECT lease_node_heartbeat('node')};
	my $locks = sub {
		my ($database, $sql) = @_;
		my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');

		like($node->safe_psql($database, $sql), qr/^(t|1|2|renewed)$/, "$sql, $database");
		return $node->safe_psql('postgres', qq{SELECT count(*) FROM pg_get_wal_records_info('$lsn', pg_current_wal_flush_lsn())
			WHERE resource_manager = 'Heap' AND record_type LIKE 'LOCK%'});
	};

	$node->safe_psql('postgres', 'CREATE EXTENSION pg_walinspect');
	$node->safe_psql($_, "TRUNCATE lease; $setup") foreach qw(nothing trigger);
	foreach my $what (sort keys %renewal)
	{
		is($locks->('nothing', $renewal{$what}), '0', "$what locks nothing");
		cmp_ok($locks->('trigger', $renewal{$what}), '>', 0, "and where there is a trigger it does");
	}
	is($locks->('nothing', q{SELECT status FROM lease_acquire('one', 'me', '2 h')}), '1', 'a new duration is written on a locked row');
}

# What is put on the table counts from the next renewal on, in a session that has renewed
# before; and no longer when it is gone.
{
	my $s = Psql->new($node, 'nothing');
	my $renew = q{SELECT status FROM lease_renew('l', 'a')};
	my $rows = q{SELECT renew_time, resource_version FROM lease WHERE name = 'l'};

	sub ddl { $node->safe_psql('nothing', $_[0]); return; }

	$s->do(q{SELECT FROM lease_acquire('l', 'a', '1 h')});
	ddl('GRANT SELECT, UPDATE ON lease TO tenant');
	$s->do('SET ROLE tenant');
	is($s->do($renew), 'renewed', 'a tenant renews');

	ddl('CREATE TABLE noted (n int); GRANT INSERT ON noted TO tenant;
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO noted VALUES (1); RETURN NEW; END$$;
		CREATE TRIGGER note AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION note()');
	is($s->do($renew), 'renewed', 'and with a trigger');
	is($node->safe_psql('nothing', 'SELECT count(*) FROM noted'), 1, 'which fires');
	ddl('DROP TRIGGER note ON lease');
	is($s->do($renew), 'renewed', 'and without it');
	is($node->safe_psql('nothing', 'SELECT count(*) FROM noted'), 1, 'again');

	ddl(q{ALTER TABLE lease ADD CONSTRAINT no_more CHECK (renew_time < '2020-01-01') NOT VALID});
	my $before = $s->do($rows);
	is(outcome($s, $renew), '23514', 'a constraint refuses a renewal');
	is($s->do($rows), $before, 'and nothing is written');
	ddl('ALTER TABLE lease DROP CONSTRAINT no_more');

	ddl('ALTER TABLE lease ADD COLUMN added bigint GENERATED ALWAYS AS (resource_version + 1) STORED');
	is($s->do($renew), 'renewed', 'and with a generated column');
	is($node->safe_psql('nothing', q{SELECT added - resource_version FROM lease WHERE name = 'l'}), 1, 'which follows');
	ddl('ALTER TABLE lease DROP COLUMN added');

	ddl('ALTER TABLE lease ENABLE ROW LEVEL SECURITY');
	is($s->do($renew), 'missing', 'row-level security hides a lease');
	ddl('CREATE POLICY seen ON lease FOR SELECT TO tenant USING (true)');
	is($s->do($renew), 'busy', 'or lets it be seen only');
	ddl('ALTER ROLE tenant BYPASSRLS');
	is($s->do($renew), 'renewed', 'and applies to no one who bypasses it');
	ddl('ALTER ROLE tenant NOBYPASSRLS');
	is($s->do($renew), 'busy', 'while he does');
	ddl('ALTER TABLE lease DISABLE ROW LEVEL SECURITY; DROP POLICY seen ON lease');
	is($s->do($renew), 'renewed', 'when that is gone he renews again');

	ddl('REVOKE UPDATE ON lease FROM tenant');
	is(outcome($s, $renew), '42501', 'a privilege that is taken away is gone');
	ddl('CREATE ROLE keepers; GRANT UPDATE ON lease TO keepers; GRANT keepers TO tenant');
	is($s->do($renew), 'renewed', 'a role brings it back');
	ddl('REVOKE keepers FROM tenant');
	is(outcome($s, $renew), '42501', 'until that is taken away');
	$s->do('RESET ROLE');
	is($s->do($renew), 'renewed', 'who may, does, in the same session');
	$s->do('SET ROLE tenant');
	is(outcome($s, $renew), '42501', 'and who may not, does not');
	$s->do('RESET ROLE');

	ddl('ALTER SCHEMA public RENAME TO elsewhere');
	$s->do('SET search_path = elsewhere');
	is($s->do($renew), 'renewed', 'the schema has another name');
	is($s->do(q{SELECT status FROM lease_release('l', 'a')}), 'released', 'also for what the executor writes');
	ddl('DROP EXTENSION lease; CREATE EXTENSION lease SCHEMA elsewhere');
	is($s->do($renew), 'missing', 'another extension has another table');
	$s->finish;
}

# HOT, and no growth.  First a part, so that pages and indexes have what they need.
{
	my $script = "$PostgreSQL::Test::Utils::tmp_check/renew.sql";
	my $sizes = q{SELECT pg_relation_size('lease'), pg_relation_size('lease_pkey'), pg_relation_size('lease_fencing_token_key')};
	my $updates = q{SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'lease'::regclass};

	append_to_file($script, "\\set i random(0, 999)\nSELECT lease_renew('n' || :i, 'me');\n");
	$node->safe_psql('postgres', q{CREATE EXTENSION lease;
		INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time)
		SELECT 'n' || n, 'me', 86400, clock_timestamp() FROM generate_series(0, 999) n});

	my $renew = sub {
		system_or_bail('pgbench', '-n', '-M', 'prepared', '-c', 4, '-t', int($_[0] / 4), '-f', $script, $node->connstr('postgres'));
		return split /\|/, $node->safe_psql('postgres', $updates);
	};
	my ($updated, $hot) = $renew->(4000);
	my $size = $node->safe_psql('postgres', $sizes);
	my ($updated_after, $hot_after) = $renew->($renewals);

	cmp_ok($updated_after - $updated, '>', 0.99 * $renewals, "$renewals renewals");
	is($hot_after - $hot, $updated_after - $updated, 'all of them HOT');
	is($node->safe_psql('postgres', $sizes), $size, 'neither the table nor an index has grown');
}

$node->stop;
done_testing();
