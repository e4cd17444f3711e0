# Events: what happens to leases is told to whoever listens, once it has
# committed; that a lease has expired as well, within a tenth of a second.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('events');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
# Times are set back instead of waiting, and the server has just started.
lease.recovery_grace = off
fsync = off
autovacuum = off
max_prepared_transactions = 5
lease.gc_interval = 0
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');

sub query { return $node->safe_psql('postgres', $_[0]); }

sub until_true
{
	my ($sql, $what) = @_;

	$node->poll_query_until('postgres', $sql) or die "timed out: $what";
	return;
}

my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'lease worker'};
until_true("SELECT EXISTS ($worker)", 'worker');

# A session that listens.  Events are sent in order, so after that of a mark
# none that came before it is under way.
my $listener = Psql->new($node);
$listener->do('LISTEN lease');
my $marks = 0;

sub events
{
	my $mark = 'mark-' . ++$marks;
	my $text = '';

	# Again and again: just switched on, the worker may not have heard of it.
	until ($text =~ /"$mark"/)
	{
		query("INSERT INTO lease (name) VALUES ('$mark') ON CONFLICT (namespace, name) DO UPDATE SET labels = NULL");
		$text .= $listener->do('SELECT pg_sleep(0.01)');
	}
	my @payloads = $text =~ /notification "lease" with payload "(\{.*?\})" received/g;
	return grep { ($_->{name} // '') !~ /^mark-/ } map { decode_json($_) } @payloads;
}

# Events in short: type, name, holder
sub in_short
{
	return join ' ', map { join ':', $_->{type}, $_->{name} // '', $_->{holderIdentity} // 'null' } @_;
}

sub events_are
{
	my ($expected, $what) = @_;

	return is(in_short(events()), $expected, $what);
}

# ---------- What is an event ----------

query(q{SELECT FROM lease_acquire('a', 'h', '1 h', namespace => 'kube-system')});
my ($event) = events();
is_deeply([ sort keys %$event ], [qw(fencingToken holderIdentity name namespace resourceVersion type)], 'members of an event');
is(join('|', @$event{qw(type namespace name holderIdentity fencingToken resourceVersion)}),
	query(q{SELECT 'ADDED', namespace, name, holder_identity, fencing_token, resource_version FROM lease WHERE name = 'a'}), 'what they are');
unlike(encode_json({ v => $event->{fencingToken} }), qr/"v":"/, 'the token is a number');
like(encode_json({ v => $event->{resourceVersion} }), qr/"v":"/, '... the version a string, as in Kubernetes');

query(q{SELECT FROM lease_acquire('b', 'h', '1 h')});
events_are('ADDED:b:h', 'acquired, a new object');
query(q{SELECT FROM lease_acquire('b', 'h', '1 h')});
query(q{SELECT FROM lease_renew('b', 'h')});
query(q{SELECT FROM lease_acquire('b', 'other', '1 h')});
events_are('', 'renewed; refused');
query(q{SELECT FROM lease_acquire('b', 'h', '2 h')});
query(q{SELECT FROM lease_acquire('b', 'h', '1 h')});
events_are('', 'renewed for longer, and for shorter');
query(q{SELECT FROM lease_release('b', 'h')});
events_are('MODIFIED:b:', 'released');
query(q{SELECT FROM lease_acquire('b', 'h', '1 h')});
query(q{SELECT FROM lease_handover('b', 'h', 'next')});
events_are('MODIFIED:b:h MODIFIED:b:', 'acquired again and handed over');
query(q{BEGIN; UPDATE lease SET renew_time = renew_time - interval '2 h', holder_identity = 'h', reserved_for = NULL, not_before = NULL WHERE name = 'b'; SELECT FROM lease_acquire('b', 'thief', '1 h'); COMMIT});
events_are('MODIFIED:b:h MODIFIED:b:thief', 'edited, and taken over');
query(q{UPDATE lease SET labels = '{"a": "b"}' WHERE name = 'b'; DELETE FROM lease WHERE name = 'b'});
my ($edited, $deleted) = events();
is(in_short($edited, $deleted), 'MODIFIED:b:thief DELETED:b:thief', 'labelled, and deleted by hand');
cmp_ok($deleted->{resourceVersion}, '>', $edited->{resourceVersion}, 'the version grows with the deletion, too');
query(q{SELECT FROM kubectl('create -f -', manifest => '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "k"}}'); SELECT FROM kubectl('delete lease k')});
events_are('ADDED:k:null DELETED:k:null', 'by kubectl');
query(q{SELECT FROM lease_apiserver_heartbeat('host-1', '01234567-89ab-cdef-0123-456789abcdef'); SELECT FROM lease_apiserver_heartbeat('host-1', '01234567-89ab-cdef-0123-456789abcdef')});
is(scalar(my @heartbeats = events()), 1, 'an API server: its first heartbeat only');

# ---------- What has committed ----------

query(q{BEGIN; SELECT FROM lease_acquire('c', 'h', '1 h'); ROLLBACK});
query(q{BEGIN; SAVEPOINT s; SELECT FROM lease_acquire('c', 'h', '1 h'); SAVEPOINT t; SELECT FROM lease_acquire('d', 'h', '1 h'); RELEASE t; ROLLBACK TO s;
	SELECT FROM lease_acquire('e', 'h', '1 h'); COMMIT});
events_are('ADDED:e:h', 'nothing of what was rolled back, whole or to a savepoint');
my $late = Psql->new($node);
$late->do(q{BEGIN; SELECT FROM lease_acquire('f', 'h', '1 h')});
events_are('', 'nothing before the commit');
$late->do('COMMIT');
events_are('ADDED:f:h', 'but then');
query(q{BEGIN; SELECT FROM lease_acquire('g', 'h', '1 h'); PREPARE TRANSACTION 'p'});
query(q{COMMIT PREPARED 'p'});
events_are('', 'a prepared transaction tells nobody, but can be prepared');

# ---------- Expiry ----------

# The time of the event, as near as a listener that asks each 5 ms can tell
sub latency_of_expiry
{
	my ($name) = @_;
	my ($psql, $token) = (Psql->new($node));
	my $text = '';

	$psql->do('LISTEN lease');
	query("SELECT FROM lease_acquire('$name', 'h', '1 s')");
	$text .= $psql->do('SELECT pg_sleep(0.005); SELECT extract(epoch FROM clock_timestamp())') . "\n"
	  until $text =~ /"EXPIRED", "namespace": "default", "name": "$name".*?^\d+\.\d+$/ms;
	my ($seen) = $text =~ /"EXPIRED".*?^(\d+\.\d+)$/ms;
	$psql->finish;
	return query("SELECT 1000 * ($seen - extract(epoch FROM expires_at)) FROM lease_status WHERE name = '$name'");
}

# The machine may be busy once, but not each time.
my ($first, @later) = sort { $a <=> $b } map { latency_of_expiry("expires-$_") } 1 .. 3;
cmp_ok($first, '>', 0, 'an expiry is not announced too early');
cmp_ok($first, '<', 100, "... but within a tenth of a second: $first ms (and @later)");
events_are(join(' ', map { "ADDED:expires-$_:h EXPIRED:expires-$_:h" } 1 .. 3), 'an expiry is an event');
is(query(q{SELECT DISTINCT end_reason, held_until = expires_at FROM lease_history JOIN lease_status USING (namespace, name) WHERE name LIKE 'expires-%'}),
	'expired|t', '... and in the history');
query(q{SELECT FROM lease_acquire('expires-1', 'thief', '1 h')});
events_are('MODIFIED:expires-1:thief', 'when somebody takes it over, that is another');
is(query(q{SELECT holder_identity, end_reason FROM lease_history WHERE name = 'expires-1'}), 'h|taken over', '... and why the holding ended for good');
query(q{DELETE FROM lease WHERE name = 'expires-2'; DELETE FROM lease_history WHERE name = 'expires-2'});
events();

# Earlier than anybody could know: shortened by the holder, and by hand.
query(q{SELECT FROM lease_acquire('shorter', 'h', '1 h'); SELECT FROM lease_acquire('shorter', 'h', '1 s')});
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'shorter'}, 'expired');
events_are('ADDED:shorter:h EXPIRED:shorter:h', 'a lease that was shortened');
query(q{SELECT FROM lease_acquire('edited', 'h', '1 h'); UPDATE lease SET renew_time = renew_time - interval '2 h' WHERE name = 'edited'});
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'edited'}, 'expired');
events_are('ADDED:edited:h MODIFIED:edited:h EXPIRED:edited:h', 'a lease that was edited');

# In time, but not committed before the lease expired.
query(q{SELECT FROM lease_acquire('in-time', 'h', '1 s'); SELECT FROM lease_acquire('too-late', 'h', '1 s')});
$late->do(q{BEGIN; SELECT lease_renew('in-time', 'h')});
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'too-late'}, 'the other expired');
events_are('ADDED:in-time:h ADDED:too-late:h EXPIRED:too-late:h', 'a lease is not said to have expired while it is being renewed');
$late->do('ROLLBACK');
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'in-time'}, 'expired');
events_are('EXPIRED:in-time:h', '... but when that was rolled back');

