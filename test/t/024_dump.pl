# What survives a dump and its restore, in all the ways in which that is done, and
# pg_upgrade: leases, history, nodes, policies, grants, settings, what others have built
# on the extension; and that tokens are never issued twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $tmp = $PostgreSQL::Test::Utils::tmp_check;

sub new_server
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
fsync = off
autovacuum = off
# Nothing changes by itself.
lease.worker = off
});
	return $node;
}

# The one that is restored to has been there for longer: its tokens are smaller.
my $to = new_server('to');
$to->start;
$to->safe_psql('postgres', 'CREATE DATABASE long_ago; CREATE ROLE app; CREATE ROLE keeper LOGIN');
$to->safe_psql('long_ago', 'CREATE EXTENSION lease');
my $second = int(time());
usleep(20_000) until int(time()) > $second;
my $from = new_server('from');
$from->start;
$from->safe_psql('postgres', 'CREATE ROLE app; CREATE ROLE keeper LOGIN');

# ---------- What there is ----------

# To be restored as a whole, and by somebody who is not a superuser: "keeper" owns
# the tables, which a dump does not say.
my $rows = q{
	SELECT FROM lease_acquire('held', 'a', '1 h', hold_at_least => '2 h', lock_delay => '1 min');
	SELECT FROM lease_acquire('released', 'a'), lease_release('released', 'a');
	SELECT FROM lease_acquire('given', 'a', '1 h'), lease_handover('given', 'a', 'b', reserve => '1 h');
	SELECT FROM lease_acquire('silent', 'a', '1 s');
	UPDATE lease SET acquire_time = acquire_time - interval '2 h', held_since = held_since - interval '2 h', renew_time = renew_time - interval '1 h' WHERE name = 'silent';
	INSERT INTO lease (namespace, name) VALUES ('other', 'never-held');
	SELECT FROM lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "object", "namespace": "other", "uid": "c7dd6bf8-6a2c-44b1-9a0a-4d1a5d6f0a6d",
		"labels": {"a": "b"}, "annotations": {"e.f/g": "\u00e9\n\"\\\\"}, "finalizers": ["a/b"], "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}],
		"generateName": "obj", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0,
		"managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]}, "spec": {"strategy": "OldestEmulationVersion", "preferredHolder": "p"}}');
	SELECT FROM lease_node_register('node-1', labels => '{"a": "b"}', status => '{"addresses": []}'), lease_node_heartbeat('node-1');
	SELECT FROM lease_apiserver_heartbeat('host', 'b2a3f1de-0a53-4d3e-9d28-06a2e9d3a0c1');
	UPDATE lease_gc_policy SET expired_for = '1 day', enabled = false WHERE name = 'apiserver-identity';
	INSERT INTO lease_gc_policy VALUES ('jobs', 'jobs', 'app in (nightly, weekly)', '7 days', 100, true);
	-- the greatest tokens are those of a lease of which nothing is left
	SELECT lease_acquire('gone', 'a', '1 h'), lease_release('gone', 'a') FROM generate_series(1, 100);
	SELECT FROM lease_acquire('gone', 'a', '1 h');
};
my $forget = q{DELETE FROM lease WHERE name = 'gone'; DELETE FROM lease_history WHERE name = 'gone'};

my $rights = q{
	GRANT SELECT, INSERT, DELETE ON lease TO app;
	GRANT UPDATE (labels, renew_time) ON lease TO app;
	GRANT SELECT ON lease_status, lease_history TO app;
	REVOKE EXECUTE ON FUNCTION lease_gc() FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION lease_stat_reset() TO app;
};

# These are done to tables of the extension, and are its own: PostgreSQL's dumps leave
# them out, pg_upgrade takes them along.
my $done = q{
	ALTER TABLE lease_node ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON lease_node TO app USING (name = current_user);
	CREATE INDEX lease_labels_idx ON lease USING gin (labels jsonb_path_ops);
	ALTER TABLE lease SET (autovacuum_vacuum_scale_factor = 0.01);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER note AFTER DELETE ON lease FOR EACH ROW EXECUTE FUNCTION note();
};

# What others make of it
my $built = q{
	CREATE TABLE report (line text);
	INSERT INTO report VALUES ('in time');
	CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON report FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('held');
	CREATE VIEW leaders AS SELECT name, holder_identity FROM lease_status WHERE status = 'held';
};

my %greatest;			# database => its greatest token

sub make
{
	my ($database, @sql) = @_;

	$from->safe_psql('postgres', "CREATE DATABASE $database");
	$from->safe_psql($database, $_) foreach @sql, $rows;
	$greatest{$database} = $from->safe_psql($database, q{SELECT fencing_token FROM lease WHERE name = 'gone'});
	$from->safe_psql($database, $forget);
	return;
}

