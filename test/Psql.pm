# A psql that stays connected, for tests in which sessions meet, wait and end.

package Psql;

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;

sub new
{
	my ($class, $node, $database, @options) = @_;
	# Counts for each statement, for a session may have to sit there for long.
	my $timer = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	my $self = bless { in => '', out => '', err => '', timer => $timer }, $class;

	$self->{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', @options, '-d', $node->connstr($database // 'postgres') ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err},
		$timer);
	($self->{pid}) = $self->do('SELECT pg_backend_pid()') =~ /(\d+)/;
	return $self;
}

# Runs SQL and returns what it prints.
sub do
{
	my ($self, $sql) = @_;

	$self->send($sql);
	return $self->result;
}

# Sends SQL that will not answer for a while.
sub send
{
	my ($self, $sql) = @_;

	$self->{timer}->start($PostgreSQL::Test::Utils::timeout_default);
	$self->{out} = '';
	$self->{in} .= "$sql\n;\n\\echo done\n";
	$self->{handle}->pump_nb while $self->{in} ne '';
}

# What it printed, when it is done.
sub result
{
	my ($self) = @_;

	$self->{handle}->pump until $self->{out} =~ /^done$/m;
	my ($result) = $self->{out} =~ /\A(.*?)\n?done$/ms;
	return $result;
}

# All that the last statement said besides its result.
sub messages
{
	my ($self) = @_;

	# the pipe may bring it later than the result
	$self->{in} .= "\\warn done\n";
	$self->{handle}->pump until $self->{err} =~ /^done\n\z/m;
	my ($messages) = $self->{err} =~ /\A(.*?)done\n\z/s;
	$self->{err} = '';
	return $messages =~ s/^psql:\S+ //mgr;
}

# The last thing it complained about.
sub error
{
	my ($self) = @_;
	my @errors = $self->{err} =~ /^(?:psql:\S+ )?((?:ERROR|FATAL|error):.*)/mg;

	return $errors[-1] // '';
}

sub kill_client
{
	my ($self, $signal) = @_;

	$self->{handle}->signal($signal // 'KILL');
}

sub finish
{
	my ($self) = @_;

	$self->{timer}->start($PostgreSQL::Test::Utils::timeout_default);

	# A server started meanwhile has inherited the pipe, so it has to be told.
	# What it says when it has lost its connection does not matter here.
	$self->{in} .= "\\q\n";
	eval { $self->{handle}->finish; };
}

1;
