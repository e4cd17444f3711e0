-- Everything that belongs to the extension says what it is: \d+ and \df+ read well.
BEGIN;
SELECT plan(13);

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'lease'
	-- row types of the table and the views, and arrays of them, come by themselves
	AND d.classid <> 'pg_type'::regclass;

SELECT is_empty($$SELECT obj FROM (VALUES ('table', 'r'), ('view', 'v'), ('sequence', 'S')) k (obj, kind)
	WHERE NOT EXISTS (SELECT FROM member JOIN pg_class ON objid = pg_class.oid AND relkind = kind::"char" WHERE classid = 'pg_class'::regclass)$$,
	'the extension has a table, views and a sequence');
SELECT cmp_ok(count(*), '>', 10::bigint, 'and functions') FROM member WHERE classid = 'pg_proc'::regclass;
SELECT is(obj_description(oid, 'pg_extension') <> '', true, 'the extension has a comment') FROM pg_extension WHERE extname = 'lease';
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM member
	WHERE coalesce(obj_description(objid, classid::regclass::name), '') = ''$$, 'every function, table, view and sequence has a comment');
SELECT is_empty($$SELECT pg_describe_object(classid, objid, attnum) FROM member JOIN pg_class c ON c.oid = objid AND relkind IN ('r', 'v')
	JOIN pg_attribute ON attrelid = objid AND attnum > 0 AND NOT attisdropped
	WHERE classid = 'pg_class'::regclass AND coalesce(col_description(objid, attnum), '') = ''$$, 'every column of a table or a view has a comment');
SELECT is_empty($$SELECT conname FROM pg_constraint WHERE conrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
	-- as which PostgreSQL 18 counts NOT NULL
	AND contype <> 'n' AND coalesce(obj_description(oid, 'pg_constraint'), '') = ''$$, 'every constraint has a comment');
SELECT is_empty($$SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass)
	AND coalesce(obj_description(oid, 'pg_trigger'), '') = ''$$, 'every trigger has a comment');
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM member JOIN pg_proc p ON p.oid = objid
	WHERE classid = 'pg_proc'::regclass AND pronargs > 0 AND (proargnames IS NULL OR '' = ANY (proargnames))$$, 'every argument has a name');

-- What a function's comment tells
CREATE TEMP VIEW told AS
SELECT p.oid::regprocedure AS function, a.name, coalesce(a.mode, 'i') AS mode, obj_description(p.oid, 'pg_proc') AS comment,
	count(*) FILTER (WHERE coalesce(a.mode, 'i') IN ('i', 'b')) OVER (PARTITION BY p.oid) AS arguments
FROM member JOIN pg_proc p ON p.oid = objid CROSS JOIN unnest(p.proargnames, p.proargmodes) a (name, mode)
WHERE classid = 'pg_proc'::regclass;
CREATE FUNCTION pg_temp.names(comment text, name text) RETURNS boolean LANGUAGE sql RETURN comment ~ ('\m' || name || '\M');

SELECT is_empty($$SELECT function, name FROM told WHERE mode IN ('i', 'b') AND arguments > 1 AND name NOT IN ('name', 'namespace', 'holder')
	AND NOT pg_temp.names(comment, name) AND comment !~ 'arguments are those of lease_\w+\(\)'$$,
	'a comment tells of every argument that does not say all by its name');
SELECT is_empty($$SELECT function, name FROM told WHERE mode IN ('o', 't')
	AND NOT pg_temp.names(comment, name) AND comment !~ '(results are those of|hat the view) lease_\w+'$$,
	'a comment tells of every result');
SELECT is_empty($$SELECT function, s.status FROM told CROSS JOIN (VALUES ('busy')) s (status)
	WHERE name = 'status' AND mode = 'o' AND NOT pg_temp.names(comment, s.status) AND comment !~ 'as lease_release\(\)'$$,
	'where there is a status, it tells of busy');
SELECT is_empty($$SELECT p.oid::regprocedure FROM member JOIN pg_proc p ON p.oid = objid
	WHERE classid = 'pg_proc'::regclass AND (provolatile = 'v' AND pronargs > 0 OR prokind = 'p')
	AND obj_description(p.oid, 'pg_proc') !~ 'Errors: |Never an error'$$, 'what reads or changes something tells of its errors');
SELECT is_empty($$SELECT attrelid::regclass, attname FROM member JOIN pg_attribute ON attrelid = objid AND attnum > 0 AND NOT attisdropped
	WHERE classid = 'pg_class'::regclass AND (atttypid = 'double precision'::regtype OR attname ~ '_seconds$')
	AND col_description(attrelid, attnum) !~* 'second'$$, 'an amount of time has its unit');

SELECT * FROM finish();
ROLLBACK;
