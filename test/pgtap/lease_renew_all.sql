-- lease_renew_all(): many leases in one statement; a row for each that was not renewed.
BEGIN;
SELECT plan(27);

SELECT is(pg_get_function_arguments('lease_renew_all'::regproc),
	'holder text, names text[] DEFAULT NULL::text[], namespace text DEFAULT ''default''::text', 'arguments and defaults are those of the reference');
SELECT is(pg_get_function_result('lease_renew_all'::regproc), 'TABLE(status text, leases bigint, name text)', 'and so is the result');

INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('default', 'a', 'me', 60, clock_timestamp() - interval '30 s'),
	('default', 'b', 'me', 60, clock_timestamp() - interval '30 s'),
	('default', 'c', 'me', 60, clock_timestamp() - interval '61 s'),
	('default', 'd', 'you', 60, clock_timestamp() - interval '30 s'),
	('default', 'e', '', 1, clock_timestamp()),
	('other', 'a', 'me', 60, clock_timestamp() - interval '30 s');
CREATE TEMP TABLE before AS SELECT * FROM lease;

SELECT results_eq($$SELECT * FROM lease_renew_all('me')$$,
	$$VALUES ('renewed', 2::bigint, NULL), ('expired', 1, 'c')$$, 'all leases of the holder in the namespace are tried');
SELECT set_eq($$SELECT namespace, name FROM lease l JOIN before b USING (namespace, name) WHERE l.renew_time > b.renew_time$$,
	$$VALUES ('default', 'a'), ('default', 'b')$$, 'the valid ones were renewed, and no others');
SELECT is_empty($$SELECT FROM lease l JOIN before b USING (namespace, name) WHERE l.fencing_token <> b.fencing_token$$,
	'no token has changed');
SELECT is_empty($$SELECT FROM lease l JOIN before b USING (namespace, name)
	WHERE (l.renew_time <= b.renew_time) <> (l.resource_version = b.resource_version)$$, 'resource_version has moved with each renewal, and with nothing else');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', namespace => 'other')$$,
	$$VALUES ('renewed', 1::bigint, NULL)$$, 'leases in another namespace are renewed by a call of their own');
SELECT results_eq($$SELECT * FROM lease_renew_all('nobody')$$,
	$$VALUES ('renewed', 0::bigint, NULL)$$, 'a holder of nothing renews nothing');

SELECT results_eq($$SELECT * FROM lease_renew_all('me', '{e,missing,d,c,a,a}')$$,
	$$VALUES ('renewed', 1::bigint, NULL), ('expired', 1, 'c'), ('held', 1, 'd'), ('free', 1, 'e'), ('missing', 1, 'missing')$$,
	'by names: in the order of the names, each once, with the reason of each that was not renewed');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', '{}')$$,
	$$VALUES ('renewed', 0::bigint, NULL)$$, 'no names, no leases');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', '[7:8]={b,c}')$$,
	$$VALUES ('renewed', 1::bigint, NULL), ('expired', 1, 'c')$$, 'an array need not begin at 1');
SELECT results_eq($$SELECT * FROM lease_renew_all('m', '{a}')$$,
	$$VALUES ('renewed', 0::bigint, NULL), ('held', 1, 'a')$$, 'holders are compared as a whole');
SELECT is_empty($$SELECT FROM lease WHERE name = 'missing'$$, 'nothing is made');

SELECT throws_ok($$SELECT lease_renew_all('me', '{a,NULL}')$$, '22004', 'lease name must not be null', 'a NULL among the names is an error');
SELECT throws_ok($$SELECT lease_renew_all('me', '{{a},{b}}')$$, '2202E', 'array of lease names must have one dimension', 'a matrix of names is an error');
SELECT throws_ok($$SELECT lease_renew_all('me', '{a,B}')$$, '42602', 'invalid lease name "B"', 'an invalid name among them is an error');
SELECT throws_ok($$SELECT lease_renew_all(NULL)$$, '22004', 'lease holder must not be null', 'a NULL holder is an error');
SELECT throws_ok($$SELECT lease_renew_all('me', NULL, NULL)$$, '22004', 'lease namespace must not be null', 'a NULL namespace is an error');

