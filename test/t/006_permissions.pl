# Every SQL block of docs/permissions.md stands word for word in
# test/pgtap/permissions.sql, which shows what it allows and refuses.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $test = slurp_file('test/pgtap/permissions.sql');
my @blocks = slurp_file('docs/permissions.md') =~ /^```sql\n(.*?)^```/msg;
cmp_ok(scalar @blocks, '>', 5, 'there are recipes');

foreach my $block (@blocks)
{
	my ($first) = $block =~ /^(.*)/;
	ok(index($test, $block) >= 0, "a recipe as it is tested: $first ...");
}

done_testing();
