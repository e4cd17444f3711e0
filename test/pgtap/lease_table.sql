-- The table: columns, keys, constraints that say what Kubernetes accepts, and storage
-- that keeps renewals HOT.
BEGIN;
SELECT no_plan();

-- columns
CREATE TEMP TABLE wanted (column_name text, type text, not_null boolean);
INSERT INTO wanted VALUES
	('namespace', 'text', true), ('name', 'text', true), ('uid', 'uuid', true), ('resource_version', 'bigint', true),
	('creation_timestamp', 'timestamp with time zone', false), ('labels', 'jsonb', false), ('annotations', 'jsonb', false),
	('owner_references', 'jsonb', false), ('finalizers', 'text[]', false), ('holder_identity', 'text', false),
	('lease_duration_seconds', 'integer', false), ('acquire_time', 'timestamp with time zone', false),
	('renew_time', 'timestamp with time zone', false), ('lease_transitions', 'integer', false), ('strategy', 'text', false),
	('preferred_holder', 'text', false), ('held_since', 'timestamp with time zone', false), ('lock_delay_seconds', 'integer', false),
	('not_before', 'timestamp with time zone', false), ('reserved_for', 'text', false), ('fencing_token', 'bigint', true),
	('generate_name', 'text', false), ('generation', 'bigint', false), ('deletion_timestamp', 'timestamp with time zone', false),
	('deletion_grace_period_seconds', 'bigint', false), ('managed_fields', 'jsonb', false);
SELECT columns_are('lease', (SELECT array_agg(column_name::name) FROM wanted), 'the columns are the fields of the API, and what the functions need');
SELECT col_type_is('lease', column_name::name, type, column_name || ' is ' || type) FROM wanted;
SELECT CASE WHEN not_null THEN col_not_null('lease', column_name::name, column_name || ' is always there')
	ELSE col_is_null('lease', column_name::name, column_name || ' may be NULL: every field of spec is optional') END FROM wanted;
SELECT is(collname, 'C', column_name || ' is compared byte by byte')
FROM (VALUES ('namespace'), ('name'), ('holder_identity'), ('strategy'), ('preferred_holder'), ('reserved_for'), ('generate_name')) v (column_name)
JOIN pg_attribute ON attrelid = 'lease'::regclass AND attname = column_name
JOIN pg_collation c ON c.oid = attcollation;

-- keys
SELECT col_is_pk('lease', ARRAY['namespace', 'name'], 'an object is known by namespace and name');
SELECT col_is_unique('lease', ARRAY['namespace', 'fencing_token'], 'the token is a key');
SELECT ok(indisunique AND indpred IS NULL AND indexprs IS NULL AND indimmediate,
	index || ' is neither partial nor on an expression nor deferred: only such a one is a key to row locks')
FROM (VALUES ('lease_pkey'), ('lease_fencing_token_key')) v (index) JOIN pg_index ON indexrelid = index::regclass;
SELECT indexes_are('lease', ARRAY['lease_pkey', 'lease_fencing_token_key'], 'there is no other index: renewals stay HOT');
SELECT triggers_are('lease', ARRAY['lease_on_write', 'lease_after_write'], 'there is one trigger before a write and one after it');

-- storage
SELECT ok(relpersistence = 'p', 'the table is logged') FROM pg_class WHERE oid = 'lease'::regclass;
SELECT ok(reloptions @> '{fillfactor=60}', 'there is room on the pages for renewals') FROM pg_class WHERE oid = 'lease'::regclass;
-- on a page of its own: inside one transaction nothing is pruned
TRUNCATE lease;
SELECT FROM lease_acquire('hot', 'me', '1 h');
SELECT pg_stat_get_xact_tuples_hot_updated('lease'::regclass) AS hot \gset
SELECT is(array_agg(status), array_fill('renewed'::text, '{15}'), 'a lease is renewed fifteen times')
FROM (SELECT (lease_renew('hot', 'me')).status FROM generate_series(1, 15)) r;
SELECT is(pg_stat_get_xact_tuples_hot_updated('lease'::regclass) - :hot, 15::bigint, 'and each renewal is a HOT update');

