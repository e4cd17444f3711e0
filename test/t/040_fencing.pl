# The promise of fencing (I3): 16 writers compete for a lease of one second and
# write to a table while they believe to have it.  They pause before the write,
# and within the transaction that writes, often for longer than the lease.  No
# row is written under a token that is not the current one any more.
#
# The same without a guard shows that such rows are found if there are any.
#
# LEASE_TEST_SECONDS makes it longer.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{LEASE_TEST_SECONDS} ? $ENV{LEASE_TEST_SECONDS} / 4 : 5;

my $node = PostgreSQL::Test::Cluster->new('fencing');
$node->init;
$node->append_conf('postgresql.conf', q{
fsync = off
shared_preload_libraries = 'lease'
});
$node->start;

sub query { return $node->safe_psql('postgres', $_[0]); }

# What a row says about itself: the token of its writer, and the current one at
# the moment of the write, by a snapshot of its own.  The counter puts the
# writes in the order of their commits.
query(q{
	CREATE EXTENSION lease;
	CREATE TABLE counter (n bigint);
	CREATE TABLE written (way text, n bigint, token bigint, current_token bigint);
	CREATE TABLE refused (way text, state text);

	CREATE TABLE fenced (way text, n bigint, token bigint, current_token bigint);
	CREATE TRIGGER fence BEFORE INSERT ON fenced
		FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');

	CREATE FUNCTION write(way text, token bigint, pause float8) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		next bigint;
	BEGIN
		IF way = 'guard' THEN
			PERFORM lease_guard('l', token);
		ELSIF way = 'trigger' THEN
			PERFORM set_config('lease.fencing_tokens', token::text, true);
			INSERT INTO fenced VALUES (way);
		END IF;
		PERFORM pg_sleep(pause);
		UPDATE counter SET n = n + 1 RETURNING n INTO next;
		INSERT INTO written SELECT way, next, token, l.fencing_token FROM lease l;
	EXCEPTION WHEN SQLSTATE 'LS001' OR SQLSTATE '55P03' THEN
		INSERT INTO refused VALUES (way, SQLSTATE);
	END $$;
});

# Each client: acquire, pause, write with a pause in between.  A third of the
# pauses are longer than the lease.
sub script_for
{
	my ($way) = @_;
	my $script = "$PostgreSQL::Test::Utils::tmp_check/writer-$way.sql";

	append_to_file($script, <<"END");
SELECT coalesce(fencing_token, 0) AS token FROM lease_acquire('l', 'writer-' || :client_id, '1 s', wait => '2 s') \\gset
\\if :token > 0
\\set before random(0, 1500)
\\sleep :before ms
\\set within random(0, 1500)
SELECT write('$way', :token, :within / 1000.0)
\\endif
END
	return $script;
}

foreach my $way ('guard', 'trigger', 'nothing')
{
	query('DELETE FROM lease; DELETE FROM counter; INSERT INTO counter VALUES (0)');
	my $script = script_for($way);
	my ($stdout, $stderr, $ok);

	# Until chance has brought a writer that came too late
	foreach (1 .. 10)
	{
		$ok = IPC::Run::run(
			[
				'pgbench', '-n', '-c', 16, '-j', 2, '-T', $seconds,
				'-f', $script, '-h', $node->host, '-p', $node->port, 'postgres'
			],
			'>', \$stdout, '2>', \$stderr);
		last if !$ok || query("SELECT EXISTS (SELECT FROM refused WHERE way = '$way' AND state = 'LS001')
			OR EXISTS (SELECT FROM written WHERE way = '$way' AND token <> current_token)") eq 't';
	}
	ok($ok, "$way: all writers ran") or diag($stderr);

	my $writes = query("SELECT count(*) FROM written WHERE way = '$way'");
	my $holders = query("SELECT count(DISTINCT token) FROM written WHERE way = '$way'");
	my $refused = query("SELECT count(*) FROM refused WHERE way = '$way' AND state = 'LS001'");
	my $stale = query("SELECT count(*) FROM written WHERE way = '$way' AND token <> current_token");
	my $backwards = query("SELECT count(*) FROM (SELECT token < lag(token) OVER (ORDER BY n) AS b FROM written WHERE way = '$way') x WHERE b");
	note("$way: $writes writes under $holders tokens, $refused refused, $stale stale, $backwards behind a later token");

	cmp_ok($writes, '>', 0, "$way: somebody wrote");
	if ($way ne 'nothing')
	{
		is($stale, 0, "$way: nothing was written under a token that was not current");
		is($backwards, 0, "$way: along the commits tokens never go back");
		cmp_ok($refused, '>', 0, "$way: who came too late was refused");
		is(query("SELECT bool_and(n = counted) FROM (SELECT n, row_number() OVER (ORDER BY n) AS counted FROM written WHERE way = '$way') x"),
			't', "$way: no write was lost");
	}
	else
	{
		cmp_ok($stale, '>', 0, 'without a guard there are stale writes, and they are found');
	}
}

$node->stop;
done_testing();
