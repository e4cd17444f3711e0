-- Bad input is an error with its own SQLSTATE and a clear message, and changes nothing.
BEGIN;
SELECT no_plan();

SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT FROM lease_acquire('l', 'me', '1 h', 'other');
CREATE TEMP TABLE before AS SELECT xmin::text AS writer, xmax::text AS locker, * FROM lease;

-- a call in a description: on one line, without control characters, and not too long
CREATE FUNCTION pg_temp.show(call text) RETURNS text LANGUAGE sql AS
	$$SELECT left(regexp_replace(call, '[\x01-\x1f]', '?', 'g'), 60)$$;

-- every name, in every function that takes one
CREATE TEMP TABLE bad_name (name text, sqlstate text, message text);
INSERT INTO bad_name VALUES
	(NULL, '22004', 'lease name must not be null'),
	('', '22023', 'lease name must not be empty'),
	(repeat('a', 254), '42622', 'lease name is too long'),
	(repeat('A', 254), '42622', 'lease name is too long'),
	(repeat('é', 127), '42622', 'lease name is too long'),
	(repeat('a', 1000000), '42622', 'lease name is too long'),
	('UPPER', '42602', 'invalid lease name "UPPER"'),
	('under_score', '42602', 'invalid lease name "under_score"'),
	('double..dot', '42602', 'invalid lease name "double..dot"'),
	('a/b', '42602', 'invalid lease name "a/b"'),
	(E'a\x01', '42602', E'invalid lease name "a\x01"'),
	(E'a\nb', '42602', E'invalid lease name "a\nb"'),
	(E'a\n', '42602', E'invalid lease name "a\n"'),
	(E'\t', '42602', E'invalid lease name "\t"'),
	(' a', '42602', 'invalid lease name " a"'),
	('é', '42602', 'invalid lease name "é"'),
	('日本', '42602', 'invalid lease name "日本"'),
	('a%s%n', '42602', 'invalid lease name "a%s%n"'),
	('a''; DROP TABLE lease; --', '42602', 'invalid lease name "a''; DROP TABLE lease; --"');
SELECT throws_ok(format(call, quote_nullable(name)), sqlstate, message, pg_temp.show(format(call, quote_nullable(name))))
FROM bad_name, (VALUES ('SELECT lease_acquire(%s, ''me'')'), ('SELECT lease_renew(%s, ''me'')'), ('SELECT lease_release(%s, ''me'')'),
	('SELECT lease_renew_all(''me'', ARRAY[''l'', %s])'), ('SELECT lease_holder(%s)'), ('SELECT lease_is_held(%s)')) c (call);

-- every namespace, likewise
CREATE TEMP TABLE bad_namespace (namespace text, sqlstate text, message text);
INSERT INTO bad_namespace VALUES
	(NULL, '22004', 'lease namespace must not be null'),
	('', '22023', 'lease namespace must not be empty'),
	(repeat('a', 64), '42622', 'lease namespace is too long'),
	(repeat('a', 1000000), '42622', 'lease namespace is too long'),
	('Default', '42602', 'invalid lease namespace "Default"'),
	('a.b', '42602', 'invalid lease namespace "a.b"'),
	(E'a\nb', '42602', E'invalid lease namespace "a\nb"'),
	('é', '42602', 'invalid lease namespace "é"');
SELECT throws_ok(format(call, quote_nullable(namespace)), sqlstate, message, pg_temp.show(format(call, quote_nullable(namespace))))
FROM bad_namespace, (VALUES ('SELECT lease_acquire(''l'', ''me'', ''1 s'', %s)'), ('SELECT lease_renew(''l'', ''me'', %s)'),
	('SELECT lease_renew_all(''me'', NULL, %s)'), ('SELECT lease_renew_all(''me'', ''{l}'', %s)'), ('SELECT lease_release(''l'', ''me'', %s)'),
	('SELECT lease_holder(''l'', %s)'), ('SELECT lease_is_held(''l'', NULL, %s)')) c (call);

-- every holder: any text but the empty one
SELECT throws_ok(format(call, quote_nullable(holder)), sqlstate, message, format(call, quote_nullable(holder)))
FROM (VALUES (NULL, '22004', 'lease holder must not be null'), ('', '22023', 'lease holder must not be empty')) h (holder, sqlstate, message),
	(VALUES ('SELECT lease_acquire(''l'', %s)'), ('SELECT lease_renew(''l'', %s)'), ('SELECT lease_renew_all(%s)'), ('SELECT lease_release(''l'', %s)')) c (call);
