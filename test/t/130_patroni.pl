# docs/high-availability.md and docs/patroni.yml: a switchover and a failover under
# Patroni.  test/patroni does it, and says what has passed.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my ($fragment) = slurp_file('docs/high-availability.md') =~ /^```yaml\n(.*?)^```/ms;
ok(index(slurp_file('docs/patroni.yml'), $fragment) > 0, 'the fragment shown is part of the file');

sub is_there
{
	my ($program) = @_;

	return grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

SKIP:
{
	skip 'needs Patroni and etcd (Debian packages patroni and etcd-server)', 1
	  if grep { !is_there($_) } 'patroni', 'patronictl', 'etcd';

	my $output = '';
	my $passed = IPC::Run::run([ 'test/patroni', '--inside' ], '<', \undef, '>&', \$output);

	foreach my $line (split /\n/, $output)
	{
		if ($line =~ /^(passed|failed): (.*)/) { ok($1 eq 'passed', $2) }
		else                                   { note($line) }
	}
	ok($passed, 'test/patroni') or diag($output);
}

done_testing();
