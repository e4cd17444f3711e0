# Documents and truth are the same, both ways: the reference has every function,
# table, view, column, setting, SQLSTATE and wait event that there is, and nothing
# else; the contributor's page has every source file; no link leads nowhere; and
# no document names an object that does not exist.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/..";

use Documents;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('reference');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lease'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lease');

my %text = map { $_ => slurp_file($_) } Documents::all();
my $reference = $text{'docs/reference.md'};
my $sources = join '', map { slurp_file($_) } glob 'src/*.c src/*.h src/kubectl/*.c src/kubectl/*.h';

sub rows_of
{
	my ($sql) = @_;

	return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql('postgres', $sql);
}

# Are these the same, in whatever order?  Shows what is missing, and what is too much.
sub same
{
	my ($documented, $true, $what) = @_;
	my %documented = map { $_ => 1 } @$documented;
	my %true = map { $_ => 1 } @$true;

	cmp_ok(scalar @$true, '>', 0, "$what: there are some");
	return is(join("\n", (map { "missing: $_" } grep { !$documented{$_} } sort keys %true),
			(map { "too much: $_" } grep { !$true{$_} } sort keys %documented)), '', $what);
}

# What is in code in a text
sub quoted { my ($text) = @_; return $text =~ /`([^`]+)`/g; }

my $member = q{SELECT objid FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'lease') AND deptype = 'e'};

# ---------- Functions ----------

# name, kind, and how the reference writes the signature
my @functions = rows_of(qq{
SELECT p.proname, p.prorettype = 'trigger'::regtype, replace(
	CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE '' END || p.proname || '(' || coalesce(a.arguments, '') || ')'
	|| CASE WHEN a.results IS NOT NULL THEN ' → ' || CASE WHEN p.proretset THEN 'rows of ' ELSE '' END || a.results
			WHEN p.prokind = 'p' OR p.prorettype = 'void'::regtype THEN ''
			ELSE ' → ' || CASE WHEN p.proretset THEN 'rows of ' ELSE '' END || format_type(p.prorettype, NULL) END,
	'timestamp with time zone', 'timestamptz')
FROM pg_proc p
CROSS JOIN LATERAL (
	SELECT string_agg(concat_ws(' ', g.name, format_type(g.type, NULL), '= ' || v.value), ', ' ORDER BY g.n)
			   FILTER (WHERE g.mode = 'i' OR g.mode = 'b' AND p.prokind = 'f') AS arguments,
		   string_agg(concat_ws(' ', g.name, format_type(g.type, NULL)), ', ' ORDER BY g.n)
			   FILTER (WHERE g.mode IN ('o', 'b', 't')) AS results
	FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes) WITH ORDINALITY t (type, name, mode_if_any, n)
	CROSS JOIN LATERAL (SELECT t.type, t.name, coalesce(t.mode_if_any, 'i') AS mode, t.n) g
	CROSS JOIN LATERAL (SELECT regexp_replace(pg_get_function_arg_default(p.oid, g.n::integer), '::[a-z ]+(\\[\\])?\$', '') AS value) e
	-- as it is written in sql/lease.sql
	CROSS JOIN LATERAL (SELECT CASE WHEN g.type <> 'interval'::regtype THEN e.value
		WHEN e.value = '''00:00:00''' THEN '''0'''
		WHEN e.value ~ '^''\\d\\d:00:00''\$' THEN format('''%s h''', substr(e.value, 2, 2)::integer)
		ELSE regexp_replace(e.value, '^''00:00:(\\d\\d)''\$', '''\\1 s''') END AS value) v
) a
WHERE p.oid IN ($member AND classid = 'pg_proc'::regclass)});
my %function = map { $_->[0] => 1 } @functions;

# The ones that only triggers of the extension call are in a table.
my @signatures = map { s/\s+/ /gr } $reference =~ /^ {4}((?:CALL )?\w+\(.*(?:\n {5,}.*)*)/mg;
same(\@signatures,
	[ map { $_->[2] } grep { $_->[1] eq 'f' || $_->[0] eq 'lease_guard_trigger' } @functions ],
	'the reference has the signature of every function');

my $shown = join "\n", map { $_->{statement} } Documents::steps($reference);
foreach my $name (sort keys %function)
{
	next if grep { $_->[0] eq $name && $_->[1] eq 't' && $name ne 'lease_guard_trigger' } @functions;
	like($shown, qr/\b$name\(/, "there is an example of $name");
}

# ---------- Tables, views, the sequence, triggers ----------

my @columns = rows_of(qq{
SELECT c.relname, a.attname, replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'), col_description(c.oid, a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid IN ($member AND classid = 'pg_class'::regclass) AND c.relkind IN ('r', 'v')
ORDER BY c.relname, a.attnum});
my %columns;

push @{ $columns{ $_->[0] } }, join ' | ', @$_[ 1 .. 3 ] foreach @columns;
foreach my $relation (sort keys %columns)
{
	my (undef, @rows) = Documents::rows($reference, $relation);

	is_deeply([ map { join ' | ', map { s/`//gr } @$_ } @rows ], $columns{$relation},
		"the reference has the columns of $relation, as \\d+ describes them");
}
my ($relations) = $reference =~ /^## Tables and views\n(.*?)^## Settings/ms;
same([ grep { /^(?:lease|kubectl)/ && !$function{$_} } map { split /, / } $relations =~ /^### (.*)/mg ],
	[ keys %columns ], 'the reference has every table and view');

my @others = rows_of(qq{
SELECT relname FROM pg_class WHERE relkind = 'S' AND oid IN ($member AND classid = 'pg_class'::regclass)
UNION ALL
SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN ($member AND classid = 'pg_class'::regclass)});
my (undef, @other_rows) = Documents::rows($reference, 'Sequence and triggers');
same([ map { (quoted($_->[0]))[0] } @other_rows ], [ map { $_->[0] } @others ],
	'the reference has the sequence and the triggers');

# ---------- Settings ----------

my %who = (user => 'everybody', superuser => 'superusers', sighup => 'configuration file', postmaster => 'at server start');
my (undef, @settings) = Documents::rows($reference, 'Settings');
same(
	[ map { join ' | ', map { s/`//gr } @$_[ 0 .. 3 ] } @settings ],
	[ map {
		my ($name, $default, $unit, $context, $min, $max, $values) = @$_;

		join ' | ', $name, $default eq '' ? 'empty' : $unit ? "$default $unit" : $default,
		  $min ne '' ? "$min to $max" . ($unit && " $unit") : $values || 'numbers above 0', $who{$context};
	} rows_of(q{SELECT name, boot_val, unit, context, min_val, max_val,
		coalesce(array_to_string(enumvals, ', '), CASE vartype WHEN 'bool' THEN 'on, off' END)
		FROM pg_settings WHERE name LIKE 'lease.%'}) ],
	'the reference has every setting, with its default, its values and who may set it');

# ---------- SQLSTATEs ----------

my %sqlstate;
my $macro = qr/#define (ERRCODE_\w+)\s+MAKE_SQLSTATE\('(.)', ?'(.)', ?'(.)', ?'(.)', ?'(.)'\)/;
my ($include) = run_command([ $ENV{PG_CONFIG} || 'pg_config', '--includedir-server' ]);
foreach my $text (slurp_file("$include/utils/errcodes.h"), $sources)
{
	$sqlstate{$1} = "$2$3$4$5$6" while $text =~ /$macro/g;
}
my %raised = map { ($sqlstate{$_} // $_) => 1 } $sources =~ /\b(ERRCODE_\w+)/g;
delete $raised{'00000'};		# of a NOTICE

my %documented;
my (undef, @errors) = Documents::rows($reference, 'Errors');
foreach my $row (@errors)
{
	$documented{$_} = 1 foreach split /, /, $row->[0];
	isnt($row->[2], '', "when there is $row->[0]");
}
# What PostgreSQL raises for us: a stack that is too deep
delete $documented{'54001'};
same([ keys %documented ], [ keys %raised ], 'the reference has every SQLSTATE that is raised');

# ---------- Wait events and events ----------

my (undef, @waits) = Documents::rows($reference, 'Wait events');
same([ map { quoted($_->[0]) } @waits ], [ $sources =~ /#define \w*(?:WAIT_EVENT|WAIT_EVENT_NAME|TRANCHE_NAME) "(\w+)"/g ],
	'the reference has every wait event');

my (undef, @events) = Documents::rows($reference, 'Events');
same([ map { (quoted($_->[0]))[0] } @events ], [ $sources =~ /"(ADDED|MODIFIED|DELETED|EXPIRED|ERROR)\\?"/g ],
	'the reference has every type of event');

# ---------- Source files ----------

my $design = $text{'docs/design.md'};
my ($files) = $design =~ /^## The files\n(.*?)^## /ms;
my @source_files = map { s{.*/}{}r } glob 'src/*.[ch] src/kubectl/*.[ch]';
my %file = map { $_ => 1 } @source_files;
# A header with the name of a source file goes with it.
is(join(' ', grep { $files !~ /(?<![\w.])\Q$_\E/ && !(/\.h$/ && $file{s/h$/c/r}) } @source_files), '',
	'docs/design.md says what each source file is for');
is(join(' ', grep { !$file{$_} } $files =~ /(?<![\w.])(\w+\.[ch])\b/g), '', '... and names no others');

# ---------- Links ----------

foreach my $document (sort keys %text)
{
	my ($directory) = $document =~ m{^(.*/)};
	my @dead;

	foreach my $link (Documents::links($text{$document}))
	{
		my ($path, $anchor) = $link =~ /^([^#]*)#?(.*)$/;
		my $target = $path eq '' ? $document : ($directory // '') . $path;

		1 while $target =~ s{[^/]+/\.\./}{};
		my $good = -e $target;
		my %anchors = $anchor ne '' && $good ? Documents::anchors(slurp_file($target)) : ();

		push @dead, $link unless $good && ($anchor eq '' || $anchors{$anchor});
	}
	is("@dead", '', "the links of $document lead somewhere");
}

# ---------- Names ----------

# Whatever looks like a name of ours in a document exists: in the catalog, or, on
# the contributor's page, in the source.
my %known = map { $_ => 1 } keys %function, keys %columns, map { $_->[0] } @others;
$known{ $_->[1] } = 1 foreach @columns;
$known{ $_->[0] } = 1 foreach rows_of(qq{
	SELECT conname FROM pg_constraint WHERE conrelid IN ($member AND classid = 'pg_class'::regclass)
	UNION ALL SELECT unnest(proargnames) FROM pg_proc WHERE oid IN ($member AND classid = 'pg_proc'::regclass)});
$known{ $_->[1] } = 1 foreach @errors;
my %setting = map { (quoted($_->[0]))[0] => 1 } @settings;
# Kubernetes' controller, roles in examples, and a name that does not exist yet
my $foreign = qr/^lease_(?:expiration|monitor|reader|collector|renew_1_1)$/;

foreach my $document (grep { $_ ne 'CHANGELOG.md' && !/^bench/ } sort keys %text)
{
	my %unknown;

	foreach my $name ($text{$document} =~ /(?<![\w.:\/-])((?:lease|kubectl)_\w+)\b(?![.\/…])/g)
	{
		$unknown{$name} = 1
		  unless $known{$name} || $name =~ $foreign
		  || $document =~ /design|CONTRIBUTING/ && $sources =~ /\b\Q$name\E\b/;
	}
	foreach my $name ($text{$document} =~ /(?<![\w.:\/-])(lease\.(?!coordination\.)[a-z_]+)\b/g)
	{
		my ($column) = $name =~ /\.(.*)/;
		$unknown{$name} = 1
		  unless $setting{$name} || grep { /^\Q$column\E / } @{ $columns{lease} }
		  or $name =~ /^lease\.(?:c|h|sql|control|so|conf)$/;
	}
	is(join(' ', sort keys %unknown), '', "$document names nothing that does not exist");
}

$node->stop;
done_testing();
