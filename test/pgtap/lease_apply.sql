-- lease_apply: a Lease in Kubernetes' JSON goes in.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.lease(name text, metadata jsonb DEFAULT '{}', spec jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS
	$$SELECT jsonb_build_object('apiVersion', 'coordination.k8s.io/v1', 'kind', 'Lease', 'metadata', jsonb_build_object('name', name) || metadata, 'spec', spec)$$;
CREATE FUNCTION pg_temp.list(VARIADIC items jsonb[]) RETURNS jsonb LANGUAGE sql AS
	$$SELECT jsonb_build_object('apiVersion', 'v1', 'kind', 'List', 'items', to_jsonb(items))$$;

-- every object that kubectl's outputs were recorded for goes in, and comes out the same
\set content `cat test/kubectl/leases.json`
CREATE TEMP TABLE cluster AS SELECT :'content'::jsonb AS dump;
CREATE TEMP TABLE object AS SELECT i.value AS object, i.value->'metadata'->>'namespace' AS namespace, i.value->'metadata'->>'name' AS name
FROM cluster, jsonb_array_elements(dump->'items') i;
SELECT is(count(*), 140::bigint, 'a cluster of 140 leases') FROM object;
SELECT is(jsonb_object_agg(action, count), '{"created": 140}', 'all are created')
FROM (SELECT action, count(*) FROM cluster, lease_apply(dump) GROUP BY action) a;
SELECT is(lease_object(name, namespace), object, 'the same: ' || namespace || '/' || name) FROM object;
SELECT is(jsonb_object_agg(action, count), '{"unchanged": 140}', 'again: nothing is changed')
FROM (SELECT action, count(*) FROM cluster, lease_apply(dump) GROUP BY action) a;
SELECT is(jsonb_object_agg(action, count), '{"unchanged": 140}', 'nor by what lease_object() says, as a LeaseList without kinds')
FROM (SELECT action, count(*) FROM lease_apply((SELECT jsonb_build_object('apiVersion', 'coordination.k8s.io/v1', 'kind', 'LeaseList', 'metadata', '{}'::jsonb,
	'items', jsonb_agg(lease_object(l) - 'kind' - 'apiVersion')) FROM lease l)) GROUP BY action) a;
DELETE FROM lease;

-- created
SELECT results_eq($$SELECT * FROM lease_apply(pg_temp.lease('a', '{"labels": {"x": "y", "gone": null}}', '{"holderIdentity": "h", "leaseDurationSeconds": 15}'))$$,
	$$VALUES ('default', 'a', 'created')$$, 'created in the namespace default');
SELECT results_eq($$SELECT labels, holder_identity COLLATE "C", lease_duration_seconds, acquire_time, fencing_token > 0, held_since IS NOT NULL, uid IS NOT NULL,
	clock_timestamp() - creation_timestamp BETWEEN '0' AND '10 s', resource_version > 1000000 FROM lease WHERE name = 'a'$$,
	$$VALUES ('{"x": "y"}'::jsonb, 'h' COLLATE "C", 15, NULL::timestamptz, true, true, true, true, true)$$, 'with what it says, and what the server decides');
SELECT results_eq($$SELECT * FROM lease_apply(pg_temp.lease('a'), 'other')$$, $$VALUES ('other', 'a', 'created')$$, 'in the given namespace');
SELECT results_eq($$SELECT * FROM lease_apply(pg_temp.lease('a', '{"namespace": "third"}'))$$, $$VALUES ('third', 'a', 'created')$$, 'in its own');
SELECT results_eq($$SELECT * FROM lease_apply(pg_temp.lease('a', '{"namespace": "third"}'), 'third')$$, $$VALUES ('third', 'a', 'unchanged')$$, 'in both');
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('a', '{"namespace": "third"}'), 'other')$$, 'LS400',
	'the namespace from the provided object "third" does not match the namespace "other". You must pass ''--namespace=third'' to perform this operation.', 'not in two');
SELECT is(name ~ '^job-[bcdfghjklmnpqrstvwxz2456789]{5}$', true, 'generateName makes a name') FROM lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"generateName": "job-"}}');
SELECT is(generate_name, 'job-', 'and is kept') FROM lease WHERE name LIKE 'job-%';
SELECT is(length(name), 63, 'a long one is cut off') FROM lease_apply(jsonb_build_object('apiVersion', 'coordination.k8s.io/v1', 'kind', 'Lease', 'metadata', jsonb_build_object('generateName', repeat('a', 200))));

