-- Everything that belongs to the extension says what it is: \d+ and \df+ read well.
BEGIN;
SELECT plan(8);

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

SELECT * FROM finish();
ROLLBACK;
