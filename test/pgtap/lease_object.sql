-- lease_object: rows of the table as the API server sends them.
BEGIN;
SELECT no_plan();

SELECT volatility_is('lease_object', ARRAY['lease'], 'immutable', 'depends on the row only');
SELECT volatility_is('lease_object', ARRAY['text', 'text'], 'stable', 'by name it reads the table');

INSERT INTO lease (namespace, name, uid, creation_timestamp, resource_version) VALUES ('ns', 'empty', '00000000-0000-4000-8000-000000000001', '2022-11-30 15:37:15.9+00', 18171);
SELECT is(lease_object(l), '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "empty", "namespace": "ns",
	"uid": "00000000-0000-4000-8000-000000000001", "resourceVersion": "18171", "creationTimestamp": "2022-11-30T15:37:15Z"}, "spec": {}}', 'nothing set: spec is empty')
FROM lease l;
SELECT is(lease_object('empty', 'ns'), lease_object(l), 'by name') FROM lease l;
SELECT is(lease_object('empty'), NULL, 'in the namespace default by default');
SELECT is(lease_object('Not A Name', ''), NULL, 'a name that cannot be is missing');
SELECT is(lease_object(NULL, 'ns'), NULL, 'NULL for NULL');
SELECT is(lease_object(NULL::lease), NULL, 'and for no row');

INSERT INTO lease (name, uid, creation_timestamp, resource_version, generate_name, generation, deletion_timestamp, deletion_grace_period_seconds, labels, annotations,
	owner_references, finalizers, managed_fields, holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions, strategy, preferred_holder,
	lock_delay_seconds, not_before, reserved_for)
VALUES ('full', '00000000-0000-4000-8000-000000000002', '2022-11-30', 1, 'fu', 4, '2022-12-01 09:00:00.5+09', 30, '{"a": "b"}', '{"c": "d"}',
	'[{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]', '{example.com/a,b}', '[{"manager": "m"}]', 'h', 15,
	'2022-11-30 18:04:27.912073+00', '2022-11-30 18:04:28+00', 0, 'OldestEmulationVersion', 'p', 5, '2022-11-30', 'r');
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL datestyle = 'German';
SELECT is(lease_object('full') #- '{metadata,creationTimestamp}', '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "full", "namespace": "default", "generateName": "fu",
	"uid": "00000000-0000-4000-8000-000000000002", "resourceVersion": "1", "generation": 4, "deletionTimestamp": "2022-12-01T00:00:00Z", "deletionGracePeriodSeconds": 30,
	"labels": {"a": "b"}, "annotations": {"c": "d"}, "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}],
	"finalizers": ["example.com/a", "b"], "managedFields": [{"manager": "m"}]}, "spec": {"holderIdentity": "h", "leaseDurationSeconds": 15,
	"acquireTime": "2022-11-30T18:04:27.912073Z", "renewTime": "2022-11-30T18:04:28.000000Z", "leaseTransitions": 0, "strategy": "OldestEmulationVersion", "preferredHolder": "p"}}'::jsonb,
	'everything set, whatever time zone and date style; and nothing that Kubernetes does not have');

-- empty is absent where Kubernetes has no pointer
INSERT INTO lease (name, labels, annotations, owner_references, finalizers, managed_fields, generate_name, generation, holder_identity, strategy, preferred_holder)
VALUES ('zero', '{}', '{}', '[]', '{}', '[]', '', 0, '', '', '');
SELECT is((lease_object('zero')->'metadata') - 'uid' - 'resourceVersion' - 'creationTimestamp', '{"name": "zero", "namespace": "default"}', 'empty maps, lists and strings of the metadata are absent');
SELECT is(lease_object('zero')->'spec', '{"holderIdentity": "", "strategy": "", "preferredHolder": ""}', 'empty strings of the spec are there');
INSERT INTO lease (name, creation_timestamp, renew_time, acquire_time) VALUES ('go', NULL, '0001-01-01 00:00:00+00', '1969-12-31 23:59:59.999999+00');
SELECT is(lease_object('go')->'spec', '{"renewTime": null, "acquireTime": "1969-12-31T23:59:59.999999Z"}', 'Go''s zero time is null; times before 1970');
SELECT ok(NOT (lease_object('go')->'metadata') ? 'creationTimestamp', 'creationTimestamp may be missing');
SELECT is(age, '<unknown>', 'and the age unknown') FROM kubectl_get_leases WHERE name = 'go';

SELECT is(l.lease_object, lease_object(l), 'as a column') FROM lease l WHERE name = 'full';
ALTER TABLE lease ADD COLUMN dropped int;
ALTER TABLE lease DROP COLUMN dropped;
ALTER TABLE lease ADD COLUMN extra int DEFAULT 1;
SELECT is(lease_object(l) ->> 'spec', lease_object('full') ->> 'spec', 'with a column more, and one dropped') FROM lease l WHERE name = 'full';
ALTER TABLE lease DROP COLUMN extra;

-- privileges and policies
CREATE ROLE lease_test_object;
SET LOCAL ROLE lease_test_object;
SELECT throws_ok($$SELECT lease_object('full')$$, '42501', NULL, 'without SELECT nobody sees an object');
RESET ROLE;
GRANT SELECT ON lease TO lease_test_object;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON lease TO lease_test_object USING (namespace = 'ns');
SET LOCAL ROLE lease_test_object;
SELECT is(lease_object('full'), NULL, 'a policy hides a lease');
SELECT isnt(lease_object('empty', 'ns'), NULL, 'and shows another');
RESET ROLE;
ALTER TABLE lease DISABLE ROW LEVEL SECURITY;

-- fast enough for lists
INSERT INTO lease (namespace, name, labels, holder_identity, renew_time, lease_duration_seconds)
SELECT 'many', 'n' || n, '{"a": "b"}', 'h', '2022-11-30', 40 FROM generate_series(1, 10000) n;
SELECT clock_timestamp() AS began \gset
SELECT count(lease_object(l)) FROM lease l WHERE namespace = 'many' \gset
SELECT cmp_ok(clock_timestamp() - :'began', '<', interval '1 s', '10000 objects do not take long');

SELECT * FROM finish();
ROLLBACK;
