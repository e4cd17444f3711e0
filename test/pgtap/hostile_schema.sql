-- A schema first in search_path in which everything has a double that raises an error
-- when it is used: all functions and operators of pg_catalog and of the extension, the
-- types, and the tables; more of them in pg_temp.  No function, view, trigger,
-- constraint or default of ours may meet one.  See also search_path.sql.
BEGIN;
SELECT no_plan();

CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
CREATE FUNCTION pg_temp.try(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN true;
EXCEPTION WHEN others THEN
	RETURN false;		-- cannot be doubled: of no use to an attacker either
END $$;

-- functions
CREATE TEMP TABLE double AS
SELECT p.oid::regprocedure AS original, pg_temp.try(format(
		'CREATE FUNCTION hostile.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS $f$BEGIN RAISE EXCEPTION ''hijacked: %s''; END$f$',
		p.proname, pg_get_function_identity_arguments(p.oid), CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END || p.prorettype::regtype, CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END, p.proname)) AS made
FROM pg_proc p
WHERE p.prokind = 'f' AND (p.pronamespace = 'pg_catalog'::regnamespace AND p.prorettype NOT IN ('internal'::regtype, 'cstring'::regtype, 'trigger'::regtype, 'event_trigger'::regtype)
	OR p.oid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_proc'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'lease')));
SELECT cmp_ok(count(*), '>', 1000::bigint, 'functions of pg_catalog have doubles') FROM double WHERE made;
SELECT is((SELECT string_agg(f, ', ') FROM unnest(ARRAY['clock_timestamp()', 'gen_random_uuid()', 'nextval(regclass)', 'tstzrange(timestamptz,timestamptz)', 'date_trunc(text,timestamptz)',
	'lease_expires_at(text,timestamptz,integer,bigint)', 'lease_clock()', 'lease_age(timestamptz,timestamptz)', 'lease_valid_name(text)', 'lease_valid_labels(jsonb)', 'lease_waiters()']) f
	WHERE f::regprocedure NOT IN (SELECT original FROM double WHERE made)), NULL, 'so have those that defaults, constraints and views use');

-- operators
CREATE FUNCTION hostile.hijack(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'hijacked: operator'; END$$;
TRUNCATE double;
ALTER TABLE double ALTER original TYPE regoperator USING NULL;
INSERT INTO double
SELECT o.oid, pg_temp.try(format('CREATE FUNCTION hostile.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$BEGIN RAISE EXCEPTION ''hijacked: operator''; END$f$',
		'operator_' || o.oid, o.oprleft::regtype, o.oprright::regtype, o.oprresult::regtype))
	AND pg_temp.try(format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.%I)', o.oprname, o.oprleft::regtype, o.oprright::regtype, 'operator_' || o.oid))
FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b';
SELECT cmp_ok(count(*), '>', 500::bigint, 'operators have doubles') FROM double WHERE made;
SELECT is((SELECT string_agg(o, ', ') FROM unnest(ARRAY['=(text,text)', '<>(text,text)', '||(text,text)', '>(timestamptz,timestamptz)', '<=(timestamptz,timestamptz)', '-(timestamptz,timestamptz)',
	'+(timestamptz,interval)', '=(bigint,bigint)', '@>(jsonb,jsonb)', '<(text,text)']) o WHERE o::regoperator NOT IN (SELECT original FROM double WHERE made)), NULL,
	'so have those that our statements and views use');

-- types, and tables; no cast can be made between built-in types by who does not own them
CREATE DOMAIN hostile.text AS pg_catalog.int4;
CREATE DOMAIN hostile.timestamptz AS pg_catalog.int4;
CREATE DOMAIN hostile."interval" AS pg_catalog.int4;
CREATE DOMAIN hostile.jsonb AS pg_catalog.int4;
CREATE DOMAIN hostile.int8 AS pg_catalog.bool;
CREATE DOMAIN hostile.regclass AS pg_catalog.int4;
CREATE COLLATION hostile."C" FROM pg_catalog."POSIX";
CREATE TABLE hostile.lease (LIKE lease);
CREATE TABLE hostile.lease_history (LIKE lease_history);
CREATE TABLE hostile.lease_status AS SELECT 'hijacked'::pg_catalog.text AS status;
CREATE TABLE hostile.lease_holdings AS SELECT 'hijacked'::pg_catalog.text AS holder_identity;
CREATE TABLE hostile.pg_class (LIKE pg_catalog.pg_class);
CREATE SEQUENCE hostile.lease_fencing_token_seq;
GRANT ALL ON ALL TABLES IN SCHEMA hostile TO PUBLIC;
CREATE TEMP TABLE calls (n serial, role text, call text, answer text);
CREATE TEMP TABLE lease (LIKE public.lease);
CREATE TEMP TABLE lease_history (LIKE public.lease_history);
CREATE TEMP SEQUENCE lease_fencing_token_seq;
CREATE DOMAIN pg_temp.text AS pg_catalog.int4;
CREATE DOMAIN pg_temp.timestamptz AS pg_catalog.int4;
GRANT ALL ON pg_temp.lease, pg_temp.lease_history TO PUBLIC;

-- The calls, each in that search_path
CREATE FUNCTION pg_temp.answer(role pg_catalog.text, statement pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
	answer pg_catalog.text := 'done';
BEGIN
	PERFORM pg_catalog.set_config('role', role, true), pg_catalog.set_config('search_path', 'hostile, pg_temp, public, pg_catalog', true);
	BEGIN
		IF pg_catalog.starts_with(statement, 'SELECT') THEN
			EXECUTE statement INTO answer;
		ELSE
			EXECUTE statement;
		END IF;
	EXCEPTION WHEN others THEN
		answer := pg_catalog.concat(sqlstate, ' ', sqlerrm);
	END;
	PERFORM pg_catalog.set_config('search_path', 'public', true), pg_catalog.set_config('role', 'none', true);
	RETURN answer;
END $$;
INSERT INTO calls (call, answer) VALUES
	('SELECT l.status FROM public.lease_acquire(''l'', ''me'', ''1 h'') l', 'acquired'),
	('SELECT l.status FROM public.lease_acquire(''l'', ''me'', ''1 h'') l', 'renewed'),
	('SELECT l.status FROM public.lease_acquire(''l'', ''me'', ''2 h'') l', 'renewed'),
	('SELECT l.status FROM public.lease_acquire(''l'', ''you'', ''1 h'') l', 'held'),
	('SELECT l.status FROM public.lease_acquire(''l'', ''you'', ''1 h'', wait => ''1 ms'') l', 'held'),
	('SELECT l.status FROM public.lease_renew(''l'', ''me'') l', 'renewed'),
	('SELECT l.status FROM public.lease_renew_all(''me'') l', 'renewed'),
	('SELECT l.status FROM public.lease_renew_all(''me'', ''{l}'') l', 'renewed'),
	('SELECT public.lease_holder(''l'')', 'me'),
	('SELECT public.lease_is_held(''l'', ''me'')', 'true'),
	('INSERT INTO public.fenced DEFAULT VALUES', 'LS001 cannot write to table "fenced" without holding lease "l" in namespace "default"'),
	('SELECT public.lease_guard(''l'', 999999999)', 'LS001 lease "l" in namespace "default" is not held under fencing token 999999999'),
	('SELECT public.lease_guard(''l'', l.fencing_token) FROM public.lease l WHERE l.name OPERATOR(pg_catalog.=) ''l''', ''),
	('INSERT INTO public.fenced DEFAULT VALUES', 'done'),
	('UPDATE public.fenced SET i = DEFAULT', 'done'),
	('DELETE FROM public.fenced', 'done'),
	('SELECT s.status FROM public.lease_status s WHERE s.name OPERATOR(pg_catalog.=) ''l''', 'held'),
	('SELECT h.holder_identity FROM public.lease_holdings h WHERE h.name OPERATOR(pg_catalog.=) ''l''', 'me'),
	('SELECT k.holder FROM public.kubectl_get_leases k WHERE k.name OPERATOR(pg_catalog.=) ''l''', 'me'),
	('SELECT w.name FROM public.lease_waiters() w', NULL),
	('SELECT s.namespace FROM public.lease_stat s WHERE s.namespace OPERATOR(pg_catalog.=) ''default''', 'default'),
	('SELECT s.waiting FROM public.lease_stat_database s', '0'),
	('SELECT k.lock_mode FROM public.lease_lockers k WHERE k.name OPERATOR(pg_catalog.=) ''l''', 'FOR NO KEY UPDATE'),
	('SELECT w.warning FROM public.lease_warnings w WHERE w.warning OPERATOR(pg_catalog.=) ''not durable''', 'not durable'),
	('SELECT c.steps FROM public.lease_clock_steps() c', '0'),
	('SELECT l.status FROM public.lease_handover(''l'', ''me'', ''you'') l', 'handed_over'),
	('SELECT l.status FROM public.lease_acquire(''l'', ''me'') l', 'reserved'),
	('SELECT l.status FROM public.lease_acquire(''l'', ''you'', hold_at_least => ''1 ms'', lock_delay => ''1 s'', session => true) l', 'acquired'),
	('SELECT l.status FROM public.lease_release(''l'', ''you'') l', 'released'),
	('CALL public.lease_await(''l'', ''us'', wait => ''10 s'')', 'done'),
	('INSERT INTO public.lease (name, labels, annotations, finalizers) VALUES (''by-hand'', ''{"a": "b"}'', ''{"a": "b"}'', ''{a}'')', 'done'),
	('UPDATE public.lease SET labels = ''{}'' WHERE name OPERATOR(pg_catalog.=) ''by-hand''', 'done'),
	('UPDATE public.lease SET labels = ''{"": ""}'' WHERE name OPERATOR(pg_catalog.=) ''by-hand''', '23514 new row for relation "lease" violates check constraint "lease_labels_check"'),
	('INSERT INTO public.lease (namespace, name, labels) VALUES (''kube-system'', ''old'', ''{"k8s.io/component": "kube-apiserver"}'')', 'done'),
	('SELECT g.collected FROM public.lease_gc() g', '1'),
	('DELETE FROM public.lease WHERE name OPERATOR(pg_catalog.=) ''l''', 'done'),
	('SELECT h.status FROM public.lease_node_heartbeat(''node'') h', 'acquired'),
	('SELECT h.status FROM public.lease_node_heartbeat(''node'') h', 'renewed'),
	('SELECT h.leases FROM public.lease_node_heartbeats(''{node}'') h LIMIT 1', '1'),
	('SELECT public.lease_node_register(''node'', ''{"node-role.kubernetes.io/worker": ""}'')', 'registered'),
	('SELECT public.lease_node_apply(''{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node", "labels": {"kubernetes.io/role": "worker"}}}'')', 'updated'),
	('SELECT h.status FROM public.lease_node_heartbeat(''node'') h', 'renewed'),
	('SELECT n.status FROM public.lease_nodes n', 'Ready'),
	('SELECT pg_catalog.concat(n.status, n.roles) FROM public.kubectl_get_nodes n', 'Readyworker'),
	('SELECT pg_catalog.length(public.lease_node_object(''node'') OPERATOR(pg_catalog.#>>) ''{metadata,creationTimestamp}'')', '20'),
	('SELECT public.lease_node_remove(''node'')', 'removed'),
	('SELECT h.status FROM public.lease_apiserver_heartbeat(''host'', ''00000000-0000-0000-0000-000000000001'') h', 'acquired'),
	('SELECT h.status FROM public.lease_apiserver_heartbeat(''host'', ''00000000-0000-0000-0000-000000000001'') h', 'renewed'),
	('SELECT h.status FROM public.lease_apiserver_heartbeat(''host'', ''00000000-0000-0000-0000-000000000002'') h', 'acquired'),
	('SELECT h.status FROM public.lease_apiserver_heartbeat(''host'', ''00000000-0000-0000-0000-000000000001'') h', 'held'),
	('SELECT a.live FROM public.lease_apiservers a', 'true'),
	('DELETE FROM public.lease_history WHERE namespace OPERATOR(pg_catalog.<>) ''default''', 'done'),
	('SELECT public.lease_age(''2026-01-01'', ''2026-01-02'')', '24h'),
	('SELECT public.lease_apiserver_name(''master-1'')', public.lease_apiserver_name('master-1')),
	('SELECT pg_catalog.string_agg(h.end_reason, '', '' ORDER BY h.fencing_token) FROM public.lease_history h', 'handed over, released, deleted');

CREATE TABLE fenced (i int);
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE ON fenced FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
CREATE ROLE app;
CREATE ROLE tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.lease, fenced TO app, tenant;
GRANT SELECT ON lease_stat, lease_stat_database, lease_lockers, lease_warnings, lease_status, lease_holdings, kubectl_get_leases, public.lease_history, lease_nodes, kubectl_get_nodes, lease_apiservers TO app, tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON lease_node TO app, tenant;
GRANT DELETE ON public.lease_history TO app, tenant;
CREATE FUNCTION pg_temp.unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION pg_temp.all_hear(role pg_catalog.text, description pg_catalog.text) RETURNS SETOF pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
	c record;
BEGIN
	DELETE FROM public.lease;
	DELETE FROM public.lease_history;
	FOR c IN SELECT * FROM calls ORDER BY n LOOP
		RETURN NEXT is(pg_temp.answer(role, c.call), c.answer, 'in a hostile search_path, ' || description || ': ' || c.call);
	END LOOP;
END $$;

SELECT is(pg_temp.answer('none', 'SELECT length(''a'')'), 'P0001 hijacked: length', 'it does hurt who names no schema');
SELECT pg_temp.all_hear('none', 'as the owner');
SELECT pg_temp.all_hear('app', 'as an application');
CREATE TRIGGER by_executor BEFORE UPDATE ON public.lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged();
SELECT pg_temp.all_hear('app', 'by the executor');
DROP TRIGGER by_executor ON public.lease;
ALTER TABLE public.lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON public.lease TO tenant USING (namespace IN ('default', 'kube-system', 'kube-node-lease') AND name <> 'none');
SELECT pg_temp.all_hear('tenant', 'under row-level security');

DROP DOMAIN pg_temp.text, pg_temp.timestamptz;
SELECT is((SELECT count(*) FROM hostile.lease) + (SELECT count(*) FROM hostile.lease_history) + (SELECT count(*) FROM pg_temp.lease) + (SELECT count(*) FROM pg_temp.lease_history), 0::bigint,
	'nothing was written to the doubles of the tables');
SELECT is(h.is_called OR t.is_called, false, 'nor taken from those of the sequence') FROM hostile.lease_fencing_token_seq h, pg_temp.lease_fencing_token_seq t;

SELECT * FROM finish();
ROLLBACK;
