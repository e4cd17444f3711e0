# What an extension consists of, so that two installations of it can be compared.
#
# pg_upgrade has pg_dump write the objects of an extension one by one, with all that
# the catalogs know of them: definitions, defaults, storage, comments, grants (also
# which of them came with the extension), and that they are members.  So that is the
# list, and not one of catalogs that would have to be complete.

package Objects;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT_OK = qw(differences objects);

# Reference to a hash: type and name of what pg_dump has an entry for => its text.
# Also "CONFIG table" => the condition for its rows in a dump.
sub objects
{
	my ($node, $database) = @_;
	my %objects;
	my ($dump, $errors) = run_command([ 'pg_dump', '--binary-upgrade', '--schema-only', $node->connstr($database) ]);

	die "pg_dump: $errors" if $errors ne '' || $dump !~ s/\n--\n-- PostgreSQL database dump complete\n.*//s;

	# What differs from one database to another, and whether rows have been rewritten
	# since a column was added
	$dump =~ s/^-- For binary upgrade, must preserve.*\n//mg;
	$dump =~ s/^SELECT pg_catalog\.binary_upgrade_set_next_.*\n//mg;
	$dump =~ s/^SELECT pg_catalog\.binary_upgrade_set_missing_value\(.*?\);\n//msg;
	$dump =~ s/^UPDATE pg_catalog\.pg_class\nSET relfrozenxid = .*\n.*\n//mg;
	# OIDs of the tables with configuration, see below
	$dump =~ s/(binary_upgrade_create_empty_extension\(.*), '\{.*?\}', '\{.*?\}', ARRAY/$1, ARRAY/;

	# The order in which something was granted does not matter; whether it came with the
	# extension does.
	my $by_extension = sub { return $_[0] =~ s/^/initially /mgr };

	my (undef, @entries) = split /^--\n-- Name: (.*); Type: (.*?); Schema: .*\n--\n/m, $dump;
	while (my ($name, $type, $text) = splice @entries, 0, 3)
	{
		$text =~ s/\n{2,}/\n/g;
		if ($type eq 'ACL')
		{
			$text =~ s/^SELECT .*set_record_init_privs\(true\);\n(.*?)^SELECT .*set_record_init_privs\(false\);\n/$by_extension->($1)/mse;
			$text = join "\n", sort split /\n/, $text;
		}
		$objects{"$type $name"} .= $text;
	}

	# Where the sequence stands
	delete @objects{ grep { /^SEQUENCE SET / } keys %objects };

	$objects{"CONFIG $_->[0]"} = "rows $_->[1]"
	  foreach map { [ split /\|/, $_, 2 ] } split /\n/, $node->safe_psql($database,
		'SELECT unnest(extconfig)::regclass, unnest(extcondition) FROM pg_extension');
	return \%objects;
}

# What is different, by type and name, sorted
sub differences
{
	my ($a, $b) = @_;
	my %all = (%$a, %$b);

	return grep { ($a->{$_} // '') ne ($b->{$_} // '') } sort keys %all;
}

1;
