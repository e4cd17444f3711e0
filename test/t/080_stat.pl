# Numbers about leases, as far as it takes several sessions: who counts at the same
# time, waits, is busy; a restart keeps them, a crash forgets them, a file that is
# not as it was written is ignored; other databases; no room; no preloading.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('stat');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
# Times are set back instead of waiting, and the server has just started.
lease.recovery_grace = off
restart_after_crash = on
log_min_messages = log
lease.worker = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION lease');

my $file = $node->data_dir . '/pg_stat/lease.stat';

sub query { return $node->safe_psql('postgres', $_[0]); }

sub until_true
{
	my ($sql, $what) = @_;

	$node->poll_query_until('postgres', $sql) or die "timed out: $what";
}

# The numbers of a namespace of this database, without those that are 0.
sub numbers
{
	my ($namespace, $database) = @_;

	return query(q{SELECT coalesce(string_agg(key || ' ' || value, ', ' ORDER BY n), 'nothing')
		FROM lease_stat s, json_each_text(to_json(s)) WITH ORDINALITY e (key, value, n)
		WHERE datname = '} . ($database // 'postgres') . q{'
		AND namespace IS NOT DISTINCT FROM } . (defined $namespace ? "'$namespace'" : 'NULL') . q{
		AND key NOT IN ('datname', 'namespace', 'wait_time') AND value <> '0'});
}

my $everything = q{SELECT string_agg(s::text, ' ') || ' ' || (SELECT string_agg(d::text, ' ') FROM lease_stat_database d) FROM lease_stat s};

