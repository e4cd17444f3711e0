-- The table: columns, keys, constraints that say what Kubernetes accepts, and storage
-- that keeps renewals HOT.
BEGIN;
SELECT plan(62);

SELECT columns_are('lease', ARRAY['namespace', 'name', 'uid', 'resource_version', 'creation_timestamp', 'labels',
	'annotations', 'owner_references', 'finalizers', 'holder_identity', 'lease_duration_seconds', 'acquire_time',
	'renew_time', 'lease_transitions', 'strategy', 'preferred_holder', 'fencing_token'], 'the fields of the API, and a token');
SELECT col_type_is('lease', column_name, type, column_name || ' is ' || type) FROM (VALUES
	('namespace', 'text'), ('name', 'text'), ('uid', 'uuid'), ('resource_version', 'bigint'),
	('creation_timestamp', 'timestamp with time zone'), ('labels', 'jsonb'), ('annotations', 'jsonb'),
	('owner_references', 'jsonb'), ('finalizers', 'text[]'), ('holder_identity', 'text'),
	('lease_duration_seconds', 'integer'), ('acquire_time', 'timestamp with time zone'),
	('renew_time', 'timestamp with time zone'), ('lease_transitions', 'integer'), ('strategy', 'text'),
	('preferred_holder', 'text'), ('fencing_token', 'bigint')) v (column_name, type);
SELECT col_is_pk('lease', ARRAY['namespace', 'name'], 'an object is known by namespace and name');
SELECT col_is_unique('lease', ARRAY['namespace', 'fencing_token'], 'the token is a key');
SELECT ok(indpred IS NULL AND indexprs IS NULL AND indimmediate, 'neither partial nor on an expression nor deferred: only so is it a key for row locks')
FROM pg_index WHERE indexrelid = 'lease_fencing_token_key'::regclass;
SELECT indexes_are('lease', ARRAY['lease_pkey', 'lease_fencing_token_key'], 'no other index: renewals stay HOT');
SELECT ok(reloptions @> '{fillfactor=60}', 'room on the pages for renewals') FROM pg_class WHERE oid = 'lease'::regclass;
SELECT is(collname, 'C', column_name || ' is compared byte by byte')
FROM (VALUES ('namespace'), ('name'), ('holder_identity')) v (column_name)
JOIN pg_attribute ON attrelid = 'lease'::regclass AND attname = column_name
JOIN pg_collation c ON c.oid = attcollation;

-- defaults
INSERT INTO lease (name) VALUES ('plain');
SELECT is(namespace, 'default', 'the default namespace') FROM lease WHERE name = 'plain';
SELECT ok(uid IS NOT NULL, 'a uid') FROM lease WHERE name = 'plain';
SELECT is(creation_timestamp, date_trunc('second', creation_timestamp), 'whole seconds, as in the API') FROM lease WHERE name = 'plain';
SELECT ok((holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions) IS NULL, 'an empty spec') FROM lease WHERE name = 'plain';
SELECT throws_ok($$INSERT INTO lease (name) VALUES ('plain')$$, '23505', NULL, 'one object of a name in a namespace');
SELECT lives_ok($$INSERT INTO lease (namespace, name) VALUES ('other', 'plain')$$, 'another namespace, the same name');

-- constraints: refused
SELECT throws_like('INSERT INTO lease (name, ' || columns || ') VALUES (''bad'', ' || vals || ')',
	'%violates check constraint "' || constraint_name || '"%', columns || ' = ' || left(vals, 60))
FROM (VALUES
	('namespace', $$'Default'$$, 'lease_namespace_check'),
	('namespace', $$''$$, 'lease_namespace_check'),
	('namespace', $$'a.b'$$, 'lease_namespace_check'),
	('labels', $$'[]'$$, 'lease_labels_check'),
	('labels', $$'{"a": 1}'$$, 'lease_labels_check'),
	('annotations', $$'"x"'$$, 'lease_annotations_check'),
	('owner_references', $$'{}'$$, 'lease_owner_references_check'),
	('finalizers', $$'{/}'$$, 'lease_finalizers_check'),
	('lease_duration_seconds', '0', 'lease_lease_duration_seconds_check'),
	('lease_duration_seconds', '-1', 'lease_lease_duration_seconds_check'),
	('lease_transitions', '-1', 'lease_lease_transitions_check'),
	('strategy', $$'foo'$$, 'lease_strategy_check'),
	('strategy', $$'example.com/foobar/toomanyslashes'$$, 'lease_strategy_check'),
	('preferred_holder', $$'me'$$, 'lease_preferred_holder_check'),
	('fencing_token', '0', 'lease_fencing_token_check'),
	('fencing_token', '-1', 'lease_fencing_token_check')) v (columns, vals, constraint_name);
SELECT throws_like($$INSERT INTO lease (name) VALUES ('Bad_Name')$$, '%"lease_name_check"%', 'name = Bad_Name');

-- constraints: accepted
SELECT lives_ok('INSERT INTO lease (name, ' || columns || ') VALUES (''good-' || row_number() OVER () || ''', ' || vals || ')', columns || ' = ' || left(vals, 60))
FROM (VALUES
	('labels', $$'{}'$$),
	('labels', $$'{"k8s.io/component": "kube-apiserver", "empty": ""}'$$),
	('annotations', $$'{"any": "thing at all\n"}'$$),
	('owner_references', $$'[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]'$$),
	('finalizers', $$'{example.com/x}'$$),
	('lease_duration_seconds', '2147483647'),
	('lease_transitions', '0'),
	('holder_identity', $$''$$),
	('strategy', $$'OldestEmulationVersion'$$),
	('strategy', $$'example.com/foobar'$$),
	('strategy, preferred_holder', $$'OldestEmulationVersion', 'me'$$),
	('preferred_holder', $$''$$),
	('acquire_time, renew_time', $$'2030-01-01', '2020-01-01'$$)) v (columns, vals);

SELECT * FROM finish();
ROLLBACK;
