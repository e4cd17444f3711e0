-- Text made to break something: as holder, successor, label or annotation it is stored and
-- returned byte for byte, or refused with its SQLSTATE; what quotes it stays one message.
BEGIN;
SELECT no_plan();

CREATE TEMP TABLE hostile (what text, t text);
INSERT INTO hostile VALUES
	('quotes', $$it's "me" `me` $me$ $1 :me :'me'$$),
	('SQL', $$'; DROP TABLE lease; --$$),
	('backslashes', $$\ \\ \n \x41 \$$),
	('line ends', E'a\nb\r\nc\r'),
	('only a line end', E'\n'),
	('only a blank', ' '),
	('blanks around', ' me '),
	('tabs and other controls', E'\t\x01\x07\x08\x0b\x0c\x7f'),
	('terminal escapes', E'\x1b[2J\x1b[31mred\x1b]0;title\x07'),
	('format strings', '%s%n%d%%%1$s%L%I %'),
	('what looks like the end of a message', E'me" until tomorrow.\nHINT:  Run DROP TABLE lease.'),
	('other syntaxes', '{"a": [1, NULL]},(,)<!--&amp;'),
	('NULL as a word', 'NULL'),
	('combining characters, right to left', E'e\u0301 \u202eabc \u200f \ufeff'),
	('characters of four bytes', repeat(U&'\+01F600', 40)),
	('a character across the place where messages cut', repeat('a', 127) || repeat('é', 10)),
	('not in a normal form', U&'\212B \00C5 A\030A'),
	('1 MB', repeat('x', 1000000)),
	('1 MB that does not compress', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 31250) i)),
	('1 MB of two bytes each', repeat('é', 500000)),
	('1 MB of quotes', repeat('''"\', 333333)),
	('1 MB of format strings', repeat('%n', 500000));

-- As a holder and as a successor: what every function and view says of it
CREATE FUNCTION pg_temp.said(who text, heir text) RETURNS TABLE (step text, said text, expected text) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM lease_history;
	RETURN QUERY SELECT 'acquire', status || ' ' || holder_identity, 'acquired ' || who FROM lease_acquire('l', who, '1 h');
	RETURN QUERY SELECT 'acquire again', status || ' ' || holder_identity, 'renewed ' || who FROM lease_acquire('l', who, '1 h', wait => '1 ms');
	RETURN QUERY SELECT 'another acquires', status || ' ' || holder_identity, 'held ' || who FROM lease_acquire('l', 'other');
	RETURN QUERY SELECT 'another waits', status || ' ' || holder_identity, 'held ' || who FROM lease_acquire('l', 'other', wait => '1 ms');
	RETURN QUERY SELECT 'almost the same', status, 'held' FROM lease_acquire('l', who || ' ');
	RETURN QUERY SELECT 'renew', status || ' ' || holder_identity, 'renewed ' || who FROM lease_renew('l', who);
	RETURN QUERY SELECT 'renew all', status || ' ' || leases, 'renewed 1' FROM lease_renew_all(who);
	RETURN QUERY SELECT 'holder', lease_holder('l'), who;
	RETURN QUERY SELECT 'is held', lease_is_held('l', who)::text, 'true';
	RETURN QUERY SELECT 'lease_status', s.status || ' ' || s.holder_identity, 'held ' || who FROM lease_status s WHERE s.name = 'l';
	RETURN QUERY SELECT 'kubectl_get_leases', holder, who FROM kubectl_get_leases WHERE name = 'l';
	RETURN QUERY SELECT 'lease_holdings', holder_identity::text, who FROM lease_holdings WHERE name = 'l';
	RETURN QUERY SELECT 'hand over', status || ' ' || holder_identity, 'handed_over ' FROM lease_handover('l', who, heir);
	RETURN QUERY SELECT 'reserved', s.status || ' ' || s.reserved_for, 'reserved ' || heir FROM lease_status s WHERE s.name = 'l';
	RETURN QUERY SELECT 'reserved for another', status, 'reserved' FROM lease_acquire('l', heir || ' ');
	RETURN QUERY SELECT 'the successor', status || ' ' || holder_identity, 'acquired ' || heir FROM lease_acquire('l', heir, '1 h');
	RETURN QUERY SELECT 'release', status, 'released' FROM lease_release('l', heir);
	RETURN QUERY SELECT 'history', string_agg(holder_identity || ' ' || end_reason, '|' ORDER BY fencing_token), who || ' handed over|' || heir || ' released' FROM lease_history;
END $$;
-- The steps that said something else, told in few words
CREATE FUNCTION pg_temp.wrong(who text, heir text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(step || ': ' || coalesce(left(said, 200), 'NULL'), E'\n') FROM pg_temp.said(who, heir) WHERE said IS DISTINCT FROM expected
$$;
SELECT is(pg_temp.wrong(t, 'heir'), NULL, 'directly, a holder with ' || what) FROM hostile;
SELECT is(pg_temp.wrong('me', t), NULL, 'directly, a successor with ' || what) FROM hostile;
CREATE FUNCTION pg_temp.unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER by_executor BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.unchanged();
SELECT is(pg_temp.wrong(t, 'heir'), NULL, 'by the executor, a holder with ' || what) FROM hostile;
SELECT is(pg_temp.wrong('me', t), NULL, 'by the executor, a successor with ' || what) FROM hostile;
DROP TRIGGER by_executor ON lease;
SELECT is(status, 'acquired', 'names that look the same are not') FROM lease_acquire('l', U&'\00C5', '1 h');
SELECT is(status, 'held', 'if their bytes are not') FROM lease_acquire('l', U&'A\030A', '1 h');

-- An error in parts
CREATE TYPE pg_temp.error AS (code text, message text, detail text, hint text);
CREATE FUNCTION pg_temp.error(statement text) RETURNS pg_temp.error LANGUAGE plpgsql AS $$
DECLARE
	e pg_temp.error;
BEGIN
	EXECUTE statement;
	RETURN NULL;
EXCEPTION WHEN others THEN
	GET STACKED DIAGNOSTICS e.code = RETURNED_SQLSTATE, e.message = MESSAGE_TEXT, e.detail = PG_EXCEPTION_DETAIL, e.hint = PG_EXCEPTION_HINT;
	RETURN e;
END $$;

-- A guard that is refused names the holder, and no more of it than fits into a message
CREATE TABLE fenced (i int);
CREATE TRIGGER fence BEFORE INSERT ON fenced FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
CREATE FUNCTION pg_temp.refused(who text, expire boolean, statement text) RETURNS pg_temp.error LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM lease;
	PERFORM lease_acquire('l', who, '1 h');
	IF expire THEN
		UPDATE lease SET renew_time = '2026-01-01 00:00:00+00', acquire_time = '2026-01-01 00:00:00+00';
	END IF;
	RETURN pg_temp.error(replace(statement, ':token', (SELECT fencing_token::text FROM lease)));
END $$;
CREATE TEMP TABLE refusal AS
SELECT h.*, v.*, (pg_temp.refused(t, expire, statement)).*
FROM hostile h, (VALUES (false, 'SELECT lease_guard(''l'', 999999999)'), (false, 'INSERT INTO fenced VALUES (1)'), (true, 'SELECT lease_guard(''l'', :token)')) v (expire, statement);
SELECT ok(code = 'LS001' AND message IN ('lease "l" in namespace "default" is not held under fencing token 999999999', 'cannot write to table "fenced" without holding lease "l" in namespace "default"')
	OR expire AND code = 'LS001' AND message ~ '^lease "l" in namespace "default" is not held under fencing token \d+$',
	'the message is not touched by a holder with ' || what || ': ' || statement) FROM refusal;
SELECT ok(strpos(detail, CASE WHEN octet_length(t) <= 128 THEN '"' || t || '"' ELSE '"' || left(t, 20) END) > 0 AND octet_length(detail) < 400, 'the detail names it, in few words: ' || what || ': ' || statement) FROM refusal;
SELECT ok(hint !~ 'DROP' AND octet_length(hint) < 200, 'the hint is ours: ' || what || ': ' || statement) FROM refusal;
SELECT is(convert_from(convert_to(detail, 'UTF8'), 'UTF8'), detail, 'cut between characters: ' || what || ': ' || statement) FROM refusal;

-- What cannot be text at all never gets to us.
SELECT throws_ok(statement, code, NULL, statement) FROM (VALUES
	($$SELECT lease_acquire('l', E'a\000b')$$, '22021'), ($$SELECT lease_acquire(E'a\000b', 'me')$$, '22021'), ($$SELECT lease_acquire('l', 'me', namespace => E'a\000b')$$, '22021'),
	($$SELECT lease_acquire('l', 'a' || chr(0))$$, '54000'), ($$SELECT lease_acquire('l', convert_from('\x610062', 'UTF8'))$$, '22021'),
	($$SELECT lease_acquire('l', E'\xff')$$, '22021'), ($$SELECT lease_acquire('l', E'\xc3\x28')$$, '22021'), ($$SELECT lease_acquire('l', E'\xed\xa0\x80')$$, '22021'),
	($$SELECT lease_acquire('l', E'\xc0\x80')$$, '22021'), ($$SELECT lease_acquire('l', E'\xf4\x90\x80\x80')$$, '22021'), ($$SELECT lease_acquire('l', E'abc\xe2\x82')$$, '22021'),
	($$SELECT lease_renew('l', convert_from('\xff', 'UTF8'))$$, '22021'), ($$SELECT lease_handover('l', 'me', E'\xff')$$, '22021'), ($$SELECT lease_is_held('l', E'\xff')$$, '22021'),
	($$SELECT lease_guard(E'\xff', 1)$$, '22021'),
	($$INSERT INTO lease (name, labels) VALUES ('x', '{"a": "\u0000"}')$$, '22P05'), ($$INSERT INTO lease (name, annotations) VALUES ('x', '{"a": "\ud800"}')$$, '22P02')) v (statement, code);

-- Names: the functions that are new; the others are in bad_input.sql.
SELECT is((pg_temp.error(format(call, quote_literal(n)))).code, CASE WHEN octet_length(n) > 253 THEN '42622' ELSE '42602' END, format(call, quote_literal(regexp_replace(left(n, 20), '[\x01-\x1f]', '?', 'g'))))
FROM (VALUES (E'a\nb'), (E'\x1b[2J'), ('%s%n'), ('a''b'), ('a"b'), ('a\b'), ('A'), ('é'), (repeat('a', 254)), (repeat('%n', 500000))) n (n),
	(VALUES ('SELECT lease_guard(%s, 1)'), ('SELECT lease_handover(%s, ''me'', ''you'')'), ('SELECT lease_acquire(%s, ''me'', wait => ''1 h'')'),
		('SELECT lease_acquire(%s, ''me'', session => true)'), ('CALL lease_await(%s, ''me'')')) c (call);
SELECT is((pg_temp.error(format('SELECT lease_guard(%L, 1)', n))).message, 'invalid lease name "' || n || '"', 'the message is one, with the name as it is')
FROM (VALUES ('%s%n'), ('a"b'), ('a''b'), (E'a\nb')) n (n);
SELECT is(octet_length((pg_temp.error(format('SELECT lease_guard(%L, 1)', repeat('%n', 500000)))).message), 22, 'a name of 1 MB is not in the message');
SELECT throws_ok($$SELECT lease_handover('l', 'me', '')$$, '22023', 'lease holder must not be empty', 'nobody is no successor');
SELECT throws_ok($$SELECT lease_handover('l', 'me', NULL)$$, '22004', NULL, 'NULL is no successor');

-- a trigger that names no lease, and a table whose name is hostile
CREATE TABLE "t%s%n""
HINT" (i int);
CREATE TRIGGER fence BEFORE INSERT ON "t%s%n""
HINT" FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('l');
SELECT is((pg_temp.error(E'INSERT INTO "t%s%n""\nHINT" VALUES (1)')).message, E'cannot write to table "t%s%n"\nHINT" without holding lease "l" in namespace "default"', 'the name of a table stays in its place');
SELECT throws_ok(format('CREATE TRIGGER other BEFORE DELETE ON fenced FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger(%s);
	DELETE FROM fenced', arguments), code, message, 'a trigger for ' || left(arguments, 20))
FROM (VALUES ('''%n''', '42602', 'invalid lease name "%n"'), ('E''a\nb''', '42602', E'invalid lease name "a\nb"'), ('''%s'', ''l''', '42602', 'invalid lease namespace "%s"'), ('''''', '22023', 'lease name must not be empty'),
	(quote_literal(repeat('x', 1000000)), '42622', 'lease name is too long'), ('', '39P01', 'trigger "other" must name a lease'), ('''a'', ''b'', ''c''', '39P01', 'trigger "other" must name a lease')) v (arguments, code, message);

