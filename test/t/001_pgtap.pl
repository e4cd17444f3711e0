# Runs test/pgtap/*.sql through pg_prove on a cluster with test/lease.conf, or
# only the file that LEASE_PGTAP names.  Every assertion in them becomes one here.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('pgtap');
$node->init;
$node->append_conf('postgresql.conf', slurp_file('test/lease.conf'))
  if -e 'test/lease.conf';
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pgtap; CREATE EXTENSION lease');

my @files = $ENV{LEASE_PGTAP} || sort glob('test/pgtap/*.sql');
cmp_ok(scalar @files, '>', 0, 'there are tests');

# Counts of assertions in the files
my %count = (passed => 0, failed => 0, skipped => 0);

# Repeats an assertion of a file as one of ours.  True unless it failed.
sub repeat
{
	my ($passed, $description) = @_;

  SKIP:
	{
		if ($description =~ /# skip\S*\s*(.*)/i)
		{
			$count{skipped}++;
			skip($1, 1);
		}
		$count{ $passed ? 'passed' : 'failed' }++;
		return ok($passed, $description);
	}
	return 1;
}

foreach my $file (@files)
{
	my ($name) = $file =~ m{([^/]+)\.sql$};
	my $output = '';
	my $seen = 0;
	my $failed = 0;
	my $passed = IPC::Run::run(
		[
			'pg_prove', '--verbose', '--host' => $node->host,
			'--port' => $node->port, '--dbname' => 'postgres', $file
		],
		'>',
		\$output,
		'2>&1');

	foreach my $line (split /\n/, $output)
	{
		if ($line =~ /^(not )?ok \d+(?: - )?(.*)/)
		{
			$seen++;
			repeat(!$1, "$name: $2") or $failed = 1;
		}
		elsif ($line =~ /^#/)
		{
			diag($line);
		}
	}
	# A wrong plan, an error that ended the script early, a file without tests:
	# what fails pg_prove without a failed assertion.
	my ($plan) = $output =~ /^1\.\.(\d+)$/m;
	my $complete = defined $plan && $plan == $seen && $output !~ /^psql:.*(?:ERROR|FATAL)/m;
	ok($passed || ($failed && $complete), "$name: all of it ran") or diag($output);
}

note("pgtap: $count{passed} passed, $count{failed} failed"
	  . ($count{skipped} ? ", $count{skipped} skipped" : ''));
$node->stop;
done_testing();
