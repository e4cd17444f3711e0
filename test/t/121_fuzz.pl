# Calls every function of the extension, as the catalog has them, with arguments of
# every kind of wrong; writes such values into its tables, settings and triggers;
# in all kinds of transactions, as several users, in two sessions at a time.
# Whatever comes: the server does not crash, no error is an internal one, and each
# has a SQLSTATE that the function's comment documents.
#
# LEASE_FUZZ_SECONDS is how long, LEASE_SEED repeats the statements.  Those of the
# last round are in tmp_check/fuzz-*.sql.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use Fuzz;
use IPC::Run;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{LEASE_FUZZ_SECONDS} // 15;
my $seed = $ENV{LEASE_SEED} // int(rand(1e9));
my $ROUND = 300;		# statements of a session in a round

srand($seed);
note "seed $seed";

my $node = PostgreSQL::Test::Cluster->new('fuzz');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
fsync = off
log_line_prefix = '%m [%p] %e '
log_min_error_statement = panic
max_prepared_transactions = 5
lease.gc_interval = 1
lease.stat_namespaces = 10
});
$node->start;
$node->safe_psql('postgres', q{
CREATE EXTENSION lease;
CREATE ROLE nobody;
CREATE ROLE tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON lease TO tenant;
GRANT SELECT ON lease_history, lease_node TO tenant;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON lease TO tenant USING (namespace = 'team-a' OR holder_identity = 'h1');
CREATE TABLE guarded (x text);
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON guarded FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('default', 'a');
CREATE TABLE runs (statement text);
CREATE FUNCTION run() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE NEW.statement; RETURN NEW; END $$;
CREATE TRIGGER run BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION run();
GRANT INSERT ON guarded, runs TO tenant, nobody;
});

# ---------- What there is ----------

sub rows { return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql('postgres', $_[0]) }

sub members
{
	my ($catalog) = @_;
	return "SELECT objid FROM pg_depend WHERE deptype = 'e' AND classid = '$catalog'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'lease')";
}

# Input arguments, with their names and types
my @functions = map {
	my ($name, $kind, $returns, $set, $defaults, $comment, @arguments) = @$_;
	+{ name => $name, kind => $kind, returns => $returns, set => $set eq 't', comment => $comment, required => @arguments - $defaults,
		arguments => [ map { /^(\w+)=(.*)$/ or die "no name: $_"; { name => $1, type => $2 } } @arguments ] }
} rows(q{
	SELECT concat_ws('|', p.proname, p.prokind, p.prorettype::regtype, p.proretset, p.pronargdefaults,
		translate(obj_description(p.oid, 'pg_proc'), E'\n|', '  '), string_agg(a.name || '=' || format_type(a.type, NULL), '|' ORDER BY a.place))
	FROM pg_proc p
	LEFT JOIN LATERAL unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes, p.proargnames) WITH ORDINALITY a (type, mode, name, place) ON a.mode IS NULL OR a.mode IN ('i', 'b', 'v')
	WHERE p.oid IN (} . members('pg_proc') . q{)
	GROUP BY p.oid ORDER BY p.proname, p.oid});
# What takes more is called more often.
my @weighted = map { ($_) x (1 + @{ $_->{arguments} } + ($_->{name} =~ /^(kubectl|lease_apply|lease_node_apply)$/ ? 5 : 0)) } @functions;
my @triggers = grep { $_->{returns} eq 'trigger' } @functions;
my @relations = map { $_->[0] } rows(q{SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'v') AND oid IN (} . members('pg_class') . ')');
my @columns = rows(q{SELECT attrelid::regclass, attname, format_type(atttypid, NULL) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
	WHERE attnum > 0 AND NOT attisdropped AND relkind = 'r' AND attrelid IN (} . members('pg_class') . ')');
my @settings = rows(q{LOAD 'lease'; SELECT name, vartype, coalesce(min_val, ''), coalesce(max_val, ''), coalesce(enumvals::text, '') FROM pg_settings WHERE name LIKE 'lease.%' AND context IN ('user', 'superuser')});
note scalar(@functions) . ' functions, ' . scalar(@relations) . ' relations, ' . scalar(@settings) . ' settings';

my %unknown = map { ($_ => 1) } grep { !Fuzz::knows($_) } map { $_->{type} } map { @{ $_->{arguments} } } @functions;
is(join(' ', sort keys %unknown), '', 'there are values for all types of arguments');

# SQLSTATEs that a function's comment names, and those of the functions it refers to
my %states_of;
sub states_of
{
	my ($name, %seen) = @_;

	return () if $seen{$name}++;
	return @{ $states_of{$name} //= [ ('39P01') x !!(grep { $_->{name} eq $name } @triggers), map {
			$_->{comment} =~ /\b(?=\w*\d)[0-9A-Z]{5}\b/g, map { states_of($_, %seen) } $_->{comment} =~ /\bas (\w+)\(\)/g
		} grep { $_->{name} eq $name } @functions ] };
}