make('source', 'CREATE EXTENSION lease', $rights, $done, $built);

# In a schema that no search_path has, under a name that has to be quoted
make('elsewhere', 'CREATE SCHEMA "the leases"; CREATE EXTENSION lease SCHEMA "the leases"; ALTER DATABASE elsewhere SET search_path = "the leases", public', $rights, $built);

make('kept', 'CREATE EXTENSION lease', 'ALTER TABLE lease OWNER TO keeper; ALTER TABLE lease_history OWNER TO keeper; ALTER TABLE lease_node OWNER TO keeper; ALTER TABLE lease_gc_policy OWNER TO keeper');

$from->safe_psql('postgres', q{
	ALTER DATABASE source SET lease.apiserver_identity = '1.27';
	ALTER ROLE app SET lease.node_monitor_grace_period = '50 s';
	ALTER ROLE app IN DATABASE source SET lease.heartbeat_storage = 'memory';
	GRANT SET ON PARAMETER lease.history_retention TO app;
});

my %queries = (
	leases => 'SELECT * FROM lease ORDER BY namespace, name',
	history => 'SELECT * FROM lease_history ORDER BY namespace, name, fencing_token',
	nodes => 'SELECT * FROM lease_node ORDER BY name',
	policies => 'SELECT * FROM lease_gc_policy ORDER BY name',
);
my %rights = (
	'grants on tables' => q{SELECT oid::regclass, acl FROM pg_class, unnest(relacl) AS acl WHERE relname LIKE 'lease%' ORDER BY 1, 2::text},
	'grants on columns' => q{SELECT attrelid::regclass, attname, acl FROM pg_attribute, unnest(attacl) AS acl WHERE attrelid = 'lease'::regclass ORDER BY 1, 2, 3::text},
	'grants on functions' => q{SELECT oid::regprocedure, acl FROM pg_proc, unnest(proacl) AS acl WHERE proname LIKE 'lease%' ORDER BY 1, 2::text},
	'what others have built' => q{SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'fence' UNION ALL SELECT pg_get_viewdef('leaders'::regclass) UNION ALL SELECT line FROM report},
);
my %own = (
	'row-level security' => q{SELECT relname, relrowsecurity FROM pg_class WHERE relrowsecurity; SELECT polname, polroles::regrole[], pg_get_expr(polqual, polrelid) FROM pg_policy},
	'indexes, storage and owners' => q{SELECT relname, relowner::regrole, reloptions FROM pg_class WHERE relname ~ '^lease' AND relkind IN ('r', 'i', 'S') ORDER BY 1},
	triggers => q{SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1},
);

sub contents
{
	my ($node, $database, %what) = @_;

	return { map { $_ => $node->safe_psql($database, $what{$_}) } keys %what };
}

my %source = map { my $database = $_; $database => { contents => contents($from, $database, %queries) } } qw(source elsewhere kept);
$source{$_}->{rights} = contents($from, $_, %rights) foreach qw(source elsewhere);
$source{$_}->{own} = contents($from, $_, %own) foreach qw(source elsewhere kept);
is($from->safe_psql('source', q{SELECT count(*) FROM lease_history; SELECT count(*) FROM lease_gc_policy}), "2\n3", 'there is a history, and there are policies');
like($source{source}->{rights}->{$_}, qr/\bapp\b/, "there are $_") foreach grep { /grants/ } sort keys %rights;

# ---------- Is it all there? ----------

# $database, of server $node, is to be like $source of $from; tokens as well, after
# what $before_clients does.
sub is_restored
{
	my ($node, $database, $source, $what, %options) = @_;

	is_deeply(contents($node, $database, %queries), $source{$source}->{contents}, "$what: leases, history, nodes and policies");
	is_deeply(contents($node, $database, %rights), $source{$source}->{rights}, "$what: grants, and what others have built")
	  if $options{rights};
	$options{before_clients}->() if $options{before_clients};

	foreach my $lease (qw(gone released))
	{
		cmp_ok($node->safe_psql($database, "SELECT fencing_token FROM lease_acquire('$lease', 'b', '1 h')"), '>', $greatest{$source}, "$what: a greater token than any from there ($lease)");
	}
	is($node->safe_psql($database, q{SELECT status, fencing_token FROM lease_renew('held', 'a')}),
		join('|', 'renewed', $node->safe_psql($database, q{SELECT fencing_token FROM lease WHERE name = 'held'})), "$what: the holder renews, under its token");
	is($node->safe_psql($database, q{SELECT status FROM lease_acquire('given', 'c'); SELECT status FROM lease_acquire('given', 'b')}), "reserved\nacquired", "$what: what was reserved still is");
	is($node->safe_psql($database, q{SET lease.apiserver_identity = '1.26'; SELECT status FROM lease_apiserver_heartbeat('host', 'b2a3f1de-0a53-4d3e-9d28-06a2e9d3a0c1')}),
		'renewed', "$what: an API server goes on");
	return;
}

