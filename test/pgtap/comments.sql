-- Everything that belongs to the extension says what it is: \d+ and \df+ read well.
BEGIN;
SELECT plan(5);

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'lease';

SELECT cmp_ok(count(*), '>', 20::bigint, 'the extension has members') FROM member;
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM member
	WHERE classid <> 'pg_type'::regclass AND obj_description(objid, classid::regclass::name) IS NULL$$, 'functions, tables, views, the sequence');
SELECT is_empty($$SELECT pg_describe_object(classid, objid, attnum) FROM member JOIN pg_class c ON c.oid = objid AND relkind IN ('r', 'v')
	JOIN pg_attribute ON attrelid = objid AND attnum > 0 AND NOT attisdropped
	WHERE classid = 'pg_class'::regclass AND col_description(objid, attnum) IS NULL$$, 'columns');
SELECT is_empty($$SELECT conname FROM pg_constraint WHERE conrelid IN (SELECT objid FROM member)
	AND obj_description(oid, 'pg_constraint') IS NULL$$, 'constraints');
SELECT is_empty($$SELECT tgname FROM pg_trigger WHERE tgrelid IN (SELECT objid FROM member)
	AND obj_description(oid, 'pg_trigger') IS NULL$$, 'triggers');

SELECT * FROM finish();
ROLLBACK;
