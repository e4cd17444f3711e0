# A new version: its library serves the objects of released ones, and ALTER EXTENSION
# UPDATE makes of them what CREATE EXTENSION makes.  Leases, and what was granted, stay.
#
# Between released versions, and, as if the next one was released today, from this one
# to that: made from a copy of this tree, as CONTRIBUTING.md says, and installed.  So
# it needs the installation of test/private.

use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::RealBin/..";

use Objects qw(differences objects);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $root = abs_path("$FindBin::RealBin/../..");
my ($current) = slurp_file("$root/lease.control") =~ /^default_version = '(.*)'$/m;
my @released = grep { !/--/ } map { /lease--(.*)\.sql$/ } glob "$root/sql/lease--*.sql";

# ---------- Scripts that are frozen ----------

is((slurp_file("$root/CHANGELOG.md") =~ /^## (\S+)/m)[0], $current, 'the version of lease.control is the latest in the changelog');
SKIP:
{
	skip "$current is not released", 1 unless grep { $_ eq $current } @released;
	ok(slurp_file("$root/sql/lease.sql") eq slurp_file("$root/sql/lease--$current.sql"), "sql/lease.sql is what was released as $current")
	  or diag 'A change takes another version in lease.control, and an upgrade script: see CONTRIBUTING.md.';
}

# ---------- What a database has ----------

my $node = PostgreSQL::Test::Cluster->new('upgrade');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
fsync = off
autovacuum = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app');

sub query { return $node->safe_psql($_[0], $_[1]); }

# What somebody has granted on every object of the extension as it is in $of; $database
# may lack some.  But not on those on which the upgrade below grants something itself:
# PostgreSQL then takes what was granted before for the extension's own, which a dump
# leaves out.
sub grant_all
{
	my ($database, $of) = @_;
	my $grants = query($of, q{
		SELECT CASE classid WHEN 'pg_proc'::regclass THEN format('GRANT EXECUTE ON ROUTINE %s TO app;', objid::regprocedure)
			ELSE (SELECT format('GRANT SELECT ON %s TO app;', objid::regclass) FROM pg_class WHERE oid = objid) END
		FROM pg_depend JOIN pg_extension e ON e.oid = refobjid
		WHERE refclassid = 'pg_extension'::regclass AND extname = 'lease' AND deptype = 'e' AND classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
			AND objid NOT IN ('lease_clock'::regproc, 'lease_stat'::regclass)});

	$node->psql($database, $grants);
	return;
}

my @tables = qw(lease lease_history lease_node lease_gc_policy);

sub fill
{
	my ($database, $version) = @_;

	query('postgres', "CREATE DATABASE $database");
	query($database, qq{
		CREATE EXTENSION lease VERSION '$version';
		SELECT FROM lease_acquire('kept', 'a', '1 h', lock_delay => '1 min');
		SELECT FROM lease_acquire('given', 'a', '1 h'), lease_handover('given', 'a', 'b', reserve => '1 h');
		SELECT FROM lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "labelled", "labels": {"a": "b"}, "finalizers": ["a/b"]}, "spec": {}}');
		SELECT FROM lease_node_register('node-1', labels => '{"a": "b"}'), lease_node_heartbeat('node-1', '1 h');
		UPDATE lease_gc_policy SET enabled = false WHERE name = 'apiserver-identity';
		INSERT INTO lease_gc_policy (name, namespace, selector) VALUES ('mine', 'jobs', 'a=b');
	});
	grant_all($database, $database);
	return;
}

# Names of the columns, and the rows
sub rows
{
	my ($database, $columns) = @_;

	$columns->{$_} //= query($database, "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '$_'::regclass AND attnum > 0 AND NOT attisdropped")
	  foreach @tables;
	return join "\n", map { query($database, "SELECT $columns->{$_} FROM $_ ORDER BY 1, 2, 3") } @tables;
}

