# The checker of histories, before anybody relies on it: correct histories are
# fine, and each of these ways to spoil them is found.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use History;
use List::Util qw(uniq);
use Test::More;

sub complaints_of
{
	my ($count, @complaints) = History::check(History::parse(grep { /\S/ } split /\n/, $_[0]));
	s/:.*//s foreach @complaints;
	return join ', ', uniq @complaints;
}

# Each case: the complaint, what is wrong, the lines added, and those left out.
sub check_spoiled
{
	my ($fine, @cases) = @_;

	foreach my $case (@cases)
	{
		my ($expected, $what, $lines, $without) = @$case;
		my $history = $fine;

		$history =~ s/$without//g or die "not in the history: $without" if $without;
		is(complaints_of("$history$lines\n"), $expected, $what);
	}
	return;
}

# a holds the lease for a second from its renewal at 500000, releases it, b
# takes it; c loses in between.
my $fine = <<'END';
a 0 rc acquire l0 1  100000  101000 acquired a 1
a 0 rc renew   l0 0  500000  501000 renewed a 1
c 0 rc acquire l0 1  900000  901000 held a -
a 0 rc release l0 0 1200000 1201000 released - -
b 1 rc acquire l0 2 1300000 1301000 acquired b 3
b 1 rc end     -  0 1400000 1401000 commit - -
c 0 rc renew   l0 0 1500000 1501000 held b -
c 0 rc holder  l0 0 1600000 1601000 read b -
END

is(complaints_of($fine), '', 'nothing wrong with a correct history');

check_spoiled($fine,
	[ 'two holders for 0.099 s', 'b gets it, and a has not released it',
		'', qr/^a 0 rc release.*\n/m ],
	[ 'token issued twice', 'a token comes back, though its grant was rolled back',
		"c 9 rc acquire l0 1 1210000 1211000 acquired c 3\nc 9 rc end - 0 1212000 1213000 rollback - -" ],
	[ 'token not greater than before', 'a lower token for a later grant',
		"d 0 rc acquire d0 1 100 200 acquired d 9\nd 0 rc acquire d0 1 300 400 acquired d 8" ],
	[ 'renewed after the lease was granted anew, two holders for 1.099 s',
		'a renews after it was granted to b',
		'a 0 rc renew l0 0 1500000 1501000 renewed a 1', qr/^a 0 rc release.*\n/m ],
	[ 'renewed a holding that was never granted', 'a renewal without a grant',
		'c 0 rc renew l0 0 1210000 1211000 renewed c 2' ],
	[ 'the holder named cannot have it', 'c is told of somebody who released it',
		'c 0 rc acquire l0 1 1250000 1251000 held a -' ],
	[ 'the holder named cannot have it', 'c is told of somebody whose lease ran out',
		'c 0 rc acquire l0 1 3500000 3501000 held b -' ],
	[ 'the holder named cannot have it', 'c reads what was not committed yet',
		'c 0 rc holder l0 0 1350000 1351000 read b -' ],
	[ 'refused, but it has the lease', 'a hears it has expired when it has not',
		'a 0 rc renew l0 0 1000000 1001000 expired a -' ],
	[ 'held, but not seen', 'a reader sees no holder',
		'c 0 rc holder l0 0 1000000 1001000 read - -' ],
	[ 'busy, but nobody had it locked', 'c could not tell, and there was no reason',
		'c 0 rc acquire l0 1 1000000 1001000 busy - -' ],
	[ 'busy, but nobody had it locked', 'a guard is no reason not to renew',
		"c 9 rc share l0 0 990000 991000 shared - -\nc 9 rc end - 0 1100000 1101000 commit - -\n"
		  . 'a 0 rc renew l0 0 1000000 1001000 busy - -' ],
	[ 'busy, but nobody had it locked', 'a loser under row-level security lets go at once',
		"t 9 rc acquire l0 1 990000 991000 held a -\nt 9 rc end - 0 1100000 1101000 commit - -\n"
		  . 'a 0 rc renew l0 0 1000000 1001000 busy - -' ],
	[ 'unexpected answer', 'an error that is none of the documented ones',
		'c 0 rc acquire l0 1 1000000 1001000 XX000 - -' ],
	[ 'unexpected answer', 'a serialization failure in READ COMMITTED',
		'c 0 rc acquire l0 1 1000000 1001000 40001 - -' ],
	[ 'took longer than a second', 'a call that waits',
		'c 0 rc acquire l0 1 200000 1201000 held a -' ]);

