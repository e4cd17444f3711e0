# 030_concurrency.pl with renewals that stay in memory.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

$ENV{LEASE_STORAGE} = 'memory';
defined do "$FindBin::RealBin/030_concurrency.pl" or die $@ || $!;
