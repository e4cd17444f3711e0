# Reads what the clients of history.c wrote down, and says what in it cannot be
# true of a correct lease.
#
# A *holding* is one grant and its renewals.  Its client believes in it from
# the receipt of the COMMIT of the grant until it sent the release, or until the
# duration has passed since it *sent* the last acknowledged renewal: that is all
# a careful client relies on.  To others it may look held a little longer, up
# to the duration after the renewal was *answered*.
#
# Who disturbs the server meanwhile (110_faults.pl) writes that down as well, in
# the same form, with op:
#
#	fault		name: what it does; answer: what that excuses, see %EXCUSE
#	promoted	a standby was promoted, from sent to received; for "duration" after
#				that nobody gets anything new
#	cut			the same when transactions got lost: what the standby knew of lease
#				"name", that "holder" had it under "token" for "duration"; txn: since
#				when it knew no more
#	row			what the table "written" has in the end, as write number "holder"

package History;

use strict;
use warnings;

use List::Util qw(max min);

# How long any call may take, and how much the server's clock (wall time) may
# run away from the clients' (monotonic time); microseconds.
our $LIMIT = 1_000_000;
our $DRIFT = 5_000;

# How long op "await" may wait besides.
my $WAIT = 1_000_000;

my $FOREVER = 9e15;

# What may happen during a fault, and a while after.
my %EXCUSE = (
	down => qr/^(unknown|busy|55P03|57014)$/,	# the server goes away, and recovers
	ended => qr/^(unknown|57014)$/,			# sessions are terminated, statements cancelled
	slow => qr/^(57014|55P03)$/,			# timeouts are short
	locked => qr/^(busy|55P03|40P01|40001)$/,	# rows, or the table, are locked
	collected => qr/^busy$/,				# somebody looks for what has expired
	paused => qr/^$/,						# a client stands still
	nothing => qr/^$/);

# What somebody is told who does not have the lease.
my $REFUSAL = qr/^(acquired|held|reserved|expired|free|missing|LS001)$/;

# Do renewals stay in memory?  Then they count also if the transaction is rolled back,
# or the statement fails that has done some of them.
our $MEMORY = 0;

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
		# The last line of who was killed may be half a line.
		push @lines, grep { /\n\z/ } <$fh>;
		close $fh;
	}
	return parse(@lines);
}

# Gives every call
#	since		when its client had its last answer before: a connection that was lost
#				since then is noticed only now
#	acked		when its client knew that it is committed, if it ever did
#	begun		since when others may see it, if ever
#	ended		when its locks were gone at the latest
# and returns the calls in the order in which they were sent.
sub resolve
{
	my @records = @_;
	my %end = map { ("$_->{client} $_->{txn}" => $_) } grep { $_->{op} eq 'end' } @records;
	my @calls = grep { $_->{op} !~ /^(end|stall|fault|promoted|cut|row)$/ } @records;
	my %last;

	foreach my $c (sort { $a->{sent} <=> $b->{sent} } @calls, values %end)
	{
		$c->{since} = $last{ $c->{client} } // $c->{sent};
		$last{ $c->{client} } = $c->{received};
	}
	foreach my $c (@calls)
	{
		my $end = $c->{txn} ? $end{"$c->{client} $c->{txn}"} : undef;
		my $last = $end // $c;
		my $outcome =
		    $end                             ? $end->{answer}
		  : $c->{txn}                        ? 'never ended'
		  : $c->{answer} eq 'unknown'        ? 'unknown'
		  : $c->{answer} =~ /^[0-9A-Z]{5}$/  ? 'rollback'
		  :                                    'commit';

		$c->{acked} = $last->{received} if $outcome eq 'commit';
		$c->{begun} = $last->{sent} if $outcome =~ /^(commit|unknown|never ended)$/;
		$c->{ended} =
		    $outcome eq 'never ended'        ? $FOREVER
		  : $outcome =~ /^(unknown|dropped)$/ ? $last->{received} + $LIMIT
		  :                                    $last->{received};
	}
	return sort { $a->{sent} <=> $b->{sent} } @calls;
}