# Writes under a guard.  b has taken over; a wrote before, b writes after.
my $guarded = <<'END';
a 0 rc acquire l0 1  100000  101000 acquired a 1
a 1 rc guard   l0 0  200000  201000 guarded - 1
a 0 rc renew   l0 0  210000  211000 renewed a 1
a 1 rc write   l0 0  220000  221000 written 1 1
a 1 rc end     -  0  230000  231000 commit - -
a 0 rc release l0 0  300000  301000 released - -
b 0 rc acquire l0 2  400000  401000 acquired b 3
b 2 rc guard   l0 0  500000  501000 guarded - 3
b 2 rc write   l0 0  520000  521000 written 2 3
b 2 rc end     -  0  530000  531000 commit - -
a 3 rc guard   l0 0  600000  601000 LS001 - 1
a 3 rc end     -  0  610000  611000 rollback - -
a 0 -  row     l0 0  0 0 - 1 1
b 0 -  row     l0 0  0 0 - 2 3
END

is(complaints_of($guarded), '', 'nothing wrong with guarded writes');
check_spoiled($guarded,
	[ 'busy, but nobody had it locked', 'its own guard disturbs a holder',
		'a 0 rc renew l0 0 222000 223000 busy - -' ],
	[ 'busy, but nobody had it locked', 'a guard that could not tell, without a reason',
		"b 9 rc guard l0 0 700000 701000 55P03 - 3\nb 9 rc end - 0 710000 711000 rollback - -" ],
	[ 'refused, but it has the lease', 'a guard refuses the holder',
		"b 9 rc guard l0 0 700000 701000 LS001 - 3\nb 9 rc end - 0 710000 711000 rollback - -" ],
	[ 'took longer than a second', 'a holder waits for its own guard',
		'b 0 rc renew l0 0 540000 1560000 renewed b 3' ],
	[ 'guarded after the lease was granted anew', 'a commits after b was told that it has it',
		'a 1 rc end - 0 450000 451000 commit - -', qr/^a 1 rc end.*\n/m ],
	[ 'guarded a holding that was never granted', 'a guard under a token that nobody has',
		"c 9 rc guard l0 0 450000 451000 guarded - 2\nc 9 rc end - 0 460000 461000 commit - -" ],
	[ 'written under a token that was not current', 'the table has them in the other order',
		"b 8 rc guard l0 0 400000 401000 guarded - 3\nb 8 rc write l0 0 400000 401000 written 1 3\nb 8 rc end - 0 420000 430000 unknown - -\n"
		  . "a 8 rc guard l0 0 200000 201000 guarded - 1\na 8 rc write l0 0 200000 201000 written 2 1\na 8 rc end - 0 220000 230000 unknown - -\n"
		  . "- 0 - fault kill 0 100000 500000 down - -\nb 0 - row l0 0 0 0 - 1 3\na 0 - row l0 0 0 0 - 2 1",
		qr/^.*(?: row | write ).*\n/m ],
	[ 'an acknowledged write is lost', 'it is not there in the end', '', qr/^b 0 -  row.*\n/m ],
	[ 'a write is lost before, an acknowledged write is lost', 'one in the middle is not there', '', qr/^a 0 -  row.*\n/m ],
	[ 'nobody wrote this', 'one that was rolled back is there',
		"c 9 rc write l0 0 540000 550000 written 3 3\nc 9 rc end - 0 560000 561000 rollback - -\nc 0 - row l0 0 0 0 - 3 3" ]);

# Lost connections.  The server crashes while a renews; a has it again then,
# though it had expired.  b acquires without hearing so, and learns it later.
my $crash = <<'END';
a 0 rc acquire l0 1  100000  101000 acquired a 1
- 0 -  fault kill 0 2000000 3000000 down - -
a 0 rc renew   l0 0 1990000 2010000 unknown - -
c 0 rc acquire l0 1 3100000 3101000 held a -
a 0 rc renew   l0 0 3200000 3201000 renewed a 1
a 0 rc release l0 0 3300000 3301000 released - -
- 0 -  fault kill 0 3400000 3500000 down - -
b 0 rc acquire l0 2 3390000 3410000 unknown - -
c 0 rc acquire l0 1 3600000 3601000 held b -
b 0 rc acquire l0 2 3700000 3701000 renewed b 3
END

is(complaints_of($crash), '', 'nothing wrong with a crash');
check_spoiled($crash,
	[ 'unexpected answer', 'a connection is lost, and nobody did it', '', qr/^- 0 -  fault.*\n/m ],
	[ 'renewed a holding that was never granted, the holder named cannot have it', 'b has it, and never asked for it', '', qr/^b 0 rc acquire.*unknown.*\n/m ],
	[ 'the holder named cannot have it', 'who had it has no grace for ever',
		'c 0 rc holder l0 0 7000000 7001000 read b -' ],
	[ 'took longer than a second', 'a call that waits longer than the server is away',
		'c 0 rc acquire l0 1 1300000 3600000 busy - -' ],
	[ 'unexpected answer', 'the lease is kept back without a promotion',
		'c 0 rc acquire l0 1 3700000 3701000 reserved - -' ]);
