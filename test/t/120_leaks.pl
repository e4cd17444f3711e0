# Calls of all kinds while errors come from everywhere: subtransactions that are
# rolled back, cancels and timeouts at random moments, bad arguments, violated
# constraints.  Afterwards nothing is left behind: no memory, lock, snapshot or
# reference to a relation in the sessions and the worker, and no place in the queue, the
# mailbox or the numbers in shared memory.
#
# LEASE_LEAK_CALLS is how many calls.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $calls = $ENV{LEASE_LEAK_CALLS} // 40_000;
my $seed = $ENV{LEASE_SEED} // int(rand(1e9));
my $SESSIONS = 3;

srand($seed);
note "seed $seed";

my $node = PostgreSQL::Test::Cluster->new('leaks');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
fsync = off
log_statement = none
log_line_prefix = '%m [%p] %e '
lease.gc_interval = 1
lease.history_retention = 0
});
$node->start;

# What a call can be: %1$L a name, %2$L and %3$L holders, %4$s a number, most of the time a token.
my @kinds = (
	(q{SELECT lease_acquire(%1$L, %2$L, '1 h')}) x 4,
	q{SELECT lease_acquire(%1$L, %2$L, '1 s', lock_delay => '1 s')},
	q{SELECT lease_acquire(%1$L, %2$L, '1 h', wait => '2 ms')},
	q{SELECT lease_acquire(%1$L, %2$L, '1 h', session => true)},
	q{SELECT lease_acquire(%1$L || '-' || %4$s, %2$L, '1 h')},
	q{SELECT lease_acquire(%1$L, %2$L, '1 mon')},
	q{SELECT lease_acquire('not a name', %2$L)},
	(q{SELECT lease_renew(%1$L, %2$L)}) x 3,
	q{SELECT lease_renew(%1$L, %2$L, fencing_token => %4$s)},
	q{SELECT count(*) FROM lease_renew_all(%2$L)},
	q{SELECT * FROM lease_renew_all(%2$L, ARRAY[%1$L, 'l-1', 'missing', 'l-2']) LIMIT 1},
	q{SELECT lease_renew_all(%2$L, ARRAY['l-1', NULL])},
	(q{SELECT lease_release(%1$L, %2$L)}) x 2,
	q{SELECT lease_handover(%1$L, %2$L, %3$L, reserve => '10 ms')},
	(q{SELECT lease_guard(%1$L, %4$s)}) x 2,
	q{SELECT set_config('lease.fencing_tokens', '%4$s', random() < 0.5)},
	q{INSERT INTO guarded VALUES (%4$s)},
	q{SELECT lease_holder(%1$L), lease_is_held(%1$L, %2$L)},
	q{SELECT lease_node_heartbeat(%1$L)},
	q{SELECT * FROM lease_node_heartbeats(ARRAY[%1$L, %2$L, 'l-3'])},
	q{SELECT lease_node_register(%1$L, '{"app": "web"}', status => '{"conditions": [{"type": "Ready", "status": "True"}]}')},
	q{SELECT lease_node_remove(%1$L)},
	q{SELECT lease_apiserver_heartbeat(%1$L, gen_random_uuid())},
	q{SELECT * FROM lease_gc()},
	q{SELECT lease_apply(jsonb_build_object('apiVersion', 'coordination.k8s.io/v1', 'kind', 'Lease', 'metadata', jsonb_build_object('name', %1$L, 'labels', jsonb_build_object('n', '%4$s'))))},
	q{SELECT lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "A"}}')},
	q{SELECT lease_object(l), kubectl_yaml(lease_object(l)), kubectl_json(lease_object(l)) FROM lease l LIMIT 3},
	q{SELECT kubectl('get lease -o yaml ' || %1$L)},
	q{SELECT kubectl('get lease,nodes -A -L app --sort-by={.metadata.name}')},
	q{SELECT kubectl('describe lease ' || %1$L)},
	q{SELECT kubectl('label lease a=b --overwrite ' || %1$L)},
	q{SELECT kubectl('delete lease ' || %1$L)},
	q(SELECT kubectl('get lease -o jsonpath={range')),
	q{SELECT kubectl('apply -f -', manifest => E'apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: ' || %1$L || ', annotations: &a {x: y}, labels: *a}')},
	q(SELECT kubectl_manifest(E'a: [b, {c: *d')),
	q{SELECT lease_valid_selector('a in (b,c),!d'), lease_valid_labels('{"a": "b"}')},
	q{SELECT count(*) FROM lease_status},
	q{SELECT count(*) FROM lease_lockers},
	q{SELECT count(*) FROM lease_warnings},
	q{SELECT count(*) FROM lease_nodes, lease_apiserver_count},
	q{SELECT count(*) FROM lease_stat, lease_stat_database},
	q{SELECT count(*) FROM lease_holdings WHERE name = %1$L},
	q{SELECT * FROM lease_waiters()},
	q{INSERT INTO lease (name, holder_identity) VALUES (%1$L, %2$L)},
	q{INSERT INTO lease (name, lease_duration_seconds) VALUES (%1$L || 'x', -1)},
	q{UPDATE lease SET holder_identity = %3$L WHERE name = %1$L AND namespace = 'default'},
	q{UPDATE lease SET name = 'other' WHERE name = %1$L},
	q{UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE name = %1$L},
	q{DELETE FROM lease WHERE name = %1$L},
	q{DELETE FROM lease WHERE name LIKE 'l-_-%%' AND namespace = 'default'},
);

