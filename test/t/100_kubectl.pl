# Command lines with what the real kubectl 1.32 printed for the same objects, byte
# for byte: test/kubectl/index.tsv, golden/ID.out and ID.err, SET.objects.json.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Lines that cannot print the same, and why
my %different = (
	'yaml-kinds' => 'there are no Namespace objects',
	'del-collection' => '--raw is not supported',
	'del-finalizer-get' => 'the time of the deletion and the resource version are of this server',
	(map { $_ => 'names a file' } qw(label-file del-file)),
	(map { $_ => 'shows what commands have done that are not in the list' } qw(label-overwrite-same label-after ann-list del-all-ns)),
);

my $node = PostgreSQL::Test::Cluster->new('kubectl');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');

# Makes the objects of a set, and those only.  Returns their now.
sub load
{
	my ($set) = @_;
	my $objects = "$ENV{PWD}/test/kubectl/$set.objects.json";

	return $node->safe_psql('postgres', qq{
		DELETE FROM lease; DELETE FROM lease_node;
		CREATE TEMP TABLE loaded AS SELECT pg_read_file('$objects')::jsonb AS set;
		CREATE TEMP TABLE done AS
		SELECT lease_apply(o) IS NULL FROM loaded, jsonb_array_elements(set -> 'objects') o WHERE o ->> 'kind' = 'Lease';
		CREATE TEMP TABLE nodes AS
		SELECT lease_node_apply(o) FROM loaded, jsonb_array_elements(set -> 'objects') o WHERE o ->> 'kind' = 'Node';
		SELECT set ->> 'now' FROM loaded;
	});
}

# Runs a command line; returns what it prints, and the text of NOTICE, WARNING or
# ERROR with the level.
sub run
{
	my ($command, $now) = @_;
	my ($out, $err);

	$command =~ s/'/''/g;
	$node->psql('postgres', "\\set VERBOSITY terse\nSELECT kubectl('$command', '$now')", stdout => \$out, stderr => \$err, extra_params => ['-At']);
	my ($level, $text) = $err =~ /\A(?:psql:\S+ )?(NOTICE|WARNING|ERROR):  (.*)\z/s;
	return ($out, $level // '', $text // '');
}

sub golden
{
	my ($id, $suffix) = @_;
	my $file = "test/kubectl/golden/$id.$suffix";

	return -e $file ? slurp_file($file) : '';
}

my ($equal, $count, $set, $now) = (0, 0, '', '');
foreach my $line (split /\n/, slurp_file('test/kubectl/index.tsv'))
{
	next if $line =~ /^#/;
	my ($id, $exit, $its_set, $order, $command) = split /\t/, $line, 5;

	$count++;
	if ($its_set ne $set)
	{
		$set = $its_set;
		$now = load($set);
	}
	my ($out, $level, $text) = run($command, $now);
	my ($golden_out, $golden_err) = (golden($id, 'out'), golden($id, 'err'));

	# psql's reader drops a newline, but psql has added one to standard output
	$golden_err =~ s/\n+\z//;
	$text =~ s/\n+\z//;
	$out = join("\n", sort split /\n/, $out) if $order eq 'sorted';
	$golden_out = join("\n", sort split /\n/, $golden_out) if $order eq 'sorted';
	my $expected_level = $golden_err eq '' ? '' : $exit == 0 ? 'NOTICE' : $golden_out ne '' ? 'WARNING' : 'ERROR';

	my $same = $out eq $golden_out && $text eq $golden_err && $level eq $expected_level;
	my $reason = $different{$id};
	$equal++ if $same;
	if (defined $reason)
	{
		ok(!$same, "$command: differs, $reason");
		next;
	}
	is($out, $golden_out, "$command: standard output");
	is("$level $text", "$expected_level $golden_err", "$command: standard error");
}
note("$equal of $count outputs are equal, byte for byte");

# Listing one namespace does not read the others.
$node->safe_psql('postgres', q{
	DELETE FROM lease;
	INSERT INTO lease (namespace, name) SELECT 'ns-' || i % 100, 'l-' || i FROM generate_series(1, 20000) i;
	ANALYZE lease;
});
$node->safe_psql('postgres', q{SELECT pg_stat_reset()});
is(() = $node->safe_psql('postgres', q{SELECT kubectl('get leases -n ns-7 -o name')}) =~ /^lease/mg, 200, 'one namespace of a hundred');
cmp_ok($node->safe_psql('postgres', q{SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'lease'}), '<', 1000, 'the others are not read');
my $time = $node->safe_psql('postgres', q{
	CREATE TEMP TABLE t AS SELECT clock_timestamp() AS start;
	SELECT kubectl('get leases -A') IS NULL;
	SELECT extract(milliseconds FROM clock_timestamp() - start) FROM t;
});
note('kubectl get leases -A with 20000 leases: ' . (split /\n/, $time)[-1] . ' ms');

$node->stop;
done_testing();