# Locked by another transaction: busy, whatever is called.
{
	my $s = Psql->new($node);

	query(q{SELECT FROM lease_acquire('l', 'a', '1 h', 'busy'), lease_node_heartbeat('node')});
	$s->do(q{BEGIN; SELECT count(*) FROM (SELECT FROM lease FOR UPDATE) x});
	is(query($_) =~ s/\|.*//r, 'busy', $_) foreach
		q{SELECT status FROM lease_acquire('l', 'a', '1 h', 'busy')},
		q{SELECT status FROM lease_renew('l', 'a', 'busy')},
		q{SELECT status FROM lease_renew_all('a', '{l}', 'busy') OFFSET 1},
		q{SELECT status FROM lease_release('l', 'a', 'busy')},
		q{SELECT status FROM lease_handover('l', 'a', 'b', 'busy')},
		q{SELECT status FROM lease_node_heartbeat('node')};
	like(($node->psql('postgres', q{SELECT lease_guard('l', fencing_token, 'busy') FROM lease WHERE namespace = 'busy'}))[2],
		qr/could not tell/, 'lease_guard() cannot tell');
	$s->do('ROLLBACK');
	$s->finish;
	is(numbers('busy'), 'acquired 1, busy 6', 'busy counts, and nothing else');
	is(numbers('kube-node-lease'), 'acquired 1, busy 1', 'also for a heartbeat');
}

# Nothing is lost when many count.
{
	my $script = "$PostgreSQL::Test::Utils::tmp_check/renew.sql";

	append_to_file($script, "SELECT lease_renew('l' || :client_id, 'a', 'many');\n"
		  . "SELECT count(lease_acquire('l0', 'b', '1 h', 'many')) FROM generate_series(1, 10000);\n");
	query(q{SELECT lease_acquire('l' || n, 'a', '1 h', 'many') FROM generate_series(0, 3) n});
	$node->command_ok([ 'pgbench', '-n', '-c', 4, '-j', 2, '-t', 10, '-f', $script, $node->connstr('postgres') ], 'many count at once');
	is(numbers('many'), 'acquired 4, renewed 40, refused 400000', 'and each is counted');
}

# Who waits.
{
	my @s = map { Psql->new($node) } 1 .. 3;
	my $wait = q{SELECT status FROM lease_acquire('l', '%s', '1 h', '%s', wait => '100 s')};

	query(q{SELECT FROM lease_acquire('l', 'a', '1 h', 'waiting'), lease_acquire('l', 'a', '1 h', 'waiting2') w});
	query(q{SELECT lease_stat_reset(); SELECT FROM lease_renew('l', 'a', 'waiting')});
	$node->safe_psql('other', q{SELECT FROM lease_renew('l', 'a', 'waiting')});
	$s[0]->send(sprintf($wait, 'b', 'waiting'));
	until_true(q{SELECT count(*) = 1 FROM lease_waiters()}, 'the first waits');
	$s[1]->send(sprintf($wait, 'c', 'waiting'));
	$s[2]->send(sprintf($wait, 'b', 'waiting2'));
	until_true(q{SELECT waiting = 3 FROM lease_stat_database WHERE datname = 'postgres'}, 'three wait');
	until_true(q{SELECT count(*) = 3 FROM lease_stat WHERE namespace LIKE 'waiting%'}, 'both namespaces are known');
	is(numbers('waiting'), 'waiting 2, renewed 1', 'who waits is shown, for the namespace');
	is(numbers('waiting2'), 'waiting 1', 'also if nothing has happened there yet');
	is(numbers('waiting', 'other'), 'lost 1', 'but not in another database');
	is(query(q{SELECT waiting FROM lease_stat_database WHERE datname = 'other'}), '0', 'where nobody waits');

	query(q{SELECT FROM lease_release('l', 'a', 'waiting')});
	is($s[0]->result, 'acquired', 'the first gets it');
	is(numbers('waiting'), 'waiting 1, acquired 1, renewed 1, released 1, wait_count 1', 'and has waited');
	my $wait_time = q{SELECT wait_time FROM lease_stat WHERE namespace = 'waiting' AND datname = 'postgres'};
	my $time = query($wait_time);
	ok($time > 0 && $time < 1000 * $PostgreSQL::Test::Utils::timeout_default, "for $time ms");

	query(q{SELECT pg_cancel_backend(pid) FROM lease_waiters() WHERE holder_identity = 'c'});
	$s[1]->result;
	like($s[1]->error, qr/canceling/, 'the second is canceled');
	is(numbers('waiting'), 'acquired 1, renewed 1, released 1, wait_count 2', 'and has waited, too');
	cmp_ok(query($wait_time), '>', $time, 'for some time');

	query(q{SELECT FROM lease_handover('l', 'a', 'b', 'waiting2')});
	is($s[2]->result, 'acquired', 'the third gets the other one');
	is(numbers('waiting2'), 'acquired 1, released 1, wait_count 1', 'and does not wait any more');
	is(query('SELECT sum(waiting) FROM lease_stat_database'), '0', 'nobody does');
	$_->finish foreach @s;
}

# The end of a session
{
	my $s = Psql->new($node);

	$s->do(q{SELECT FROM lease_acquire('l', 'a', '1 h', 'session', session => true)});
	$s->finish;
	until_true(q{SELECT released = 1 FROM lease_stat WHERE namespace = 'session'}, 'released by the end of the session');
	is(numbers('session'), 'acquired 1, released 1', 'the end of a session releases');
}

# An expiry is counted once, whether the worker notices it or not.
$node->append_conf('postgresql.conf', 'lease.worker = on');
$node->reload;
query(q{SELECT FROM lease_acquire('l', 'a', '1 s', 'expired')});
until_true(q{SELECT expired = 1 FROM lease_stat WHERE namespace = 'expired'}, 'the worker notices that it expired');
is(numbers('expired'), 'acquired 1, expired 1', 'the worker notices an expiry');
query(q{SELECT FROM lease_acquire('l', 'b', '1 h', 'expired')});
is(numbers('expired'), 'acquired 2, taken_over 1, expired 1', 'who takes over does not count it again');
query(q{UPDATE lease SET renew_time = clock_timestamp() - interval '2 h' WHERE namespace = 'expired'});
until_true(q{SELECT expired = 2 FROM lease_stat WHERE namespace = 'expired'}, 'the worker notices that it expired');
query(q{DELETE FROM lease WHERE namespace = 'expired'});
is(numbers('expired'), 'acquired 2, taken_over 1, expired 2', 'nor who deletes');
$node->append_conf('postgresql.conf', 'lease.worker = off');
$node->reload;
until_true(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'lease worker%'}, 'the worker has gone');