# What may come from anything in a statement: its arguments, which have to be
# evaluated and fit; a transaction that has failed; the caller's rights.
my %anywhere = map { ($_ => 1) } qw(
	22003 22007 22008 22021 22P02 22P03 22P05 2202E 2203X 54000 54001 54023 53200 22000 22004 22023
	42804 42883 42P01 42704 42725 42P18 42846 42601 42703 42702 42809 0A000
	25P02 25P01 25006 25001 3B001 42501 57014 55P03 40001 40P01 2D000);

# ---------- Statements ----------

sub pick { return Fuzz::pick(@_) }
sub chance { return Fuzz::chance(@_) }

# The values of arguments, by name or by position
sub arguments
{
	my ($f) = @_;
	my @all = @{ $f->{arguments} };
	my $given = chance(0.02) ? int rand(@all + 1) : $f->{required} + int rand(@all - $f->{required} + 1);
	my @some = map { my $type = chance(0.01) ? pick('integer', 'text', 'jsonb', 'text[]') : $_->{type}; { name => $_->{name}, value => Fuzz::value($type, $_->{name}) } } @all[ 0 .. $given - 1 ];

	return join ', ', map { $_->{value} } @some if chance(0.5);
	@some = (@some[ 0 .. $f->{required} - 1 ], grep { chance(0.5) } map { { name => $_->{name}, value => Fuzz::value($_->{type}, $_->{name}) } } @all[ $f->{required} .. $#all ])
	  if @some >= $f->{required};
	return join ', ', map { "$_->{name} => $_->{value}" } shuffle @some;
}

sub call
{
	my ($f) = @_;
	my $call = "$f->{name}(" . arguments($f) . ')';

	return "CALL $call" if $f->{kind} eq 'p';
	return pick("SELECT $call", "SELECT * FROM $call", "SELECT $call", "SELECT * FROM $call AS x LIMIT 1", "SELECT $call FROM generate_series(1, 3)", "SELECT $call FROM lease LIMIT 2",
		"SELECT count(*) FROM lease l, LATERAL $call AS x WHERE l.namespace = 'default'", "SELECT coalesce(NULL, ($call)::text)");
}

sub any_call { return call(pick(@weighted)) }

sub write_by_hand
{
	my ($relation) = @{ pick(@columns) };
	my @some = grep { $_->[0] eq $relation && chance(0.3) } @columns;
	my $where = pick('true', "name = " . Fuzz::value('text', 'name'), 'ctid = ' . Fuzz::value('tid', 'ctid'), 'random() < 0.2');
	my %value = map { ($_->[1] => Fuzz::knows($_->[2]) ? Fuzz::value($_->[2], $_->[1]) : 'NULL') } @some;

	# The greatest there is would leave none for others.
	$value{fencing_token} = pick(-1, 0, 1, 2, 1000) if $value{fencing_token};
	$value{name} = Fuzz::value('text', 'name') if !%value || chance(0.7);
	my $names = join ', ', sort keys %value;
	my $values = join ', ', map { $value{$_} } sort keys %value;
	my $sets = join ', ', map { "$_ = $value{$_}" } sort keys %value;
	return pick(
		"INSERT INTO $relation ($names) VALUES ($values)",
		"INSERT INTO $relation ($names) VALUES ($values) ON CONFLICT " . pick('DO NOTHING', "(namespace, name) DO UPDATE SET $sets", "(name) DO UPDATE SET $sets"),
		"INSERT INTO $relation SELECT * FROM jsonb_populate_record((SELECT t FROM $relation t LIMIT 1), " . Fuzz::value('jsonb', 'x') . ')',
		"UPDATE $relation SET $sets WHERE $where", "UPDATE $relation SET $sets WHERE $where", "UPDATE ONLY $relation SET $sets WHERE $where RETURNING *",
		"DELETE FROM $relation WHERE $where", "MERGE INTO $relation t USING (VALUES (1)) v ON $where WHEN MATCHED THEN UPDATE SET $sets WHEN NOT MATCHED THEN INSERT ($names) VALUES ($values)",
		"SELECT * FROM $relation WHERE $where FOR " . pick('UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE') . pick('', ' SKIP LOCKED', ' NOWAIT'),
		chance(0.1) ? "TRUNCATE $relation" : "SELECT 1");
}

# The trigger functions where they do not belong, and with arguments of any kind
sub create_trigger
{
	my $f = pick(@triggers);
	my $event = pick('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'INSERT OR UPDATE OR DELETE');
	my $arguments = join ', ', map { Fuzz::quote(pick('default', 'a', '', 'A', 'x' x 300, '%s')) } 1 .. rand 4;
	my $table = pick('guarded', 'lease', 'lease_node', 'lease_history', 'lease_gc_policy');

	return ('BEGIN', 'CREATE TRIGGER x ' . pick('BEFORE', 'AFTER') . " $event ON $table FOR EACH " . pick('ROW', 'STATEMENT') . " EXECUTE FUNCTION $f->{name}($arguments)",
		pick("INSERT INTO $table DEFAULT VALUES", "INSERT INTO guarded VALUES ('x')", write_by_hand(), "UPDATE $table SET " . pick('name', 'x') . " = 'x'", "DELETE FROM $table", "TRUNCATE $table", any_call()), 'ROLLBACK');
}

sub set
{
	my ($name, $type, $min, $max, $words) = @{ pick(@settings) };

	return "SET $name = " . Fuzz::setting($name, $type, $min, $max, $words) if chance(0.6);
	return 'SET ' . pick(
		q{search_path = ''}, 'search_path = DEFAULT', q{TimeZone = 'Asia/Kathmandu'}, 'TimeZone = DEFAULT', q{DateStyle = 'SQL, DMY'}, 'DateStyle = DEFAULT', 'IntervalStyle = iso_8601', 'extra_float_digits = -15',
		'statement_timeout = ' . pick(1, 5, 20), 'statement_timeout = DEFAULT', 'lock_timeout = 1', 'lock_timeout = DEFAULT', 'enable_indexscan = off', 'enable_seqscan = off', 'enable_seqscan = DEFAULT',
		'force_parallel_mode = on', 'force_parallel_mode = DEFAULT', 'plan_cache_mode = force_generic_plan', 'work_mem = 64', 'client_min_messages = debug1', 'client_min_messages = DEFAULT', 'row_security = off', 'row_security = on',
		'synchronous_commit = off', 'standard_conforming_strings = on', 'bytea_output = escape', 'default_transaction_isolation = serializable',
		'default_transaction_isolation = DEFAULT', 'max_stack_depth = 100', 'max_stack_depth = DEFAULT', 'check_function_bodies = off');
}

sub any_statement { return chance(0.7) ? any_call() : chance(0.7) ? write_by_hand() : 'SELECT * FROM ' . pick(@relations) }

# Some statements that belong together
sub episode
{
	my @some = map { any_statement() } 0 .. rand 4;
	my ($one) = @some;
	my $quoted = Fuzz::quote($one);

	return pick(
		sub { set() },
		sub { 'SET ROLE ' . pick('nobody', 'tenant', 'tenant', 'NONE', 'NONE') },
		sub { create_trigger() },
		sub { ('BEGIN ISOLATION LEVEL ' . pick('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE') . pick('', '', ' READ ONLY'), @some, pick('COMMIT', 'ROLLBACK')) },
		sub { ('BEGIN', any_statement(), 'SAVEPOINT s', @some, pick('ROLLBACK TO s', 'RELEASE s'), any_statement(), pick('COMMIT', 'ROLLBACK')) },
		sub { ('BEGIN', 'SET LOCAL session_replication_role = replica', @some, pick('COMMIT', 'ROLLBACK')) },
		sub { ('BEGIN', @some, "PREPARE TRANSACTION 'p'", pick('COMMIT', 'ROLLBACK') . " PREPARED 'p'", 'ROLLBACK') },
		sub { "DO \$do\$ BEGIN EXECUTE $quoted; EXCEPTION WHEN OTHERS THEN IF SQLSTATE LIKE 'XX%' THEN RAISE; END IF; END \$do\$" },
		sub { "INSERT INTO runs VALUES ($quoted)" },
		sub { ('SET LOCAL lease.fencing_tokens = 1', "INSERT INTO guarded VALUES ('x')") },
		sub { ('BEGIN', "DECLARE c " . pick('', 'SCROLL ') . 'CURSOR ' . pick('', 'WITH HOLD ') . "FOR SELECT x.* FROM (" . ($one =~ /^SELECT/ ? $one : 'SELECT 1') . ') x', 'FETCH 1 FROM c', any_statement(), 'FETCH ALL FROM c', pick('COMMIT', 'ROLLBACK'), 'CLOSE c') },
		sub { ("PREPARE s AS " . ($one =~ /^CALL/ ? 'SELECT 1' : $one), 'EXECUTE s', any_statement(), 'EXECUTE s', 'DEALLOCATE s') })->();
}

# ---------- Running them ----------

my %count;		# of each SQLSTATE
my %undocumented;
my @bad;
my $statements = 0;

# Writes the statements of a session into a file and begins to run them.
sub start_session
{
	my ($n) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/fuzz-$n.sql";
	my %s = (file => $file, err => '');

	while (@{ $s{lines} // [] } < $ROUND)
	{
		# With nothing around it, a call has only its own errors.
		my $f = pick(@weighted);
		my @alone = (chance(0.1) ? ('ROLLBACK', 'RESET ALL', 'RESET ROLE') : 'ROLLBACK', call($f));
		my $simple = chance(0.5);

		foreach my $line ($simple ? @alone : episode())
		{
			push @{ $s{lines} }, $line;
			push @{ $s{function} }, $simple && $line =~ /\b\Q$f->{name}\E\(/ ? $f->{name} : undef;
		}
	}
	$statements += @{ $s{lines} };
	open(my $fh, '>:encoding(UTF-8)', $file) or die "could not open $file: $!";
	print $fh map { "$_;\n" } @{ $s{lines} };
	close $fh or die;
	local $ENV{PGOPTIONS} = '-c statement_timeout=300ms';
	$s{run} = IPC::Run::start([ 'psql', '-Xq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres'), '-f', $file ], '<', \undef, '>', '/dev/null', '2>', \$s{err}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%s;
}

sub finish_session
{
	my ($s) = @_;

	$s->{run}->finish;
	foreach my $line (split /\n/, $s->{err})
	{
		if ($line =~ /^psql:\S+?:(\d+): (?:ERROR|FATAL):  (\w{5})$/)
		{
			my ($statement, $function, $state) = ($s->{lines}[ $1 - 1 ], $s->{function}[ $1 - 1 ], $2);

			$count{$state}++;
			push @bad, "$state: $statement" if $state =~ /^XX/;
			$undocumented{"$function $state"} //= $statement if $function && !$anywhere{$state} && !grep { $_ eq $state } states_of($function);
		}
		elsif ($line =~ /connection|terminated|could not/)
		{
			push @bad, $line;
		}
	}
}

sub rounds
{
	my ($for) = @_;

	for (my $end = time() + $for; time() < $end && !@bad;)
	{
		my @sessions = map { start_session($_) } 1 .. 2;
		finish_session($_) foreach @sessions;
		# what a round leaves behind shall not be all that the next one meets
		$node->safe_psql('postgres', q{DELETE FROM lease WHERE random() < 0.5; DELETE FROM lease_gc_policy WHERE name NOT LIKE 'apiserver-identity%'; UPDATE lease_gc_policy SET enabled = true});
	}
}

rounds($seconds * 0.75);
# Without preloading, shared memory and the worker are missing.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->adjust_conf('postgresql.conf', 'lease.stat_namespaces', undef);
$node->restart if !@bad;
rounds($seconds * 0.25);

note "$statements statements";
note join ' ', map { "$_: $count{$_}" } sort keys %count;
is(join("\n", @bad), '', 'no internal error, and no connection was lost');
is(join("\n", map { "$_: $undocumented{$_}" } sort keys %undocumented), '', 'every SQLSTATE is documented');
cmp_ok(scalar keys %count, '>', 10, 'there were errors');
$node->stop;
my @logged = grep { /\bXX\d\d\d\b|PANIC|TRAP|terminated by signal|stack smashing|invalid memory alloc|reference leak|still active|runtime error/ } split /\n/, slurp_file($node->logfile);
is(join("\n", @logged), '', 'nor does the server log say so');
done_testing();