# Everything works: functions, guards, views, the worker.  Leaves nothing behind.
sub works
{
	my ($database, $what) = @_;

	is(query($database, q{
			SELECT status FROM lease_acquire('work', 'a', '1 h');
			SELECT status FROM lease_acquire('work', 'b');
			SELECT status FROM lease_renew('work', 'a');
			SELECT * FROM lease_renew_all('a', '{work}');
			SELECT lease_holder('work', 'default'), lease_is_held('work', 'a', 'default');
			CREATE TABLE guarded (i integer);
			CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('default', 'work');
			BEGIN;
			SELECT lease_guard('work', fencing_token) FROM lease WHERE name = 'work';
			INSERT INTO guarded VALUES (1);
			COMMIT;
			DROP TABLE guarded;
			SELECT status FROM lease_handover('work', 'a', 'b');
			SELECT status FROM lease_acquire('work', 'b', '1 h');
			SELECT action FROM lease_apply(lease_object('work', 'default'));
			SELECT status, fencing_token IS NULL FROM lease_release('work', 'b'), lease_renew('work', 'b') AS r (renewed, s, h, fencing_token);
			SELECT status FROM lease_node_heartbeat('work', '1 h');
			SELECT status, leases FROM lease_node_heartbeats('{work}');
			SELECT status FROM lease_apiserver_heartbeat('work', 'b2a3f1de-0a53-4d3e-9d28-06a2e9d3a0c1');
			SELECT regexp_replace(kubectl('get lease work'), '\d+s', 'age');
			SELECT kubectl('delete lease work');
			DELETE FROM lease WHERE name = 'work' OR namespace = 'kube-system';
			SELECT collected FROM lease_gc();
			DELETE FROM lease_history WHERE name = 'work' OR namespace = 'kube-system';
		}) =~ s/ +$//mgr, join("\n", 'acquired', 'held', 'renewed', 'renewed|1|', 'a|t', '', 'handed_over', 'acquired', 'unchanged',
			'released|t', 'acquired', 'renewed|1', 'acquired|0', 'acquired', 'NAME   HOLDER   AGE', 'work            age', '',
			'lease.coordination.k8s.io "work" deleted', '', '0'), "$what: functions work");

	my $views = query($database, q{
		SELECT string_agg(format('SELECT count(*) >= 0 FROM %s', objid::regclass), ' UNION ALL ')
		FROM pg_depend JOIN pg_extension e ON e.oid = refobjid JOIN pg_class c ON c.oid = objid
		WHERE refclassid = 'pg_extension'::regclass AND extname = 'lease' AND classid = 'pg_class'::regclass AND relkind = 'v'});
	is(query($database, "SELECT DISTINCT * FROM ($views) v"), 't', "$what: views can be read");

	my $token = query($database, q{SELECT fencing_token FROM lease_acquire('brief', 'a', '1 s')});
	ok($node->poll_query_until($database, "SELECT end_reason = 'expired' FROM lease_history WHERE name = 'brief' AND fencing_token = $token"),
		"$what: the worker notices what expires");
	query($database, q{DELETE FROM lease WHERE name = 'brief'; DELETE FROM lease_history WHERE name = 'brief'});
	return;
}

# ALTER EXTENSION UPDATE in a database that fill() has filled
sub update
{
	my ($database, $to, $what) = @_;
	my %columns;
	my $before = rows($database, \%columns);
	my $token = query($database, q{SELECT fencing_token FROM lease WHERE name = 'kept'});
	my $session = Psql->new($node, $database);
	my $renew = q{SELECT status, fencing_token FROM lease_renew('kept', 'a')};

	is($session->do("BEGIN; $renew; ROLLBACK"), "renewed|$token", "$what: somebody is connected");
	query($database, "ALTER EXTENSION lease UPDATE TO '$to'");
	my %after = map { $_ => 1 } split /\n/, rows($database, \%columns);
	is(join("\n", grep { !$after{$_} } split /\n/, $before), '', "$what: leases, history, nodes and policies are as they were");
	is($session->do($renew), "renewed|$token", "$what: the holder renews, in a session from before");
	$session->finish;
	works($database, $what);
	return;
}

