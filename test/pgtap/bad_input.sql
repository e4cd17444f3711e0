-- Bad input is an error with its own SQLSTATE, and changes nothing.
BEGIN;
SELECT no_plan();

SELECT FROM lease_acquire('l', 'me', '1 h');
SELECT FROM lease_acquire('l', 'me', '1 h', 'other');
CREATE TEMP TABLE before AS SELECT * FROM lease;

-- every name, in every function that takes one
CREATE TEMP TABLE bad_name (name text, sqlstate text, message text);
INSERT INTO bad_name VALUES
	(NULL, '22004', 'lease name must not be null'),
	('', '22023', 'lease name must not be empty'),
	(repeat('a', 254), '42622', 'lease name is too long'),
	(repeat('a', 1000000), '42622', 'lease name is too long'),
	('UPPER', '42602', 'invalid lease name "UPPER"'),
	('under_score', '42602', 'invalid lease name "under_score"'),
	(E'a\x01', '42602', E'invalid lease name "a\x01"'),
	(E'a\nb', '42602', E'invalid lease name "a\nb"'),
	(' a', '42602', 'invalid lease name " a"'),
	('é', '42602', 'invalid lease name "é"'),
	('a''; DROP TABLE lease; --', '42602', 'invalid lease name "a''; DROP TABLE lease; --"');
SELECT throws_ok(format(call, quote_nullable(name)), sqlstate, message, left(format(call, quote_nullable(name)), 60))
FROM bad_name, (VALUES ('SELECT lease_acquire(%s, ''me'')'), ('SELECT lease_renew(%s, ''me'')'), ('SELECT lease_release(%s, ''me'')'),
	('SELECT lease_holder(%s)'), ('SELECT lease_is_held(%s)')) c (call);

CREATE TEMP TABLE bad_namespace (namespace text, sqlstate text, message text);
INSERT INTO bad_namespace VALUES
	(NULL, '22004', 'lease namespace must not be null'),
	('', '22023', 'lease namespace must not be empty'),
	(repeat('a', 64), '42622', 'lease namespace is too long'),
	(repeat('a', 1000000), '42622', 'lease namespace is too long'),
	('Default', '42602', 'invalid lease namespace "Default"'),
	('a.b', '42602', 'invalid lease namespace "a.b"');
SELECT throws_ok(format(call, quote_nullable(namespace)), sqlstate, message, left(format(call, quote_nullable(namespace)), 60))
FROM bad_namespace, (VALUES ('SELECT lease_acquire(''l'', ''me'', ''1 s'', %s)'), ('SELECT lease_renew(''l'', ''me'', %s)'),
	('SELECT lease_renew_all(''me'', NULL, %s)'), ('SELECT lease_release(''l'', ''me'', %s)'), ('SELECT lease_holder(''l'', %s)'),
	('SELECT lease_is_held(''l'', NULL, %s)')) c (call);

SELECT throws_ok(format(call, quote_nullable(holder)), sqlstate, message, format(call, quote_nullable(holder)))
FROM (VALUES (NULL, '22004', 'lease holder must not be null'), ('', '22023', 'lease holder must not be empty')) h (holder, sqlstate, message),
	(VALUES ('SELECT lease_acquire(''l'', %s)'), ('SELECT lease_renew(''l'', %s)'), ('SELECT lease_renew_all(%s)'), ('SELECT lease_release(''l'', %s)')) c (call);

-- durations
SELECT throws_ok(format('SELECT lease_acquire(''l'', ''me'', %s)', duration), sqlstate, message, 'duration ' || duration)
FROM (VALUES
	('NULL', '22004', 'lease duration must not be null'),
	('''0''', '22023', 'invalid lease duration'),
	('''-1 s''', '22023', 'invalid lease duration'),
	('''1 day -25 h''', '22023', 'invalid lease duration'),
	('''0.5 s''', '22023', 'invalid lease duration'),
	('''1.000001 s''', '22023', 'invalid lease duration'),
	('''1 month''', '22023', 'invalid lease duration'),
	('make_interval(secs => 2147483648)', '22023', 'invalid lease duration'),
	('make_interval(secs => 1000000000000)', '22023', 'invalid lease duration'),
	('make_interval(days => 2147483647)', '22023', 'invalid lease duration')) v (duration, sqlstate, message);
SELECT throws_ok($$SELECT lease_acquire('l', 'me', make_interval(secs => 'NaN'))$$, NULL, NULL, 'NaN is refused by the server');
SELECT throws_ok($$SELECT lease_acquire('l', 'me', 'infinity')$$, NULL, NULL, 'so is infinity, or by lease from PostgreSQL 17 on');

-- infinite times in rows; the rest of the table's rules is in lease_table.sql
SELECT throws_ok($$UPDATE lease SET renew_time = 'infinity'$$, '22008', NULL, 'an infinite renew_time');
SELECT throws_ok($$UPDATE lease SET acquire_time = '-infinity'$$, '22008', NULL, 'an infinite acquire_time');

SELECT is(status, 'missing', 'an unknown namespace has no leases') FROM lease_renew('l', 'me', 'unknown');

-- read-only transaction; the standby is in test/t
SAVEPOINT s;
SET TRANSACTION READ ONLY;
SELECT throws_ok(call, '25006', 'cannot execute ' || name || '() in a read-only transaction', name || ' in a read-only transaction')
FROM (VALUES ('lease_acquire', 'SELECT lease_acquire(''l'', ''me'')'), ('lease_renew', 'SELECT lease_renew(''l'', ''me'')'),
	('lease_renew_all', 'SELECT lease_renew_all(''me'')'), ('lease_release', 'SELECT lease_release(''l'', ''me'')')) c (name, call);
SELECT is(lease_holder('l'), 'me', 'who only asks may do so');
ROLLBACK TO s;

SELECT set_eq('SELECT * FROM lease', 'SELECT * FROM before', 'after all that nothing has changed');

SELECT * FROM finish();
ROLLBACK;
