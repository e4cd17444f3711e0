# A hot standby answers who holds what, and refuses every call that writes with
# one clear error, as a read-only transaction does; it collects nothing, and says
# nothing about it.  Once promoted, it goes on at once where the primary was: same
# holders, greater tokens.  With lease in shared_preload_libraries, and without.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
log_line_prefix = '%b|'
});
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION lease;
	SELECT FROM lease_acquire('released', 'a', '1 h');
	SELECT FROM lease_release('released', 'a');
	SELECT FROM lease_acquire('expired', 'a', '1 h');
	UPDATE lease SET renew_time = clock_timestamp() - interval '1 day' WHERE name = 'expired';
	SELECT lease_node_register('node');
	SELECT FROM lease_node_heartbeat('node');
	SELECT FROM lease_apiserver_heartbeat('host', '00000000-0000-0000-0000-000000000001');
});
$primary->backup('backup');

my %standby;
foreach my $name ('preloaded', 'plain')
{
	$standby{$name} = PostgreSQL::Test::Cluster->new($name);
	$standby{$name}->init_from_backup($primary, 'backup', has_streaming => 1);
	$standby{$name}->append_conf('postgresql.conf', "shared_preload_libraries = ''\n")
	  if $name eq 'plain';
	$standby{$name}->start;
}
my $standby = $standby{preloaded};

sub catch_up
{
	$primary->wait_for_catchup($_, 'replay', $primary->lsn('flush')) foreach values %standby;
	return;
}

my $token = $primary->safe_psql('postgres',
	q{SELECT fencing_token FROM lease_acquire('held', 'a', '1 h')});
catch_up();

# ---------- Reading works ----------

is($standby->safe_psql('postgres', q{SELECT lease_holder('held')}), 'a',
	'standby: who holds a lease');
is($standby->safe_psql('postgres', q{SELECT lease_is_held('held', 'a'), lease_is_held('held', 'b')}),
	't|f', 'standby: whether somebody holds it');
is($standby->safe_psql('postgres', q{SELECT coalesce(lease_holder(name), 'nobody')
		FROM unnest('{released,expired,missing}'::text[]) name}),
	"nobody\nnobody\nnobody", 'standby: nobody holds what is released, expired or missing');
is($standby->safe_psql('postgres', q{SELECT name, status FROM lease_status
		WHERE namespace = 'default' ORDER BY name}),
	"expired|expired\nheld|held\nreleased|free", 'standby: lease_status');

my @reading = (
	q{lease_holder('held')}, q{lease_is_held('held')}, q{lease_waiters()},
	q{lease_expires_at('a', now(), 10)}, q{lease_renewed_at('default', 'held', 1, 1, now())}, q{lease_heartbeat_memory()}, q{lease_object('held')}, q{lease_node_object('node')},
	q{lease_row_lockers('(0,1)')}, q{lease_clock()}, q{lease_clock_steps()}, q{lease_token_floor()}, q{lease_apiserver_name('host')},
	q{lease_stat_namespaces()}, q{lease_stat_databases()}, q{lease_heartbeat_memory()},
	# what it changes is in memory
	q{lease_stat_reset()},
	q{lease_node_status('2026-01-01', 'Ready', '2026-01-01', '2026-01-01')},
	q{lease_node_status_since('2026-01-01', 'Ready', '2026-01-01', '2026-01-01', '2026-01-01', '2026-01-01')},
	q{lease_node_kubectl_status('Ready', false, '2026-01-01', '2026-01-01', '2026-01-01')});

foreach my $call (@reading)
{
	my ($status, $out, $err) = $standby->psql('postgres', "SELECT * FROM $call");
	is($err, '', "standby: $call works");
}

my $of_extension = q{FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'lease'};

my @views = split /\n/, $primary->safe_psql('postgres', qq{SELECT relname
	FROM pg_class WHERE relkind = 'v' AND oid IN (SELECT objid $of_extension AND classid = 'pg_class'::regclass) ORDER BY 1});
cmp_ok(scalar @views, '>=', 11, 'views: ' . join(' ', @views));
foreach my $view (@views)
{
	my ($status, $out, $err) = $standby->psql('postgres', "SELECT * FROM $view");
	is($err, '', "standby: view $view");
}

