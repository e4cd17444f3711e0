# A switchover and a failover under Patroni: test/patroni does it, and says what
# has passed.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

foreach my $program ('patroni', 'patronictl', 'etcd')
{
	plan skip_all => 'needs Patroni and etcd (Debian packages patroni and etcd-server)'
	  unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

my $output = '';
my $passed = IPC::Run::run([ 'test/patroni', '--inside' ], '<', \undef, '>&', \$output);

foreach my $line (split /\n/, $output)
{
	if ($line =~ /^(passed|failed): (.*)/) { ok($1 eq 'passed', $2) }
	else                                   { note($line) }
}
ok($passed, 'test/patroni') or diag($output);

done_testing();