# A procedure, so that it can end its transaction.  An error ends the subtransaction of
# the call; but a cancel ends the procedure.
$node->safe_psql('postgres', q{
CREATE EXTENSION lease;
CREATE SEQUENCE calls CACHE 10;
CREATE TABLE guarded (x bigint);
CREATE TRIGGER fence BEFORE INSERT ON guarded FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l-1');
CREATE PROCEDURE churn(n integer, kinds text[]) LANGUAGE plpgsql AS $$
DECLARE
	name text;
	number bigint;
	dice float;
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM nextval('calls');
		name := 'l-' || floor(random() * 9);
		BEGIN
			IF random() < 0.7 THEN
				SELECT l.fencing_token INTO number FROM lease l WHERE l.namespace = 'default' AND l.name = churn.name;
			END IF;
			EXECUTE format(kinds[1 + floor(random() * cardinality(kinds))], name, 'h' || floor(random() * 3), 'h' || floor(random() * 3), coalesce(number, floor(random() * 100)));
			IF random() < 0.1 THEN
				PERFORM 1 / 0;
			END IF;
		EXCEPTION WHEN OTHERS THEN
			IF SQLSTATE LIKE 'XX%' THEN
				RAISE;
			END IF;
		END;
		dice := random();
		IF dice < 0.3 THEN
			COMMIT;
		ELSIF dice < 0.4 THEN
			ROLLBACK;
		END IF;
	END LOOP;
	TRUNCATE guarded;
END $$;
CREATE PROCEDURE disturb() LANGUAGE plpgsql AS $$
BEGIN
	WHILE clock_timestamp() < statement_timestamp() + interval '1 s' LOOP
		PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'churn' AND random() < 0.3;
		PERFORM pg_sleep(random() * 0.05);
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END $$;
});

my $kinds = 'ARRAY[' . join(', ', map { '$k$' . $_ . '$k$' } @kinds) . ']';

# What one session does in a round, in psql
sub round
{
	my @lines;

	foreach (1 .. 20)
	{
		push @lines, 'SET statement_timeout = ' . (1 + int rand 20) if rand() < 0.2;
		push @lines, ('SET default_transaction_isolation = ' . (rand() < 0.5 ? 'serializable' : q{'repeatable read'})) if rand() < 0.1;
		push @lines, "CALL churn(100, $kinds)";
		push @lines, 'RESET statement_timeout', 'RESET default_transaction_isolation';
		push @lines, sprintf(q{CALL lease_await('l-%d', 'h0', wait => '3 ms')}, rand 9) if rand() < 0.3;
		push @lines, 'CALL lease_gc_all(0)' if rand() < 0.1;
		push @lines, 'BEGIN', q{SELECT FROM lease_acquire('l-1', 'h1')}, 'SAVEPOINT s', q{SELECT FROM lease_guard('l-1', 1)}, q{SELECT FROM lease_acquire('l-2', 'h1')}, 'ROLLBACK TO s', q{SELECT FROM lease_release('l-1', 'h1')}, 'COMMIT' if rand() < 0.3;
		push @lines, 'BEGIN', "DECLARE c CURSOR FOR SELECT lease_acquire('l-' || n, 'h2') FROM generate_series(1, 5) n", 'FETCH 2 FROM c', 'COMMIT' if rand() < 0.3;
	}
	return join ";\n", @lines;
}

my @sessions = map { Psql->new($node) } 1 .. $SESSIONS;
$_->do("SET application_name = 'churn'; SET lock_timeout = '20ms'; SET client_min_messages = error") foreach @sessions;
my $nemesis = Psql->new($node);

sub count { return $node->safe_psql('postgres', 'SELECT last_value FROM calls') }

sub churn_until
{
	my ($target) = @_;

	while (count() < $target)
	{
		$nemesis->send('CALL disturb()');
		$_->send(round()) foreach @sessions;
		$_->result foreach @sessions, $nemesis;
		$_->{err} = '' foreach @sessions;	# the server's log has them
	}
}

# ---------- What there is ----------

sub rss
{
	my ($pid) = @_;

	return 0 unless -e "/proc/$pid/status";
	my ($kilobytes) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
	return 1024 * $kilobytes;
}

my $worker_pid = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'lease worker'};

# Bytes in memory contexts, as the process itself logs them
sub worker_contexts
{
	my $from = -s $node->logfile;
	my $total;

	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts(($worker_pid))");
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		($total) = slurp_file($node->logfile, $from) =~ /Grand total: (\d+) bytes/;
		return $total if $total;
		select(undef, undef, undef, 0.1);
	}
	die 'timed out: memory contexts of the worker';
}

