-- The functions find their own table, whatever the caller's search_path is, and in
-- whatever schema the extension is.
BEGIN;
SELECT plan(10);

-- a hostile schema: a table, an operator and functions of the same names
CREATE SCHEMA hostile;
CREATE TABLE hostile.lease (LIKE lease);
CREATE FUNCTION hostile.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'hijacked'; END$$;
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.equal);
CREATE FUNCTION hostile.lease_token_issue() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT 'epoch'::timestamptz$$;
CREATE TABLE hostile.result (step text, value text);

SET LOCAL search_path = hostile, public, pg_catalog;
INSERT INTO hostile.result SELECT 'acquire', status FROM public.lease_acquire('l', 'me', '1 h');
INSERT INTO hostile.result SELECT 'renew', status FROM public.lease_renew('l', 'me');
INSERT INTO hostile.result SELECT 'renew_all', status FROM public.lease_renew_all('me', ARRAY['l']);
INSERT INTO hostile.result SELECT 'renew_all without names', status FROM public.lease_renew_all('me');
INSERT INTO hostile.result SELECT 'holder', public.lease_holder('l');
-- and through the executor
CREATE TRIGGER t BEFORE UPDATE ON public.lease FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger();
INSERT INTO hostile.result SELECT 'renew by the executor', status FROM public.lease_renew('l', 'me');
INSERT INTO hostile.result SELECT 'release', status FROM public.lease_release('l', 'me');
DROP TRIGGER t ON public.lease;
SET LOCAL search_path = public;

SELECT is(r.value, v.value, 'in a hostile search_path: ' || v.step)
FROM (VALUES ('acquire', 'acquired'), ('renew', 'renewed'), ('renew_all', 'renewed'), ('renew_all without names', 'renewed'),
	('holder', 'me'), ('renew by the executor', 'renewed'), ('release', 'released')) v (step, value)
LEFT JOIN hostile.result r USING (step);
SELECT is_empty('SELECT FROM hostile.lease', 'the other table is untouched');

-- the schema of the extension is renamed in a session that has used it
CREATE SCHEMA elsewhere;
DROP EXTENSION lease;
CREATE EXTENSION lease SCHEMA elsewhere;
SET LOCAL search_path = public, pg_temp;
SELECT is(status, 'acquired', 'in another schema') FROM elsewhere.lease_acquire('l', 'me', '1 h');
ALTER SCHEMA elsewhere RENAME TO "Odd ""Name";
SELECT is((SELECT status FROM "Odd ""Name".lease_renew('l', 'me')) || ', ' || (SELECT status FROM "Odd ""Name".lease_release('l', 'me')),
	'renewed, released', 'and when that is renamed, to something that needs quoting');

SELECT * FROM finish();
ROLLBACK;
