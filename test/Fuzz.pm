# Values for test/t/121_fuzz.pl: SQL expressions of every type that a function of
# the extension takes, most of them nearly right and the rest as wrong as can be.
# Everything comes from rand(), so a seed repeats it.

package Fuzz;

use strict;
use warnings;
use utf8;
no warnings qw(qw nonchar);

sub pick   { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }

# A literal on one line: psql counts lines, and a statement of the log is one.
sub quote
{
	my ($s) = @_;

	return "'$s'" if $s !~ /['\\\x00-\x1f\x7f]/;
	$s =~ s/([\\'])/\\$1/g;
	$s =~ s/\x00/\\x01/g;	# no text can have it
	$s =~ s/([\x01-\x1f\x7f])/sprintf('\\x%02x', ord $1)/ge;
	return "E'$s'";
}

# ---------- Texts ----------

my @names = (qw(a b c leader node-1 node-2 job.v1 x--y), 'a' x 63, 'n' x 253);
my @namespaces = qw(default default default kube-system kube-node-lease team-a);
my @holders = qw(h1 h2 h3 node-1 node-2);
my @keys = qw(app tier k8s.io/component kubernetes.io/hostname apiserver.kubernetes.io/identity
  kubectl.kubernetes.io/last-applied-configuration node-role.kubernetes.io/worker kubernetes.io/role);
my @odd_texts = (
	'', ' ', "\t", "\n", '-', '.', '/', '*', '%', '%s%n%d', '\\', "'", '"', '$1', ';', '--', "\x01\x02\x7f", "a\rb", 'A', 'a_b', '-a', 'a-', 'a..b', '.a', 'a.',
	'ä', 'ß' x 70, "\x{1F600}", "\x{FEFF}a", "\x{202E}", "e\x{301}", "\x{FFFF}", "\x{10FFFF}", 'null', '~', 'true', '0', '-1', '1e400', 'NaN', '{}', '[]', '{', '}}', '<none>',
	'1,2,3', ',,', '=', '==', '!=', '!a', 'a in (', 'a notin (b,,c)', 'a' x 64, 'a' x 254, 'a.' x 200, '9223372036854775807', '9223372036854775808');

# Too long to be written out
my @huge_texts = (
	q~repeat('x', 1000000)~, q~repeat('a.', 500000)~, q~repeat('ä', 300000)~, q~repeat(',', 100000)~, q~repeat(' ', 100000)~, q~repeat('[', 20000)~,
	q~repeat('{"a":', 20000)~, q~repeat('- ', 20000)~, q~repeat('{.a', 20000)~, q~repeat('{range .items[*]}', 5000)~, q~repeat('(', 20000)~, q~repeat('a: ', 500)~,
	q~repeat('a=b,', 20000) || 'a=b'~, q~repeat('!', 10000)~, q~repeat('"', 10001)~, q~repeat(E'\\\\', 10001)~, q~repeat(E'---\n', 3000)~,
	q~repeat('get ', 5000)~, q~'get lease ' || repeat('a ', 5000)~, q~'get lease -l ' || repeat('a,', 20000)~);

# Takes out, doubles, moves or puts in a few characters.
sub mutate
{
	my ($s) = @_;

	foreach (0 .. rand 3)
	{
		my $at = int rand(1 + length $s);
		my $how = int rand 4;

		if    ($how == 0) { substr($s, $at, 1 + int rand 3) = '' if $at < length $s }
		elsif ($how == 1) { substr($s, $at, 0) = pick(@odd_texts) }
		elsif ($how == 2) { substr($s, $at, 0) = substr($s, int rand(1 + length $s), 1 + int rand 20) }
		else              { substr($s, $at, 0) = chr pick(1 .. 255, 0x20AC, 0x1F600) }
	}
	return $s;
}

sub selector
{
	my @parts = map {
		my $key = pick(@keys, '!app');
		pick($key, "$key=web", "$key==web", "$key!=web", "$key in (web,db)", "$key notin (web)", "$key>1", "$key<0")
	} 0 .. rand 3;
	return join pick(',', ', '), @parts;
}

sub jsonpath
{
	my @steps = (qw(.metadata .items .spec .metadata.labels.app .kind [*] [0] [-1] [1:3] [::2] [0,1] ..name .* ['name'] [?(@.kind=="Lease")] [?(@.spec)] [?(@.a<1)]
		.metadata.annotations['a\.b/c'] [?(@.metadata.name!='x')].spec [:-1] [3:1:-1] @ $));
	my $path = sub { join '', map { pick(@steps) } 0 .. rand 4 };

	return join '', map {
		pick('{' . $path->() . '}', '{range ' . $path->() . '}{' . $path->() . '}{"\n"}{end}', 'text', '{"\t"}', '{end}', '{{.}}', '{1.5}', q({'x'}), '{' . $path->(), '{.}')
	} 0 .. rand 4;
}

sub command
{
	my $verb = pick(qw(get get get describe label annotate delete patch create apply replace edit), '');
	my $what = pick(qw(lease leases lease/a leases.coordination.k8s.io node nodes no/node-1 all pods leases,nodes), '');
	my @flags = (
		'-n ' . pick(@namespaces), '-A', '-o ' . pick(qw(json yaml wide name custom-columns=A:.metadata.name,B:.spec custom-columns jsonpath= go-template=x)),
		"-o jsonpath='" . jsonpath() . "'", "-l '" . selector() . "'", '--show-labels', '--show-kind', '--no-headers', '-L app,tier', "--sort-by='{.metadata." . pick(qw(name x labels)) . "}'",
		"--field-selector metadata.name=a", '--ignore-not-found', '--overwrite', '--all', '--dry-run=client', '--dry-run=server', '-f -', '--list', '--resource-version=1', '--show-managed-fields',
		'--type ' . pick(qw(json merge strategic x)), "-p '" . pick(object(), '[{"op":"' . pick(qw(add remove test replace move copy x)) . '","path":"/metadata/labels/app","value":1}]', '{"spec":{"holderIdentity":null}}') . "'",
		'--grace-period=0', '--now', '--force', '--chunk-size=5', '-w', '--raw /x', '--', '-', '--x', '-Al', '--namespace', '--all=maybe');
	my @arguments = (pick(@names), pick(@names, @keys), 'app=' . pick('web', '', 'ä', 'x' x 64), 'tier-', 'app-', '');

	return join ' ', $verb, $what, (map { pick(@arguments) } 1 .. rand 3), (map { pick(@flags) } 0 .. rand 3);
}

# YAML, or JSON, or several documents of both
sub manifest
{
	my @documents = map {
		pick(object(),
			"apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata:\n  name: " . pick(@names) . "\n  namespace: " . pick(@namespaces) . "\nspec:\n  holderIdentity: " . pick(@holders) . "\n  leaseDurationSeconds: " . pick(qw(15 0 -1 1.5 0x10 0o17 .inf 1_000 "15")) . "\n  renewTime: " . pick('2026-01-01T00:00:00.000000Z', '2026-01-01', 'now', '"x"'),
			"a: &x [1, 2]\nb: *x\n<<: {c: d}\n<<: *x", "&a [*a]", "a: &a {b: *a}", "&a a: *a", "? [a]\n: b", "? {}\n: !!binary aGk=", "!!float 1", "!!int x", "- - - -", "a: |\n  text\n  more", "a: >-\n  x", "%YAML 1.1\n---\na", "\@a",
			"a: 'x", "{a: [}", "a:\tb", "- 1\n - 2", "x: 2001-12-14t21:59:43.10-05:00", "[" x 50, "a: &x" . " [" x 20, "[&a [1,1], &b [*a,*a], &c [*b,*b], &d [*c,*c], *d, *d]", "<<: [{a: 1}, 2]", "null", "~", "# nothing", "\"\\ud800\"", "\"\\x00\"", "'a': 1\na: 2", "!!set {a}", "!x y", "!<tag> z")
	} 0 .. rand 3;
	return join pick("\n---\n", "\n---\n", "\n...\n", "\n"), @documents;
}

# What an argument of this name should look like
my %texts = (
	name => sub { pick(@names) },
	node => sub { pick('node-1', 'node-2', @names) },
	hostname => sub { pick('host-1', 'host-2', @names) },
	namespace => sub { pick(@namespaces) },
	holder => sub { pick(@holders) },
	successor => sub { pick(@holders) },
	holder_identity => sub { pick(@holders, '') },
	command => \&command,
	manifest => \&manifest,
	template => \&jsonpath,
	selector => \&selector,
	strategy => sub { pick(qw(OldestEmulationVersion example.com/x x)) },
	ready => sub { pick(qw(True False Unknown x)) },
);

sub text
{
	my ($name) = @_;
	my $plausible = $texts{$name} // sub { pick(@names) };

	return 'NULL' if chance(0.05);
	return pick(@huge_texts) if chance(0.03);
	return quote(pick(@odd_texts)) if chance(0.1);
	return quote(mutate($plausible->())) if chance(0.2);
	return quote($plausible->());
}

# ---------- JSON ----------

my @members = qw(apiVersion kind metadata spec status items name namespace generateName labels annotations ownerReferences finalizers managedFields uid resourceVersion
  creationTimestamp deletionTimestamp deletionGracePeriodSeconds generation holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions strategy preferredHolder
  conditions addresses nodeInfo type controller blockOwnerDeletion lastHeartbeatTime lastTransitionTime taints unschedulable app tier renew_time lease_duration_seconds holder_identity);
my @scalars = (qw(null true false 0 1 -1 15 1.5 1e5 1e308 1e400 -0 2147483647 2147483648 9223372036854775808 99999999999999999999999999999 0.0000000000000000000000000001 "" "a" "Lease" "Node" "v1"
	"coordination.k8s.io/v1" "2026-01-01T00:00:00Z" "2026-01-01T00:00:00.000000Z" "0001-01-01T00:00:00Z" "9999-12-31T23:59:60Z" "2026-13-01T00:00:00Z" "294277-01-01T00:00:00Z" "-infinity" "infinity" "True"
	"\\\\" "\\u0001" "\\ud83d\\ude00" "NaN" "1" "default" "h1" "00000000-0000-0000-0000-000000000001"), '"' . 'x' x 300 . '"', '"ä"', '" "');

sub json
{
	my ($depth) = @_;

	return pick(@scalars) if $depth <= 0 || chance(0.3);
	return '[' . join(',', map { json($depth - 1) } 1 .. rand 4) . ']' if chance(0.3);
	return '{' . join(',', map { '"' . pick(@members) . '":' . json($depth - 1) } 1 .. rand 5) . '}';
}

# A Lease or a Node, of which some values have been replaced by others.
sub object
{
	my $lease = '{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"' . pick(@names) . '","namespace":"' . pick(@namespaces)
	  . '","labels":{"app":"web"},"annotations":{"a":"b"},"finalizers":["example.com/x"],"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"node-1","uid":"00000000-0000-0000-0000-000000000001"}]},'
	  . '"spec":{"holderIdentity":"h1","leaseDurationSeconds":15,"acquireTime":"2026-01-01T00:00:00.000000Z","renewTime":"2026-01-01T00:00:00.000000Z","leaseTransitions":1}}';
	my $node = '{"apiVersion":"v1","kind":"Node","metadata":{"name":"' . pick(qw(node-1 node-2)) . '","labels":{"node-role.kubernetes.io/worker":""},"uid":"00000000-0000-0000-0000-000000000001"},'
	  . '"spec":{"unschedulable":true,"taints":[{"key":"a","effect":"NoSchedule"}]},"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z"}],'
	  . '"addresses":[{"type":"InternalIP","address":"10.0.0.1"}],"nodeInfo":{"kubeletVersion":"v1.32.0"}}}';
	my $object = pick($lease, $lease, $node, '{"apiVersion":"v1","kind":"List","items":[' . join(',', map { chance(0.8) ? $lease : $node } 1 .. rand 3) . ']}');

	# what has the right type, but not the right value
	$object =~ s/"name":"[^"]*"/'"name":"' . pick(@names, 'A', '', 'a..b', 'x' x 254) . '"'/e if chance(0.2);
	$object =~ s/"labels":\{[^}]*\}/'"labels":{' . pick('"-":"x"', '"app":" "', '"app":"' . 'x' x 64 . '"', '"kubernetes.io\/hostname":"ä"') . '}'/e if chance(0.2);
	$object =~ s/"leaseDurationSeconds":15/'"leaseDurationSeconds":' . pick(0, -1, 2147483647)/e if chance(0.2);
	$object =~ s/"metadata":\{/'"metadata":{' . pick('"uid":"00000000-0000-0000-0000-000000000002",', '"resourceVersion":"1",', '"generateName":"x-",', '"resourceVersion":"x",')/e if chance(0.2);
	foreach (1 .. rand 4)
	{
		last if chance(0.3);
		# a value, a name, or a whole part
		my @at;
		push @at, [ $-[1], $+[1] - $-[1] ] while $object =~ /:("[^"]*"|\d+|true|\[[^][]*\]|\{[^{}]*\})/g;
		my ($start, $length) = @{ pick(@at) // next };
		substr($object, $start, $length) = json(2);
	}
	$object =~ s/"(\w+)":/'"' . pick(@members) . '":'/e if chance(0.1);
	return $object;
}

my @huge_json = (
	q~(repeat('[', 100) || repeat(']', 100))~, q~(repeat('[', 6000) || repeat(']', 6000))~, q~(repeat('{"metadata":', 3000) || '1' || repeat('}', 3000))~,
	q~('{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"' || repeat('x', 1000000) || '"}}')~,
	q~('{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"a","managedFields":[' || repeat('{"a":', 2000) || '1' || repeat('}', 2000) || ']}}')~,
	q~(SELECT jsonb_object_agg('k' || n, 'v')::text FROM generate_series(1, 5000) n)~, q~(SELECT jsonb_agg(n)::text FROM generate_series(1, 20000) n)~,
	q~('{"apiVersion":"v1","kind":"List","items":[' || repeat('{},', 2000) || '{}]}')~,
	q~(SELECT '{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"a","labels":{' || string_agg(format('"%s":"%s"', n, n), ',') || '}}}' FROM generate_series(1, 3000) n)~);

sub jsonb
{
	return 'NULL' if chance(0.05);
	return pick(@huge_json) . '::jsonb' if chance(0.03);
	return quote(mutate(object())) . '::jsonb' if chance(0.05);
	return quote(json(4)) . '::jsonb' if chance(0.3);
	return quote(json(1)) . '::jsonb' if chance(0.2);
	return quote(object()) . '::jsonb';
}

# ---------- Other types ----------

my @intervals = ('15 s', '1 s', '1 s', '2 s', '10 ms', '0', '40 s', '1 h', '0.5 s', '1 us', '-1 s', '-1 us', '1.000001 s', '2147483647 s', '2147483648 s', '-2147483648 s', '1 mon', '-1 mon', '1 mon -30 days', '1 day', '1 day -24 h',
	'24855 days', '106751991 days', '-106751991 days', '2147483647 days', '-2147483648 days', '178000000 years', '-178000000 years', '2562047788 h', '-2562047788 h', '106751991 days 04:00:54.775807');
my @times = ('infinity', '-infinity', '4714-11-24 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00', 'epoch', '2000-01-01 00:00:00+00', '1999-12-31 23:59:59.999999+00', '2020-01-01 00:00:00+00', '9999-12-31 00:00:00+00');
my @integers = qw(0 1 -1 15 1000 2147483647 -2147483648);
my %types = (
	'text' => \&text,
	'jsonb' => \&jsonb,
	'boolean' => sub { pick(qw(true false NULL)) },
	'integer' => sub { pick(@integers, 'NULL') },
	'bigint' => sub { pick(@integers, qw(9223372036854775807 (-9223372036854775808) NULL), '(SELECT max(fencing_token) FROM lease)', '(SELECT min(fencing_token) FROM lease)') },
	'double precision' => sub { quote(pick(qw(0 0 0.1 1 9 1000 1000.1 -1 -0 NaN Infinity -Infinity 1e-320 1e300))) . '::double precision' },
	'interval' => sub { chance(0.05) ? 'NULL' : quote(chance(0.5) ? pick(@intervals[ 0 .. 4 ]) : pick(@intervals)) . '::interval' },
	'timestamp with time zone' => sub {
		pick('NULL', quote(pick(@times)) . '::timestamptz', quote(pick(@times)) . '::timestamptz', 'clock_timestamp()', 'clock_timestamp() ' . pick('+', '-') . " interval '" . pick(1, 50, 5000) . " s'")
	},
	'uuid' => sub { pick(q{'00000000-0000-0000-0000-000000000001'}, q{'ffffffff-ffff-ffff-ffff-ffffffffffff'}, 'gen_random_uuid()', 'NULL') . '::uuid' },
	'tid' => sub { pick(q{'(0,0)'::tid}, q{'(0,1)'::tid}, q{'(4294967295,65535)'::tid}, q{'(1,0)'::tid}, q{'(0,65535)'::tid}, 'NULL::tid', '(SELECT max(ctid) FROM lease)') },
	'text[]' => sub {
		my $some = join ', ', map { text('name') } 0 .. rand 5;

		return pick("ARRAY[$some]", "ARRAY[$some]", "ARRAY[$some]", 'NULL', q{'{}'}, q{'{NULL}'}, q{'{a,NULL,a}'}, q{'[2:4]={a,b,c}'}, q{'[-5:-4]={b,a}'}, q{'{{a},{b}}'}, q{'{{{a}}}'}, q{array_fill('a'::text, '{5000}')}, q{array_fill(NULL::text, '{3,3,3}')},
			q{(SELECT array_agg('l' || n) FROM generate_series(1, 2000) n)}) . '::text[]';
	},
	'lease' => sub { row_of('lease') },
	'lease_node' => sub { row_of('lease_node') },
);

sub row_of
{
	my ($table) = @_;

	return pick("NULL::$table", "(SELECT t FROM $table t LIMIT 1)", "(SELECT t FROM $table t ORDER BY random() LIMIT 1)", "jsonb_populate_record(NULL::$table, " . jsonb() . ')',
		"jsonb_populate_record((SELECT t FROM $table t LIMIT 1), " . quote('{' . join(',', map { '"' . pick(columns()) . '":' . pick(@scalars, json(3)) } 0 .. rand 4) . '}') . '::jsonb)');
}

sub columns
{
	return qw(namespace name renew_time resource_version lease_duration_seconds fencing_token uid creation_timestamp labels annotations owner_references finalizers holder_identity acquire_time
	  lease_transitions strategy preferred_holder held_since lock_delay_seconds not_before reserved_for generate_name generation deletion_timestamp deletion_grace_period_seconds managed_fields metadata spec status);
}

sub knows { return exists $types{ $_[0] } }

# An expression for an argument or a column
sub value
{
	my ($type, $name) = @_;

	return $types{$type}->($name);
}

# For a setting
sub setting
{
	my ($name, $type, $min, $max, $words) = @_;

	return 'DEFAULT' if chance(0.2);
	return quote(pick(@odd_texts)) if chance(0.1);
	return pick(qw(on off)) if $type eq 'bool';
	return quote(pick(split /,/, $words =~ tr/{}"//dr)) if $type eq 'enum';
	return quote(pick($min, $max, $min - 1, $max + 1, 1, 50)) if $type eq 'integer' || $type eq 'real';
	return quote(pick('1', '1,2', '1, 2 ,3', ',', '0', '9223372036854775808', '1' . ',2' x 1000, pick(@odd_texts)));
}

1;