SELECT throws_ok($$SELECT lease_is_held('l', '')$$, '22023', 'lease holder must not be empty', 'SELECT lease_is_held(''l'', '''')');

-- tokens
SELECT throws_ok(format(call, token), '22023', 'fencing token must be greater than zero', format(call, token))
FROM (VALUES ('0'), ('-1'), ('-9223372036854775808')) t (token),
	(VALUES ('SELECT lease_renew(''l'', ''me'', ''default'', %s)'), ('SELECT lease_release(''l'', ''me'', ''default'', %s)')) c (call);

-- durations
SELECT throws_ok(format('SELECT lease_acquire(''l'', ''me'', %s)', duration), sqlstate, message, 'duration ' || duration)
FROM (VALUES
	('NULL', '22004', 'lease duration must not be null'),
	('''0''', '22023', 'invalid lease duration'),
	('''-1 s''', '22023', 'invalid lease duration'),
	('''-1 us''', '22023', 'invalid lease duration'),
	('''1 day -25 h''', '22023', 'invalid lease duration'),
	('''0.5 s''', '22023', 'invalid lease duration'),
	('''0.999999 s''', '22023', 'invalid lease duration'),
	('''1.000001 s''', '22023', 'invalid lease duration'),
	('''1 month''', '22023', 'invalid lease duration'),
	('''1 month 1 s''', '22023', 'invalid lease duration'),
	('''1 year''', '22023', 'invalid lease duration'),
	('''-1 month 31 days''', '22023', 'invalid lease duration'),
	('make_interval(secs => 2147483647.000001)', '22023', 'invalid lease duration'),
	('make_interval(secs => 2147483648)', '22023', 'invalid lease duration'),
	('make_interval(secs => 1000000000000)', '22023', 'invalid lease duration'),
	('make_interval(days => 2147483647)', '22023', 'invalid lease duration'),
	('make_interval(days => -2147483648)', '22023', 'invalid lease duration'),
	-- 2^64 microseconds and 5 seconds
	('make_interval(days => 213503982) + interval ''28914.551616 s''', '22023', 'invalid lease duration')) v (duration, sqlstate, message);
-- what the server itself refuses; PostgreSQL 17 has infinite intervals
SELECT throws_ok($$SELECT lease_acquire('l', 'me', make_interval(secs => 'NaN'))$$, '22008', 'interval out of range', 'duration NaN');
SELECT throws_ok($$SELECT lease_acquire('l', 'me', make_interval(secs => 'infinity'))$$, '22008', 'interval out of range', 'duration of infinite seconds');
SELECT throws_ok($$SELECT lease_acquire('l', 'me', 'infinity')$$,
	CASE WHEN current_setting('server_version_num')::int < 170000 THEN '22007' ELSE '22023' END::char(5), NULL, 'duration infinity');
SELECT throws_ok($$SELECT lease_acquire('l', 'me', interval '1 h' * 1e300)$$, '22008', NULL, 'duration out of any range');

-- an array of names
SELECT throws_ok($$SELECT lease_renew_all('me', '{{l},{l}}')$$, '2202E', 'array of lease names must have one dimension', 'names in two dimensions');

-- nothing wrong with these: no such lease
SELECT is(status, 'missing', 'an unknown namespace has no leases to renew') FROM lease_renew('l', 'me', 'unknown');
SELECT is(status, 'missing', 'nor to release') FROM lease_release('l', 'me', 'unknown');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', NULL, 'unknown')$$, $$VALUES ('renewed', 0::bigint, NULL)$$, 'nor to renew all at once');
SELECT is(lease_holder('l', 'unknown'), NULL, 'nor anybody who holds them');

-- a read-only transaction; the standby is in test/t
SAVEPOINT s;
SET TRANSACTION READ ONLY;
SELECT throws_ok(call, '25006', 'cannot execute ' || split_part(split_part(call, ' ', 2), '(', 1) || '() in a read-only transaction', 'read-only: ' || call)
FROM (VALUES ('SELECT lease_acquire(''l'', ''me'')'), ('SELECT lease_acquire(''l'', ''you'')'), ('SELECT lease_acquire(''new'', ''me'')'),
	('SELECT lease_renew(''l'', ''me'')'), ('SELECT lease_renew(''missing'', ''me'')'),
	('SELECT lease_renew_all(''me'')'), ('SELECT lease_renew_all(''me'', ''{}'')'), ('SELECT lease_release(''l'', ''me'')')) c (call);
SELECT is(lease_holder('l'), 'me', 'who only asks may do so in a read-only transaction');
SELECT is(lease_is_held('l', 'me'), true, 'with either function');
SELECT is(status, 'held', 'or with the view') FROM lease_status WHERE (namespace, name) = ('default', 'l');
ROLLBACK TO s;

SELECT set_eq('SELECT xmin::text AS writer, xmax::text AS locker, * FROM lease', 'SELECT * FROM before',
	'after all that nothing has been written or locked');

-- infinite times in rows; the rest of the table's rules is in lease_table.sql
SELECT throws_ok($$UPDATE lease SET renew_time = 'infinity'$$, '22008', 'column "renew_time" of a lease must be finite', 'an infinite renew_time');
SELECT throws_ok($$UPDATE lease SET acquire_time = '-infinity'$$, '22008', 'column "acquire_time" of a lease must be finite', 'an infinite acquire_time');

SELECT set_eq('SELECT xmin::text AS writer, * FROM lease', 'SELECT writer, ' || (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
	FROM pg_attribute WHERE attrelid = 'lease'::regclass AND attnum > 0) || ' FROM before', 'and that has changed nothing either');
SELECT is(status, 'renewed', 'the lease can still be renewed') FROM lease_renew('l', 'me');

SELECT * FROM finish();
ROLLBACK;
