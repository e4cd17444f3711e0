# A crash of the whole server.

package Crash;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT_OK = qw(kill_postmaster_and_restart);

sub wait_until
{
	my ($what, $condition) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $condition->();
		select(undef, undef, undef, 0.1);
	}
	die "timed out waiting for $what";
}

# As long as any of the old processes is there, no new one starts.
sub kill_postmaster_and_restart
{
	my ($node) = @_;
	my ($pid) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;

	$node->kill9;
	wait_until("postmaster $pid to be gone", sub { !kill(0, $pid) });
	wait_until('the server to start again', sub { $node->start(fail_ok => 1) });
	return;
}

1;