# A history falls into parts where a promotion lost transactions.  Each part is
# one of its own: it goes on with what the standby knew.  Returns for each
# its calls and the holdings that it begins with.
sub parts
{
	my ($cuts, @calls) = @_;
	my @starts = sort { $a <=> $b } keys %{ { map { ($_->{sent} => 1) } @$cuts } };
	my @parts = ({ number => 0, calls => [], carried => [] });

	foreach my $start (@starts)
	{
		push @{ $parts[-1]{calls} }, shift @calls while @calls && $calls[0]{sent} < $start;
		push @parts, { number => scalar @parts, calls => [],
			carried => [ map { carried($_, scalar @parts) }
				  grep { $_->{sent} == $start && $_->{holder} ne '-' } @$cuts ] };
	}
	push @{ $parts[-1]{calls} }, @calls;
	return @parts;
}

# A holding that has outlived a promotion.  Whoever has it gets a full duration
# again (grace), whatever renewals were lost, but has to hear of it first.
sub carried
{
	my ($cut, $part) = @_;
	my $grace = $cut->{sent} + 1e6 * $cut->{duration};

	return { %$cut, client => $cut->{holder}, part => $part, carried => 1, grant => $cut,
		duration => 1e6 * $cut->{duration}, begun => $cut->{sent}, gone => $FOREVER,
		until => 0, may_until => 0,
		certain => [ $cut->{received}, $grace ] };
}

# The holdings of every lease, grants that may or may not have been, and
# complaints about renewals and guards of none.
sub holdings
{
	my ($part) = @_;
	my (%holdings, %doubtful, @complaints);
	my %current;	# of a client, by name
	my %known;		# the same by token as well
	my %pending;	# acquisitions nobody knows the outcome of

	my $add = sub {
		my ($h) = @_;
		push @{ $holdings{ $h->{name} } }, $h;
		$current{"$h->{client} $h->{name}"} = $known{"$h->{client} $h->{name} $h->{token}"} = $h;
	};
	my $grant = sub {
		my ($c, $duration) = @_;
		$add->({ %$c, duration => $duration, part => $part->{number}, gone => $FOREVER, grant => $c,
				until => $c->{sent} + $duration, may_until => $c->{received} + $duration });
	};

	$add->($_) foreach @{ $part->{carried} };
	foreach my $c (grep { defined $_->{begun} } @{ $part->{calls} })
	{
		my $who = "$c->{client} $c->{name}";
		my $duration = 1e6 * $c->{duration};
		my $mine = $current{$who};

		if ($c->{answer} eq 'unknown')
		{
			# Perhaps it was extended, and perhaps what it extended was in doubt already.
			if ($c->{op} =~ /^(acquire|await|renew|renew_all)$/)
			{
				foreach my $h (grep { defined } $mine, $pending{$who} ? $pending{$who}{doubt} : undef)
				{
					$h->{may_until} = max($h->{may_until}, $c->{received} + max($h->{duration}, $duration));
				}
			}
			next unless $c->{op} =~ /^(acquire|await|release)$/;
			if ($c->{op} ne 'release')
			{
				my $doubt = { client => $c->{client}, begun => $c->{sent},
					gone => $FOREVER, duration => $duration, may_until => $c->{received} + $duration };

				$pending{$who} //= { call => $c, duration => $duration };
				$pending{$who}{duration} = min($pending{$who}{duration}, $duration);
				$pending{$who}{doubt} = $doubt;
				push @{ $doubtful{ $c->{name} } }, $doubt;
			}
			shorten($mine, $c) if $mine;
			push @{ $mine->{steps} }, $c if $mine;
		}
		elsif ($c->{answer} eq 'acquired')
		{
			end_belief($mine, $c);
			$grant->($c, $duration);
			delete $pending{$who};
		}
		elsif ($c->{answer} eq 'renewed')
		{
			if ($c->{token} eq '-')
			{
				next if $pending{$who} || ($mine && !defined $mine->{acked} && !$mine->{carried});
			}
			elsif (!$mine || $mine->{token} != $c->{token})
			{
				$mine = $known{"$who $c->{token}"};
				if (!$mine && $pending{$who})
				{
					my $p = delete $pending{$who};

					@{ $p->{call} }{qw(answer token)} = ('acquired', $c->{token});
					$grant->($p->{call}, $p->{duration});
					$mine = $current{$who};
				}
			}
			if (!$mine || $mine->{released})
			{
				push @complaints, "renewed a holding that was never granted: $c->{line}";
				next;
			}
			$current{$who} = $mine;
			if (defined $c->{acked})
			{
				$mine->{acked} //= $c->{acked};
				$mine->{duration} = $duration if $duration;
				$mine->{until} = $c->{sent} + $mine->{duration};
			}
			elsif ($duration)
			{
				shorten($mine, $c);
			}
			$mine->{may_until} = max($mine->{may_until}, $c->{received} + $mine->{duration});
			push @{ $mine->{renewals} }, $c;
			push @{ $mine->{steps} }, $c;
		}
		elsif ($c->{answer} eq 'released' && $mine)
		{
			$mine->{until} = min($mine->{until}, $c->{sent});
			push @{ $mine->{steps} }, $c;
			next unless defined $c->{acked};
			$mine->{gone} = $c->{acked};
			$mine->{released} = 1;
			delete $current{$who};
		}
		elsif ($c->{op} =~ /^(acquire|await|renew|renew_all)$/ && $c->{answer} =~ $REFUSAL)
		{
			end_belief($mine, $c);
		}
		elsif ($c->{answer} =~ /^(guarded|written)$/)
		{
			$mine = $known{"$who $c->{token}"};
			push @complaints, "guarded a holding that was never granted: $c->{line}" unless $mine;
			push @{ $mine->{guarded} }, $c if $mine;
		}
	}
	extend_by_undone(\%holdings, @{ $part->{calls} }) if $MEMORY;
	return (\%holdings, \%doubtful, @complaints);
}