# Another database, and a reset of this one.  A session that has counted before
# finds the new numbers.
{
	my $s = Psql->new($node);

	$node->safe_psql('other', q{SELECT FROM lease_acquire('l', 'a', '1 h', 'many'), lease_gc()});
	is(numbers('many', 'other'), 'acquired 1', 'another database has its own numbers');
	is(numbers('many'), 'nothing', 'and this one its own');
	is(query(q{SELECT string_agg(datname, ' ') FROM lease_stat_database}), 'other postgres', 'each has a row');
	is(query(q{SELECT gc_runs FROM lease_stat_database WHERE datname = 'other'}), '1', 'with what happened there');
	query(q{CREATE ROLE reader; GRANT SELECT ON lease, lease_stat, lease_stat_database TO reader});
	is(query(q{SET ROLE reader; SELECT DISTINCT datname FROM lease_stat}), 'postgres', 'not everybody sees other databases');
	is(query(q{SET ROLE reader; SELECT datname FROM lease_stat_database}), 'postgres', 'nor that they are there');

	my $renew = q{SELECT FROM lease_renew('l0', 'a', 'many')};
	$s->do($renew) foreach 1 .. 3;
	my $since = query(q{SELECT stats_reset FROM lease_stat_database WHERE datname = 'postgres'});
	query(q{SELECT lease_stat_reset(); SELECT FROM lease_renew('l0', 'b', 'somebody-else')});
	is(query(q{SELECT namespace FROM lease_stat WHERE datname = 'postgres'}), 'somebody-else', 'reset: the numbers of this database are gone');
	is(numbers('many', 'other'), 'acquired 1', 'those of another are not');
	is(query(qq{SELECT stats_reset > '$since' FROM lease_stat_database WHERE datname = 'postgres'}), 't', 'and since when is known');
	$s->do($renew);
	is(numbers('many'), 'renewed 1', 'a session that has counted before goes on with the new numbers');
	is(numbers('somebody-else'), 'lost 1', 'and leaves others alone');
	$s->finish;
}

# Restarts
my $before = query($everything);
ok(!-e $file, 'while the server runs there is no file');
$node->stop;
ok(-e $file, 'while it is down there is one');
my $content = slurp_file($file);
$node->start;
ok(!-e $file, 'which is read and removed');
is(query($everything), $before, 'a restart keeps all numbers');
query(q{SELECT FROM lease_renew('l0', 'a', 'many')});
is(numbers('many'), 'renewed 2', 'and counts on');
$node->stop('immediate');
$node->start;
is($node->safe_psql('other', q{SELECT status FROM lease_renew('l', 'a', 'many')}), 'renewed', 'stopped in immediate mode, it starts again');

# pg_upgrade runs servers in this mode, and may be given up.
$node->stop;
unlink $file;
append_to_file($file, $content);
$node->command_ok([ 'pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-b', 'start' ], 'starts for pg_upgrade');
ok(-e $file, 'which does not use the file up');
$node->command_ok([ 'pg_ctl', '-w', '-D', $node->data_dir, 'stop' ], 'and stops');
ok(slurp_file($file) eq $content, 'the file is as it was');
$node->start;
is(query($everything), $before, 'and is read when the server is started as usual');

