# The tour in README.md shows what really comes out: every statement in it is
# run, and what psql prints is compared with what stands there.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Statements with the output that follows them, blanks at line ends and psql's
# row counts left out.  Of an error the tour shows the first line.
sub tour_of
{
	my ($text) = @_;
	my ($tour) = $text =~ /^## A tour\n+```\n(.*?)^```/ms
	  or die 'README.md has no tour';
	my @steps;

	foreach my $line (split /\n/, $tour)
	{
		if ($line =~ /^=# (.*)/)
		{
			push @steps, { statement => $1, output => '' };
		}
		elsif ($line ne '')
		{
			$steps[-1]{output} .= "$line\n";
		}
	}
	return @steps;
}

my $node = PostgreSQL::Test::Cluster->new('readme');
$node->init;
$node->start;

my @steps = tour_of(slurp_file('README.md'));
cmp_ok(scalar @steps, '>', 3, 'there is a tour');

# Fencing tokens begin with the second in which the extension was created, so
# those of the tour and ours differ by the same number all the way.
my $token = qr/\b\d{15}\b/;
my $difference;
sub ours { return $_[0] =~ s{($token)}{$1 + ($difference // 0)}ger; }

foreach my $step (@steps)
{
	my ($result, $stdout, $stderr) = $node->psql('postgres', ours($step->{statement}),
		extra_params => [ '--pset=tuples_only=off', '--pset=format=aligned',
			'--pset=footer=off' ]);

	if (!defined $difference && $step->{output} =~ /($token)/)
	{
		my $first = $1;

		$difference = $1 - $first if $stdout =~ /($token)/;
	}
	$step->{output} = ours($step->{output});
	$stdout =~ s/ +$//mg;
	$stdout =~ s/\n*\z/\n/ if $stdout ne '';
	if ($step->{output} =~ /^ERROR:/)
	{
		$stdout .= "$1\n" if $stderr =~ /(ERROR:.*)/;
	}
	else
	{
		is($stderr, '', "no complaint about: $step->{statement}");
	}
	is($stdout, $step->{output}, "as README.md shows: $step->{statement}");
}

$node->stop;
done_testing();
