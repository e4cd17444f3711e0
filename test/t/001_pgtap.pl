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
$node->append_conf('postgresql.conf', slurp_file('test/lease.conf'));
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pgtap; CREATE EXTENSION lease');

my @files = $ENV{LEASE_PGTAP} || sort glob('test/pgtap/*.sql');
cmp_ok(scalar @files, '>', 0, 'there are tests');

foreach my $file (@files)
{
	my ($name) = $file =~ m{([^/]+)\.sql$};
	my $output = '';
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
		if ($line =~ /^(not )?ok \d+ - (.*)/)
		{
			ok(!$1, "$name: $2") or $failed = 1;
		}
		elsif ($line =~ /^#/)
		{
			diag($line);
		}
	}
	# A wrong plan, an error that ended the script early, a file without tests
	ok($passed, "$name: all of it ran") or $failed or diag($output);
}

$node->stop;
done_testing();
