# A server whose wall clock can be set, by libfaketime: that of its sessions, and
# of the server itself.  It does not reach the background workers, which are forked
# in a signal handler, while the library looks away: leave them switched off.

package FakeClock;

use strict;
use warnings;

use PostgreSQL::Test::Utils;

# The library, or undef.
sub library
{
	my ($library) = grep { -e } map { "$_/faketime/libfaketime.so.1" }
	  glob('/usr/lib/*-linux-gnu /usr/lib /usr/lib64 /usr/local/lib');

	return $library;
}

sub new
{
	my ($class, $node) = @_;
	my $self = bless { node => $node, file => $node->basedir . '/time' }, $class;

	$node->append_conf('postgresql.conf', 'lease.worker = off');
	$self->set(0);
	return $self;
}

# Starts the server, under its clock.
sub start
{
	my ($self) = @_;
	local %ENV = (
		%ENV,
		LD_PRELOAD => library(),
		FAKETIME_TIMESTAMP_FILE => $self->{file},
		FAKETIME_NO_CACHE => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1);

	$self->{node}->start;
	return;
}

# Sets the wall clock so many seconds before or after the true time, at once.
sub set
{
	my ($self, $seconds) = @_;

	unlink "$self->{file}.new";
	append_to_file("$self->{file}.new", sprintf("%+.2f\n", $seconds));
	rename("$self->{file}.new", $self->{file}) or die "could not set the clock: $!";
	return;
}

1;
