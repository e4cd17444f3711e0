# lease.heartbeat_storage = memory: renewals touch nothing but shared memory, and
# whoever decides about the lease knows of them all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(clock_gettime usleep CLOCK_MONOTONIC);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
lease.heartbeat_storage = memory
lease.heartbeat_flush_interval = 0
lease.heartbeat_entries = 50
max_prepared_transactions = 5
autovacuum = off
restart_after_crash = on
});
$node->start;

sub query { return $node->safe_psql('postgres', $_[0]); }

query('CREATE EXTENSION lease');
my $holder = Psql->new($node);
my $other = Psql->new($node);

sub now { return clock_gettime(CLOCK_MONOTONIC); }
sub until_time { my ($time) = @_; usleep(1000) until now() >= $time; return; }

sub renew { my ($name) = @_; return $holder->do("SELECT status FROM lease_renew('$name', 'a')"); }

# A lease of a whose entry is open, and which was renewed after its row was written.
sub make
{
	my ($name, $duration) = @_;

	query("SELECT lease_acquire('$name', 'a', '@{[ $duration // '1 h' ]}')");
	renew($name);
	is(renew($name), 'renewed', "$name: renewed in memory");
	is(is_open($name), 't', "$name: its entry is open");
	return;
}

# Is the lease renewed without a look at the row?  Then it is also by who cannot lock it.
sub is_open
{
	my ($name) = @_;

	return query("BEGIN; SELECT FROM lease WHERE name = '$name' FOR UPDATE; SELECT renewed FROM lease_renew('$name', 'a'); ROLLBACK");
}

# How much later than its row the lease was renewed, in seconds.
sub ahead
{
	my ($name) = @_;

	return query("SELECT extract(epoch FROM s.renew_time - l.renew_time) FROM lease l JOIN lease_status s USING (namespace, name) WHERE name = '$name'");
}

# ---------- What it costs ----------

sub wal_of { my ($call) = @_; return query("EXPLAIN (ANALYZE, WAL, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT $call"); }

query("SELECT lease_acquire('cost', 'a', '1 h')");
my $before = query(q{SELECT xmin, ctid, renew_time, resource_version FROM lease WHERE name = 'cost'});
like(wal_of(q{lease_renew('cost', 'a')}), qr/WAL/, 'the first renewal locks the row');
unlike(wal_of(q{lease_renew('cost', 'a')}), qr/WAL/, 'further ones write no WAL');
unlike(wal_of(q{lease_acquire('cost', 'a', '1 h')}), qr/WAL/, 'nor does lease_acquire() by the holder');
is($holder->do(q{BEGIN; SELECT status FROM lease_renew('cost', 'a'); SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT}),
	"renewed\nt", 'they take no transaction ID');
is(query(q{SELECT status FROM lease_acquire('cost', 'b', '1 h')}), 'held', 'another does not get the lease');
is(query(q{SELECT xmin, ctid, renew_time, resource_version FROM lease WHERE name = 'cost'}), $before, 'the row is as it was');
is(query(q{SELECT used FROM lease_heartbeat_memory()}), 1, 'it is in memory');

# ---------- Who sees it ----------

