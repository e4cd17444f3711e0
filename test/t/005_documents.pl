# What the documents show in psql really comes out: every statement in a session
# of theirs is run, and what psql prints is compared with what stands there.
# Each document is one session, in a database of its own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use Documents;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('documents');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\n"
	  # what a document collects, it collects itself
	  . "lease.gc_interval = 0\n");
$node->start;

# Fencing tokens begin with the second in which the extension was created, so
# those of a document and ours differ by the same number all the way.
my $token = qr/\b\d{15}\b/;

# What is another each time
my @varying = (
	[ qr/\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d(?::\d\d)?|Z)/, 'TIME' ],
	[ qr/-?\d\d:\d\d:\d\d\.\d+/, 'INTERVAL' ],
	[ qr/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/, 'UUID' ],
	[ qr/\b\d{16}\b/, 'VERSION' ],
	[ qr/\b(?:\d+[ydhm])?\d+[ydhms]\b/, 'AGE' ]);

# As wide as it happens to be, so the table around it does not count either.
sub without_varying
{
	my ($text) = @_;

	$text =~ s/$_->[0]/$_->[1]/g foreach @varying;
	$text =~ s/ +/ /g;
	$text =~ s/-{2,}/-/g;
	return $text =~ s/ $//mgr;
}

sub is_varying { my ($text) = @_; return scalar grep { $text =~ $_->[0] } @varying; }

sub lines { my ($text) = @_; return scalar(() = $text =~ /\n/g); }

my $documents = 0;

foreach my $document (Documents::all())
{
	my $text = slurp_file($document);
	my @steps = Documents::steps($text) or next;
	my $database = lc $document =~ s/\W/_/gr;
	my $difference;
	my $ours = sub { return $_[0] =~ s{($token)}{$1 + ($difference // 0)}ger; };

	$documents++;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION lease') unless $text =~ /^=# CREATE EXTENSION lease;/m;
	my $psql = Psql->new($node, $database, '--pset=tuples_only=off', '--pset=format=aligned', '--pset=footer=off');

	foreach my $step (@steps)
	{
		my $out = $psql->do($ours->($step->{statement}));
		my $error = $psql->messages;
		my $shown = $step->{output};

		$out =~ s/ +$//mg;
		$out =~ s/^\n+//mg;
		$out =~ s/\n*\z/\n/ if $out ne '';
		# Of an error, a document shows as much as helps.
		$error = join '', ($error =~ /(.*\n)/g)[ 0 .. lines($shown) - 1 ] if $shown =~ /^ERROR:/;

		if (!defined $difference && $shown =~ /($token)/)
		{
			my $first = $1;

			$difference = $1 - $first if "$out$error" =~ /($token)/;
		}
		($shown, my $printed) = ($ours->($shown), "$out$error");
		($shown, $printed) = map { without_varying($_) } $shown, $printed if is_varying($shown);
		is($printed, $shown, "$document: $step->{statement}");
	}
	$psql->finish;
}
cmp_ok($documents, '>=', 2, 'there are documents with sessions');

# What the recipes show can be typed in as it stands there.
foreach my $document ('docs/recipes.md')
{
	my $database = lc $document =~ s/\W/_/gr . '_scripts';
	my $typed = "$PostgreSQL::Test::Utils::tmp_check/$database.sql";
	my @scripts = Documents::scripts(slurp_file($document));

	cmp_ok(scalar @scripts, '>=', 10, "$document has examples");
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION lease');
	append_to_file($typed, join '', @scripts);
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $typed, $node->connstr($database) ],
		"what $document shows runs");
}

$node->stop;
done_testing();
