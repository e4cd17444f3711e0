# Reads what the clients of history.c wrote down, and says what in it cannot be
# true of a correct lease.
#
# A *holding* is one grant and its renewals.  Its client believes in it from
# the receipt of the COMMIT of the grant until it sent the release, or until the
# duration has passed since it *sent* the last acknowledged renewal: that is all
# a careful client relies on.  To others it may look held a little longer, up
# to the duration after the renewal was *answered*.

package History;

use strict;
use warnings;

use List::Util qw(max min);

# How long any call may take, and how much the server's clock (wall time) may
# run away from the clients' (monotonic time); microseconds.
our $LIMIT = 1_000_000;
our $DRIFT = 5_000;

my $FOREVER = 9e15;

# Leases that are also deleted by hand: only their tokens are judged.
sub is_deleted_by_hand { return $_[0] =~ /^d/ }

sub parse
{
	my @records;

	foreach my $line (@_)
	{
		my %r;
		@r{qw(client txn level op name duration sent received answer holder token)} =
		  split ' ', $line;
		$r{line} = $line =~ s/\s+\z//r;
		push @records, \%r;
	}
	return @records;
}

sub read_directory
{
	my ($directory) = @_;
	my @lines;

	foreach my $file (sort glob "$directory/*.log")
	{
		open(my $fh, '<', $file) or die "could not open $file: $!";
		push @lines, <$fh>;
		close $fh;
	}
	return parse(@lines);
}

# Gives every call
#	acked		when its client knew that it is committed, if it ever did
#	begun		since when others may see it, if ever
#	ended		when its locks were gone at the latest
# and returns the calls in the order in which they were sent.
sub resolve
{
	my @records = @_;
	my %end = map { ("$_->{client} $_->{txn}" => $_) } grep { $_->{op} eq 'end' } @records;
	my @calls = grep { $_->{op} ne 'end' && $_->{op} ne 'stall' } @records;

	foreach my $c (@calls)
	{
		my $end = $c->{txn} ? $end{"$c->{client} $c->{txn}"} : undef;
		my $outcome = !$c->{txn} ? 'commit' : $end ? $end->{answer} : 'unknown';
		my $last = $end // $c;

		$c->{acked} = $last->{received} if $outcome eq 'commit';
		$c->{begun} = $last->{sent} if $outcome eq 'commit' || $outcome eq 'unknown';
		$c->{ended} =
		    $outcome eq 'unknown' ? $FOREVER
		  : $outcome eq 'dropped' ? $last->{received} + $LIMIT
		  :                         $last->{received};
	}
	return sort { $a->{sent} <=> $b->{sent} } @calls;
}

# The holdings of every lease, and complaints about renewals of none.
sub holdings
{
	my @calls = @_;
	my (%holdings, %current, @complaints);

	foreach my $c (grep { defined $_->{begun} } @calls)
	{
		my $mine = \$current{"$c->{client} $c->{name}"};
		my $duration = 1e6 * $c->{duration};

		if ($c->{answer} eq 'acquired')
		{
			$$mine = { %$c, duration => $duration, gone => $FOREVER, grant => $c,
				until => $c->{sent} + $duration, may_until => $c->{received} + $duration };
			push @{ $holdings{ $c->{name} } }, $$mine;
		}
		elsif ($c->{answer} eq 'renewed')
		{
			if (!$$mine || ($c->{token} ne '-' && $c->{token} != $$mine->{token}))
			{
				push @complaints, "renewed a holding that was never granted: $c->{line}";
				next;
			}
			$$mine->{duration} = $duration if $c->{op} eq 'acquire';
			$$mine->{until} = $c->{sent} + $$mine->{duration} if defined $c->{acked};
			$$mine->{may_until} = max($$mine->{may_until}, $c->{received} + $$mine->{duration});
			push @{ $$mine->{renewals} }, $c;
		}
		elsif ($c->{answer} eq 'released' && $$mine)
		{
			$$mine->{until} = min($$mine->{until}, $c->{sent});
			$$mine->{gone} = $c->{acked} // $FOREVER;
			$$mine->{released} = 1;
			undef $$mine;
		}
	}
	return (\%holdings, @complaints);
}

# I1: what two clients believe at the same time.
sub check_beliefs
{
	my ($holdings) = @_;
	my ($latest, @complaints);

	foreach my $h (sort { $a->{acked} <=> $b->{acked} }
		grep { defined $_->{acked} && $_->{acked} < $_->{until} } @$holdings)
	{
		push @complaints, sprintf('two holders for %.3f s: %s and %s',
			($latest->{until} - $h->{acked}) / 1e6, $latest->{line}, $h->{line})
		  if $latest && $h->{acked} < $latest->{until} - $DRIFT;
		$latest = $h if !$latest || $h->{until} > $latest->{until};
	}
	return @complaints;
}

