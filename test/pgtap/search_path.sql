-- The functions find their own table, whatever the caller's search_path is, and in
-- whatever schema the extension is.
BEGIN;
SELECT plan(35);

-- A hostile schema: a table, operators, functions and a type of the same names.
CREATE SCHEMA hostile;
CREATE TABLE hostile.lease (LIKE lease);
CREATE SEQUENCE hostile.lease_fencing_token_seq;
CREATE DOMAIN hostile.text AS int;
CREATE FUNCTION hostile.hijack(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'hijacked'; END$$;
CREATE OPERATOR hostile.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = hostile.hijack);
CREATE OPERATOR hostile.<> (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = hostile.hijack);
CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz 'epoch'$$;
CREATE FUNCTION hostile.gen_random_uuid() RETURNS uuid LANGUAGE sql AS $$SELECT NULL::uuid$$;
CREATE FUNCTION hostile.lease_valid_name(name pg_catalog.text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION hostile.lease_expires_at(pg_catalog.text, timestamptz, integer) RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz 'infinity'$$;
CREATE FUNCTION hostile.lease_age(timestamptz) RETURNS pg_catalog.text LANGUAGE sql AS $$SELECT 'hijacked'::pg_catalog.text$$;
CREATE FUNCTION hostile.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE TABLE hostile.result (path pg_catalog.text, step pg_catalog.text, answer pg_catalog.text);

-- One round of everything, noted in hostile.result.
CREATE FUNCTION pg_temp.round(path pg_catalog.text) RETURNS void LANGUAGE plpgsql SET search_path = hostile, public, pg_catalog AS $$
BEGIN
	INSERT INTO hostile.result SELECT path, 'acquire', status FROM public.lease_acquire('l', 'me', '1 h');
	INSERT INTO hostile.result SELECT path, 'renew', status FROM public.lease_renew('l', 'me');
	INSERT INTO hostile.result SELECT path, 'renew_all', status FROM public.lease_renew_all('me', ARRAY['l']);
	INSERT INTO hostile.result SELECT path, 'renew_all without names', status FROM public.lease_renew_all('me');
	INSERT INTO hostile.result SELECT path, 'holder', public.lease_holder('l');
	INSERT INTO hostile.result SELECT path, 'is_held', public.lease_is_held('l', 'me')::pg_catalog.text;
	INSERT INTO hostile.result SELECT path, 'lease_status', status FROM public.lease_status;
	INSERT INTO hostile.result SELECT path, 'kubectl_get_leases', (age OPERATOR(pg_catalog.~) '^\d+s$')::pg_catalog.text FROM public.kubectl_get_leases;
	INSERT INTO public.lease (name) VALUES ('by-hand');
	INSERT INTO hostile.result SELECT path, 'insert by hand', (uid IS NOT NULL AND fencing_token OPERATOR(pg_catalog.>) 1)::pg_catalog.text
	FROM public.lease WHERE name OPERATOR(pg_catalog.=) 'by-hand';
	INSERT INTO hostile.result SELECT path, 'release', status FROM public.lease_release('l', 'me');
	DELETE FROM public.lease;
END $$;
DELETE FROM lease;
SELECT pg_temp.round('direct');
CREATE FUNCTION pg_temp.unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER by_executor BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged();
SELECT pg_temp.round('executor');
DROP TRIGGER by_executor ON lease;

SELECT is(r.answer, v.answer, 'in a hostile search_path, ' || p.path || ': ' || v.step)
FROM (VALUES ('direct'), ('executor')) p (path)
CROSS JOIN (VALUES ('acquire', 'acquired'), ('renew', 'renewed'), ('renew_all', 'renewed'), ('renew_all without names', 'renewed'),
	('holder', 'me'), ('is_held', 'true'), ('lease_status', 'held'), ('kubectl_get_leases', 'true'), ('insert by hand', 'true'),
	('release', 'released')) v (step, answer)
LEFT JOIN hostile.result r USING (path, step);
SELECT is_empty('SELECT FROM hostile.lease', 'the other table is untouched');
SELECT is(last_value || ' ' || is_called, '1 false', 'and so is the other sequence') FROM hostile.lease_fencing_token_seq;

-- a temporary table hides every other one of its name
CREATE TEMP TABLE lease (LIKE public.lease);
SELECT is(status, 'acquired', 'beside a temporary table called lease: acquire') FROM lease_acquire('l', 'me', '1 h');
SELECT is(status, 'renewed', 'beside a temporary table called lease: renew') FROM lease_renew('l', 'me');
SELECT results_eq($$SELECT * FROM lease_renew_all('me')$$, $$VALUES ('renewed', 1::bigint, NULL)$$, 'beside a temporary table called lease: renew all');
SELECT is(status, 'held', 'beside a temporary table called lease: look') FROM lease_status;
SELECT is_empty('SELECT FROM pg_temp.lease', 'the temporary table is untouched');
DROP TABLE pg_temp.lease;

-- no search_path at all
SET LOCAL search_path = '';
SELECT status AS renewed FROM public.lease_renew('l', 'me') \gset
SELECT status AS released FROM public.lease_release('l', 'me') \gset
SET LOCAL search_path = public;
SELECT is(:'renewed'::text, 'renewed', 'with an empty search_path: renew');
SELECT is(:'released'::text, 'released', 'with an empty search_path: release');

-- The extension in another schema, made by a session that has used it in this one; and that schema
-- renamed when the session has used it there.
CREATE SCHEMA elsewhere;
DROP EXTENSION lease;
CREATE EXTENSION lease SCHEMA elsewhere;
CREATE TRIGGER by_executor BEFORE UPDATE ON elsewhere.lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged();
SELECT is(status, 'acquired', 'in another schema, by the executor: acquire') FROM elsewhere.lease_acquire('l', 'me', '1 h');
SELECT is(status, 'renewed', 'in another schema, by the executor: renew') FROM elsewhere.lease_renew('l', 'me');
DROP TRIGGER by_executor ON elsewhere.lease;
SELECT is(status, 'renewed', 'in another schema, directly') FROM elsewhere.lease_renew('l', 'me');
ALTER SCHEMA elsewhere RENAME TO "Odd ""Name";
SELECT is(string_agg(status, ', '), 'renewed, renewed, released, acquired', 'and when that is renamed, to something that needs quoting') FROM (
	SELECT status FROM "Odd ""Name".lease_renew('l', 'me')
	UNION ALL SELECT status FROM "Odd ""Name".lease_renew_all('me')
	UNION ALL SELECT status FROM "Odd ""Name".lease_release('l', 'me')
	UNION ALL SELECT status FROM "Odd ""Name".lease_acquire('l', 'me')) s;
SELECT throws_ok('ALTER EXTENSION lease SET SCHEMA public', '0A000', NULL, 'the extension itself is not relocatable');
ALTER TABLE "Odd ""Name".lease RENAME TO rent;
SELECT throws_ok($$SELECT "Odd ""Name".lease_renew('l', 'me')$$, '42P01', 'relation "lease" does not exist in the schema of the extension',
	'without its table a function says so, and does not look for another');

SELECT * FROM finish();
ROLLBACK;
