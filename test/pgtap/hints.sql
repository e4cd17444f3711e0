-- What a newcomer gets wrong: the error names the next step.
BEGIN;
SELECT no_plan();

-- The hint of the error that a statement ends in
CREATE FUNCTION pg_temp.hint(statement text, role text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN others THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN hint;
END $$;

CREATE ROLE lease_test_newcomer;
CREATE ROLE lease_test_looker;
CREATE ROLE lease_test_app;
GRANT SELECT ON lease TO lease_test_looker;
GRANT SELECT, INSERT, UPDATE ON lease TO lease_test_app;
SELECT FROM lease_acquire('l', 'me', '1 h');
CREATE TABLE fenced (i int);
CREATE TRIGGER fence BEFORE INSERT ON fenced FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
CREATE TABLE fenced_late (i int);
CREATE TRIGGER fence AFTER INSERT ON fenced_late FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
CREATE TABLE fenced_without (i int);
CREATE TRIGGER fence BEFORE INSERT ON fenced_without FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger();

SELECT matches(pg_temp.hint(statement, role), hint, format('as %s: %s', role, statement)) FROM (VALUES
	-- arguments
	('none', $$SELECT lease_acquire('l', NULL)$$, '^Pass what tells this process from all others'),
	('none', $$SELECT lease_acquire('l', '')$$, '^Pass what tells this process from all others'),
	('none', $$SELECT lease_acquire('My_Lease', 'me')$$, 'for example "nightly-report"'),
	('none', $$SELECT lease_acquire('l', 'me', namespace => 'A')$$, 'for example "kube-system"'),
	('none', $$SELECT lease_acquire('l', 'me', '-1 s')$$, 'for example ''30 s'''),
	('none', $$SELECT lease_acquire('l', 'me', '0.5 s')$$, 'for example ''30 s'''),
	('none', $$SELECT lease_acquire('l', 'me', wait => '1 month')$$, 'for example ''30 s'''),
	('none', $$SELECT lease_renew('l', 'me', fencing_token => 0)$$, 'that lease_acquire\(\) returned'),
	('none', $$SELECT lease_renew_all('me', '{{a},{b}}')$$, '''{a,b,c}'''),
	('none', $$SELECT lease_handover('l', 'me', 'me')$$, 'call lease_renew\(\)'),
	('none', $$CALL lease_gc_all()$$, 'or lease_gc\(\) instead'),
	('none', $$SELECT lease_node_apply('{}')$$, 'kubectl get node NAME -o json'),
	-- guards
	('none', $$SELECT lease_guard('l', NULL)$$, 'lease_acquire\(\) returns NULL'),
	('none', $$SELECT lease_guard('l', 1)$$, 'acquire it again'),
	('none', $$SELECT lease_guard('nosuch', 1)$$, 'acquire it again'),
	('none', $$INSERT INTO fenced VALUES (1)$$, 'Call lease_guard\(\) before'),
	('none', $$INSERT INTO fenced_late VALUES (1)$$, 'BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE'),
	('none', $$INSERT INTO fenced_without VALUES (1)$$, 'lease_guard_trigger\(''namespace'', ''name''\)'),
	-- by hand
	('none', $$UPDATE lease SET name = 'm'$$, 'Delete the lease'),
	('none', $$UPDATE lease SET fencing_token = 1$$, 'changes by itself'),
	('none', $$UPDATE lease SET renew_time = 'infinity'$$, 'set the column to NULL'),
	('lease_test_app', $$UPDATE lease SET holder_identity = 'you'$$, 'Call lease_acquire\(\)'),
	-- privileges
	('lease_test_newcomer', $$SELECT lease_acquire('l', 'me')$$, 'GRANT SELECT, INSERT, UPDATE ON lease'),
	('lease_test_newcomer', $$SELECT lease_renew('l', 'me')$$, 'GRANT SELECT, INSERT, UPDATE ON lease'),
	('lease_test_newcomer', $$SELECT lease_guard('l', 1)$$, 'GRANT SELECT, INSERT, UPDATE ON lease'),
	('lease_test_newcomer', $$SELECT lease_holder('l')$$, 'GRANT SELECT ON lease'),
	('lease_test_looker', $$SELECT lease_acquire('l', 'me')$$, 'GRANT SELECT, INSERT, UPDATE ON lease'),
	-- kubectl
	('none', $$SELECT kubectl(NULL)$$, 'kubectl\(''get leases -A''\)'),
	('none', $$SELECT kubectl('')$$, 'kubectl\(''get leases -A''\)'),
	('none', $$SELECT kubectl('edit lease l')$$, 'There are get, describe'),
	('none', $$SELECT kubectl('get leases -w')$$, 'LISTEN lease'),
	('none', $$SELECT kubectl('apply -f l.yaml')$$, 'manifest => '),
	('none', $$SELECT kubectl('apply -f -')$$, 'manifest => '),
	('none', $$SELECT kubectl('get leases | grep l')$$, 'No shell')) v (role, statement, hint);
SELECT set_config('role', 'none', true) AS role \gset

-- What the server itself says needs no more: SELECT lease_gc_all() and CALL lease_acquire(...) name the other way
SELECT matches(pg_temp.hint('SELECT lease_await(''l'', ''me'')', 'none'), 'CALL', 'a procedure is called');

SELECT * FROM finish();
ROLLBACK;