like(complaints_of($crash =~ s/acquired a 1$/acquired a 9/mr =~ s/^a 0 rc re.*\n//mgr),
	qr/token not greater than before/, 'a grant that is known by its renewal only has a token, too');

# A session is terminated while it renews: that may count, or not.
my $terminated = <<'END';
a 0 rc acquire l0 1  100000  101000 acquired a 1
- 0 -  fault kill-backend 0 890000 910000 ended - -
a 0 rc renew   l0 0  900000  905000 unknown - -
b 0 rc acquire l0 1 1850000 1851000 held a -
END

is(complaints_of($terminated), '', 'nothing wrong with a renewal of which nobody knows');
check_spoiled($terminated,
	[ 'the holder named cannot have it', 'it counts for as long as it lasts', 'b 0 rc acquire l0 1 1950000 1951000 held a -' ],
	[ 'the holder named cannot have it', 'and what was not asked for does not', '', qr/^- 0 -  fault.*\na 0 rc renew.*\n/m ]);
is(complaints_of($terminated =~ s/^a 0 rc acquire.*acquired a 1$/a 0 rc acquire l0 1 100000 895000 unknown - -/mr), '', 'nor with one of an acquisition of which nobody knows');

# Who has nothing to say to the server for a while hears only then that it was away.
my $idle = <<'END';
a 1 rc lock l0 0  100000  101000 locked - -
- 0 -  fault kill 0 200000 300000 down - -
a 1 rc end  -  0 5000000 5000060 unknown - -
END

is(complaints_of($idle), '', 'nothing wrong with a connection that is found lost later');
check_spoiled($idle,
	[ 'unexpected answer', 'it was lost after the server was back', 'a 1 rc lock l0 0 4000000 4001000 locked - -' ]);

# A promotion loses that a released, and b acquired, and wrote: a, who never sent
# that it released, is confirmed; b still believes.  Then the quiet period, and c.
my $lossy = <<'END';
a 0 rc acquire l0 1  100000  101000 acquired a 1
a 0 rc renew   l0 0  900000  901000 renewed a 1
- 0 -  fault promote 0 2200000 2500000 down - -
b 0 rc acquire l0 2 2000000 2001000 acquired b 2
b 2 rc guard   l0 0 2010000 2011000 guarded - 2
b 2 rc write   l0 0 2020000 2021000 written 1 2
b 2 rc end     -  0 2030000 2031000 commit - -
- 0 -  promoted - 2 2300000 2500000 - - -
- 1800000 - cut l0 1 2300000 2500000 - a 1
c 0 rc acquire l0 1 2600000 2601000 held a -
a 0 rc renew   l0 0 2700000 2701000 renewed a 1
c 0 rc acquire l0 1 3900000 3901000 reserved - -
c 0 rc acquire l0 1 4600000 4601000 acquired c 9
END

is(complaints_of($lossy), '', 'nothing wrong with a promotion that loses a change of the holder');
check_spoiled($lossy,
	[ 'refused, but it has the lease', 'no grace after a promotion',
		'a 0 rc renew l0 0 2600000 2601000 expired a -' ],
	[ 'two holders for 0.699 s', 'no quiet period: somebody else gets it while b believes',
		'c 0 rc acquire l0 1 3300000 3301000 acquired c 7', qr/^(?:a 0 rc renew   l0 0 27|c 0 ).*\n/m ],
	[ 'an acknowledged write is lost, renewed after the lease was granted anew, the holder named cannot have it, two holders for 1.699 s',
		'nothing was lost, and a is confirmed all the same', '', qr/^- 1800000 - cut.*\n/m ],
	[ 'token issued twice, token not greater than before', 'a token that was lost comes back',
		'd 0 rc acquire l0 1 6000000 6001000 acquired d 2' ]);

# A renewal that was rolled back counts if it was in memory.
my $undone = <<'END';
a 0 rc acquire l0 1  100000  101000 acquired a 1
a 1 rc renew l0 0    900000  901000 renewed a 1
a 1 rc end - 0       902000  903000 rollback - -
b 0 rc acquire l0 1 1500000 1501000 held a -
END
is(complaints_of($undone), 'the holder named cannot have it', 'a renewal that was rolled back: not in the table');
{
	local $History::MEMORY = 1;
	is(complaints_of($undone), '', 'in memory it counts');
	is(complaints_of($undone . "b 0 rc acquire l0 1 2500000 2501000 held a -\n"), 'the holder named cannot have it', 'for as long as it lasts');
}

done_testing();