-- the setting
SELECT throws_ok(format('SET LOCAL lease.fencing_tokens = %L', v), '22023', NULL, 'lease.fencing_tokens cannot be ' || quote_literal(regexp_replace(left(v, 30), '\n', '?')))
FROM (VALUES ('0'), ('-1'), ('1,'), (',1'), ('1,,2'), ('1;2'), ('1 2'), ('1.5'), ('1e3'), ('0x1'), ('9223372036854775808'), ('one'), ('%n'), (E'1\n,x'), ('1, '''), ('١'), (repeat('9', 1000000))) v (v);
SELECT lives_ok(format('SET LOCAL lease.fencing_tokens = %L', v), 'lease.fencing_tokens can be ' || quote_literal(left(v, 30)))
FROM (VALUES (''), (' '), ('1'), ('1,2'), (' 1 , 2 '), ('9223372036854775807'), (repeat('1,', 500000) || '2')) v (v);
SELECT is((pg_temp.error('INSERT INTO fenced VALUES (1)')).code, 'LS001', 'a list of 1 MB is searched');

-- Labels are not any text; annotations are.
SELECT throws_ok(format('INSERT INTO lease (name, labels) VALUES (''x'', jsonb_build_object(%s))', CASE side WHEN 'key' THEN quote_literal(left(t, 400)) || ', ''v''' ELSE '''k'', ' || quote_literal(t) END),
	'23514', 'new row for relation "lease" violates check constraint "lease_labels_check"', 'a label, its ' || side || ' with ' || what)
FROM hostile, (VALUES ('key'), ('value')) s (side) WHERE what NOT IN ('NULL as a word');
INSERT INTO lease (name, annotations) SELECT 'annotated-' || row_number() OVER (), jsonb_build_object('what', what, 'value', t) FROM hostile WHERE octet_length(t) < 200000;
SELECT is(l.annotations ->> 'value', h.t, 'an annotation with ' || h.what) FROM hostile h LEFT JOIN lease l ON l.annotations ->> 'what' = h.what WHERE octet_length(h.t) < 200000;
SELECT throws_ok(format('INSERT INTO lease (name, annotations) VALUES (''x'', jsonb_build_object(''a'', %L))', t), '23514', NULL, 'an annotation with ' || what) FROM hostile WHERE octet_length(t) > 300000;
SELECT throws_ok(format('INSERT INTO lease (name, finalizers) VALUES (''x'', ARRAY[%L])', t), '23514', NULL, 'a finalizer with ' || what) FROM hostile WHERE what <> 'NULL as a word';
SELECT cmp_ok(octet_length((pg_temp.error(format('INSERT INTO lease (name, labels) VALUES (''x'', jsonb_build_object(''a'', %L))', repeat('%n', 500000)))).detail), '<', 2000, 'a row that is refused is not in the message with all its 1 MB');
SELECT throws_ok('INSERT INTO lease (name, labels) VALUES (''x'', (repeat(''{"a":'', 100000) || ''1'' || repeat(''}'', 100000))::jsonb)', '54001', NULL, 'a label of 100000 levels');
SELECT ok(lease_apiserver_name(t) ~ '^kube-apiserver-[a-z2-7]{26}$', 'the name for a host with ' || what) FROM hostile;

SELECT * FROM finish();
ROLLBACK;