# Crashes
{
	my $start = q{SELECT stats_reset FROM pg_stat_bgwriter};
	my $walwriter = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'};
	my $pid = query($walwriter);
	my $s = Psql->new($node);

	kill('KILL', $s->{pid}) == 1 or die "could not kill backend: $!";
	until_true("SELECT ($walwriter) <> $pid", 'restart after the crash');
	is(query('SELECT count(*) FROM lease_stat') . query('SELECT count(*) FROM lease_stat_database'), '00', 'a crash of a backend: all is forgotten');
	query(q{SELECT FROM lease_renew('l0', 'a', 'many')});
	is(numbers('many'), 'renewed 1', 'and counted anew');
	eval { $s->finish };

	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	$node->kill9;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if !kill(0, $postmaster) && $node->start(fail_ok => 1);
		select(undef, undef, undef, 0.1);
	}
	is(query('SELECT count(*) FROM lease_stat'), '0', 'a crash of the server: likewise');
}

# The checksum at the end of the file, which is no use to whoever changes the rest
sub with_checksum
{
	my ($data) = @_;
	my $crc = 0xFFFFFFFF;

	foreach my $byte (unpack('C*', $data))
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0x82F63B78 : $crc >> 1 foreach 1 .. 8;
	}
	return $data . pack('L', $crc ^ 0xFFFFFFFF);
}

