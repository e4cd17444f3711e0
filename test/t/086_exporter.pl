# docs/postgres_exporter.yml: every query runs, as a role that only looks, and has
# the columns that the file says.

use strict;
use warnings;

use FindBin;

use CPAN::Meta::YAML;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('exporter');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'lease'
fsync = off
});
$node->start;

# What docs/permissions.md grants to who looks, and pg_monitor
my ($grants) = slurp_file("$FindBin::RealBin/../../docs/permissions.md") =~ /^(CREATE ROLE lease_reader;.*?)^```/ms;
$node->safe_psql('postgres', "CREATE EXTENSION lease; $grants; ALTER ROLE lease_reader LOGIN; GRANT pg_monitor TO lease_reader;
	SELECT FROM lease_acquire('held', 'h', '1 h'); SELECT FROM lease_node_heartbeat('node-1'); SELECT FROM lease_gc()");

my $file = CPAN::Meta::YAML->read("$FindBin::RealBin/../../docs/postgres_exporter.yml")->[0];
is_deeply([ sort keys %$file ], [qw(lease_leases lease_nodes lease_stat lease_stat_database lease_warnings)], 'the queries');

my %usages = map { $_ => 1 } qw(LABEL GAUGE COUNTER);
foreach my $name (sort keys %$file)
{
	my $query = $file->{$name}{query};
	my @metrics = map { keys %$_ } @{ $file->{$name}{metrics} };

	# The header, without psql's count of rows
	my ($columns, @rows) = split /\n/, $node->safe_psql('postgres', $query, extra_params => [ '-U', 'lease_reader', '-P', 'tuples_only=off', '-P', 'footer=off' ]);

	is($columns, join('|', @metrics), "$name: columns");
	cmp_ok(scalar(@rows), '>', 0, "$name: there is something to see");
	foreach my $metric (@{ $file->{$name}{metrics} })
	{
		my ($column) = keys %$metric;

		ok($usages{ $metric->{$column}{usage} } && length $metric->{$column}{description}, "$name: $column has a usage and a description");
	}
}

$node->stop;
done_testing();