# What kubectl prints is the same as on the primary.
foreach my $command ('get leases -A', 'get leases -A -o wide', 'get leases -A -o yaml', 'get lease held -o json',
	'get nodes', 'describe lease held', 'describe leases -A', 'describe node node', 'label lease held --list',
	'label lease held a=b --dry-run=server')
{
	my $sql = "SELECT kubectl('$command', '2100-01-01')";
	is($standby->safe_psql('postgres', $sql), $primary->safe_psql('postgres', $sql), "standby: kubectl $command");
}

# ---------- Writing does not, whether there would be something to write or not ----------

my $object = q{'{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "new"}}'};
my $node = q{'{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new"}}'};
my @writing = (
	q{lease_acquire('held', 'a')}, q{lease_acquire('held', 'b')},
	q{lease_acquire('missing', 'a')}, q{lease_acquire('held', 'b', wait => '1 min')},
	q{lease_renew('held', 'a')}, q{lease_renew('missing', 'a')},
	q{lease_renew_all('a')}, q{lease_renew_all('a', '{held}')}, q{lease_renew_all('nobody')},
	q{lease_release('held', 'a')}, q{lease_release('missing', 'a')},
	q{lease_handover('held', 'a', 'b')}, "lease_guard('held', $token)",
	q{lease_gc()}, q{lease_node_heartbeat('node')}, q{lease_node_heartbeats('{node}')},
	"lease_node_apply($node)", q{lease_node_register('new')}, q{lease_node_remove('node')},
	q{lease_apiserver_heartbeat('host', '00000000-0000-0000-0000-000000000001')},
	"lease_apply($object)", q{lease_apply(lease_object('held'))});
my @calling = (q{lease_await('held', 'b')}, q{lease_gc_all()});
my %kubectl = (
	(map { ("$_" => 'NULL') } 'delete lease held', 'delete lease missing', 'delete leases --all',
		'label lease held a=b', 'annotate lease held a=b', 'patch lease held -p {}'),
	(map { ("$_ -f -" => $object) } 'create', 'apply', 'replace'));

# No function is missing above: those that are not said to be immutable or stable
my @volatile = split /\n/, $primary->safe_psql('postgres', qq{SELECT DISTINCT proname
	FROM pg_proc WHERE provolatile = 'v' AND prorettype <> 'trigger'::regtype
	AND oid IN (SELECT objid $of_extension AND classid = 'pg_proc'::regclass) ORDER BY 1});
my %tested = map { (/^(\w+)/)[0] => 1 } @reading, @writing, @calling, 'kubectl';
is(join(' ', grep { !$tested{$_} } @volatile), '', 'every function that could write is tested here');

sub is_refused
{
	my ($on, $sql, $what, $message, $description) = @_;
	my ($result, $stdout, $stderr) = $on->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	my @errors = $stderr =~ /ERROR:  (.*)$/mg;

	is("@errors", "25006: cannot execute $what $message", "$description: $what");
	return;
}