# A database as CREATE EXTENSION makes it, with what was granted in $of
sub fresh
{
	my ($database, $version, $of) = @_;

	query('postgres', "CREATE DATABASE $database");
	query($database, "CREATE EXTENSION lease VERSION '$version'");
	grant_all($database, $of);
	return;
}

# The rows that came with the extension
my $shipped = 'SELECT p FROM lease_gc_policy p ORDER BY name';

sub is_like
{
	my ($a, $b, $what) = @_;
	my ($of_a, $of_b) = (objects($node, $a), objects($node, $b));
	my @different = differences($of_a, $of_b);

	cmp_ok(scalar keys %$of_a, '>', 400, "$what: there is something to compare");
	is("@different", '', "$what: as CREATE EXTENSION makes it")
	  or diag(map { ("---------- $_, updated:\n", $of_a->{$_} // "nothing\n", "---------- fresh:\n", $of_b->{$_} // "nothing\n") } @different);
	return;
}

# Rows that came with the extension: where somebody has not changed them
sub has_rows_of
{
	my ($version, $to) = @_;
	my $database = 'rows';

	query('postgres', "CREATE DATABASE $database");
	query($database, "CREATE EXTENSION lease VERSION '$version'; ALTER EXTENSION lease UPDATE TO '$to'");
	my $rows = query($database, $shipped);
	query($database, "DROP EXTENSION lease; CREATE EXTENSION lease VERSION '$to'");
	is($rows, query($database, $shipped), "$version to $to: the rows that come with it");
	query('postgres', "DROP DATABASE $database WITH (FORCE)");
	return;
}

# ---------- From released versions to this one ----------

foreach my $version (grep { $_ ne $current } @released)
{
	my $what = "$version to $current";

	fill('released', $version);
	works('released', "objects of $version, library of $current");
	update('released', $current, $what);
	fresh('fresh', $current, 'released');
	is_like('released', 'fresh', $what);
	has_rows_of($version, $current);
	query('postgres', "DROP DATABASE $_ WITH (FORCE)") foreach qw(released fresh);
}

# ---------- From this one to the next ----------

if (!$ENV{LEASE_PRIVATE})
{
	note 'nothing is installed into an installation that is not private';
	$node->stop;
	done_testing();
	exit;
}

# All kinds of changes, each of another object, as pg_dump calls it
my @changes = (
	[ 'COMMENT TABLE lease_gc_policy', q{COMMENT ON TABLE lease_gc_policy IS 'changed'} ],
	[ 'COMMENT COLUMN lease.name', q{COMMENT ON COLUMN lease.name IS 'changed'} ],
	[ 'COMMENT CONSTRAINT lease_pkey ON lease', q{COMMENT ON CONSTRAINT lease_pkey ON lease IS 'changed'} ],
	[ 'COMMENT TRIGGER lease_on_write ON lease', q{COMMENT ON TRIGGER lease_on_write ON lease IS 'changed'} ],
	[ 'COMMENT FUNCTION lease_age(since timestamp with time zone, at timestamp with time zone)', q{COMMENT ON FUNCTION lease_age IS 'changed'} ],
	[ 'COMMENT EXTENSION lease', q{COMMENT ON EXTENSION lease IS 'changed'} ],

	[ 'FUNCTION lease_new(integer)', q{CREATE FUNCTION lease_new(a integer) RETURNS integer LANGUAGE sql RETURN a} ],
	[ 'FUNCTION lease_node_roles(jsonb)', q{CREATE OR REPLACE FUNCTION lease_node_roles(labels jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '<none>'} ],
	[ 'FUNCTION kubectl_json(jsonb)', q{CREATE OR REPLACE FUNCTION kubectl_json(object jsonb) RETURNS text LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'kubectl_yaml'} ],
	[ 'FUNCTION lease_holder(text, text)', q{CREATE OR REPLACE FUNCTION lease_holder(name text, namespace text DEFAULT 'other') RETURNS text LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME'} ],
	[ 'FUNCTION lease_valid_name(text)', 'ALTER FUNCTION lease_valid_name STABLE' ],
	[ 'FUNCTION lease_valid_namespace(text)', 'ALTER FUNCTION lease_valid_namespace PARALLEL UNSAFE' ],
	[ 'FUNCTION lease_valid_selector(text)', 'ALTER FUNCTION lease_valid_selector CALLED ON NULL INPUT' ],
	[ 'FUNCTION lease_valid_finalizers(text[])', 'ALTER FUNCTION lease_valid_finalizers SECURITY DEFINER' ],
	[ 'FUNCTION lease_valid_strategy(text)', 'ALTER FUNCTION lease_valid_strategy COST 7' ],
	[ 'FUNCTION lease_waiters()', 'ALTER FUNCTION lease_waiters SET search_path = pg_catalog' ],

	[ 'TABLE lease', q{ALTER TABLE lease ADD COLUMN note text NOT NULL DEFAULT 'none'} ],
	[ 'TABLE lease_node', 'ALTER TABLE lease_node ALTER COLUMN unschedulable SET DEFAULT false' ],
	[ 'TABLE lease_history', 'ALTER TABLE lease_history SET (fillfactor = 90)' ],
	[ 'TABLE lease_gc_policy', q{ALTER TABLE lease_gc_policy ADD CONSTRAINT lease_gc_policy_name_check CHECK (name <> '')} ],
	[ 'TABLE lease_extra', 'CREATE TABLE lease_extra (i integer)' ],
	[ 'CONSTRAINT lease_node lease_node_uid_key', 'ALTER TABLE lease_node ADD CONSTRAINT lease_node_uid_key UNIQUE (uid)' ],
	[ 'INDEX lease_history_holder_idx', 'CREATE INDEX lease_history_holder_idx ON lease_history (holder_identity)' ],
	[ 'INDEX lease_history_held_until_idx', 'ALTER INDEX lease_history_held_until_idx SET (pages_per_range = 64)' ],
	[ 'TRIGGER lease lease_on_write', 'ALTER TABLE lease ENABLE ALWAYS TRIGGER lease_on_write' ],
	[ 'POLICY lease_history everything', 'CREATE POLICY everything ON lease_history USING (true)' ],
	[ 'SEQUENCE lease_fencing_token_seq', 'ALTER SEQUENCE lease_fencing_token_seq MAXVALUE 9223372036854775806' ],
	[ 'TYPE lease_kind', q{CREATE TYPE lease_kind AS ENUM ('a', 'b')} ],
	[ 'VIEW lease_apiserver_count', 'CREATE OR REPLACE VIEW lease_apiserver_count WITH (security_invoker = true) AS SELECT count(*) FILTER (WHERE live) AS live, count(*) FILTER (WHERE NOT live) AS expired, count(*) AS both FROM lease_apiservers' ],
	[ 'VIEW lease_holdings', 'ALTER VIEW lease_holdings SET (security_barrier)' ],

	[ 'ACL FUNCTION lease_clock(OUT now timestamp with time zone, OUT counts_from timestamp with time zone, OUT grants_from timestamp with time zone)',
		'REVOKE EXECUTE ON FUNCTION lease_clock FROM PUBLIC' ],
	[ 'ACL TABLE lease_stat', 'GRANT SELECT ON lease_stat TO pg_monitor' ],
	[ 'ACL COLUMN lease.name', 'GRANT SELECT (name) ON lease TO pg_monitor' ],

	[ 'CONFIG lease_history', q{SELECT pg_catalog.pg_extension_config_dump('lease_history', 'WHERE true')} ],
	[ 'CONFIG lease_extra', q{SELECT pg_catalog.pg_extension_config_dump('lease_extra', '')} ],
);
my $changes = join '', map { "$_->[1];\n" } @changes;
my $row = q{INSERT INTO lease_gc_policy (name, selector) VALUES ('next', 'a=b');} . "\n";

my $next = "$current.next";
my $tree = "$PostgreSQL::Test::Utils::tmp_check/next";
my $scripts = $node->config_data('--sharedir') . '/extension';
my $from_current = "lease--$current--$next.sql";

sub install
{
	my ($directory) = @_;

	# That we are run by make is not to be known to the one below.
	delete local @ENV{qw(MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL)};
	return system('make', '-s', '-C', $directory, 'install', 'with_llvm=no', 'PG_CONFIG=' . $node->config_data('--bindir') . '/pg_config') == 0;
}

sub write_file
{
	my ($file, $text) = @_;

	unlink $file;
	append_to_file($file, $text);
	return;
}

mkdir $tree or die "$tree: $!";
system("tar -C '$root' --exclude=./tmp_check --exclude=./output_iso -cf - . | tar -C '$tree' -xf -") == 0 or die 'no copy of the tree';
my $script = slurp_file("$root/sql/lease.sql");
write_file("$tree/sql/lease--$current.sql", $script);
write_file("$tree/sql/lease.sql", $script . $changes . $row);
write_file("$tree/sql/$from_current", $changes . $row);
write_file("$tree/lease.control", slurp_file("$root/lease.control") =~ s/^default_version = .*$/default_version = '$next'/mr);

fill('stays', $current);
fill('old', $current);
works('old', "objects and library of $current");
foreach my $version (grep { $_ ne $current } @released)
{
	fill('from_' . $version =~ s/\W/_/gr, $version);
}

my $installed = 0;
END
{
	my $status = $?;

	if ($installed)
	{
		$node->stop('immediate', fail_ok => 1) if $node;
		install($root);
		unlink glob "$scripts/lease--*$next*.sql";
	}
	$? = $status;
}

$installed = 1;
$node->stop;
install($tree) or die 'cannot install the next version';
my $log = -s $node->logfile;
$node->start;

works('stays', "objects of $current, library of $next");
unlike(slurp_file($node->logfile, $log), qr/is idle/, '... of which the worker does not complain');
update('old', $next, "$current to $next");
fresh('fresh', $next, 'stays');
is_like('old', 'fresh', "$current to $next");
has_rows_of($current, $next);
foreach my $version (grep { $_ ne $current } @released)
{
	update('from_' . $version =~ s/\W/_/gr, $next, "$version to $next");
	is_like('from_' . $version =~ s/\W/_/gr, 'fresh', "$version to $next");
}

# ---------- Would a difference be found? ----------

# An upgrade script that forgets everything
write_file("$scripts/$from_current", '');
fill('forgotten', $current);
query('forgotten', "ALTER EXTENSION lease UPDATE TO '$next'");
is_deeply([ differences(objects($node, 'forgotten'), objects($node, 'fresh')) ], [ sort map { $_->[0] } @changes ],
	'what an upgrade script forgets is found: ' . @changes . ' objects');

# A grant that went with its function
write_file("$scripts/$from_current", $changes . 'DROP VIEW lease_apiserver_count;' .
	'CREATE VIEW lease_apiserver_count WITH (security_invoker = true) AS SELECT count(*) FILTER (WHERE live) AS live, count(*) FILTER (WHERE NOT live) AS expired, count(*) AS both FROM lease_apiservers;');
query('forgotten', "DROP EXTENSION lease; CREATE EXTENSION lease VERSION '$current'");
grant_all('forgotten', 'stays');
query('forgotten', "ALTER EXTENSION lease UPDATE TO '$next'");
is_deeply([ grep { /^ACL/ } differences(objects($node, 'forgotten'), objects($node, 'fresh')) ], [ 'ACL TABLE lease_apiserver_count' ],
	'so is a grant of somebody that was lost');

# A C function that the library does not have any more
write_file("$scripts/lease--0.$next.sql", $script =~ s/(CREATE FUNCTION lease_age.*?'MODULE_PATHNAME')/$1, 'lease_age_of_old'/sr);
my (undef, undef, $error) = $node->psql('forgotten', "DROP EXTENSION lease; CREATE EXTENSION lease VERSION '0.$next'");
like($error, qr/could not find function "lease_age_of_old" in file/, 'so is a C function that a released script needs and the library lacks');

$node->stop;
done_testing();