-- the sequence, and what goes into a dump
SELECT is(format_type(seqtypid, NULL) || ' ' || seqincrement || ' ' || seqcycle, 'bigint 1 false', 'the sequence counts up, as far as a bigint goes, and does not cycle')
FROM pg_sequence WHERE seqrelid = 'lease_fencing_token_seq'::regclass;
SELECT is(pg_get_serial_sequence('lease', 'fencing_token')::regclass, 'lease_fencing_token_seq'::regclass, 'it belongs to the column: who owns the table owns it');
SELECT set_eq($$SELECT unnest(extconfig)::regclass::text AS config, unnest(extcondition) AS condition FROM pg_extension WHERE extname = 'lease'$$,
	$$VALUES ('lease', ''), ('lease_history', ''), ('lease_node', ''), ('lease_gc_policy', '')$$, 'a dump contains all rows, the history, the nodes and the policies; not the position of the tokens, which an old dump would set back');

-- defaults
INSERT INTO lease (name) VALUES ('plain'), ('plain-2');
SELECT is(namespace, 'default', 'the namespace is default by default') FROM lease WHERE name = 'plain';
SELECT is(count(DISTINCT uid), 2::bigint, 'each object has a uid of its own') FROM lease WHERE name LIKE 'plain%';
SELECT is(creation_timestamp, date_trunc('second', creation_timestamp), 'creation_timestamp has whole seconds, as in the API') FROM lease WHERE name = 'plain';
SELECT ok(clock_timestamp() - creation_timestamp BETWEEN '0' AND '10 s', 'and is now') FROM lease WHERE name = 'plain';
SELECT ok((labels, annotations, owner_references, finalizers, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions,
	strategy, preferred_holder) IS NULL, 'everything else is absent: no defaulting, as in the API') FROM lease WHERE name = 'plain';
SELECT throws_ok($$INSERT INTO lease (name) VALUES ('plain')$$, '23505', NULL, 'there is one object of a name in a namespace');
SELECT lives_ok($$INSERT INTO lease (namespace, name) VALUES ('other', 'plain')$$, 'and another of the same name in another');
SELECT throws_ok($$INSERT INTO lease (namespace) VALUES ('default')$$, '23502', NULL, 'a name there must be');
SELECT throws_ok($$INSERT INTO lease (name, fencing_token) SELECT 'twin', fencing_token FROM lease WHERE name = 'plain'$$, '23505', NULL,
	'no two leases of a namespace have the same token');

-- constraints: each refuses what is bad, by its name ...
CREATE TEMP TABLE bad (columns text, vals text, constraint_name text);
INSERT INTO bad VALUES
	('name', $$'Bad_Name'$$, 'lease_name_check'),
	('name', $$''$$, 'lease_name_check'),
	('name', $$repeat('a', 254)$$, 'lease_name_check'),
	('name, namespace', $$'bad', 'Default'$$, 'lease_namespace_check'),
	('name, namespace', $$'bad', ''$$, 'lease_namespace_check'),
	('name, namespace', $$'bad', 'a.b'$$, 'lease_namespace_check'),
	('name, namespace', $$'bad', repeat('a', 64)$$, 'lease_namespace_check'),
	('name, labels', $$'bad', '[]'$$, 'lease_labels_check'),
	('name, labels', $$'bad', '{"a": 1}'$$, 'lease_labels_check'),
	('name, annotations', $$'bad', '"x"'$$, 'lease_annotations_check'),
	('name, annotations', $$'bad', jsonb_build_object('k', repeat('x', 262144))$$, 'lease_annotations_check'),
	('name, owner_references', $$'bad', '{}'$$, 'lease_owner_references_check'),
	('name, finalizers', $$'bad', '{/}'$$, 'lease_finalizers_check'),
	('name, lease_duration_seconds', $$'bad', 0$$, 'lease_lease_duration_seconds_check'),
	('name, lease_duration_seconds', $$'bad', -1$$, 'lease_lease_duration_seconds_check'),
	('name, lease_transitions', $$'bad', -1$$, 'lease_lease_transitions_check'),
	('name, lock_delay_seconds', $$'bad', -1$$, 'lease_lock_delay_seconds_check'),
	('name, strategy', $$'bad', 'foo'$$, 'lease_strategy_check'),
	('name, strategy', $$'bad', 'example.com/foobar/toomanyslashes'$$, 'lease_strategy_check'),
	('name, preferred_holder', $$'bad', 'me'$$, 'lease_preferred_holder_check'),
	('name, strategy, preferred_holder', $$'bad', '', 'me'$$, 'lease_preferred_holder_check'),
	('name, fencing_token', $$'bad', 0$$, 'lease_fencing_token_check'),
	('name, fencing_token', $$'bad', -1$$, 'lease_fencing_token_check'),
	('name, generation', $$'bad', -1$$, 'lease_generation_check'),
	('name, managed_fields', $$'bad', '{}'$$, 'lease_managed_fields_check'),
	('name, managed_fields', $$'bad', '"x"'$$, 'lease_managed_fields_check'),
	('name, managed_fields', $$'bad', '[{}, 1]'$$, 'lease_managed_fields_check');
