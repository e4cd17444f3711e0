-- The table lease_gc_policy: what it accepts, and that an INSERT replaces.  What its rows do is in
-- lease_gc.sql, that they survive pg_dump in test/t/077_collection.pl.
BEGIN;
SELECT no_plan();

SELECT results_eq('SELECT name, namespace, selector, expired_for, batch_size, enabled FROM lease_gc_policy ORDER BY name',
	$$VALUES ('apiserver-identity', 'kube-system' COLLATE "C", 'apiserver.kubernetes.io/identity=kube-apiserver', interval '0', 1000, true),
		('apiserver-identity-1.26', 'kube-system', 'k8s.io/component=kube-apiserver', '0', 1000, true)$$, 'the first policies are those of Kubernetes');

-- ---------- Bad policies ----------

CREATE FUNCTION pg_temp.refused_by(policy jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	INSERT INTO lease_gc_policy SELECT (jsonb_populate_record(NULL::lease_gc_policy,
		'{"name": "p", "selector": "a=b", "expired_for": "0", "batch_size": 10, "enabled": true}' || policy)).*;
	RETURN 'nothing';
EXCEPTION WHEN check_violation OR not_null_violation THEN
	GET STACKED DIAGNOSTICS result = CONSTRAINT_NAME;
	RETURN coalesce(nullif(result, ''), SQLERRM);
END
$$;
SELECT is(pg_temp.refused_by(policy::jsonb), expected, policy || ' is refused by ' || expected)
FROM (VALUES
	('{}', 'nothing'),
	('{"namespace": "a.b"}', 'lease_gc_policy_namespace_check'),
	('{"namespace": ""}', 'lease_gc_policy_namespace_check'),
	('{"selector": "a=="}', 'nothing'),
	('{"selector": "a in ("}', 'lease_gc_policy_selector_check'),
	('{"selector": "=b"}', 'lease_gc_policy_selector_check'),
	('{"selector": ""}', 'nothing'),
	('{"expired_for": "-1 s"}', 'lease_gc_policy_expired_for_check'),
	('{"expired_for": "1 month"}', 'lease_gc_policy_expired_for_check'),
	('{"expired_for": "24856 days"}', 'lease_gc_policy_expired_for_check'),
	('{"expired_for": "24855 days"}', 'nothing'),
	('{"expired_for": "-24 h 1 day 1 s"}', 'nothing'),
	('{"expired_for": "1 day -25 h"}', 'lease_gc_policy_expired_for_check'),
	('{"expired_for": "-1 month 60 days"}', 'lease_gc_policy_expired_for_check'),
	('{"expired_for": "-1 year 400 days"}', 'lease_gc_policy_expired_for_check'),
	('{"batch_size": 0}', 'lease_gc_policy_batch_size_check'),
	('{"batch_size": 1000}', 'nothing'),
	('{"batch_size": 1001}', 'lease_gc_policy_batch_size_check')) v (policy, expected);
SELECT throws_ok($$INSERT INTO lease_gc_policy (name) VALUES ('p')$$, '23502', NULL, 'a policy without a selector is no policy for all');
SELECT throws_ok($$INSERT INTO lease_gc_policy (selector) VALUES ('')$$, '23502', NULL, 'nor without a name');

-- ---------- INSERT replaces ----------

INSERT INTO lease_gc_policy (name, selector, batch_size) VALUES ('apiserver-identity', 'x=y', 7);
SELECT results_eq($$SELECT namespace, selector, batch_size FROM lease_gc_policy WHERE name = 'apiserver-identity'$$,
	$$VALUES (NULL COLLATE "C", 'x=y', 7)$$, 'an INSERT replaces the policy of the same name');
SELECT is(count(*), 3::bigint, '... and no other') FROM lease_gc_policy;
SELECT throws_ok($$UPDATE lease_gc_policy SET selector = 'a in ('$$, '23514',
	'new row for relation "lease_gc_policy" violates check constraint "lease_gc_policy_selector_check"', 'nor does an UPDATE make a bad one');
SELECT throws_ok($$UPDATE lease_gc_policy SET name = 'p'$$, '23505', NULL, '... or two of one name');
INSERT INTO lease_gc_policy (name, selector) VALUES ('twice', 'a'), ('twice', 'b');
SELECT results_eq($$SELECT selector FROM lease_gc_policy WHERE name = 'twice'$$, ARRAY['b'], 'of two in one INSERT the last stays');
INSERT INTO lease_gc_policy (name, selector) VALUES ('twice', 'c') ON CONFLICT (name) DO NOTHING;
SELECT results_eq($$SELECT selector FROM lease_gc_policy WHERE name = 'twice'$$, ARRAY['c'], 'ON CONFLICT makes no difference');
DELETE FROM lease_gc_policy WHERE name = 'twice';
SELECT lives_ok($$UPDATE lease_gc_policy SET expired_for = '1 day'; DELETE FROM lease_gc_policy WHERE name = 'p'$$, 'UPDATE and DELETE are as usual');

CREATE TABLE other (name text);
CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION lease_gc_policy_on_insert();
SELECT throws_ok('INSERT INTO other VALUES (1)', '39P01', NULL, 'the trigger''s function is for this table only');
CREATE TRIGGER t BEFORE UPDATE ON lease_gc_policy FOR EACH ROW EXECUTE FUNCTION lease_gc_policy_on_insert();
SELECT throws_ok($$UPDATE lease_gc_policy SET selector = 'a'$$, '39P01', NULL, '... and for INSERT');
DROP TRIGGER t ON lease_gc_policy;
SELECT throws_ok('SELECT lease_gc_policy_on_insert()', '39P01', NULL, '... and not to be called');

-- ---------- Privileges ----------

CREATE ROLE lease_test_policy;
GRANT SELECT, UPDATE, DELETE ON lease TO lease_test_policy;
SET LOCAL ROLE lease_test_policy;
SELECT throws_ok('SELECT FROM lease_gc_policy', '42501', NULL, 'who may collect may not read policies');
SELECT throws_ok($$INSERT INTO lease_gc_policy (name, selector) VALUES ('all', '')$$, '42501', NULL, '... nor write them');
SELECT lives_ok('SELECT FROM lease_gc()', '... but collects by them');
RESET ROLE;
GRANT INSERT ON lease_gc_policy TO lease_test_policy;
SET LOCAL ROLE lease_test_policy;
SELECT throws_ok($$INSERT INTO lease_gc_policy (name, selector) VALUES ('apiserver-identity', '')$$, '42501', NULL, 'an INSERT may replace, so it takes DELETE');
RESET ROLE;
GRANT SELECT, DELETE ON lease_gc_policy TO lease_test_policy;
SET LOCAL ROLE lease_test_policy;
SELECT lives_ok($$INSERT INTO lease_gc_policy (name, selector) VALUES ('mine', '')$$, '... and with that it is allowed');
RESET ROLE;

-- ---------- lease_valid_selector() ----------

SELECT is(lease_valid_selector(selector), expected, 'selector ' || quote_literal(selector))
FROM (VALUES ('', true), ('a', true), ('!a', true), ('a=b', true), ('a==b', true), ('a!=b', true), ('a=', true), ('a in (b,c)', true), ('a notin (b)', true),
	('a=b,c in (d),!e', true), (' a = b ', true), ('example.com/a=b', true), ('a>1', true), ('a<1', true), ('a in ()', true),
	('=', false), ('a=b=c', false), ('a,,b', false), ('a in', false), ('a in b', false), ('a in (b', false), ('-a', false), ('a=b c', false),
	('a=-', false), ('!', false), (',', false), ('a>x', false), (repeat('k', 64) || '=v', false), ('a=' || repeat('v', 64), false)) v (selector, expected);

SELECT * FROM finish();
ROLLBACK;