-- updated: a merge patch
SELECT fencing_token AS token, resource_version AS version, uid FROM lease WHERE namespace = 'default' AND name = 'a' \gset
SELECT is(action, 'configured', 'labels are merged') FROM lease_apply(pg_temp.lease('a', '{"labels": {"new": "1"}, "annotations": {"n": "b"}}'));
SELECT is(labels, '{"x": "y", "new": "1"}', 'the others stay') FROM lease WHERE namespace = 'default' AND name = 'a';
SELECT is(action, 'configured', 'null deletes one') FROM lease_apply(pg_temp.lease('a', '{"labels": {"x": null, "not": null}}'));
SELECT is(labels, '{"new": "1"}', 'and nothing else') FROM lease WHERE namespace = 'default' AND name = 'a';
SELECT is(action, 'unchanged', 'what is not there can be deleted') FROM lease_apply(pg_temp.lease('a', '{"labels": {"x": null}, "finalizers": null, "ownerReferences": []}'));
SELECT is(action, 'configured', 'null deletes all') FROM lease_apply(pg_temp.lease('a', '{"labels": null}'));
SELECT is((labels, annotations, holder_identity, fencing_token, uid)::text, (NULL::jsonb, '{"n": "b"}'::jsonb, 'h', :token, :'uid')::text, 'and the rest stays') FROM lease WHERE namespace = 'default' AND name = 'a';
SELECT cmp_ok(resource_version, '>', :version::bigint, 'resource_version moves') FROM lease WHERE namespace = 'default' AND name = 'a';
SELECT is(action, 'configured', 'lists are replaced') FROM lease_apply(pg_temp.lease('a', '{"finalizers": ["a", "b"]}'));
SELECT is(action, 'configured', 'lists are replaced') FROM lease_apply(pg_temp.lease('a', '{"finalizers": ["c"]}'));
SELECT is(finalizers, '{c}', 'by the new one') FROM lease WHERE namespace = 'default' AND name = 'a';
SELECT is(action, 'configured', 'a holder by hand') FROM lease_apply(pg_temp.lease('a', '{}', '{"holderIdentity": "other", "renewTime": "2022-11-30T18:04:27.912073Z"}'));
SELECT ok(fencing_token > :token AND holder_identity = 'other' AND lease_duration_seconds = 15, 'gets a new token, and the duration stays') FROM lease WHERE namespace = 'default' AND name = 'a';
SELECT is(end_reason, 'edited', 'and is history') FROM lease_history WHERE name = 'a' AND fencing_token = :token;
SELECT is(action, 'configured', 'null in the spec') FROM lease_apply(pg_temp.lease('a', '{}', '{"renewTime": null, "leaseDurationSeconds": null}'));
SELECT is(lease_object('a')->'spec', '{"holderIdentity": "other"}', 'removes the field');
SELECT is(action, 'configured', 'a null spec') FROM lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": null}');
SELECT is(lease_object('a')->'spec', '{}', 'removes all');
SELECT is(action, 'unchanged', 'no spec: stays') FROM lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}}');

-- preconditions
SELECT uid, resource_version AS version FROM lease WHERE namespace = 'default' AND name = 'a' \gset
SELECT is(action, 'configured', 'the right uid and version') FROM lease_apply(pg_temp.lease('a', jsonb_build_object('uid', :'uid', 'resourceVersion', :'version', 'labels', '{"p": "1"}'::jsonb)));
SELECT throws_ok(format('SELECT lease_apply(pg_temp.lease(''a'', %L))', jsonb_build_object('resourceVersion', :'version')), 'LS409',
	'Operation cannot be fulfilled on leases.coordination.k8s.io "a": the object has been modified; please apply your changes to the latest version and try again', 'an old version is a conflict');
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('a', '{"resourceVersion": "abc"}'))$$, 'LS409', NULL, 'so is no version');
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('a', '{"uid": "abc"}'))$$, 'LS409',
	format('Operation cannot be fulfilled on leases.coordination.k8s.io "a": StorageError: invalid object, Code: 4, Key: /registry/leases/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: abc, UID in object meta: %s', :'uid'), 'and another uid');
