-- lease_renew_all(): many leases in one statement; a row for each that was not renewed.
BEGIN;
SELECT plan(15);

INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time) VALUES
	('default', 'a', 'me', 60, clock_timestamp() - interval '30 s'),
	('default', 'b', 'me', 60, clock_timestamp() - interval '30 s'),
	('default', 'c', 'me', 60, clock_timestamp() - interval '61 s'),
	('default', 'd', 'you', 60, clock_timestamp() - interval '30 s'),
	('default', 'e', '', 1, clock_timestamp()),
	('other', 'a', 'me', 60, clock_timestamp() - interval '30 s');
CREATE TEMP TABLE before AS SELECT * FROM lease;

SELECT results_eq($$SELECT * FROM lease_renew_all('me')$$,
	$$VALUES ('renewed', 2::bigint, NULL), ('expired', 1, 'c')$$, 'all leases of the holder in the namespace');
SELECT set_eq($$SELECT namespace, name FROM lease l JOIN before b USING (namespace, name) WHERE l.renew_time > b.renew_time$$,
	$$VALUES ('default', 'a'), ('default', 'b')$$, 'the valid ones were renewed, and no others');
SELECT is_empty($$SELECT FROM lease l JOIN before b USING (namespace, name) WHERE l.fencing_token <> b.fencing_token$$,
	'no token has changed');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', namespace => 'other')$$,
	$$VALUES ('renewed', 1::bigint, NULL)$$, 'another namespace');
SELECT results_eq($$SELECT * FROM lease_renew_all('nobody')$$,
	$$VALUES ('renewed', 0::bigint, NULL)$$, 'a holder of nothing');

SELECT results_eq($$SELECT * FROM lease_renew_all('me', '{e,missing,d,c,a,a}')$$,
	$$VALUES ('renewed', 1::bigint, NULL), ('expired', 1, 'c'), ('held', 1, 'd'), ('free', 1, 'e'), ('missing', 1, 'missing')$$,
	'by names: in the order of the names, each once, with the reason of each that was not renewed');
SELECT results_eq($$SELECT * FROM lease_renew_all('me', '{}')$$,
	$$VALUES ('renewed', 0::bigint, NULL)$$, 'no names');
SELECT is_empty($$SELECT FROM lease WHERE name = 'missing'$$, 'nothing is made');

SELECT throws_ok($$SELECT lease_renew_all('me', '{a,NULL}')$$, '22004', 'lease name must not be null', 'a NULL among the names');
SELECT throws_ok($$SELECT lease_renew_all('me', '{{a},{b}}')$$, '2202E', 'array of lease names must have one dimension', 'a matrix of names');
SELECT throws_ok($$SELECT lease_renew_all('me', '{a,B}')$$, '42602', 'invalid lease name "B"', 'an invalid name among them');
SELECT throws_ok($$SELECT lease_renew_all(NULL)$$, '22004', 'lease holder must not be null', 'no holder');
SELECT throws_ok($$SELECT lease_renew_all('me', NULL, NULL)$$, '22004', 'lease namespace must not be null', 'no namespace');

INSERT INTO lease (namespace, name, holder_identity, lease_duration_seconds, renew_time)
SELECT 'many', 'n' || n, 'me', 60, clock_timestamp() - interval '30 s' FROM generate_series(1, 5000) n;
SELECT results_eq($$SELECT * FROM lease_renew_all('me', namespace => 'many')$$,
	$$VALUES ('renewed', 5000::bigint, NULL)$$, 'thousands in one call');
SELECT is(count(*), 5000::bigint, 'and all are there')
FROM lease WHERE namespace = 'many' AND renew_time > clock_timestamp() - interval '20 s';

SELECT * FROM finish();
ROLLBACK;
