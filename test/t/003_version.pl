# The version stands in lease.control.  What has to repeat it, or must agree with
# another file for another reason, does: of what is published, somebody else may see
# that file only.

use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($version) = slurp_file('lease.control') =~ /^default_version = '(.*)'$/m;
like($version, qr/^\d+\.\d+(?:\.\d+)?$/, "lease.control has a version");

# What is installed.  What the library has, 075_worker.pl sees where it differs.
my $node = PostgreSQL::Test::Cluster->new('version');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');
is($node->safe_psql('postgres', "SELECT extversion FROM pg_extension WHERE extname = 'lease'"), $version, 'the extension has it');
# Before 18, libraries do not tell; debian/tests/smoke.sql asks, too.
if ($node->pg_version >= 18)
{
	is($node->safe_psql('postgres', "LOAD 'lease'; SELECT version FROM pg_get_loaded_modules() WHERE module_name = 'lease'"),
		$version, 'the library has it');
}
$node->stop;

my ($release) = slurp_file('CHANGELOG.md') =~ /^## (.*)$/m;
my ($package, $suite) = slurp_file('debian/changelog') =~ /^postgresql-lease \((.*)\) (\S+);/;
is($release =~ s/ .*//r, $version, 'CHANGELOG.md begins with it');
is($package =~ s/-\d+$//r, $version, 'debian/changelog, too');
is($suite eq 'UNRELEASED', scalar($release =~ / \(unreleased\)$/), 'both tell whether it is released');

# PGXN's versions are semantic ones: three numbers.
my $meta = decode_json(slurp_file('META.json'));
my $three = join '.', (split(/\./, $version), 0)[0 .. 2];
is($meta->{version}, $three, 'META.json has it');
is_deeply([ map { $_->{version} } values %{ $meta->{provides} } ], [$three], '... for what it provides');
foreach my $file (map { @$_{ 'file', 'docfile' } } values %{ $meta->{provides} })
{
	ok(-e $file, "... in files that exist: $file");
}
my ($comment) = slurp_file('lease.control') =~ /^comment = '(.*)'$/m;
is($meta->{abstract}, $comment, '... and the comment of lease.control');
my ($oldest) = slurp_file('src/compat.h') =~ /^#if PG_VERSION_NUM < (\d+)0000\n#error/m;
is($meta->{prereqs}{runtime}{requires}{PostgreSQL}, "$oldest.0.0", '... and the oldest PostgreSQL of src/compat.h');
is(slurp_file('debian/pgversions'), "$oldest+\n", 'so has debian/pgversions');

# debian/control is what pg_buildext updatecontrol makes from control.in for one PostgreSQL.
my $control = slurp_file('debian/control');
my ($major) = $control =~ /^Package: postgresql-(\d+)-lease$/m;
is($control, slurp_file('debian/control.in') =~ s/PGVERSION/$major/gr, 'debian/control is that of control.in');

done_testing();
