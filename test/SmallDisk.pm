# A file system of 64 MB that is full soon, for tests that do not run as root:
#
#	use SmallDisk;		# before everything else
#
# runs the test once more, in a mount namespace of its own in which
# $SmallDisk::PATH is a tmpfs.  It is gone with the test.  Where the kernel does not
# allow that, $SmallDisk::PATH is undefined.

package SmallDisk;

use strict;
use warnings;

use Cwd qw(getcwd);

our $PATH = $ENV{LEASE_SMALL_DISK} || undef;

sub import
{
	return if defined $ENV{LEASE_SMALL_DISK};

	my $path = getcwd() . '/tmp_check/small_disk';
	my @unshare = ('unshare', '--user', '--mount');
	# The one who mounts has to look like root, who runs servers must not.
	my @mount = (@unshare, '--map-root-user', 'sh', '-ec',
		'mount -t tmpfs -o size=64m tmpfs "$1"; shift; exec "$@"', 'sh', $path,
		'unshare', '--user', "--map-user=$>", '--map-group=' . (split ' ', $))[0]);

	mkdir $path;
	$ENV{LEASE_SMALL_DISK} = system("@{[ map { quotemeta } @mount ]} true >/dev/null 2>&1") == 0 ? $path : '';
	exec @mount, $^X, (map { "-I$_" } @INC), $0, @ARGV if $ENV{LEASE_SMALL_DISK};
	return;
}

1;