SELECT is(action, 'unchanged', 'empty ones are none') FROM lease_apply(pg_temp.lease('a', '{"uid": "", "resourceVersion": ""}'));
SELECT is(action, 'unchanged', 'nor is version 0') FROM lease_apply(pg_temp.lease('a', '{"resourceVersion": "0"}'));

-- loaded by the owner
SELECT results_eq($$SELECT * FROM lease_apply(pg_temp.lease('l', '{"uid": "00000000-0000-4000-8000-000000000003", "resourceVersion": "77", "creationTimestamp": "2020-01-01T00:00:00Z", "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0, "finalizers": ["x"]}'))$$,
	$$VALUES ('default', 'l', 'created')$$, 'the owner loads an object');
SELECT is((lease_object('l')->'metadata') - 'namespace' - 'name', '{"uid": "00000000-0000-4000-8000-000000000003", "resourceVersion": "77", "creationTimestamp": "2020-01-01T00:00:00Z", "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0, "finalizers": ["x"]}', 'and all is kept');
SELECT is(action, 'configured', 'its last finalizer goes') FROM lease_apply(pg_temp.lease('l', '{"finalizers": []}'));
SELECT is(lease_object('l'), NULL, 'and so does it');
SELECT FROM lease_apply(pg_temp.lease('m', '{"resourceVersion": "77", "creationTimestamp": "2020-01-01T00:00:00Z", "deletionTimestamp": "2020-01-01T00:00:00Z"}'));
SELECT ok(resource_version > 77 AND creation_timestamp > '2021-01-01' AND deletion_timestamp IS NULL, 'an object without uid is new') FROM lease WHERE name = 'm';
SELECT FROM lease_apply(pg_temp.lease('n', '{"uid": "not-a-uuid", "resourceVersion": "99999999999999999999"}'));
SELECT ok(resource_version > 77 AND uid IS NOT NULL, 'a uid that is no UUID and a version that is no number are replaced') FROM lease WHERE name = 'n';

-- what is not a Lease
SELECT throws_ok(format('SELECT lease_apply(%L)', o), 'LS400', message, 'refused: ' || left(o, 60)) FROM (VALUES
	('1', 'object must be a JSON object'), ('[]', 'object must be a JSON object'), ('null', 'object must be a JSON object'), ('"x"', 'object must be a JSON object'),
	('{}', 'Object ''Kind'' is missing in ''{}'''),
	('{"kind": "Lease"}', 'Object ''apiVersion'' is missing in ''{"kind": "Lease"}'''),
	('{"kind": "Pod", "apiVersion": "v1"}', 'no matches for kind "Pod" in version "v1"'),
	('{"kind": "Lease", "apiVersion": "coordination.k8s.io/v1beta1"}', 'no matches for kind "Lease" in version "coordination.k8s.io/v1beta1"'),
	('{"kind": "List", "apiVersion": "v1"}', 'a list of leases must have an array "items"'),
	('{"kind": "List", "apiVersion": "v1", "items": {}}', 'a list of leases must have an array "items"'),
	('{"kind": "List", "apiVersion": "v1", "items": [1]}', 'an item of a list of leases must be a JSON object'),
	('{"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "items": [null]}', 'an item of a list of leases must be a JSON object'),
	('{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Namespace", "apiVersion": "v1"}]}', 'no matches for kind "Namespace" in version "v1"')) v (o, message);
SELECT throws_ok('SELECT lease_apply(NULL)', '22004', 'object must not be null', 'NULL is refused');
SELECT is_empty($$SELECT * FROM lease_apply('{"kind": "List", "apiVersion": "v1", "items": []}')$$, 'an empty list does nothing');

