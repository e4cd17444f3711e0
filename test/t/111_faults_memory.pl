# 110_faults.pl with renewals that stay in memory.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use SmallDisk;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

$ENV{LEASE_STORAGE} = 'memory';
defined do "$FindBin::RealBin/110_faults.pl" or die $@ || $!;