sub are_refused
{
	my ($on, $begin, $message, $description) = @_;

	foreach my $call (@writing, @calling)
	{
		my $statement = (grep { $_ eq $call } @calling) ? "CALL $call" : "SELECT * FROM $call";
		is_refused($on, "$begin$statement", $call =~ s/\(.*//sr . '()', $message, "$description: $call is refused");
	}
	is_refused($on, "${begin}SELECT kubectl('$_', manifest => $kubectl{$_})", 'kubectl ' . s/ .*//r, $message,
		"$description: kubectl $_ is refused")
	  foreach sort keys %kubectl;
	return;
}

are_refused($standby, '', 'during recovery', 'standby');
are_refused($primary, 'SET default_transaction_read_only = on; ', 'in a read-only transaction', 'read-only transaction');
is($primary->safe_psql('postgres',
		q{BEGIN READ ONLY; SELECT lease_holder('held'), lease_is_held('held'); COMMIT}),
	'a|t', 'read-only transaction: reading works');

# ---------- Nobody works there, and nobody complains ----------

is($standby->safe_psql('postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'lease %'}),
	0, 'standby: no launcher, no worker');
$primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'lease worker'})
  or die 'no worker on the primary';
foreach my $name (sort keys %standby)
{
	my @lines = grep { /lease/ && !/^client backend\|/ && !/listening on/ } split /\n(?!\t)/, slurp_file($standby{$name}->logfile);
	is(join("\n", @lines), '', "standby $name: nobody but sessions has written about leases into the log");
}

# ---------- Promoted ----------

# Sessions that were opened before, and have looked already.
my %session = map { ($_ => Psql->new($standby{$_})) } keys %standby;
is($session{$_}->do(q{SELECT lease_holder('held')}), 'a', "a session on the standby, $_")
  foreach sort keys %session;

# Planned: the standbys have everything.
my $last = $primary->safe_psql('postgres', q{
	SELECT FROM lease_release('expired', 'a');
	SELECT fencing_token FROM lease_acquire('expired', 'b', '1 h')});
cmp_ok($last, '>', $token, 'the last token before the promotion');
catch_up();
$primary->stop;

# Generous: this machine may be busy.  What it takes is in the test's log.
my $LIMIT = 5;

sub is_soon
{
	my ($since, $what) = @_;
	my $taken = time() - $since;

	note(sprintf '%s: %.3f s after the promotion', $what, $taken);
	return cmp_ok($taken, '<', $LIMIT, "$what: within $LIMIT s");
}

sub promote_and_use
{
	my ($name) = @_;
	my ($on, $session) = ($standby{$name}, $session{$name});
	my $greatest = $last;

	is($on->safe_psql('postgres', 'SELECT pg_promote()'), 't', "$name: promoted");
	my $promoted = time();

	is($session->do(q{SELECT status FROM lease_renew('held', 'a')}), 'renewed',
		"$name: the session goes on, and the holder renews");
	is_soon($promoted, "$name: renewed");
	is($on->safe_psql('postgres', q{SELECT fencing_token FROM lease_renew('held', 'a')}),
		$token, "$name: with the same token");
	is($session->do(q{SELECT status FROM lease_acquire('held', 'b')}), 'held',
		"$name: nobody else gets it");
	foreach my $lease ('released', 'missing')
	{
		my $new = $session->do("SELECT fencing_token FROM lease_acquire('$lease', 'b', '1 h')");
		cmp_ok($new, '>', $greatest, "$name: a new token, $lease before");
		$greatest = $new;
	}
	is_soon($promoted, "$name: acquired");

	# The worker sends an event, if there is one.
	if ($name eq 'preloaded')
	{
		my $heard = '';

		$session->do('LISTEN lease');
		for (my $i = 0; $heard !~ /"event-\d+"/ && $i < 1000; $i++)
		{
			$session->do("SELECT FROM lease_acquire('event-$i', 'a')");
			$heard = $session->do('SELECT pg_sleep(0.01)');
		}
		like($heard, qr/"event-\d+"/, "$name: the worker sends events");
		is_soon($promoted, "$name: event");
		$session->do('UNLISTEN *');
	}
	is($on->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lease worker'}),
		$name eq 'preloaded' ? 1 : 0, "$name: " . ($name eq 'preloaded' ? 'a worker' : 'no worker'));

	# Who waits is woken.
	my $waiter = Psql->new($on);
	$waiter->send(q{SELECT status FROM lease_acquire('held', 'c', '1 h', wait => '100 s')});
	$on->poll_query_until('postgres', "SELECT wait_event IN ('LeaseAcquire', 'Extension') FROM pg_stat_activity WHERE pid = $waiter->{pid}")
	  or die 'nobody waits';
	is($session->do(q{SELECT status FROM lease_release('held', 'a')}), 'released', "$name: the holder releases");
	my $released = time();
	is($waiter->result, 'acquired', "$name: who waits is woken");
	note(sprintf '%s: %.3f s after the release', $name, time() - $released);

	is($session->do(q{SELECT collected >= 0 FROM lease_gc()}), 't', "$name: lease_gc");
	like($session->do(q{SELECT kubectl('label lease held a=b')}), qr/held labeled/, "$name: kubectl label");
	$_->finish foreach $waiter, $session;
	$on->stop;
	return;
}

promote_and_use($_) foreach 'preloaded', 'plain';

done_testing();
