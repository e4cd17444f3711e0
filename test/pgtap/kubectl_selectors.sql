-- kubectl -l and --field-selector: the API server's grammar, with its messages
BEGIN;
SELECT no_plan();
DELETE FROM lease;

CREATE FUNCTION pg_temp.error_of(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM kubectl(command);
	RETURN NULL;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN regexp_replace(SQLERRM, '^.*?field selector "(?:[^"\\\\]|\\\\.)*": ', '');
END $$;

-- what can be parsed, and what is said of what cannot
SELECT is(pg_temp.error_of(format('get leases -l %s', '''' || selector || '''')), error, coalesce('wrong: ', 'right: ') || selector) FROM (VALUES
	('', NULL),
	('a==b==c', 'found ''=='', expected: '','' or ''end of string'''),
	('a in (x', 'unable to parse requirement: found '''', expected: '','' or '')'''),
	('a in x', 'unable to parse requirement: found ''x'' expected: ''('''),
	('!a=b', 'found ''='', expected: '','' or ''end of string'''),
	('a=b,', 'found '''', expected: identifier after '','''),
	(',a', 'found '','', expected: !, identifier, or ''end of string'''),
	('a,,b', 'found '','', expected: identifier after '','''),
	('(a)', 'found ''('', expected: !, identifier, or ''end of string'''),
	('a nott in (y)', 'unable to parse requirement: found ''nott'', expected: in, notin, =, ==, !=, gt, lt'),
	('a<b', 'unable to parse requirement: values[0]: Invalid value: "b": for ''Gt'', ''Lt'' operators, the value must be an integer'),
	('a>1', NULL),
	('A b', 'unable to parse requirement: found ''b'', expected: in, notin, =, ==, !=, gt, lt'),
	('a=b||c', 'unable to parse requirement: values[0][a]: Invalid value: "b||c": a valid label must be an empty string or consist of alphanumeric characters, ''-'', ''_'' or ''.'', and must start and end with an alphanumeric character (e.g. ''MyValue'',  or ''my_value'',  or ''12345'', regex used for validation is ''(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'')'),
	('a in (b,c),!d,e!=f', NULL),
	('-a=b', 'unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of alphanumeric characters, ''-'', ''_'' or ''.'', and must start and end with an alphanumeric character (e.g. ''MyName'',  or ''my.name'',  or ''123-abc'', regex used for validation is ''([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'')'),
	('a=-b', 'unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be an empty string or consist of alphanumeric characters, ''-'', ''_'' or ''.'', and must start and end with an alphanumeric character (e.g. ''MyValue'',  or ''my_value'',  or ''12345'', regex used for validation is ''(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'')'),
	('a/b/c=d', 'unable to parse requirement: <nil>: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, ''-'', ''_'' or ''.'', and must start and end with an alphanumeric character (e.g. ''MyName'',  or ''my.name'',  or ''123-abc'', regex used for validation is ''([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'') with an optional DNS subdomain prefix and ''/'' (e.g. ''example.com/MyName'')'),
	('/b', 'unable to parse requirement: <nil>: Invalid value: "/b": prefix part must be non-empty'),
	('a=', NULL),
	('a!=', NULL),
	('a in ()', NULL),
	('a notin (x,y)', NULL),
	('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=x', 'unable to parse requirement: <nil>: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": name part must be no more than 63 characters'),
	('x=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'unable to parse requirement: values[0][x]: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 63 characters'),
	('a = b', NULL),
	('Example.com/x=y', 'unable to parse requirement: <nil>: Invalid value: "Example.com/x": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, ''-'' or ''.'', and must start and end with an alphanumeric character (e.g. ''example.com'', regex used for validation is ''[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'')'),
	('a in (b,,c)', NULL),
	('a in (b,,)', 'unable to parse requirement: found '')'', expected: '','', or identifier'),
	('a in (b,)', NULL),
	('a in (,b)', NULL),
	('a in (c,b,a)', NULL),
	('a exists', 'unable to parse requirement: found ''exists'', expected: in, notin, =, ==, !=, gt, lt'),
	('a=b c=d', 'found ''c'', expected: '','' or ''end of string'''),
	('!!a', 'unable to parse requirement: found ''!'', expected: identifier'),
	('a=in', NULL),
	('in=a', NULL),
	('in', NULL),
	('notin in (in)', NULL),
	('in in (in)', NULL),
	('a>=1', 'unable to parse requirement: found ''='', expected: identifier'),
	('a<>1', 'unable to parse requirement: found ''>'', expected: identifier'),
	('a!b', 'unable to parse requirement: found ''!'', expected: in, notin, =, ==, !=, gt, lt'),
	('=', 'found ''='', expected: !, identifier, or ''end of string'''),
	('a=(b)', 'unable to parse requirement: found ''('', expected: identifier'),
	('a in b)', 'unable to parse requirement: found ''b'' expected: ''('''),
	('a gt 1', 'unable to parse requirement: found ''gt'', expected: in, notin, =, ==, !=, gt, lt'),
	('a in (b c)', 'unable to parse requirement: found ''c'', expected: '','' or '')'''),
	('a in (b=c)', 'unable to parse requirement: found ''='', expected: '','' or '')'''),
	('a==b', NULL),
	('z=1,b=2,a', NULL),
	('a in (b))', 'found '')'', expected: '','' or ''end of string'''),
	('!', 'unable to parse requirement: found '''', expected: identifier'),
	('a !in (b)', 'unable to parse requirement: found ''!'', expected: in, notin, =, ==, !=, gt, lt'),
	('a in(b)', NULL),
	('a notin(b)', NULL),
	('a!=b,a', NULL),
	('a>-5', 'unable to parse requirement: values[0][a]: Invalid value: "-5": a valid label must be an empty string or consist of alphanumeric characters, ''-'', ''_'' or ''.'', and must start and end with an alphanumeric character (e.g. ''MyValue'',  or ''my_value'',  or ''12345'', regex used for validation is ''(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'')'),
	('a<1.5', 'unable to parse requirement: values[0]: Invalid value: "1.5": for ''Gt'', ''Lt'' operators, the value must be an integer'),
	('foo.example.com/app in (x)', NULL),
	('a=b,c in (d),!e,f!=g,h>3,i<4,j', NULL)) v (selector, error);
SELECT is(pg_temp.error_of(format('get leases --field-selector %s', '''' || selector || '''')), error, 'fields: ' || selector) FROM (VALUES
	('metadata.name', 'invalid selector: ''metadata.name''; can''t understand ''metadata.name'''),
	('metadata.name=a', NULL),
	('metadata.name==a', NULL),
	('metadata.name!=a', NULL),
	('a=b=c', 'invalid field selector: unescaped character in value: 61'),
	('a==b=c', 'invalid field selector: unescaped character in value: 61'),
	(',', NULL),
	('a=b\xc', 'invalid field selector: invalid escape sequence: \x'),
	('metadata.namespace=x,metadata.name=y', NULL)) v (selector, error);
SELECT is(pg_temp.error_of('get leases --field-selector spec.holderIdentity=x'), '"spec.holderIdentity" is not a known field selector: only "metadata.name", "metadata.namespace"', 'leases can be selected by two fields');
SELECT is(pg_temp.error_of('get nodes --field-selector a=b'), 'field label not supported: a', 'nodes have their own words');

-- what matches
INSERT INTO lease (name, labels) VALUES ('a', '{"app": "web", "n": "5"}'), ('b', '{"app": "db", "n": "50"}'), ('c', '{"n": "x", "empty": ""}'), ('d', NULL), ('e', '{"app": "", "in": "x"}');
SELECT is(coalesce(string_agg(n, ' ' ORDER BY n), ''), expected, 'selects: ' || selector)
FROM (VALUES ('', 'a b c d e'), ('app', 'a b e'), ('!app', 'c d'), ('app=web', 'a'), ('app==web', 'a'), ('app!=web', 'b c d e'), ('app in (web,db)', 'a b'),
	('app notin (web,db)', 'c d e'), ('app=', 'e'), ('app in ()', 'e'), ('empty', 'c'), ('empty=', 'c'), ('n>5', 'b'), ('n<50', 'a'), ('n>4', 'a b'), ('app,n', 'a b'), ('app,!n', 'e'),
	('in', 'e'), ('in=x', 'e'), ('app=web,n=50', ''), ('nothing', '')) v (selector, expected)
LEFT JOIN LATERAL regexp_split_to_table(kubectl(format('get leases --no-headers -o name -l %s', '''' || selector || '''')), '\n') AS line ON line <> ''
LEFT JOIN LATERAL (SELECT split_part(line, '/', 2)) s (n) ON true
GROUP BY selector, expected;
SELECT is(kubectl('get leases -o name --field-selector metadata.name=a'), E'lease.coordination.k8s.io/a\n', 'by name');
SELECT is(kubectl('get leases -o name --field-selector metadata.name!=a,metadata.namespace=default -l app'), E'lease.coordination.k8s.io/b\nlease.coordination.k8s.io/e\n', 'fields and labels together');

SELECT * FROM finish();
ROLLBACK;