-- strict decoding
\set cannot 'Lease in version "v1" cannot be handled as a Lease: '
SELECT throws_ok(format('SELECT lease_apply(pg_temp.lease(''d'', %L, %L))', metadata, spec), 'LS400', :'cannot' || message, 'refused: ' || left(metadata || spec, 70)) FROM (VALUES
	('{}', '{"x": 1}', 'strict decoding error: unknown field "spec.x"'),
	('{"Labels": {}, "zz": 1}', '{"HolderIdentity": "", "b": null}', 'strict decoding error: unknown field "metadata.Labels", unknown field "metadata.zz", unknown field "spec.HolderIdentity", unknown field "spec.b"'),
	('{"ownerReferences": [{}, {"x": 1}]}', '{}', 'strict decoding error: unknown field "metadata.ownerReferences[1].x"'),
	('{}', '{"leaseDurationSeconds": "15"}', 'json: cannot unmarshal string into Go struct field LeaseSpec.spec.leaseDurationSeconds of type int32'),
	('{}', '{"leaseDurationSeconds": 1.5}', 'json: cannot unmarshal number 1.5 into Go struct field LeaseSpec.spec.leaseDurationSeconds of type int32'),
	('{}', '{"leaseDurationSeconds": 2147483648}', 'json: cannot unmarshal number 2147483648 into Go struct field LeaseSpec.spec.leaseDurationSeconds of type int32'),
	('{}', '{"leaseTransitions": true}', 'json: cannot unmarshal bool into Go struct field LeaseSpec.spec.leaseTransitions of type int32'),
	('{}', '{"holderIdentity": 1, "x": 1}', 'json: cannot unmarshal number into Go struct field LeaseSpec.spec.holderIdentity of type string'),
	('{}', '{"holderIdentity": {}}', 'json: cannot unmarshal object into Go struct field LeaseSpec.spec.holderIdentity of type string'),
	('{}', '{"strategy": []}', 'json: cannot unmarshal array into Go struct field LeaseSpec.spec.strategy of type v1.CoordinatedLeaseStrategy'),
	('{}', '[]', 'json: cannot unmarshal array into Go struct field Lease.spec of type v1.LeaseSpec'),
	('{}', '"x"', 'json: cannot unmarshal string into Go struct field Lease.spec of type v1.LeaseSpec'),
	('{"labels": []}', '{}', 'json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string'),
	('{"labels": {"a": 1}}', '{}', 'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string'),
	('{"annotations": {"a": {}}}', '{}', 'json: cannot unmarshal object into Go struct field ObjectMeta.metadata.annotations of type string'),
	('{"finalizers": "x"}', '{}', 'json: cannot unmarshal string into Go struct field ObjectMeta.metadata.finalizers of type []string'),
	('{"finalizers": [1]}', '{}', 'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.finalizers of type string'),
	('{"ownerReferences": [{"name": 1}]}', '{}', 'json: cannot unmarshal number into Go struct field OwnerReference.metadata.ownerReferences.name of type string'),
	('{"ownerReferences": [{"controller": "yes"}]}', '{}', 'json: cannot unmarshal string into Go struct field OwnerReference.metadata.ownerReferences.controller of type bool'),
	('{"ownerReferences": [1]}', '{}', 'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.ownerReferences of type v1.OwnerReference'),
	('{"uid": 1}', '{}', 'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.uid of type types.UID'),
	('{"resourceVersion": 1}', '{}', 'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.resourceVersion of type string'),
	('{}', '{"renewTime": 1}', 'json: cannot unmarshal number into Go value of type string')) v (metadata, spec, message);
SELECT throws_ok($$SELECT lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": 1}')$$, 'LS400', :'cannot' || 'json: cannot unmarshal number into Go struct field Lease.metadata of type v1.ObjectMeta', 'metadata of another type');
SELECT throws_ok($$SELECT lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "d"}, "status": {}, "": 1}')$$, 'LS400', :'cannot' || 'strict decoding error: unknown field "", unknown field "status"', 'unknown fields at the top');

