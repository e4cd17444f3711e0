# A hot standby answers who holds what, and refuses every call that writes with
# one clear error, as a read-only transaction does.  Once promoted, it goes on
# where the primary was: same holders, greater tokens.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION lease;
	SELECT FROM lease_acquire('released', 'a', '1 h');
	SELECT FROM lease_release('released', 'a');
	SELECT FROM lease_acquire('expired', 'a', '1 h');
	UPDATE lease SET renew_time = clock_timestamp() - interval '1 day' WHERE name = 'expired';
});
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $token = $primary->safe_psql('postgres',
	q{SELECT fencing_token FROM lease_acquire('held', 'a', '1 h')});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));

# Reading works.
is($standby->safe_psql('postgres', q{SELECT lease_holder('held')}), 'a',
	'standby: who holds a lease');
is($standby->safe_psql('postgres', q{SELECT lease_is_held('held', 'a'), lease_is_held('held', 'b')}),
	't|f', 'standby: whether somebody holds it');
is($standby->safe_psql('postgres', q{SELECT coalesce(lease_holder(name), 'nobody')
		FROM unnest('{released,expired,missing}'::text[]) name}),
	"nobody\nnobody\nnobody", 'standby: nobody holds what is released, expired or missing');
is($standby->safe_psql('postgres', q{SELECT name, status FROM lease_status ORDER BY name}),
	"expired|expired\nheld|held\nreleased|free", 'standby: lease_status');

# Writing does not, whether there would be something to write or not.
my @writing = (
	q{lease_acquire('held', 'a')}, q{lease_acquire('held', 'b')},
	q{lease_acquire('missing', 'a')}, q{lease_renew('held', 'a')},
	q{lease_renew('missing', 'a')}, q{lease_renew_all('a')},
	q{lease_renew_all('a', '{held}')}, q{lease_renew_all('nobody')},
	q{lease_release('held', 'a')}, q{lease_release('missing', 'a')});

sub is_refused
{
	my ($node, $call, $begin, $message, $description) = @_;
	my ($result, $stdout, $stderr) = $node->psql('postgres',
		"\\set VERBOSITY verbose\n$begin SELECT * FROM $call;");
	my ($function) = $call =~ /^(\w+)/;
	my @errors = $stderr =~ /ERROR:  (.*)$/mg;

	is("@errors", "25006: cannot execute $function() $message", "$description: $call is refused");
}

is_refused($standby, $_, '', 'during recovery', 'standby') foreach @writing;
is_refused($primary, $_, 'BEGIN READ ONLY;', 'in a read-only transaction', 'read-only transaction')
  foreach @writing;
is($primary->safe_psql('postgres',
		q{BEGIN READ ONLY; SELECT lease_holder('held'), lease_is_held('held'); COMMIT}),
	'a|t', 'read-only transaction: reading works');

# A session that was opened before the promotion, and has looked already.
my $session = $standby->background_psql('postgres');
is($session->query_safe(q{SELECT lease_holder('held')}), 'a', 'a session on the standby');

# Planned: the standby has everything.
my $last = $primary->safe_psql('postgres',
	q{SELECT fencing_token FROM lease_acquire('expired', 'b', '1 h')});
cmp_ok($last, '>', $token, 'the last token before the promotion');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
$primary->stop;
$standby->promote;

is($session->query_safe(q{SELECT status FROM lease_renew('held', 'a')}), 'renewed',
	'promoted: the session goes on, and the holder renews');
is($standby->safe_psql('postgres', q{SELECT fencing_token FROM lease_renew('held', 'a')}),
	$token, 'promoted: with the same token');
is($standby->safe_psql('postgres', q{SELECT status FROM lease_acquire('held', 'b')}),
	'held', 'promoted: nobody else gets it');
foreach my $name ('released', 'missing')
{
	my $new = $standby->safe_psql('postgres',
		"SELECT fencing_token FROM lease_acquire('$name', 'b', '1 h')");
	cmp_ok($new, '>', $last, "promoted: a new token, $name before");
	$last = $new;
}
is($standby->safe_psql('postgres', q{SELECT status FROM lease_release('held', 'a')}), 'released',
	'promoted: the holder releases');

$session->quit;
$standby->stop;
done_testing();