cmp_ok(ahead('cost'), '>', 0, 'lease_status shows the last renewal');
my $renewed = query(q{SELECT to_char(renew_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM lease_status WHERE name = 'cost'});
is(query(q{SELECT lease_object('cost') #>> '{spec,renewTime}'}), $renewed, 'lease_object()');
is(query(q{SELECT lease_object(l) #>> '{spec,renewTime}' FROM lease l WHERE name = 'cost'}), $renewed, 'lease_object() of a row');
like(query(q{SELECT kubectl('get lease cost -o yaml')}), qr/renewTime: "\Q$renewed\E"/, 'kubectl()');
is(query(q{SELECT s.renew_time = g.renew_time FROM lease_status s, kubectl_get_leases g WHERE g.name = 'cost' AND s.name = 'cost'}), 't', 'kubectl_get_leases');
is(query(q{SELECT h.held_until IS NULL FROM lease_holdings h WHERE name = 'cost'}), 't', 'lease_holdings');

# ---------- Expiry ----------

query(q{SELECT lease_acquire('short', 'a', '2 s')});
my $acquired = now();
until_time($acquired + 1);
is(renew('short'), 'renewed', 'renewed after a second');
until_time($acquired + 1.9);
is(renew('short'), 'renewed', 'and again, in memory');
my $last = now();
until_time($acquired + 2.2);
is($other->do(q{SELECT status FROM lease_acquire('short', 'b', '1 h')}), 'held', 'when the row would have expired: held');
is($other->do(q{SELECT lease_is_held('short', 'a')}), 't', 'and known to be');
is($other->do(q{SELECT lease_guard('short', fencing_token) IS NOT NULL FROM lease WHERE name = 'short'}), 't', 'guarded');
is(query(q{SELECT count(*) FROM lease_history WHERE name = 'short'}), 0, 'the worker has not seen it expire');
$node->poll_query_until('postgres', q{SELECT status = 'expired' FROM lease_status WHERE name = 'short'}) or die 'does not expire';
cmp_ok(now(), '>=', $last + 1.9, 'it expires two seconds after the last renewal');
is(renew('short'), 'expired', 'and cannot be renewed then');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM lease_history WHERE name = 'short'}) or die 'the worker does not notice';
is(query(q{SELECT h.held_until = lease_expires_at('a', s.renew_time, 2) FROM lease_history h JOIN lease_status s USING (name) WHERE name = 'short'}),
	't', 'the history has the right time');
is($other->do(q{SELECT status FROM lease_acquire('short', 'b', '1 h')}), 'acquired', 'then another gets it');
is(renew('short'), 'held', 'and the holder before hears it');

# ---------- Who changes the holder ----------

# Statement, what the holder hears while it is not committed, and after.
my %changes = (
	release => [ q{SELECT status FROM lease_release('%s', 'a')}, 'busy', 'free' ],
	handover => [ q{SELECT status FROM lease_handover('%s', 'a', 'b')}, 'busy', 'free' ],
	delete => [ q{DELETE FROM lease WHERE name = '%s'}, 'busy', 'missing' ],
	'update' => [ q{UPDATE lease SET holder_identity = 'b' WHERE name = '%s'}, 'busy', 'held' ],
	expire => [ q{UPDATE lease SET renew_time = clock_timestamp() - interval '1 day' WHERE name = '%s'}, 'busy', undef ],
	kubectl => [ q{SELECT kubectl('delete lease %s')}, 'busy', 'missing' ],
);
foreach my $change (sort keys %changes)
{
	my ($sql, $meanwhile, $after) = @{ $changes{$change} };

	foreach my $name ("$change-aborted", $change)
	{
		my $end = $name eq $change ? 'COMMIT' : 'ROLLBACK';

		make($name);
		my $shown = query("SELECT renew_time FROM lease_status WHERE name = '$name'");
		$other->do('BEGIN');
		$other->do(sprintf $sql, $name);
		is(renew($name), $meanwhile, "$name: in progress");
		$other->do($end);
		if ($end eq 'ROLLBACK')
		{
			is(query("SELECT renew_time >= '$shown' FROM lease_status WHERE name = '$name'"), 't', "$name: the renewals in memory still count");
			is(renew($name), 'renewed', "$name: rolled back, it goes on");
			is(is_open($name), 't', "$name: in memory");
		}
		elsif (defined $after)
		{
			is(renew($name), $after, "$name: committed");
		}
	}
}
is(query(q{SELECT renew_time < now() - interval '1 hour' FROM lease_status WHERE name = 'expire'}), 't', 'a time written by hand counts');

# A whole table.
make('truncated');
$other->do('BEGIN; TRUNCATE lease');
is(renew('truncated'), 'busy', 'TRUNCATE in progress');
$other->do('ROLLBACK');
is(is_open('truncated'), 't', 'rolled back: it goes on in memory');
query('VACUUM FULL lease');
cmp_ok(ahead('truncated'), '>', 0, 'VACUUM FULL: the renewals in memory still count');
is(renew('truncated'), 'renewed', 'VACUUM FULL: renewed');
is(is_open('truncated'), 't', 'and in memory again');
query('TRUNCATE lease');
is(renew('truncated'), 'missing', 'TRUNCATE');

# Savepoints: what was written in one is gone, what was in memory is not.
make('savepoint');
$other->do(q{BEGIN; SAVEPOINT s; SELECT FROM lease_release('savepoint', 'a'); ROLLBACK TO s});
is(renew('savepoint'), 'renewed', 'released in a savepoint that was rolled back');
$other->do('COMMIT');
cmp_ok(ahead('savepoint'), '>', 0, 'committed: its renewals in memory count');

# A prepared takeover.
make('prepared');
query(q{BEGIN; SELECT lease_release('prepared', 'a'); PREPARE TRANSACTION 'p'});
is(renew('prepared'), 'busy', 'prepared');
query(q{ROLLBACK PREPARED 'p'});
is(renew('prepared'), 'renewed', 'and rolled back');

# The caller's own transaction.
make('own');
is($holder->do(q{BEGIN; SELECT status FROM lease_release('own', 'a'); SELECT status FROM lease_renew('own', 'a'); SELECT status FROM lease_acquire('own', 'a', '1 h'); SELECT status FROM lease_renew('own', 'a'); SELECT status FROM lease_renew('own', 'a'); ROLLBACK}),
	"released\nfree\nacquired\nrenewed\nrenewed", 'released, acquired and renewed in one transaction');
cmp_ok(ahead('own'), '>', 0, 'rolled back: as before');
$holder->do(q{BEGIN; SELECT lease_release('own', 'a'); SELECT lease_acquire('own', 'a', '1 h'); SELECT lease_renew('own', 'a'); COMMIT});
is(renew('own'), 'renewed', 'committed: the new holding is renewed');
is(is_open('own'), 't', 'in memory');

# Tokens and durations.
make('token');
my $token = query(q{SELECT fencing_token FROM lease WHERE name = 'token'});
is($holder->do("SELECT status FROM lease_renew('token', 'a', fencing_token => $token)"), 'renewed', 'with its token');
is($holder->do("SELECT status FROM lease_renew('token', 'a', fencing_token => $token - 1)"), 'held', 'not with another');
is($holder->do("SELECT status FROM lease_renew('token', 'b')"), 'held', 'nor by another holder');
is($holder->do("SELECT status, expires_in > '90 min' FROM lease_acquire('token', 'a', '2 h')"), 'renewed|t', 'a new duration is written');
is(query(q{SELECT lease_duration_seconds FROM lease WHERE name = 'token'}), 7200, 'to the row');
is(renew('token'), 'renewed', 'and goes for the renewals that follow');
is($holder->do("SELECT expires_in > '90 min' FROM lease_renew('token', 'a')"), 't', 'in memory');

# Labels, by hand and by kubectl: nothing is lost.
make('labels');
query(q{UPDATE lease SET labels = '{"a": "b"}' WHERE name = 'labels'});
is(query(q{SELECT s.renew_time = l.renew_time AND l.renew_time > l.acquire_time FROM lease l JOIN lease_status s USING (name) WHERE name = 'labels'}), 't', 'an UPDATE takes the renewals along');
renew('labels');
is(renew('labels'), 'renewed', 'renewed again');
query(q{SELECT kubectl('label lease labels a=c --overwrite')});
is(renew('labels'), 'renewed', 'after kubectl label');
query(q{SELECT lease_apply(jsonb_set(lease_object('labels'), '{metadata,annotations}', '{"k": "v"}'))});
is(query(q{SELECT renew_time > clock_timestamp() - interval '1 min' AND annotations ->> 'k' = 'v' FROM lease WHERE name = 'labels'}), 't', 'lease_apply() of what was read before');

# ---------- Who is let into memory ----------

query(q{CREATE ROLE app LOGIN; GRANT SELECT, INSERT, UPDATE ON lease TO app;
	ALTER TABLE lease ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON lease TO app USING (name <> 'secret')});
make($_) foreach 'public', 'secret';
my $app = q{SET ROLE app; };
is(query($app . q{SELECT status FROM lease_renew('public', 'a')}), 'renewed', 'row-level security: a row that is visible');
isnt(query($app . q{SELECT status FROM lease_renew('secret', 'a')}), 'renewed', 'one that is not');
query(q{ALTER TABLE lease DISABLE ROW LEVEL SECURITY; REVOKE UPDATE ON lease FROM app});
my ($status, $out, $err) = $node->psql('postgres', $app . q{SELECT status FROM lease_renew('public', 'a')});
like($err, qr/permission denied/, 'no privilege');
query(q{DROP POLICY p ON lease; REVOKE ALL ON lease FROM app; DROP ROLE app});

query(q{CREATE TABLE seen (name text);
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (NEW.name); RETURN NULL; END';
	CREATE TRIGGER see AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION see()});
is(renew('public'), 'renewed', 'with a trigger on the table');
is(query('SELECT count(*) FROM seen'), 1, 'the trigger has fired');
cmp_ok(ahead('public'), '==', 0, 'and the row is written');
query('DROP TRIGGER see ON lease');

is($holder->do(q{SET lease.heartbeat_storage = 'table'; SELECT status FROM lease_renew('secret', 'a'); RESET lease.heartbeat_storage}), 'renewed', 'a session that wants the table');
cmp_ok(ahead('secret'), '==', 0, 'gets it');

# One session renews through the table, not committed, while the holder goes on in memory,
# if that session could do without a lock on the row.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	my $name = lc "table-$end";

	make($name);
	$other->do("BEGIN; SET LOCAL lease.heartbeat_storage = 'table'");
	is($other->do("SELECT status FROM lease_renew('$name', 'a')"), 'renewed', "$name: renewed through the table");
	my $answer = renew($name);
	like($answer, qr/^(renewed|busy)$/, "$name: $answer meanwhile");
	my $shown = query("SELECT renew_time FROM lease_status WHERE name = '$name'");
	$other->do($end);
	is(query("SELECT renew_time >= '$shown' FROM lease_status WHERE name = '$name'"), 't', "$name: no renewal is lost");
	is(renew($name), 'renewed', "$name: it goes on");
	cmp_ok(ahead($name), '>', 0, "$name: in memory");
}
$other->do("SET lease.heartbeat_storage = 'table'");
make('all');
is($other->do("SELECT status, leases FROM lease_renew_all('a', '{all,table-commit}')"), 'renewed|2', 'lease_renew_all() through the table');
is(renew('all'), 'renewed', 'and on in memory');
cmp_ok(ahead('all'), '>', 0, 'which counts');
$other->do('RESET lease.heartbeat_storage');
is($other->do("SELECT status, leases FROM lease_renew_all('a', '{all,table-commit}')"), 'renewed|2', 'lease_renew_all() in memory');

# Written back a moment ago, renewed through the table and written once more by the same
# transaction, which is rolled back: what the holder was told counts.
query(q{ALTER SYSTEM SET lease.heartbeat_flush_interval = 1});
$node->reload;
foreach my $then (q{SELECT lease_renew('own-twice', 'a')}, q{UPDATE lease SET labels = '{"a": "b"}' WHERE name = 'own-twice'}, q{SELECT lease_release('own-twice', 'a')})
{
	query(q{DELETE FROM lease WHERE name = 'own-twice'});
	make('own-twice');
	$node->poll_query_until('postgres', q{SELECT l.renew_time = s.renew_time FROM lease l JOIN lease_status s USING (namespace, name) WHERE name = 'own-twice'}) or die 'not written back';
	$other->do(q{BEGIN; SET LOCAL lease.heartbeat_storage = 'table'; SELECT lease_renew('own-twice', 'a')});
	renew('own-twice');
	$other->do($then);
	renew('own-twice');
	my $shown = query(q{SELECT renew_time FROM lease_status WHERE name = 'own-twice'});
	$other->do('ROLLBACK');
	is(query("SELECT renew_time >= '$shown' FROM lease_status WHERE name = 'own-twice'"), 't', "rolled back: $then");
}
query(q{ALTER SYSTEM SET lease.heartbeat_flush_interval = 0});
$node->reload;

# A table that the transaction itself has rewritten is truncated in place.
make('rewritten');
query(q{BEGIN; CLUSTER lease USING lease_pkey; SELECT lease_renew('rewritten', 'a'); TRUNCATE lease; COMMIT});
is(renew('rewritten'), 'missing', 'rewritten, renewed and truncated in one transaction');

# A renew_time that is still to come is not shortened.
make('future');
query(q{UPDATE lease SET renew_time = clock_timestamp() + interval '1 day' WHERE name = 'future'});
is($holder->do(q{SELECT expires_in > '24 h' FROM lease_renew('future', 'a')}), 't', 'a time in the future stays');

# Who may write labels only, and not times.
query(q{CREATE ROLE writer LOGIN; GRANT SELECT, INSERT, UPDATE ON lease TO writer});
make('applied');
is(query(q{SET ROLE writer; CREATE TEMP TABLE o AS SELECT lease_object('applied') AS o; RESET ROLE;
	SELECT renewed FROM lease_renew('applied', 'a'); SET ROLE writer;
	SELECT a.action FROM o, lease_apply(jsonb_set(o, '{metadata,labels}', '{"a": "b"}')) a}), "t\nconfigured", 'lease_apply() of what was read before, by who may not set times');
query(q{DROP OWNED BY writer; DROP ROLE writer});

# Heartbeats.
is(query(q{SELECT status FROM lease_node_heartbeat('n1')}), 'acquired', 'a node');
query(q{SELECT FROM lease_node_heartbeat('n1')}) for 1 .. 2;
cmp_ok(query(q{SELECT extract(epoch FROM n.renew_time - l.renew_time) FROM lease l JOIN lease_nodes n USING (name) WHERE namespace = 'kube-node-lease'}), '>', 0, 'its heartbeats are in memory');
is(query(q{SELECT status FROM lease_nodes WHERE name = 'n1'}), 'Ready', 'and count');
query(q{SELECT FROM lease_node_register('n1')});
query(q{SELECT FROM lease_node_heartbeat('n1')});
is(query(q{SELECT owner_references #>> '{0,name}' FROM lease WHERE namespace = 'kube-node-lease'}), 'n1', 'registered: the lease gets its owner all the same');
query(q{SELECT FROM lease_apiserver_heartbeat('h', '00000000-0000-0000-0000-000000000001')}) for 1 .. 2;
is(query(q{SELECT count(*) FROM lease l JOIN lease_apiservers a USING (name) WHERE a.last_renewal <> l.renew_time}), 0, 'those of API servers are in the table');

# ---------- Full ----------

my $room = query('SELECT entries - used FROM lease_heartbeat_memory()');
query("SELECT lease_acquire('full-' || i, 'a', '1 h') FROM generate_series(1, $room + 5) i");
query('SELECT renewed FROM lease, lease_renew(name, holder_identity) WHERE name LIKE \'full-%\' ORDER BY name') for 1 .. 2;
is(query('SELECT entries = used FROM lease_heartbeat_memory()'), 't', 'memory is full');
is(query(q{SELECT count(*) FILTER (WHERE l.renew_time > l.acquire_time) > 0, bool_and(s.renew_time > l.acquire_time) FROM lease l JOIN lease_status s USING (name) WHERE name LIKE 'full-%'}),
	't|t', 'the renewals for which there was no room are in the table');

is(query(q{SELECT warning, value FROM lease_warnings WHERE warning = 'memory full'}), 'memory full|50', 'and somebody is told');

# ---------- Writing back ----------

query(q{ALTER SYSTEM SET lease.heartbeat_flush_interval = 1});
$node->reload;
sub written_back { return $node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM lease l JOIN lease_status s USING (namespace, name) WHERE s.renew_time <> l.renew_time}); }

ok(written_back(), 'written back');
is(is_open('full-1'), 't', 'and renewals go on in memory');
query(q{ALTER SYSTEM SET lease.heartbeat_flush_interval = 0});
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('lease.heartbeat_flush_interval') = '0'});
$node->poll_query_until('postgres', q{SELECT s.renew_time > l.renew_time FROM lease_renew('full-1', 'a') r, lease l JOIN lease_status s USING (namespace, name) WHERE name = 'full-1' AND r.renewed})
  or die 'is written at once';
my $shown = query(q{SELECT renew_time FROM lease_status WHERE name = 'full-1'});
$_->finish foreach $holder, $other;
$node->restart;
is(query("SELECT renew_time = '$shown' FROM lease WHERE name = 'full-1'"), 't', 'but when the server is shut down');
is(query('SELECT used FROM lease_heartbeat_memory()'), 0, 'memory is empty');

# ---------- Crash ----------

$holder = Psql->new($node);
query(q{SELECT lease_acquire('crash', 'a', '4 s')});
renew('crash');
my $until = now() + 3;
do { renew('crash'); usleep(20_000) } while now() < $until;
$last = now();
$holder->finish;
$node->stop('immediate');
$node->start;
my $started = now();
is(query(q{SELECT status FROM lease_acquire('crash', 'b', '4 s')}), 'held', 'after a crash the lease lasts its duration');
$node->poll_query_until('postgres', q{SELECT acquired FROM lease_acquire('crash', 'b', '4 s')}) or die 'never free';
cmp_ok(now(), '>=', $last + 4, 'and so at least as long as the holder believes');

# Without the grace, nothing stays in memory.
query(q{ALTER SYSTEM SET lease.recovery_grace = off});
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('lease.recovery_grace') = 'off'});
$holder = Psql->new($node);
query(q{SELECT lease_acquire('no-grace', 'a', '1 h')});
renew('no-grace') for 1 .. 2;
cmp_ok(ahead('no-grace'), '==', 0, 'without the recovery grace renewals go to the table');
$holder->finish;
$node->stop;

# ---------- Without preloading ----------

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nlease.heartbeat_storage = table\n");
$node->start;
($status, $out, $err) = $node->psql('postgres', q{LOAD 'lease'; SET lease.heartbeat_storage = memory});
like($err, qr/invalid value for parameter "lease.heartbeat_storage".*\n.*must be loaded at server start.*\n.*shared_preload_libraries/, 'memory needs preloading');
is(query(q{SELECT status FROM lease_renew('no-grace', 'a')}), 'renewed', 'the table does not');
is(query(q{SELECT entries, used FROM lease_heartbeat_memory()}), '0|0', 'there is no memory');
$node->stop;
done_testing();