# Whoever had the lease may have it for longer, without being certain of it.
sub extend_by_undone
{
	my ($holdings, @calls) = @_;

	foreach my $c (grep { $_->{op} =~ /^(acquire|await|renew|renew_all)$/ && !defined $_->{acked}
			&& $_->{answer} =~ /^(renewed|unknown|[0-9A-Z]{5})$/ } @calls)
	{
		foreach my $h (grep { $_->{client} eq $c->{client} } @{ $holdings->{ $c->{name} } // [] })
		{
			$h->{may_until} = max($h->{may_until}, $c->{received} + max($h->{duration}, 1e6 * $c->{duration}))
			  if $h->{begun} <= $c->{received} && $c->{sent} <= $h->{may_until} + $DRIFT;
		}
	}
	return;
}

# A call that may have made it shorter, or ended it.
sub shorten
{
	my ($holding, $c) = @_;
	my $duration = 1e6 * $c->{duration};

	$holding->{duration} = min($holding->{duration}, $duration) if $duration;
	$holding->{until} = min($holding->{until}, $c->{sent} + $duration);
	return;
}

# Who is told that he does not have it stops to believe.  (Whether that was right is
# another question: check_refusals.)
sub end_belief
{
	my ($holding, $c) = @_;

	$holding->{until} = min($holding->{until}, $c->{received}) if $holding;
	return;
}

# I1: what two clients believe at the same time.  One case is excluded: when the
# transactions that a promotion lost included a change of the holder, the one
# before is confirmed by the new server, while the one after still believes.
sub check_beliefs
{
	my ($count, @holdings) = @_;
	my ($latest, @complaints);

	foreach my $h (sort { $a->{acked} <=> $b->{acked} }
		grep { defined $_->{acked} && $_->{acked} < $_->{until} } @holdings)
	{
		if ($latest && $latest->{client} ne $h->{client} && $h->{acked} < $latest->{until} - $DRIFT)
		{
			if ($h->{carried} && $latest->{part} < $h->{part} && $latest->{token} > $h->{token})
			{
				$count->{excluded}++;
			}
			else
			{
				push @complaints, sprintf('two holders for %.3f s: %s and %s',
					(min($latest->{until}, $h->{until}) - $h->{acked}) / 1e6, $latest->{line}, $h->{line});
			}
		}
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
# renewals and guarded transactions (I3) after a rival's grant was acknowledged.
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
		push @complaints, map { "guarded after the lease was granted anew: $_->{line}" }
		  grep { $_->{begun} >= $first_acked } @{ $h->{guarded} // [] };
		$first_acked = min($first_acked, $h->{acked} // $FOREVER) unless $h->{carried};
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
# release says so, somebody who had it last.  Whenever the server recovers,
# whoever had it last has it again for the duration; nobody but the server
# knows the moment in which that begins.
sub check_held
{
	my ($holdings, $recoveries, @calls) = @_;
	my $index = index_intervals(map { [ $_->{begun}, $_->{gone}, $_ ] } @$holdings);
	my @complaints;

	foreach my $c (@calls)
	{
		next unless ($c->{answer} eq 'held' && $c->{op} ne 'renew_all')
		  || ($c->{answer} eq 'read' && $c->{holder} ne '-' && !$c->{txn});
		my $valid = $c->{op} =~ /^(acquire|await|holder)$/;
		next if grep { $_->{client} eq $c->{holder}
			  && (!$valid || $_->{may_until} >= $c->{sent} - $DRIFT || has_grace($_, $recoveries, $c)) }
		  map { $_->[2] } meeting($index, $c->{sent}, $c->{received});
		push @complaints, "the holder named cannot have it: $c->{line}";
	}
	return @complaints;
}

sub has_grace
{
	my ($holding, $recoveries, $call) = @_;

	return grep { $_->{sent} <= $call->{received}
		  && $_->{received} + $LIMIT + $holding->{duration} >= $call->{sent} } @$recoveries;
}

# When a holding is beyond doubt, for others as well: from the acknowledgement
# of the grant or a renewal until the next one is sent, or it runs out.
sub certainties
{
	my ($h) = @_;
	my @steps = ($h->{carried} ? () : $h->{grant}, @{ $h->{steps} // [] });
	my ($duration, @certain) = ($h->{carried} ? 1e6 * $h->{grant}{duration} : undef);

	push @certain, [ $h->{certain}[0], min($h->{certain}[1], @steps ? $steps[0]{sent} : $FOREVER), $h ]
	  if $h->{carried};
	foreach my $i (0 .. $#steps)
	{
		my $s = $steps[$i];
		$duration = defined $s->{acked} ? 1e6 * $s->{duration} : min($duration // $FOREVER, 1e6 * $s->{duration})
		  if $s->{duration};
		next if $s->{op} eq 'release' || !defined $s->{acked};
		my $until = min($s->{sent} + $duration, $i < $#steps ? $steps[ $i + 1 ]{sent} : $FOREVER);
		push @certain, [ $s->{acked}, $until, $h ] if $s->{acked} <= $until;
	}
	return @certain;
}

# Whoever has the lease for certain can renew, guard and release it, unless the
# row is locked; and then others see it (I5).  After a promotion he may ask with a
# later token, which got lost: then he hears that he himself has it.  And in a quiet
# period "reserved" is no refusal: who asks for a lease instead of renewing it is not
# told from somebody who has given it up.
sub check_refusals
{
	my ($certain, @calls) = @_;
	my (%released, @complaints);

	foreach my $c (@calls)
	{
		my $in = "$c->{client} $c->{txn}";

		$released{$in} = 1 if $c->{answer} eq 'released' && $c->{txn};
		next if $released{$in} || ($c->{answer} !~ $REFUSAL && $c->{op} ne 'holder');
		next if $c->{answer} eq 'reserved' && $c->{op} =~ /^(acquire|await)$/;

		my @certain = map { $_->[2] }
		  grep { $_->[0] <= $c->{sent} && $_->[1] >= $c->{received} + $DRIFT }
		  meeting($certain, $c->{sent}, $c->{received});
		push @complaints, "refused, but it has the lease: $c->{line}"
		  if $c->{op} =~ /^(acquire|await|renew|renew_all|release|guard)$/
		  && grep { $_->{client} eq $c->{client} && $_->{grant} != $c
			  && ($c->{op} ne 'guard' || $_->{token} == $c->{token})
			  && !($_->{carried} && $c->{answer} eq 'held' && $c->{holder} eq $c->{client}) } @certain;
		push @complaints, "held, but not seen: $c->{line}"
		  if $c->{op} eq 'holder' && $c->{answer} eq 'read' && @certain && $c->{holder} eq '-';
	}
	return @complaints;
}

# "busy" needs somebody else with a lock on the row.  Who was refused has none;
# only under row-level security (clients t..) he may have had one during the call.
# FOR KEY SHARE is no reason not to renew (I4).  Where somebody looks for what
# has expired, that may be locked at any time.
sub check_busy
{
	my ($certain, $faults, @calls) = @_;
	my $index = index_intervals(
		(map { [ $_->{sent}, $_->{ended}, $_ ] }
			  grep { $_->{answer} =~ /^(acquired|renewed|released|locked|shared|guarded|unknown|[0-9A-Z]{5})$/ } @calls),
		(map { [ $_->{sent}, $_->{received}, $_ ] } grep { $_->{client} =~ /^t/ } @calls));
	my @complaints;

	foreach my $c (grep { $_->{answer} eq 'busy' || ($_->{op} eq 'guard' && $_->{answer} eq '55P03') } @calls)
	{
		my $collected = grep { $_->[2]{answer} eq 'collected' } meeting($faults, $c->{sent}, $c->{received});

		next if is_excused($faults, $c, $collected ? 'collected' : '');
		next if $collected && !grep { $_->[0] <= $c->{sent} && $_->[1] >= $c->{received} }
		  meeting($certain, $c->{sent}, $c->{received});
		next if grep { $_->{client} ne $c->{client}
			  && !($c->{op} =~ /^renew/ && $_->{answer} =~ /^(shared|guarded)$/) }
		  map { $_->[2] } meeting($index, $c->{sent}, $c->{received});
		push @complaints, "busy, but nobody had it locked: $c->{line}";
	}
	return @complaints;
}

# Does a fault explain the answer?  but: a kind of fault that does not count.
sub is_excused
{
	my ($faults, $c, $but) = @_;

	return grep { $_->[2]{answer} ne ($but // '') && $c->{answer} =~ $EXCUSE{ $_->[2]{answer} } }
	  meeting($faults, $c->{answer} eq 'unknown' ? $c->{since} : $c->{sent}, $c->{received});
}

# Errors that must not be, and calls that took too long (I6).
sub check_calls
{
	my ($records, $faults, @calls) = @_;
	my @stalls = grep { $_->{op} eq 'stall' || ($_->{op} eq 'fault' && $_->{answer} =~ /^(down|paused)$/) } @$records;
	my @quiet = grep { $_->{op} eq 'promoted' } @$records;
	my @complaints;

	foreach my $c (@calls, grep { $_->{op} eq 'end' } @$records)
	{
		my $answer = $c->{answer};

		push @complaints, "unexpected answer: $c->{line}"
		  if $answer =~ /^(unknown|[0-9A-Z]{5})$/
		  && !($answer eq '40001' && $c->{level} ne 'rc')
		  && !($c->{op} eq 'guard' && $answer =~ /^(LS001|55P03)$/)
		  && !is_excused($faults, $c);
		push @complaints, "unexpected answer: $c->{line}"
		  if $answer eq 'missing' && !is_deleted_by_hand($c->{name})
		  && !grep { $_->{name} eq 'collection' && $_->{sent} <= $c->{received} } @$records;
		push @complaints, "unexpected answer: $c->{line}"
		  if $answer eq 'reserved' && !grep { $c->{received} >= $_->{sent}
			  && $c->{sent} <= $_->{received} + 1e6 * $_->{duration} + $LIMIT } @quiet;

		next if $c->{op} =~ /^(lock|share|delete|write|end)$/;	# by hand: waits, as they do
		my $limit = $LIMIT + ($c->{op} eq 'await' ? $WAIT : 0);
		my $taken = $c->{received} - $c->{sent};
		next if $taken <= $limit;
		foreach my $s (grep { $_->{client} eq '-' || $_->{client} eq $c->{client} } @stalls)
		{
			$taken -= max(0, min($s->{received}, $c->{received}) - max($s->{sent}, $c->{sent}));
		}
		push @complaints, "took longer than a second: $c->{line}" if $taken > $limit;
	}
	return @complaints;
}

# I3 and I5: what is in the table in the end.  The numbers are the order of the
# commits; along them tokens do not decrease.  What was acknowledged is there,
# unless a promotion lost it; what is there somebody wrote.
sub check_written
{
	my ($cuts, $rows, @calls) = @_;
	my (%row, %writer, %last, @complaints);

	foreach my $c (grep { $_->{answer} eq 'written' && defined $_->{begun} } @calls)
	{
		push @{ $writer{"$c->{name} $c->{holder} $c->{token} $c->{client}"} }, $c;
	}
	foreach my $r (sort { $a->{holder} <=> $b->{holder} } @$rows)
	{
		my $last = $last{ $r->{name} };

		push @complaints, "a write is lost before: $r->{line}"
		  if $r->{holder} != ($last ? $last->{holder} : 0) + 1;
		push @complaints, "written under a token that was not current: $r->{line}"
		  if $last && $r->{token} < $last->{token};
		push @complaints, "nobody wrote this: $r->{line}"
		  unless $writer{"$r->{name} $r->{holder} $r->{token} $r->{client}"};
		$row{"$r->{name} $r->{holder} $r->{token} $r->{client}"} = 1;
		$last{ $r->{name} } = $r;
	}
	foreach my $c (map { @$_ } values %writer)
	{
		push @complaints, "an acknowledged write is lost: $c->{line}"
		  if defined $c->{acked} && !$row{"$c->{name} $c->{holder} $c->{token} $c->{client}"}
		  && !grep { $_->{txn} <= $c->{acked} && $c->{sent} <= $_->{sent} } @$cuts;
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

# What happened to the lease before somebody complained of this call: the lines that say
# more than that it was held, as many as asked for.
sub before
{
	my ($complaint, $number, @records) = @_;
	my ($call) = grep { index($complaint, $_->{line}) >= 0 } @records or return;
	my @lines = map { $_->{line} } sort { $a->{sent} <=> $b->{sent} }
	  grep { $_->{sent} <= $call->{sent} && ($_->{op} =~ /^(fault|promoted|cut|end)$/ || ($_->{name} eq $call->{name} && $_->{answer} !~ /^(held|read|busy)$/)) } @records;

	return @lines > $number ? @lines[ -$number .. -1 ] : @lines;
}

# Returns how often what happened, and what is wrong.
sub check
{
	my @records = @_;
	my @calls = resolve(@records);
	my @cuts = grep { $_->{op} eq 'cut' } @records;
	my @rows = grep { $_->{op} eq 'row' } @records;
	my @faults = grep { $_->{op} eq 'fault' } @records;
	my @recoveries = grep { $_->{op} eq 'promoted' || $_->{answer} eq 'down' } @records;
	my $faults = index_intervals(map { [ $_->{sent}, $_->{received} + $LIMIT, $_ ] } @faults);
	my @names = sort keys %{ { map { ($_->{name} => 1) } @calls } };
	my %count = (call => scalar @calls, grant => 0, expiry => 0, excluded => 0,
		map { ($_ => 0) } qw(held busy renewed released 40001 unknown written));
	my (%all, @complaints);

	$count{ $_->{answer} }++ foreach @calls;
	push @complaints, check_calls(\@records, $faults, @calls), check_written(\@cuts, \@rows, @calls);

	foreach my $part (parts(\@cuts, @calls))
	{
		my ($holdings, $doubtful, @of_part) = holdings($part);
		my %calls;

		push @complaints, @of_part;
		push @{ $calls{ $_->{name} } }, $_ foreach @{ $part->{calls} };
		foreach my $name (@names)
		{
			my @of_name = @{ $calls{$name} // [] };
			my $of_name = $holdings->{$name} // [];

			push @{ $all{$name} }, @$of_name;
			$count{grant} += grep { defined $_->{acked} && !$_->{carried} } @$of_name;
			next if is_deleted_by_hand($name);

			$count{expiry} += count_expiries($of_name);
			push @complaints, check_succession($of_name);
			my $certain = index_intervals(map { certainties($_) } @$of_name);
			push @complaints, check_held([ @$of_name, @{ $doubtful->{$name} // [] } ], \@recoveries, @of_name),
			  check_refusals($certain, @of_name), check_busy($certain, $faults, @of_name);
		}
	}
	foreach my $name (@names)
	{
		push @complaints, check_tokens(grep { $_->{answer} eq 'acquired' && $_->{name} eq $name } @calls);
		push @complaints, check_beliefs(\%count, @{ $all{$name} // [] }) unless is_deleted_by_hand($name);
	}
	return (\%count, @complaints);
}

1;