# I2: tokens never repeat, also of grants that were rolled back, and grow.
sub check_tokens
{
	my @grants = @_;
	my @acked = sort { $a->{acked} <=> $b->{acked} } grep { defined $_->{acked} } @grants;
	my (%seen, $greatest, @complaints);

	foreach my $g (sort { $a->{sent} <=> $b->{sent} } @grants)
	{
		push @complaints, "token issued twice: $seen{$g->{token}} and $g->{line}"
		  if $seen{ $g->{token} };
		$seen{ $g->{token} } = $g->{line};

		while (@acked && $acked[0]{acked} <= $g->{sent})
		{
			my $a = shift @acked;
			$greatest = $a if !$greatest || $a->{token} > $greatest->{token};
		}
		push @complaints, "token not greater than before: $greatest->{line} and $g->{line}"
		  if $greatest && $g->{token} <= $greatest->{token};
	}
	return @complaints;
}

# A grant ends what was held before: sets gone of all holdings, and finds
# renewals that were answered after a rival's grant was acknowledged.
sub check_succession
{
	my ($holdings) = @_;
	my @by_token = sort { $b->{token} <=> $a->{token} } @$holdings;
	my $first_acked = $FOREVER;
	my @complaints;

	foreach my $h (@by_token)
	{
		$h->{gone} = min($h->{gone}, $first_acked);
		push @complaints, map { "renewed after the lease was granted anew: $_->{line}" }
		  grep { $_->{sent} >= $first_acked } @{ $h->{renewals} // [] };
		$first_acked = min($first_acked, $h->{acked} // $FOREVER);
	}
	return @complaints;
}

# Intervals to be searched: sorted by start, with the greatest end so far.
sub index_intervals
{
	my $greatest = 0;
	return [ map { $greatest = max($greatest, $_->[1]); [ @$_, $greatest ] }
		  sort { $a->[0] <=> $b->[0] } @_ ];
}

# Those intervals [start, end, thing] that meet the one given.
sub meeting
{
	my ($index, $start, $end) = @_;
	my ($low, $high) = (0, scalar @$index);
	my @found;

	while ($low < $high)
	{
		my $middle = int(($low + $high) / 2);
		if ($index->[$middle][0] <= $end) { $low = $middle + 1 }
		else                              { $high = $middle }
	}
	for (my $i = $low - 1; $i >= 0 && $index->[$i][3] >= $start; $i--)
	{
		push @found, $index->[$i] if $index->[$i][1] >= $start;
	}
	return @found;
}

# "held" names somebody who may have had it just then; when a renewal or a
# release says so, somebody who had it last.
sub check_held
{
	my ($holdings, @calls) = @_;
	my $index = index_intervals(map { [ $_->{begun}, $_->{gone}, $_ ] } @$holdings);
	my @complaints;

	foreach my $c (@calls)
	{
		next unless ($c->{answer} eq 'held' && $c->{op} ne 'renew_all')
		  || ($c->{answer} eq 'read' && $c->{holder} ne '-' && !$c->{txn});
		my $valid = $c->{op} eq 'acquire' || $c->{op} eq 'holder';
		next if grep { $_->{client} eq $c->{holder}
			  && (!$valid || $_->{may_until} >= $c->{sent} - $DRIFT) }
		  map { $_->[2] } meeting($index, $c->{sent}, $c->{received});
		push @complaints, "the holder named cannot have it: $c->{line}";
	}
	return @complaints;
}

# When a holding is beyond doubt, for others as well: from the acknowledgement
# of the grant or a renewal until the next one is sent, or it runs out.
sub certainties
{
	my ($h) = @_;
	my @steps = ($h->{grant}, @{ $h->{renewals} // [] });
	my ($duration, @certain);

	foreach my $i (0 .. $#steps)
	{
		my $s = $steps[$i];
		$duration = 1e6 * $s->{duration} if $s->{op} eq 'acquire';
		my $until = min($s->{sent} + $duration, $i < $#steps ? $steps[ $i + 1 ]{sent} : $h->{until});
		push @certain, [ $s->{acked}, $until, $h ] if defined $s->{acked} && $s->{acked} <= $until;
	}
	return @certain;
}

# Whoever has the lease for certain can renew and release it, unless the row is
# locked; and then others see it.
sub check_refusals
{
	my ($holdings, @calls) = @_;
	my $index = index_intervals(map { certainties($_) } @$holdings);
	my (%released, @complaints);

	foreach my $c (@calls)
	{
		my $in = "$c->{client} $c->{txn}";

		$released{$in} = 1 if $c->{answer} eq 'released' && $c->{txn};
		next if $released{$in} || $c->{answer} =~ /^(renewed|released|busy|40001)$/;

		my @certain = map { $_->[2] }
		  grep { $_->[0] <= $c->{sent} && $_->[1] >= $c->{received} + $DRIFT }
		  meeting($index, $c->{sent}, $c->{received});
		push @complaints, "refused, but it has the lease: $c->{line}"
		  if $c->{op} =~ /^(acquire|renew|renew_all|release)$/
		  && grep { $_->{client} eq $c->{client} && $_->{grant} != $c } @certain;
		push @complaints, "held, but not seen: $c->{line}"
		  if $c->{op} eq 'holder' && @certain && $c->{holder} eq '-';
	}
	return @complaints;
}

# "busy" needs somebody else with a lock on the row.  Who was refused has none;
# only under row-level security (clients t..) he may have had one during the call.
# FOR KEY SHARE is no reason not to renew.
sub check_busy
{
	my @calls = @_;
	my $index = index_intervals(
		(map { [ $_->{sent}, $_->{ended}, $_ ] }
			  grep { $_->{answer} =~ /^(acquired|renewed|released|locked|shared|40001)$/ } @calls),
		(map { [ $_->{sent}, $_->{received}, $_ ] } grep { $_->{client} =~ /^t/ } @calls));
	my @complaints;

	foreach my $c (grep { $_->{answer} eq 'busy' } @calls)
	{
		next if grep { $_->{client} ne $c->{client}
			  && !($c->{op} =~ /^renew/ && $_->{answer} eq 'shared') }
		  map { $_->[2] } meeting($index, $c->{sent}, $c->{received});
		push @complaints, "busy, but nobody had it locked: $c->{line}";
	}
	return @complaints;
}

# Errors that must not be, and calls that took too long (I6).
sub check_calls
{
	my ($stalls, @calls) = @_;
	my @complaints;

	foreach my $c (@calls)
	{
		push @complaints, "unexpected answer: $c->{line}"
		  if $c->{answer} =~ /^(unknown|[0-9A-Z]{5})$/
		  && !($c->{answer} eq '40001' && $c->{level} ne 'rc');
		push @complaints, "unexpected answer: $c->{line}"
		  if $c->{answer} eq 'missing' && !is_deleted_by_hand($c->{name});
		next if $c->{op} =~ /^(lock|share|delete)$/;	# by hand: waits, as they do

		my $taken = $c->{received} - $c->{sent};
		next if $taken <= $LIMIT;
		foreach my $s (@$stalls)
		{
			$taken -= max(0, min($s->{received}, $c->{received}) - max($s->{sent}, $c->{sent}));
		}
		push @complaints, "took longer than a second: $c->{line}" if $taken > $LIMIT;
	}
	return @complaints;
}

# A holding that was followed by another, and not released, has expired.
sub count_expiries
{
	my ($holdings) = @_;
	my @acked = grep { defined $_->{acked} } sort { $a->{token} <=> $b->{token} } @$holdings;
	pop @acked;
	return scalar grep { !$_->{released} } @acked;
}

# Returns how often what happened, and what is wrong.
sub check
{
	my @records = @_;
	my @calls = resolve(@records);
	my ($holdings, @complaints) = holdings(@calls);
	my %count = (grant => 0, expiry => 0, map { ($_ => 0) } qw(held busy renewed released 40001));
	my %by_name;

	$count{ $_->{answer} }++ foreach @calls;
	push @{ $by_name{ $_->{name} } }, $_ foreach @calls;
	push @complaints, check_calls([ grep { $_->{op} eq 'stall' } @records ], @calls);

	foreach my $name (sort keys %by_name)
	{
		my @of_name = @{ $by_name{$name} };
		my $of_name = $holdings->{$name} // [];

		$count{grant} += grep { defined $_->{acked} } @$of_name;
		push @complaints, check_tokens(grep { $_->{answer} eq 'acquired' } @of_name);
		next if is_deleted_by_hand($name);

		$count{expiry} += count_expiries($of_name);
		push @complaints, check_beliefs($of_name), check_succession($of_name),
		  check_held($of_name, @of_name), check_refusals($of_name, @of_name),
		  check_busy(@of_name);
	}
	return (\%count, @complaints);
}

1;