# A node that was silent, and is back.
my $node_lease = q{SELECT FROM lease_node_heartbeat('node-1', '1 s')};
query($node_lease);
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'node-1'}, 'expired');
my $until = query(q{SELECT held_until FROM lease_history WHERE name = 'node-1'});
query($node_lease);
until_true("SELECT held_until > '$until' FROM lease_history WHERE name = 'node-1'", 'expired again');
events_are('ADDED:node-1:node-1 EXPIRED:node-1:node-1 MODIFIED:node-1:node-1 EXPIRED:node-1:node-1', 'a node is silent, is back, is silent');

# A worker that begins announces what expired while there was none, and nothing twice.
query(q{SELECT FROM lease_acquire('meanwhile', 'h', '1 s')});
query("SELECT pg_terminate_backend(($worker))");
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'meanwhile'}, 'expired');
events_are('ADDED:meanwhile:h EXPIRED:meanwhile:h', 'a worker that begins finds what has expired, and only that');

# ---------- Too long, too many ----------

query(q{SELECT FROM lease_acquire(repeat('n', 253), repeat(E'\u00e4\x01', 20000), '1 h', namespace => repeat('s', 63))});
my ($long) = events();
is(length $long->{name}, 253, 'the longest names');
like($long->{holderIdentity}, qr/^(\x{e4}\x{01})+\x{e4}?$/, '... and a holder that is too long for a notification is cut off between characters');
query(q{SELECT FROM lease_acquire('quotes', E'"\\\\\n', '1 h')});
($event) = events();
is($event->{holderIdentity}, qq{"\\\n}, 'quotes, a backslash, and a line break');

my $pid = query($worker);
kill 'STOP', $pid;
query(q{INSERT INTO lease (name) SELECT 'many-' || i FROM generate_series(1, 5000) AS i});
query(q{INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES ('lost', 'h', 1, clock_timestamp())});
kill 'CONT', $pid;
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'lost'}, 'expired');
my @events = events();
is_deeply([ @{ $events[0] }{qw(type code reason)} ], [ 'ERROR', 410, 'Expired' ], 'who follows the events is told that some were lost');
is(scalar(grep { $_->{type} eq 'EXPIRED' && $_->{name} eq 'lost' } @events), 1, 'an expiry is noticed though its event was lost');

# To be switched off, for events have no privileges.
query('ALTER SYSTEM SET lease.notify = off');
$node->reload;
query(q{INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES ('secret', 'h', 1, clock_timestamp())});
until_true(q{SELECT count(*) = 1 FROM lease_history WHERE name = 'secret'}, 'expired');
query('ALTER SYSTEM RESET lease.notify');
$node->reload;
until_true(q{SELECT setting = 'on' FROM pg_settings WHERE name = 'lease.notify'}, 'reloaded');
unlike(in_short(events()), qr/secret/, 'switched off: an expiry is recorded, not sent');

# Without the worker nothing is sent, and nothing fails.
query('ALTER SYSTEM SET lease.worker = off');
$node->reload;
until_true("SELECT NOT EXISTS ($worker)", 'no worker');
is(query(q{SELECT status FROM lease_acquire('z', 'h', '1 h')}), 'acquired', 'without a worker');

$node->stop;
unlike(slurp_file($node->logfile), qr/XX000|PANIC|TRAP/, 'no internal error');
done_testing();
