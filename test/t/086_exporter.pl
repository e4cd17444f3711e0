# docs/postgres_exporter.yml and docs/monitoring.md: the queries run as the role that
# is described there, and return the metrics that are described; the alerts use
# nothing else; and every warning that there is is explained.

use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('exporter');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'");
$node->start;

sub query { return $node->safe_psql('postgres', $_[0]); }

# YAML is read by the extension itself.
sub parse_yaml
{
	my ($text) = @_;
	my @documents = split /\n/, query('SELECT kubectl_manifest($yaml$' . $text . '$yaml$)');

	is(scalar @documents, 1, 'one document');
	return decode_json($documents[0]);
}

my $manual = slurp_file('docs/monitoring.md');
my ($role) = $manual =~ /^```sql\n(.*?)^```/ms;
my ($alerts) = $manual =~ /^```yaml\n(.*?)^```/ms;

# Something of everything
query('CREATE EXTENSION lease');
query($role);
query(q{
	SELECT FROM lease_acquire('a', 'me', '1 h');
	SELECT FROM lease_acquire('b', 'me', '1 h', 'other');
	SELECT FROM lease_release('b', 'me', 'other');
	SELECT FROM lease_node_heartbeat('node-1');
	SELECT FROM lease_node_register('node-2');
	SELECT FROM lease_apiserver_heartbeat('host', gen_random_uuid());
	SELECT FROM lease_gc();
});

#
# The queries
#
my $exporter = parse_yaml(slurp_file('docs/postgres_exporter.yml'));
my %labels;		# name of a metric => its labels

foreach my $prefix (sort keys %$exporter)
{
	my $q = $exporter->{$prefix};
	my @unknown = grep { !/^(?:query|master|cache_seconds|metrics)$/ } keys %$q;
	my (%usage, %seen);

	is("@unknown", '', "$prefix: has what postgres_exporter knows");
	ok($q->{master}, "$prefix: not in other databases");
	foreach my $metric (@{ $q->{metrics} })
	{
		my ($name) = keys %$metric;

		$usage{$name} = $metric->{$name}{usage};
		like($usage{$name}, qr/^(?:LABEL|GAUGE|COUNTER)$/, "$prefix: usage of $name");
		like($metric->{$name}{description}, qr/^\S.*[^.]$/, "$prefix: description of $name");
	}

	my @labels = grep { $usage{$_} eq 'LABEL' } sort keys %usage;
	my @numbers = grep { $usage{$_} ne 'LABEL' } sort keys %usage;
	$labels{"${prefix}_$_"} = \@labels foreach @numbers;

	my $csv = $node->safe_psql('postgres', $q->{query}, extra_params => [ '-U', 'lease_monitor', '--csv', '--pset=tuples_only=off', '--pset=null=NULL' ]);
	my ($head, @rows) = split /\n/, $csv;
	my @columns = split /,/, $head;

	is(join(' ', sort @columns), join(' ', sort keys %usage), "$prefix: every column is a metric, and the other way round");
	cmp_ok(scalar @rows, '>', 0, "$prefix: rows");
	foreach my $row (@rows)
	{
		my %value;

		@value{@columns} = split /,/, $row, -1;
		ok(!$seen{ join ',', @value{@labels} }++, "$prefix: labels of one row: $row");
		is(join(' ', grep { $value{$_} eq 'NULL' } @labels), '', "$prefix: labels have values");
		is(join(' ', grep { $value{$_} !~ /^(?:-?[\d.]+|NULL|\d{4}-\d\d-\d\d [\d:.]+[-+]\d\d)$/ } @numbers), '', "$prefix: numbers and times");
	}
}

#
# The alerts
#
my $rules = parse_yaml($alerts)->{groups}[0]{rules};

cmp_ok(scalar @$rules, '>', 5, 'there are alerts');
foreach my $rule (@$rules)
{
	my @used = $rule->{expr} =~ /\b(pg_lease\w*)/g;

	cmp_ok(scalar @used, '>', 0, "$rule->{alert}: uses metrics");
	foreach my $metric (@used)
	{
		ok($labels{$metric}, "$rule->{alert}: there is $metric");
	}
	foreach my $label ($rule->{expr} =~ /(\w+)[=!]~?"/g, $rule->{annotations}{summary} =~ /\$labels\.(\w+)/g)
	{
		ok(scalar(grep { $_ eq $label } @{ $labels{ $used[0] } }), "$rule->{alert}: $used[0] has $label");
	}
	ok($rule->{annotations}{summary}, "$rule->{alert}: says what it is");
}

# Every metric is in the manual, as far as it spells them out.
foreach my $name (grep { !/^pg_lease_stat_/ } sort keys %labels)
{
	like($manual, qr/\b$name\b/, "$name is in the manual");
}

#
# The warnings
#
my %explained = map { $_ => 1 } map { /`([^`]+)`/g } $manual =~ /^\| (`[^|]*`) \| [^|]*\| [^|]*\| [^|]*\|$/mg;
delete $explained{warning};		# the heading
my $known = query(q{SELECT col_description('lease_warnings'::regclass, 1)});

is(join(', ', sort keys %explained), join(', ', sort split /, or |, /, $known), 'every warning is explained');
is(query(q{SELECT count(*) FROM unnest(string_to_array(replace(col_description('lease_warnings'::regclass, 1), ', or ', ', '), ', ')) w
	WHERE strpos(pg_get_viewdef('lease_warnings'::regclass), quote_literal(w)) = 0}), 0, 'and each of them can appear');

$node->stop;
done_testing();
