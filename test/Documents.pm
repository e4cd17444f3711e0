# What the documents show and say, for tests that hold it against the truth.

package Documents;

use strict;
use warnings;

use PostgreSQL::Test::Utils;

# Every document, by its path from the top of the tree
sub all
{
	return sort glob '*.md docs/*.md examples/*.md bench/*.md';
}

# Sessions with psql: a fence without a language, in it statements behind "=# ",
# each with its output.  Lines that go on begin with "-# ".  Blank lines, blanks
# at line ends and psql's row counts are left out.
sub steps
{
	my ($text) = @_;
	my @steps;

	foreach my $block ($text =~ /^```\n(=# .*?)^```/msg)
	{
		foreach my $line (split /\n/, $block)
		{
			if ($line =~ /^=# (.*)/)
			{
				push @steps, { statement => $1, output => '' };
			}
			elsif ($line =~ /^-# (.*)/)
			{
				$steps[-1]{statement} .= "\n$1";
			}
			elsif ($line ne '')
			{
				$steps[-1]{output} .= "$line\n";
			}
		}
	}
	return @steps;
}

# Statements to be typed in as they stand there: fences with the language sql
sub scripts
{
	my ($text) = @_;

	return $text =~ /^```sql\n(.*?)^```$/msg;
}

# The text without what is in fences and indented blocks
sub prose
{
	my ($text) = @_;

	$text =~ s/^```.*?^```$//msg;
	$text =~ s/^    .*$//mg;
	return $text;
}

# Headings, as what follows "#" in a link to them
sub anchors
{
	my ($text) = @_;
	my %anchors;

	foreach my $heading (prose($text) =~ /^#+ +(.*?)\s*$/mg)
	{
		my $anchor = lc $heading;

		$anchor =~ s/[^\w\- ]//g;
		$anchor =~ tr/ /-/;
		$anchors{$anchor} = 1;
	}
	return %anchors;
}

# The targets of links, without those to other hosts
sub links
{
	my ($text) = @_;

	return grep { !/^\w+:/ } prose($text) =~ /\]\(([^()\s]+)\)/g;
}

# Rows of the tables below a heading, each a list of cells
sub rows
{
	my ($text, $heading) = @_;
	my ($section) = $text =~ /^(#+ \Q$heading\E\n.*?)(?=^#|\z)/ms;

	die "no heading \"$heading\"" unless defined $section;
	return map { [ map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, s/^\||\|$//gr ] }
	  grep { !/^\|[-|]+\|$/ } $section =~ /^(\|.*\|)$/mg;
}

1;