my $count = 0;

# A new database, for one restore
sub new_database
{
	my ($source) = @_;
	my $database = 'restored_' . ++$count;

	$to->safe_psql('postgres', "CREATE DATABASE $database");
	$to->safe_psql('postgres', qq{ALTER DATABASE $database SET search_path = "the leases", public}) if $source eq 'elsewhere';
	return $database;
}

sub dump_ok { my ($source, @options) = @_; return $from->command_ok([ 'pg_dump', @options, $from->connstr($source) ], "pg_dump @options" =~ s/\Q$tmp\E/./r); }
sub restore_ok { my ($database, @options) = @_; return $to->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $to->connstr($database), @options ], "pg_restore @options" =~ s/\Q$tmp\E/./r); }
sub psql_ok { my ($database, $file) = @_; return $to->command_ok([ 'psql', '-XqAt', '--set=ON_ERROR_STOP=1', '--file', $file, '--output', '/dev/null', $to->connstr($database) ], 'psql'); }

# ---------- The whole database ----------

foreach my $source (qw(source elsewhere))
{
	my $database = new_database($source);
	dump_ok($source, '--file', "$tmp/$source.sql");
	psql_ok($database, "$tmp/$source.sql");
	is_restored($to, $database, $source, "$source, plain", rights => 1);

	$database = new_database($source);
	dump_ok($source, '--format=custom', '--file', "$tmp/$source.custom");
	restore_ok($database, '--single-transaction', "$tmp/$source.custom");
	is_restored($to, $database, $source, "$source, custom", rights => 1);

	$database = new_database($source);
	dump_ok($source, '--format=directory', '--jobs=2', '--file', "$tmp/$source.directory");
	restore_ok($database, '--jobs=2', "$tmp/$source.directory");
	is_restored($to, $database, $source, "$source, in parallel", rights => 1);
}

# What is not in it
my $without = 'restored_1';
is($to->safe_psql($without, $own{'row-level security'}), '', 'not in a dump: row-level security on the tables');
is($to->safe_psql($without, q{SELECT to_regclass('lease_labels_idx') IS NULL AND 'fillfactor=60' = ALL (reloptions) FROM pg_class WHERE oid = 'lease'::regclass}), 't', '... nor indexes and storage parameters');
is($to->safe_psql($without, q{SELECT count(*) FROM pg_trigger WHERE tgname = 'note'}), '0', '... nor triggers');

# Over what is there
my $database = new_database('source');
restore_ok($database, "$tmp/source.custom");
$to->safe_psql($database, q{DELETE FROM lease; DELETE FROM lease_gc_policy; SELECT FROM lease_acquire('new', 'n')});
restore_ok($database, '--clean', '--if-exists', "$tmp/source.custom");
is_restored($to, $database, 'source', 'over what is there', rights => 1);

# ---------- In parts ----------

$database = new_database('source');
restore_ok($database, "--section=$_", "$tmp/source.custom") foreach qw(pre-data data post-data);
is_restored($to, $database, 'source', 'by sections', rights => 1);

$database = new_database('source');
dump_ok('source', '--schema-only', '--file', "$tmp/schema.sql");
dump_ok('source', '--data-only', '--file', "$tmp/data.sql");
psql_ok($database, "$tmp/schema.sql");
is($to->safe_psql($database, 'SELECT count(*) FROM lease; SELECT count(*) FROM lease_gc_policy'), "0\n2", 'only the schema: no lease, and the policies that come with the extension');
# The writer is no holder.
$to->safe_psql($database, 'ALTER TABLE report DISABLE TRIGGER fence');
psql_ok($database, "$tmp/data.sql");
$to->safe_psql($database, 'ALTER TABLE report ENABLE TRIGGER fence');
is_restored($to, $database, 'source', 'the schema, and then the data', rights => 1);

# Without triggers, nothing replaces the policies that are there.
$database = new_database('source');
psql_ok($database, "$tmp/schema.sql");
$to->safe_psql($database, 'TRUNCATE lease_gc_policy');
restore_ok($database, '--data-only', '--disable-triggers', "$tmp/source.custom");
is_restored($to, $database, 'source', 'data without triggers', rights => 1);