SELECT throws_ok(format('INSERT INTO lease (%s) VALUES (%s)', columns, vals), '23514',
	'new row for relation "lease" violates check constraint "' || constraint_name || '"', format('refused: (%s) = (%s)', columns, left(vals, 60)))
FROM bad;

-- ... also in an UPDATE ...
SELECT throws_ok(format('UPDATE lease SET %s = %s WHERE name = ''plain''', split_part(columns, ', ', 2), split_part(vals, ', ', 2)), '23514',
	'new row for relation "lease" violates check constraint "' || constraint_name || '"', format('refused in an update: %s = %s', split_part(columns, ', ', 2), split_part(vals, ', ', 2)))
FROM bad WHERE constraint_name IN ('lease_labels_check', 'lease_owner_references_check', 'lease_finalizers_check', 'lease_lease_duration_seconds_check',
	'lease_lease_transitions_check', 'lease_lock_delay_seconds_check', 'lease_strategy_check') ORDER BY columns, vals;
SELECT throws_ok($$UPDATE lease SET preferred_holder = 'me' WHERE name = 'plain'$$, '23514', 'new row for relation "lease" violates check constraint "lease_preferred_holder_check"',
	'refused in an update: a preferred holder without a strategy');

-- ... and accepts what is good
SELECT lives_ok(format('INSERT INTO lease (namespace, name, %s) VALUES (''good'', ''n%s'', %s)', columns, row_number() OVER (), vals),
	format('accepted: (%s) = (%s)', columns, left(vals, 60)))
FROM (VALUES
	('labels', $$'{}'$$),
	('labels', $$'{"k8s.io/component": "kube-apiserver", "empty": ""}'$$),
	('annotations', $$'{"any": "thing at all\n"}'$$),
	('annotations', $$jsonb_build_object('k', repeat('x', 262143))$$),
	('owner_references', $$'[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]'$$),
	('finalizers', $$'{example.com/x}'$$),
	('holder_identity', $$''$$),
	('holder_identity', $$repeat('x', 1000000)$$),
	('lease_duration_seconds', '1'),
	('lease_duration_seconds', '2147483647'),
	('lease_transitions', '0'),
	('lease_transitions', '2147483647'),
	('strategy', $$''$$),
	('strategy', $$'OldestEmulationVersion'$$),
	('strategy', $$'example.com/foobar'$$),
	('strategy, preferred_holder', $$'OldestEmulationVersion', 'me'$$),
	('preferred_holder', $$''$$),
	('acquire_time, renew_time', $$'2030-01-01', '2020-01-01'$$)) v (columns, vals);
SELECT lives_ok($$INSERT INTO lease (namespace, name) VALUES (repeat('a', 63), repeat('a', 253))$$, 'accepted: the longest namespace and name');
SELECT lives_ok($$UPDATE lease SET lease_transitions = 0, renew_time = renew_time - interval '1 h' WHERE namespace = 'good'$$,
	'accepted: transitions that decrease, and a renew_time that goes back, as in the API');

-- every constraint of the table is in the lists above
SELECT set_eq($$SELECT conname FROM pg_constraint WHERE conrelid = 'lease'::regclass AND contype = 'c'$$,
	'SELECT DISTINCT constraint_name::name FROM bad', 'no constraint was forgotten here');

SELECT * FROM finish();
ROLLBACK;
