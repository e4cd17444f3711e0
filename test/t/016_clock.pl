# The wall clock is set, by an hour forwards and back.  With preloading no lease
# expires early and none lives for an hour longer: at that moment all count as
# renewed.  Without, the wall clock decides.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use FakeClock;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'needs libfaketime (Debian package libfaketime)' unless FakeClock::library();

my $node = PostgreSQL::Test::Cluster->new('stepped');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'lease'
fsync = off
lease.recovery_grace = off
});
my $clock = FakeClock->new($node);
$clock->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');

sub query { return $node->safe_psql('postgres', $_[0]); }

sub acquire { return query("SELECT status FROM lease_acquire('$_[0]', '$_[1]', '$_[2]')"); }

# Is it valid, and for how much longer, in seconds?
sub left
{
	return query("SELECT status, round(extract(epoch FROM expires_in)) FROM lease_status WHERE name = '$_[0]'");
}

sub until_expired
{
	my ($name) = @_;
	my $start = time();

	$node->poll_query_until('postgres', "SELECT status = 'expired' FROM lease_status WHERE name = '$name'") or die "$name does not expire";
	return time() - $start;
}

foreach my $step (3600, 0)
{
	my $what = $step ? 'set forward by an hour' : 'set back by an hour';

	query('DELETE FROM lease');
	is(acquire('long', 'a', '1000 s'), 'acquired', "$what: a lease");
	is(acquire('renewed', 'a', '1000 s'), 'acquired', '... another');
	is(acquire('short', 'a', '2 s'), 'acquired', '... one that is not renewed');
	is(query(q{SELECT status FROM lease_acquire('kept', 'a', '1 s', hold_at_least => '500 s')}), 'acquired', '... one with a minimum hold');
	is(query(q{SELECT status FROM lease_release('kept', 'a')}), 'released', '... which is released');
	is(acquire('delayed', 'a', '1 h'), 'acquired', '... and one that is handed over');
	is(query(q{SELECT status FROM lease_handover('delayed', 'a', 'b', reserve => '1000 s')}), 'handed_over', '... to be kept for a while');
	my $version = query(q{SELECT resource_version FROM lease WHERE name = 'renewed'});

	$clock->set($step);
	like(left('long'), qr/^held\|(9[5-9]\d|1000)$/, "$what: it is valid for its duration");
	is(query(q{SELECT in_grace FROM lease_status WHERE name = 'long'}), 't', '... as if renewed then');
	is(acquire('long', 'rival', '1 s'), 'held', '... for everybody');
	is(query(q{SELECT lease_guard('long', fencing_token) FROM lease WHERE name = 'long'}), '', '... for guards, too');
	is(query(q{SELECT status FROM lease_renew('renewed', 'a')}), 'renewed', "$what: a holder renews");
	like(left('renewed'), qr/^held\|(9[5-9]\d|1000)$/, '... and has it for its duration');
	is(query(q{SELECT in_grace, renew_time BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() FROM lease_status WHERE name = 'renewed'}), 'f|t',
		'... by the clock as it is now');
	cmp_ok(query(q{SELECT resource_version FROM lease WHERE name = 'renewed'}), '>', $version, '... with a greater version');
	cmp_ok(until_expired('short'), '<', 60, "$what: who does not renew loses it, and not an hour later");
	is(acquire('short', 'rival', '1000 s'), 'acquired', '... to another');
	if (!$step)
	{
		is(query(q{SELECT status, reserved_until - now BETWEEN '1 minute' AND '500 s' FROM lease_status, lease_clock() WHERE name = 'kept'}), 'reserved|t', "$what: a minimum hold is not an hour longer");
		is(query(q{SELECT status, reserved_until - now BETWEEN '1 minute' AND '1000 s' FROM lease_status, lease_clock() WHERE name = 'delayed'}), 'reserved|t', '... nor is a reservation');
		is(query(q{SELECT status, expires_in BETWEEN '1 minute' AND '500 s' FROM lease_acquire('kept', 'b')}), 'reserved|t', '... says lease_acquire(), too');
	}
	is(acquire('new', 'a', '1000 s'), 'acquired', "$what: an acquisition");
	like(left('new'), qr/^held\|(9[5-9]\d|1000)$/, '... is for its duration');
	is(query(q{SELECT bool_and(held_until >= held_from) FROM lease_history}), 't', '... nothing in the history ended before it began');
}

# ---------- Set back after a renewal, and the lease has expired since ----------

is(query(q{SELECT count(*) FROM lease_warnings WHERE warning = 'clock step'}), 1, 'it is warned of');
$node->stop;

# A row that a clock an hour ahead has written, as only the owner can.
my $ahead = q{INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time, resource_version)
	SELECT '%s', 'a', %d, t, extract(epoch FROM t) * 1000000 FROM (SELECT clock_timestamp() + interval '%s' AS t) s};
$node->append_conf('postgresql.conf', "lease.worker = on\nlease.recovery_grace = on");
$node->start;
query(sprintf($ahead, 'ahead', 2, '1 hour'));
is(query(q{SELECT expires_at = counts_from + interval '2 s' FROM lease_status, lease_clock() WHERE name = 'ahead'}), 't', 'a row that a clock ahead has written counts as renewed at the start');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM lease_history WHERE name = 'ahead' AND end_reason = 'expired'}) or die 'no expiry';
is(query(q{SELECT renew_time <= clock_timestamp(), status FROM lease_status WHERE name = 'ahead'}), 't|expired', '... it expires, and will not revive when the clock gets there');
query(sprintf($ahead, 'valid', 1000, '500 s'));
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'lease worker'});	# so that another looks around at once
$node->poll_query_until('postgres', q{SELECT renew_time = counts_from FROM lease, lease_clock() WHERE name = 'valid'}) or die 'not set back';
is(query(q{SELECT expires_at = counts_from + interval '1000 s', status FROM lease_status, lease_clock() WHERE name = 'valid'}), 't|held', '... and one that is valid will not last longer');
query(q{INSERT INTO lease (name, holder_identity, lease_duration_seconds, renew_time) VALUES ('by-hand', 'a', 2, clock_timestamp() + interval '1 hour')});
is(query(q{SELECT expires_at = renew_time + interval '2 s', in_grace FROM lease_status WHERE name = 'by-hand'}), 't|f', 'a renew_time in the future that was written by hand is what it says');
query(q{UPDATE lease SET renew_time = clock_timestamp() + interval '5 s' WHERE name = 'valid'});
is(query(q{SELECT expires_at = renew_time + interval '1000 s', resource_version > extract(epoch FROM clock_timestamp() + interval '1 minute') * 1000000 FROM lease_status JOIN lease USING (namespace, name, renew_time) WHERE name = 'valid'}), 't|t',
	'... also when the version is still of the clock that was ahead');
$node->stop;

# ---------- Without preloading ----------

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', q{''});
$node->append_conf('postgresql.conf', 'lease.recovery_grace = off');
$clock->set(0);
$clock->start;
query('DELETE FROM lease');
acquire('long', 'a', '1000 s');
$clock->set(3600);
is(left('long') =~ s/\|.*//r, 'expired', 'not preloaded: a step forward expires leases');
acquire('long', 'a', '1000 s');
$clock->set(0);
like(left('long'), qr/^held\|4[56]\d\d$/, '... and a step back prolongs them');
$node->stop;

done_testing();