# The greatest contexts, by name: what has grown is told from what was there.
sub contexts
{
	my ($s) = @_;

	return map { my ($name, $bytes) = split /\|/; ($name => $bytes) }
	  split /\n/, $s->do(q{SELECT name, sum(total_bytes) FROM pg_backend_memory_contexts GROUP BY name});
}

sub sum { my $sum = 0; $sum += $_ foreach @_; return $sum }

sub measure
{
	return (worker => { contexts => worker_contexts(), rss => rss($node->safe_psql('postgres', $worker_pid)) },
		map { my %c = contexts($_); ("session $_->{pid}" => { contexts => sum(values %c), rss => rss($_->{pid}), by_name => \%c }) } @sessions);
}

# ---------- The test ----------

# Caches are filled first.
churn_until($calls / 4);
my %before = measure();
churn_until($calls);
my %after = measure();
note count() . ' calls';
note $node->safe_psql('postgres', q{SELECT namespace, acquired, renewed, lost, refused, busy, released, taken_over, expired, collected, wait_count FROM lease_stat});

foreach my $who (sort keys %before)
{
	my ($b, $a) = ($before{$who}, $after{$who});
	note sprintf '%s: contexts %d -> %d kB, RSS %d -> %d kB', $who, map { $_ / 1024 } $b->{contexts}, $a->{contexts}, $b->{rss}, $a->{rss};
	cmp_ok($a->{contexts}, '<', $b->{contexts} + 64 * 1024, "$who: memory contexts do not grow")
	  or diag map { sprintf "%s: %d -> %d\n", $_, $b->{by_name}{$_} // 0, $a->{by_name}{$_} } grep { $a->{by_name}{$_} > ($b->{by_name}{$_} // 0) } sort keys %{ $a->{by_name} // {} };
	cmp_ok($a->{rss}, '<', $b->{rss} + 4 * 1024 * 1024, "$who: nor does other memory");
}

# PostgreSQL warns of whatever a transaction has left open.
my $log = slurp_file($node->logfile);
# (Not of a COMMIT whose BEGIN was cancelled.)
my @warnings = grep { / (WARNING|PANIC): | XX\d\d\d |TRAP|terminated by signal/ && !/ 25P01 / } split /\n/, $log;
cmp_ok(scalar(() = $log =~ /canceling statement due to $_/g), '>', 0, "there was: $_") foreach 'user request', 'statement timeout';
is(join("\n", @warnings), '', 'no warnings, and no internal errors');

my $pids = join ', ', map { $_->{pid} } @sessions;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_locks WHERE pid IN ($pids)"), 'no locks')
  or diag $node->safe_psql('postgres', "SELECT * FROM pg_locks WHERE pid IN ($pids)");
is($node->safe_psql('postgres', "SELECT DISTINCT concat_ws(' ', state, backend_xid, backend_xmin) FROM pg_stat_activity WHERE pid IN ($pids)"), 'idle', 'no transactions or snapshots');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lease_waiters()'), '0', 'nobody in the queue');
is($node->safe_psql('postgres', 'SELECT sum(waiting) FROM lease_stat'), '0', 'nor in the numbers');
is($node->safe_psql('postgres', q{SELECT string_agg(coalesce(namespace, '-'), ' ') FROM lease_stat}), 'default kube-node-lease kube-system', 'which have a row for each namespace');

# All still works.
$node->safe_psql('postgres', q{DELETE FROM lease; SELECT FROM lease_acquire('l', 'h', '1 h')});
my $listener = Psql->new($node);
my @waiters = map { Psql->new($node) } 1 .. 3;
$listener->do('LISTEN lease');
foreach (@waiters)
{
	$_->send(q{SELECT status FROM lease_acquire('l', pg_backend_pid()::text, '1 h', wait => '100 s')});
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM lease_waiters() WHERE pid = $_->{pid}"), 'one waits');
}
$node->safe_psql('postgres', q{SELECT FROM lease_release('l', 'h')});
foreach (@waiters)
{
	is($_->result, 'acquired', 'and gets it');
	$node->safe_psql('postgres', "SELECT FROM lease_release('l', '$_->{pid}')");
}
my $heard = '';
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$heard .= $listener->do('SELECT 1');
	last if $heard =~ /"holderIdentity": "$waiters[-1]{pid}"/;
	select(undef, undef, undef, 0.1);
}
like($heard, qr/"holderIdentity": "$waiters[-1]{pid}"/, 'and the worker tells who has it');

# What was acquired for the session goes with it.
$sessions[0]->do(q{SELECT FROM lease_acquire('s', 'h', '1 h', session => true)});
$_->finish foreach @sessions, @waiters, $listener, $nemesis;
ok($node->poll_query_until('postgres', q{SELECT lease_holder('s') IS NULL}), 'the end of a session releases');
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC|terminated by signal/, 'nothing went wrong in the server');
done_testing();