-- in the order of the names' bytes, both ways: that is the order in which rows are locked
INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time)
SELECT 'order', name, 'me', 1, clock_timestamp() - interval '1 h'
FROM unnest('{b,a.b,aa,a-b,a,a0,a-b-c}'::text[]) name;
SELECT results_eq($$SELECT name FROM lease_renew_all('me', namespace => 'order') WHERE status = 'expired'$$,
	$$VALUES ('a'), ('a-b'), ('a-b-c'), ('a.b'), ('a0'), ('aa'), ('b')$$, 'without names: in the order of the primary key');
SELECT results_eq($$SELECT name FROM lease_renew_all('me', '{b,a.b,aa,a-b,a,a0,a-b-c}', 'order') WHERE status = 'expired'$$,
	$$VALUES ('a'), ('a-b'), ('a-b-c'), ('a.b'), ('a0'), ('aa'), ('b')$$, 'by names: in the same order');

INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time)
SELECT 'many', 'n' || n, 'me', 60, clock_timestamp() - interval '30 s' FROM generate_series(1, 5000) n;
SELECT results_eq($$SELECT * FROM lease_renew_all('me', namespace => 'many')$$,
	$$VALUES ('renewed', 5000::bigint, NULL)$$, 'thousands of leases are renewed in one call');
SELECT is(count(*), 5000::bigint, 'and all of them are there, once')
FROM lease WHERE namespace = 'many' AND renew_time > clock_timestamp() - interval '20 s';

-- some of many, near each other and far away, and missing ones between and around them
CREATE TEMP TABLE wanted AS
SELECT 'n' || n AS name FROM generate_series(1, 5000) n WHERE n % 2 = 0 AND n < 200 OR n % 171 = 0
UNION SELECT unnest('{a,n,n10-no,n2000-no,n999-no,nn,z}'::text[]);
UPDATE lease SET renew_time = clock_timestamp() - interval '30 s' WHERE namespace = 'many';
SELECT results_eq($$SELECT * FROM lease_renew_all('me', (SELECT array_agg(name ORDER BY random()) FROM wanted), 'many')$$,
	$$SELECT 'renewed', count(*) - 7, NULL FROM wanted UNION ALL SELECT 'missing', 1, unnest('{a,n,n10-no,n2000-no,n999-no,nn,z}'::text[])$$,
	'some of them, and what is missing between them');
SELECT set_eq($$SELECT name FROM lease WHERE namespace = 'many' AND renew_time > clock_timestamp() - interval '20 s'$$,
	$$SELECT name FROM wanted JOIN lease USING (name) WHERE namespace = 'many'$$, 'these were renewed, and no others');
SELECT results_eq($$SELECT sum(leases)::bigint FROM (SELECT (lease_renew_all('me', NULL, 'many')).* UNION ALL SELECT (lease_renew_all('me', ARRAY(SELECT name FROM wanted), 'many')).*) r
	WHERE status = 'renewed'$$, $$SELECT 5000 + count(*) - 7 FROM wanted$$, 'renewed again in the same statement');

-- a holder of few among many: the first of them are found on the way past all, the rest by a search
CREATE TEMP TABLE few AS
SELECT name COLLATE "default" AS name, nth % 2500 = 50 AS expired
FROM (SELECT name, row_number() OVER (ORDER BY name) AS nth FROM lease WHERE namespace = 'many') l WHERE nth % 100 = 50;
UPDATE lease l SET holder_identity = coalesce((SELECT 'few' FROM few f WHERE f.name = l.name), 'me'),
	renew_time = clock_timestamp() - CASE WHEN name IN (SELECT name FROM few WHERE expired) THEN interval '61 s' ELSE interval '30 s' END
WHERE namespace = 'many';
SELECT results_eq($$SELECT * FROM lease_renew_all('few', namespace => 'many')$$,
	$$SELECT 'renewed', 48::bigint, NULL UNION ALL SELECT 'expired', 1, name FROM few WHERE expired$$, 'of many leases, the few of a holder');
SELECT set_eq($$SELECT name FROM lease WHERE namespace = 'many' AND renew_time > clock_timestamp() - interval '20 s'$$,
	$$SELECT name FROM lease WHERE namespace = 'many' AND holder_identity = 'few' AND name NOT IN (SELECT name FROM few WHERE expired)$$, 'these were renewed, and no others');

SELECT * FROM finish();
ROLLBACK;