# Files that are not as they were written
{
	my $data = substr($content, 0, length($content) - 4);
	is(with_checksum($data), $content, 'the checksum is CRC-32C');
	my %bad = (
		'empty' => '',
		'cut off' => substr($content, 0, length($content) - 1),
		'cut off in its head' => substr($content, 0, 10),
		'with more at its end' => with_checksum($content . 'x'),
		'with another magic number' => with_checksum('xxxx' . substr($data, 4)),
		'of another version' => with_checksum(substr($data, 0, 4) . pack('L', 14) . substr($data, 8)),
		'with rows of another size' => with_checksum(substr($data, 0, 8) . pack('L', 1) . substr($data, 12)),
		'with a greater count' => with_checksum(substr($data, 0, 16) . pack('l', 2_000_000_000) . substr($data, 20)),
		'with a negative count' => with_checksum(substr($data, 0, 16) . pack('l', -1) . substr($data, 20)),
		'with one bit changed' => substr($content, 0, 100) . chr(ord(substr($content, 100, 1)) ^ 1) . substr($content, 101),
		'of zeros' => "\0" x length($content));

	foreach my $what (sort keys %bad)
	{
		$node->stop;
		unlink $file;
		append_to_file($file, $bad{$what});
		my $from = -s $node->logfile;
		$node->start;
		is(query('SELECT count(*) FROM lease_stat'), '0', "a file $what is ignored");
		like(slurp_file($node->logfile, $from), qr{LOG:  ignoring invalid data in file "pg_stat/lease.stat"}, "a file $what: the log says so");
		ok(!-e $file, "a file $what is removed");
	}
	$node->stop;
	unlink $file;
	mkdir $file;
	my $from = -s $node->logfile;
	$node->start;
	like(slurp_file($node->logfile, $from), qr{LOG:  (could not read|ignoring invalid data in) file "pg_stat/lease.stat"}, 'what is not a file is ignored');
	query(q{SELECT FROM lease_renew('l0', 'a', 'many')});
	$from = -s $node->logfile;
	$node->stop;
	like(slurp_file($node->logfile, $from), qr{LOG:  could not (?:open|rename) file "pg_stat/lease.stat}, 'and cannot be written');
	ok(!-e "$file.tmp", 'which leaves nothing behind');
	rmdir $file;
	$node->start;
}

# No room
{
	my $s = Psql->new($node);

	$s->do(q{SELECT FROM lease_acquire('l', 'a', '1 h', 'a'); SELECT FROM lease_renew('l', 'a', 'a')});
	query(q{SELECT FROM lease_acquire('l', 'a', '1 h', 'b'); SELECT FROM lease_acquire('l', 'a', '1 h', 'c')});
	$s->finish;
	$node->append_conf('postgresql.conf', 'lease.stat_namespaces = 2');
	$node->restart;
	my $rows = q{SELECT count(namespace), count(*) - count(namespace), sum(acquired), sum(renewed) FROM lease_stat};
	is(query($rows), '2|1|3|1', 'restarted with less room: the rest is counted for the database');

	query('SELECT lease_stat_reset()');
	is(query($rows), '0|0||', 'reset: also that');
	$s = Psql->new($node);
	$s->do("SELECT FROM lease_acquire('l', 'a', '1 h', '$_')") foreach qw(a b c d c);
	is(numbers('a') . ', ' . numbers('b'), 'renewed 1, renewed 1', 'two namespaces find room');
	is(numbers(undef), 'acquired 1, renewed 2', 'others are counted for the database');
	$node->safe_psql('other', q{SELECT FROM lease_renew('l', 'a', 'many')});
	is(numbers(undef, 'other'), 'renewed 1', 'for the right one');
	is(query(q{SELECT count(*) FROM lease_stat WHERE namespace IS NULL AND waiting IS NULL}), '2', 'for which nobody waits');

	query('SELECT lease_stat_reset()');
	$s->do("SELECT FROM lease_renew('l', 'a', 'c')");
	is(numbers('c'), 'renewed 1', 'after a reset there is room, also for who found none before');
	$node->safe_psql('other', q{SELECT FROM lease_renew('l', 'a', 'many')});
	is(numbers('many', 'other') . ', ' . numbers(undef, 'other'), 'renewed 1, renewed 1', 'and for another database');
	$s->do("SELECT FROM lease_renew('l', 'a', 'd')");
	is(numbers(undef), 'renewed 1', 'then there is none again');

	$node->safe_psql('postgres', 'DROP DATABASE other');
	is(query('SELECT DISTINCT datname FROM lease_stat'), 'postgres', 'what is known of a database goes with it');
	query(q{SELECT FROM lease_renew('l', 'a', 'b')});
	is(numbers('b'), 'renewed 1', 'and makes room');
	is(numbers('c') . ', ' . numbers(undef), 'renewed 1, renewed 1', 'while the rest stays');
	$s->finish;
}

# A standby shows its own numbers.
{
	$node->backup('backup');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->start;
	is($standby->safe_psql('postgres', 'SELECT count(*) FROM lease_stat'), '0', 'standby: it begins with none');
	$standby->psql('postgres', q{SELECT lease_renew('l', 'a', 'a')});
	is($standby->safe_psql('postgres', 'SELECT count(*) FROM lease_stat'), '0', 'standby: nothing happens');
	is($standby->safe_psql('postgres', 'SELECT lease_stat_reset()'), '', 'standby: it can be reset');
	$standby->restart;
	$standby->promote;
	$standby->safe_psql('postgres', q{SELECT FROM lease_renew('l', 'a', 'a')});
	is($standby->safe_psql('postgres', 'SELECT namespace, renewed FROM lease_stat'), 'a|1', 'promoted: it counts');
	$standby->stop;
}

# No preloading
# The setting is unknown then.
$node->adjust_conf('postgresql.conf', 'lease.stat_namespaces', undef);
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->stop;
my $saved = slurp_file($file);
$node->start;
query(q{SELECT FROM lease_acquire('l', 'a', '1 h', 'a'), lease_renew('l', 'a', 'a'), lease_gc()});
is(query('SELECT count(*) FROM lease_stat') . query('SELECT count(*) FROM lease_stat_database'), '00', 'not preloaded: there are no numbers');
is(query('SELECT lease_stat_reset()'), '', 'not preloaded: nor is there anything to reset');
$node->stop;
ok(slurp_file($file) eq $saved, 'not preloaded: those of before are kept');

unlike(slurp_file($node->logfile), qr/TRAP|PANIC/, 'nothing went wrong in the server');
done_testing();