-- times
CREATE TEMP TABLE time_case (time text, result text, fault text);
INSERT INTO time_case VALUES
	('2022-11-30T18:04:27.912073Z', '2022-11-30T18:04:27.912073Z', NULL),
	('2022-12-01T03:04:27.912073+09:00', '2022-11-30T18:04:27.912073Z', NULL),
	('2022-11-30T08:04:27.912073-10:00', '2022-11-30T18:04:27.912073Z', NULL),
	('2022-11-30T18:04:27,912073Z', '2022-11-30T18:04:27.912073Z', NULL),
	('2022-11-30T8:04:27.912073Z', '2022-11-30T08:04:27.912073Z', NULL),
	('2024-02-29T00:00:00.000000Z', '2024-02-29T00:00:00.000000Z', NULL),
	('0001-01-01T00:00:00.000000Z', NULL, NULL),
	('9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z', NULL),
	('2022-11-30T18:04:27Z', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"'),
	('2022-11-30T18:04:27.912Z', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse ".912Z" as ".000000"'),
	('2022-11-30T18:04:27.912073456Z', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "456Z" as "Z07:00"'),
	('2022-11-30T18:04:27.912073', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "" as "Z07:00"'),
	('2022-11-30t18:04:27.912073Z', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "t18:04:27.912073Z" as "T"'),
	('2022-11-30 18:04:27.912073Z', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse " 18:04:27.912073Z" as "T"'),
	('2022-11-30T18:04:27.912073z', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "z" as "Z07:00"'),
	('2022-11-30T18:04:27.912073+0900', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "+0900" as "Z07:00"'),
	('2022-11-30T18:04:60.000000Z', NULL, ': second out of range'),
	('2022-11-30T18:60:00.000000Z', NULL, ': minute out of range'),
	('2022-11-30T24:00:00.000000Z', NULL, ': hour out of range'),
	('2022-13-30T00:00:00.000000Z', NULL, ': month out of range'),
	('2022-02-30T00:00:00.000000Z', NULL, ': day out of range'),
	('2022-02-00T00:00:00.000000Z', NULL, ': day out of range'),
	('2023-02-29T00:00:00.000000Z', NULL, ': day out of range'),
	('2022-11-30T18:04:27.912073+25:00', NULL, ': time zone offset hour out of range'),
	('2022-11-30T18:04:27.912073Zx', NULL, ': extra text: "x"'),
	('infinity', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "infinity" as "2006"'),
	('', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "" as "2006"'),
	('20é2', NULL, ' as "2006-01-02T15:04:05.000000Z07:00": cannot parse "20\xc3\xa92" as "2006"');
SELECT throws_ok(format('SELECT lease_apply(pg_temp.lease(''t'', ''{}'', %L))', jsonb_build_object('renewTime', time)), 'LS400',
	:'cannot' || 'parsing time "' || replace(time, 'é', '\xc3\xa9') || '"' || fault, 'refused: ' || time) FROM time_case WHERE fault IS NOT NULL;
CREATE FUNCTION pg_temp.after(given text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM lease_apply(pg_temp.lease('t', '{}', jsonb_build_object('renewTime', given)));
	RETURN lease_object('t')->'spec'->>'renewTime';
END $$;
SELECT is(pg_temp.after(time), result, 'accepted: ' || time) FROM time_case WHERE fault IS NULL;

-- a list is all or nothing
SELECT throws_ok($$SELECT lease_apply(pg_temp.list(pg_temp.lease('all'), pg_temp.lease('Nothing')))$$, 'LS422', NULL, 'one that is refused');
SELECT is(lease_object('all'), NULL, 'takes the others with it');
SELECT results_eq($$SELECT name, action FROM lease_apply(pg_temp.list(pg_temp.lease('two'), pg_temp.lease('two'), pg_temp.lease('two', '{"labels": {"a": "b"}}')))$$,
	$$VALUES ('two', 'created'), ('two', 'unchanged'), ('two', 'configured')$$, 'each item sees the ones before');

-- hostile text is only text
SELECT FROM lease_apply(pg_temp.lease('quote', $${"annotations": {"a": "'; DROP TABLE lease; --", "b": "$1 %s %n \\ \" \u2028"}}$$, $${"holderIdentity": "'; DROP TABLE lease; --\n%s"}$$));
SELECT is(lease_object('quote')->'spec'->>'holderIdentity', E'''; DROP TABLE lease; --\n%s', 'as a holder');
SELECT is(lease_object('quote')->'metadata'->'annotations', $${"a": "'; DROP TABLE lease; --", "b": "$1 %s %n \\ \" \u2028"}$$, 'as an annotation');
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('%s%n'))$$, 'LS422', NULL, 'in a name: refused, and nothing worse');
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('h', '{}', '{"%s%n": 1}'))$$, 'LS400', :'cannot' || 'strict decoding error: unknown field "spec.%s%n"', 'in a field');

-- who may
CREATE ROLE lease_test_apply;
GRANT SELECT ON lease TO lease_test_apply;
SET LOCAL ROLE lease_test_apply;
SELECT is(action, 'unchanged', 'who may only read may apply what is there') FROM lease_apply(pg_temp.lease('quote'));
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('quote', '{"labels": {"a": "b"}}'))$$, '42501', NULL, 'but change nothing');
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('mine'))$$, '42501', NULL, 'and create nothing');
RESET ROLE;
GRANT INSERT, UPDATE ON lease TO lease_test_apply;
SET LOCAL ROLE lease_test_apply;
SELECT is(action, 'configured', 'who may write, labels') FROM lease_apply(pg_temp.lease('quote', '{"labels": {"a": "b"}}'));
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('quote', '{}', '{"holderIdentity": "me"}'))$$, '42501', 'permission denied to set column "holder_identity" of a lease', 'but does not say who holds it');
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('mine', '{}', '{"renewTime": "2022-11-30T18:04:27.912073Z"}'))$$, '42501', 'permission denied to set column "renew_time" of a lease', 'nor of a new one');
SELECT is(action, 'created', 'and creates') FROM lease_apply(pg_temp.lease('mine', '{"uid": "00000000-0000-4000-8000-000000000009", "resourceVersion": "77", "creationTimestamp": "2020-01-01T00:00:00Z", "deletionTimestamp": "2020-01-01T00:00:00Z", "generation": 3}'));
SELECT ok(uid <> '00000000-0000-4000-8000-000000000009' AND resource_version > 77 AND creation_timestamp > '2021-01-01' AND deletion_timestamp IS NULL AND generation = 3,
	'under a new uid, version and time') FROM lease WHERE name = 'mine';
SELECT throws_ok($$UPDATE lease SET deletion_timestamp = '2022-11-30' WHERE name = 'mine'$$, '42501', 'permission denied to set column "deletion_timestamp" of a lease', 'nobody marks a lease as deleted');
INSERT INTO lease (name, creation_timestamp) VALUES ('by-hand', NULL);
SELECT ok(creation_timestamp IS NOT NULL, 'nor leaves out when it was made') FROM lease WHERE name = 'by-hand';
RESET ROLE;
REVOKE ALL ON lease FROM lease_test_apply;
GRANT SELECT, UPDATE (labels, annotations, owner_references, finalizers, generate_name, managed_fields) ON lease TO lease_test_apply;
SET LOCAL ROLE lease_test_apply;
SELECT is(action, 'configured', 'grants on the columns of the metadata are enough for them') FROM lease_apply(pg_temp.lease('quote', '{"labels": {"a": "c"}}'));
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('quote', '{}', '{"strategy": "example.com/x"}'))$$, '42501', NULL, 'and not for the spec');
RESET ROLE;
GRANT UPDATE, INSERT ON lease TO lease_test_apply;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON lease TO lease_test_apply USING (namespace = 'mine');
SET LOCAL ROLE lease_test_apply;
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('new'))$$, '42501', NULL, 'a policy refuses another namespace');
SELECT is(action, 'created', 'and lets into its own') FROM lease_apply(pg_temp.lease('new'), 'mine');
SELECT is(action, 'configured', 'to update there') FROM lease_apply(pg_temp.lease('new', '{"labels": {"a": "c"}}'), 'mine');
RESET ROLE;
ALTER TABLE lease DISABLE ROW LEVEL SECURITY;

-- what suppresses a write is not acknowledged
CREATE FUNCTION pg_temp.suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER suppress BEFORE UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION pg_temp.suppress();
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('quote', '{"labels": {"a": "d"}}'))$$, '09000', 'lease was not written', 'a trigger that suppresses an update');
DROP TRIGGER suppress ON lease;
CREATE RULE no_updates AS ON UPDATE TO lease DO INSTEAD NOTHING;
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('quote', '{"labels": {"a": "d"}}'))$$, '09000', 'lease was not written', 'a rule that does');
DROP RULE no_updates ON lease;
SELECT is(action, 'configured', 'and afterwards it is written') FROM lease_apply(pg_temp.lease('quote', '{"labels": {"a": "d"}}'));

-- not in a read-only transaction
SET LOCAL transaction_read_only = on;
SELECT throws_ok($$SELECT lease_apply('{}')$$, '25006', NULL, 'not in a read-only transaction');

SELECT * FROM finish();
ROLLBACK;