# ---------- Into an extension that was there before ----------

# What was held counts as renewed when the server was started.
my $silent = q{SELECT expires_at = counts_from + duration FROM lease_status, lease_clock() WHERE name = 'silent'};

# Its sequence knows nothing of the lease that is gone; the start of the server does.
dump_ok('kept', '--data-only', '--file', "$tmp/kept.sql");
psql_ok('long_ago', "$tmp/kept.sql");
my $restored_at = $to->safe_psql('long_ago', 'SELECT clock_timestamp()');
ok($to->poll_query_until('long_ago', q{SELECT status = 'expired' FROM lease_status WHERE name = 'silent'}), 'what was not renewed for long expires');
is_restored($to, 'long_ago', 'kept', 'into an older extension', before_clients => sub { $to->restart });
is($to->safe_psql('long_ago', $silent), 't', '... and counts as renewed when the server was started');
is($to->safe_psql('long_ago', "SELECT counts_from > '$restored_at' FROM lease_clock()"), 't', '... after the restore');

# By the owner of the tables, who is no superuser
$database = new_database('kept');
$to->safe_psql($database, "CREATE EXTENSION lease; ALTER TABLE $_ OWNER TO keeper") foreach 'lease';
$to->safe_psql($database, "ALTER TABLE $_ OWNER TO keeper") foreach qw(lease_history lease_node lease_gc_policy);
{
	local $ENV{PGUSER} = 'keeper';
	dump_ok('kept', '--format=custom', '--file', "$tmp/kept.custom");
	restore_ok($database, '--data-only', '--no-owner', "$tmp/kept.custom");
}
is_restored($to, $database, 'kept', 'by the owner of the tables');

# ---------- The whole cluster ----------

# With the settings of databases and roles
$from->command_ok([ 'pg_dumpall', '--no-sync', '--file', "$tmp/all.sql", '--dbname', $from->connstr('postgres') ], 'pg_dumpall');
my $settings = q{
	SELECT datname, setrole::regrole, setconfig FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase WHERE setconfig::text LIKE '%lease.%' ORDER BY 1, 2;
	SELECT parname, paracl FROM pg_parameter_acl;
};
my $all = new_server('all');
$all->start;
# Its superuser and its database postgres are there already.
$all->psql('postgres', slurp_file("$tmp/all.sql"), on_error_stop => 0);
is($all->safe_psql('postgres', $settings), $from->safe_psql('postgres', $settings), 'pg_dumpall: settings of databases and roles');
is($all->safe_psql('source', 'SHOW lease.apiserver_identity'), '1.27', '... which are in force');
is_restored($all, 'source', 'source', 'pg_dumpall', rights => 1);
is_restored($all, 'elsewhere', 'elsewhere', 'pg_dumpall, another schema', rights => 1);
$all->stop;

# ---------- pg_upgrade ----------

my $token = $from->safe_psql('kept', 'SELECT last_value FROM lease_fencing_token_seq');
my $settings_before = $from->safe_psql('postgres', $settings);

SKIP:
{
	my $bindir = $from->config_data('--bindir');
	skip 'no pg_upgrade', 1 unless -x "$bindir/pg_upgrade";

	my $upgraded = new_server('upgraded');
	$from->stop;
	chdir $tmp or die $!;
	command_ok([ 'pg_upgrade', '--no-sync', '--old-bindir', $bindir, '--new-bindir', $bindir,
			'--old-datadir', $from->data_dir, '--new-datadir', $upgraded->data_dir,
			'--old-port', $from->port, '--new-port', $upgraded->port, '--socketdir', $from->host ],
		'pg_upgrade');
	$upgraded->start;
	is_deeply(contents($upgraded, $_, %own), $source{$_}->{own}, "pg_upgrade: row-level security, owners, indexes, triggers and storage of $_") foreach qw(source kept);
	is($upgraded->safe_psql('kept', 'SELECT last_value FROM lease_fencing_token_seq'), $token, 'pg_upgrade: the sequence');
	is($upgraded->safe_psql('postgres', $settings), $settings_before, 'pg_upgrade: settings of databases and roles');
	is($upgraded->safe_psql('kept', $silent), 't', 'pg_upgrade: all that was held counts as renewed');
	is_restored($upgraded, 'source', 'source', 'pg_upgrade', rights => 1);
	is_restored($upgraded, 'elsewhere', 'elsewhere', 'pg_upgrade, another schema', rights => 1);
	is_restored($upgraded, 'kept', 'kept', 'pg_upgrade, another owner');
	$upgraded->stop;
}

$to->stop;
done_testing();
