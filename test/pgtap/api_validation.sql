-- Every rule of the API server about a Lease, in its own words: kubernetes.io's
-- ValidateLease, ValidateLeaseUpdate and the object metadata below them.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.lease(metadata jsonb DEFAULT '{}', spec jsonb DEFAULT '{}', name text DEFAULT 'x') RETURNS jsonb LANGUAGE sql AS
	$$SELECT jsonb_build_object('apiVersion', 'coordination.k8s.io/v1', 'kind', 'Lease', 'metadata', jsonb_build_object('name', name) || metadata, 'spec', spec)$$;

-- The causes that applying an object is refused with, NULL if it is not.  Nothing stays.
CREATE FUNCTION pg_temp.causes(object jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	state text;
	wanted text;
	name text := object->'metadata'->>'name';
BEGIN
	BEGIN
		PERFORM lease_apply(object);
		RAISE EXCEPTION SQLSTATE 'TSTOK';
	EXCEPTION WHEN SQLSTATE 'TSTOK' THEN
		RETURN NULL;
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
	END;
	IF state <> 'LS422' THEN
		RETURN state || ' ' || message;
	END IF;
	-- one cause is bare, several are in brackets
	wanted := CASE WHEN detail LIKE E'%\n%' THEN '[' || replace(detail, E'\n', ', ') || ']' ELSE detail END;
	IF message <> format('Lease.coordination.k8s.io "%s" is invalid: ', name) || wanted THEN
		RETURN 'message and detail differ: ' || message;
	END IF;
	RETURN detail;
END $$;

\set subdomain 'a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, ''-'' or ''.'', and must start and end with an alphanumeric character (e.g. ''example.com'', regex used for validation is ''[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'')'
\set label 'a lowercase RFC 1123 label must consist of lower case alphanumeric characters or ''-'', and must start and end with an alphanumeric character (e.g. ''my-name'',  or ''123-abc'', regex used for validation is ''[a-z0-9]([-a-z0-9]*[a-z0-9])?'')'
\set qualified 'must consist of alphanumeric characters, ''-'', ''_'' or ''.'', and must start and end with an alphanumeric character (e.g. ''MyName'',  or ''my.name'',  or ''123-abc'', regex used for validation is ''([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'')'
\set value 'a valid label must be an empty string or consist of alphanumeric characters, ''-'', ''_'' or ''.'', and must start and end with an alphanumeric character (e.g. ''MyValue'',  or ''my_value'',  or ''12345'', regex used for validation is ''(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'')'

CREATE TEMP TABLE spec_case (spec jsonb, causes text);
INSERT INTO spec_case VALUES
	('{}', NULL),
	('{"holderIdentity": "holder", "leaseDurationSeconds": 10, "leaseTransitions": 1}', NULL),
	('{"holderIdentity": "holder", "leaseDurationSeconds": 10, "leaseTransitions": 1, "strategy": "OldestEmulationVersion", "preferredHolder": "p"}', NULL),
	('{"leaseDurationSeconds": 0}', 'spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0'),
	('{"leaseDurationSeconds": -1}', 'spec.leaseDurationSeconds: Invalid value: -1: must be greater than 0'),
	('{"leaseDurationSeconds": 1}', NULL),
	('{"leaseDurationSeconds": 2147483647, "leaseTransitions": 2147483647}', NULL),
	('{"leaseTransitions": 0}', NULL),
	('{"leaseTransitions": 5}', NULL),
	('{"leaseTransitions": -1}', 'spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0'),
	('{"leaseDurationSeconds": 0, "leaseTransitions": -1}', E'spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0\nspec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0'),
	('{"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "p"}', E'spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0\nspec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0\nspec.preferredHolder: Forbidden: may only be specified if `strategy` is defined'),
	('{"preferredHolder": ""}', NULL),
	('{"preferredHolder": "p", "strategy": ""}', E'spec.strategy.strategy: Unsupported value: "": supported values: "OldestEmulationVersion"\nspec.preferredHolder: Forbidden: may only be specified if `strategy` is defined'),
	('{"strategy": "foobar"}', 'spec.strategy.strategy: Unsupported value: "foobar": supported values: "OldestEmulationVersion"'),
	('{"strategy": "example.com/foobar"}', NULL),
	('{"strategy": "example.com/foobar/toomanyslashes"}', 'spec.strategy.strategy: Invalid value: "example.com/foobar/toomanyslashes": a qualified name ' || :'qualified' || ' with an optional DNS subdomain prefix and ''/'' (e.g. ''example.com/MyName'')'),
	('{"strategy": "/foobar"}', 'spec.strategy.strategy: Invalid value: "/foobar": prefix part must be non-empty'),
	('{"holderIdentity": ""}', NULL),
	('{"renewTime": "2999-01-01T00:00:00.000000Z", "acquireTime": "3000-01-01T00:00:00.000000Z"}', NULL);
SELECT is(pg_temp.causes(pg_temp.lease('{}', spec)), causes, 'created: ' || spec::text) FROM spec_case;
SELECT FROM lease_apply(pg_temp.lease('{}', '{}', 'there'));
SELECT is(pg_temp.causes(pg_temp.lease('{}', spec, 'there')), causes, 'updated: ' || spec::text) FROM spec_case;

CREATE TEMP TABLE name_case (name text, causes text);
INSERT INTO name_case VALUES
	('a', NULL), ('a.b-c.1', NULL), (repeat('a', 253), NULL), ('1e3', NULL),
	(repeat('a', 254), 'metadata.name: Invalid value: "' || repeat('a', 254) || '": must be no more than 253 characters'),
	(repeat('A', 254), 'metadata.name: Invalid value: "' || repeat('A', 254) || E'": must be no more than 253 characters\nmetadata.name: Invalid value: "' || repeat('A', 254) || '": ' || :'subdomain'),
	('', 'metadata.name: Required value: name or generateName is required'),
	('Bad', 'metadata.name: Invalid value: "Bad": ' || :'subdomain'),
	('a..b', 'metadata.name: Invalid value: "a..b": ' || :'subdomain'),
	('a/b', 'metadata.name: Invalid value: "a/b": ' || :'subdomain'),
	('-a', 'metadata.name: Invalid value: "-a": ' || :'subdomain'),
	('a_', 'metadata.name: Invalid value: "a_": ' || :'subdomain'),
	('日本', 'metadata.name: Invalid value: "日本": ' || :'subdomain');
SELECT is(pg_temp.causes(pg_temp.lease('{}', '{}', name)), causes, 'name ' || left(name, 20)) FROM name_case;
SELECT throws_ok($$SELECT lease_apply(pg_temp.lease('{}', '{}', E'a"b\\c\td\u00a0e\u0001'))$$, 'LS422', NULL, 'odd characters in a name are refused');
DO $$
BEGIN
	PERFORM lease_apply(pg_temp.lease('{}', '{}', E'a"b\\c\td\u00a0e\u0001\u2028\U000f0000é'));
EXCEPTION WHEN SQLSTATE 'LS422' THEN
	PERFORM set_config('test.message', SQLERRM, true);
END $$;
SELECT alike(current_setting('test.message'), $$%is invalid: metadata.name: Invalid value: "a\\"b\\\\c\\td\\u00a0e\\x01\\u2028\\U000f0000é": a lowercase%$$, 'and quoted as Go does');
SELECT throws_ok($$SELECT lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}')$$, 'LS422',
	'Lease.coordination.k8s.io "" is invalid: metadata.name: Required value: name or generateName is required', 'no metadata');
SELECT throws_ok($$SELECT lease_apply('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": null, "spec": null}')$$, 'LS422',
	'Lease.coordination.k8s.io "" is invalid: metadata.name: Required value: name or generateName is required', 'null metadata');

CREATE TEMP TABLE metadata_case (metadata jsonb, causes text, create_only boolean DEFAULT false);
INSERT INTO metadata_case VALUES
	('{"namespace": "UP"}', 'metadata.namespace: Invalid value: "UP": ' || :'label', true),
	('{"namespace": "a.b"}', 'metadata.namespace: Invalid value: "a.b": must not contain dots', true),
	(jsonb_build_object('namespace', repeat('a', 64)), 'metadata.namespace: Invalid value: "' || repeat('a', 64) || '": must be no more than 63 characters', true),
	('{"name": "invalidName++", "namespace": "==invalid_Namespace=="}', 'metadata.name: Invalid value: "invalidName++": ' || :'subdomain' || E'\nmetadata.namespace: Invalid value: "==invalid_Namespace==": ' || :'label', true),
	('{"generateName": "Bad-"}', 'metadata.generateName: Invalid value: "Bad-": ' || :'subdomain', true),
	('{"generateName": "good-"}', NULL, true),
	('{"generateName": "good."}', 'metadata.generateName: Invalid value: "good.": ' || :'subdomain', true),
	('{"generation": -1}', 'metadata.generation: Invalid value: -1: must be greater than or equal to 0', true),
	('{"labels": {"a b": "c d"}, "annotations": {"e f": ""}, "finalizers": ["g h"], "generation": -1}', 'metadata.generation: Invalid value: -1: must be greater than or equal to 0' || E'\nmetadata.labels: Invalid value: "a b": name part ' || :'qualified' || E'\nmetadata.labels: Invalid value: "c d": ' || :'value' || E'\nmetadata.annotations: Invalid value: "e f": name part ' || :'qualified' || E'\nmetadata.finalizers: Invalid value: "g h": name part ' || :'qualified', true);
INSERT INTO metadata_case (metadata, causes) VALUES
	('{"labels": {"a": "b", "example.com/a": "", "A.b_c": "D-e_f.1"}}', NULL),
	('{"labels": {"": "b"}}', E'metadata.labels: Invalid value: "": name part must be non-empty\nmetadata.labels: Invalid value: "": name part ' || :'qualified'),
	('{"labels": {"/a": "b"}}', 'metadata.labels: Invalid value: "/a": prefix part must be non-empty'),
	('{"labels": {"EX.com/a": "b"}}', 'metadata.labels: Invalid value: "EX.com/a": prefix part ' || :'subdomain'),
	('{"labels": {"a/b/c": "b"}}', 'metadata.labels: Invalid value: "a/b/c": a qualified name ' || :'qualified' || ' with an optional DNS subdomain prefix and ''/'' (e.g. ''example.com/MyName'')'),
	('{"labels": {"a b": "b"}}', 'metadata.labels: Invalid value: "a b": name part ' || :'qualified'),
	('{"labels": {"a": "b c"}}', 'metadata.labels: Invalid value: "b c": ' || :'value'),
	('{"labels": {"a": "b/c"}}', 'metadata.labels: Invalid value: "b/c": ' || :'value'),
	(jsonb_build_object('labels', jsonb_build_object(repeat('k', 64), repeat('v', 64))), 'metadata.labels: Invalid value: "' || repeat('k', 64) || E'": name part must be no more than 63 characters\nmetadata.labels: Invalid value: "' || repeat('v', 64) || '": must be no more than 63 characters'),
	(jsonb_build_object('labels', jsonb_build_object(repeat('k', 254) || '/a', '')), 'metadata.labels: Invalid value: "' || repeat('k', 254) || '/a": prefix part must be no more than 253 characters'),
	('{"annotations": {"EX.com/A": "any thing", "a": ""}}', NULL),
	('{"annotations": {"a b": ""}}', 'metadata.annotations: Invalid value: "a b": name part ' || :'qualified'),
	(jsonb_build_object('annotations', jsonb_build_object('a', repeat('x', 262143))), NULL),
	(jsonb_build_object('annotations', jsonb_build_object('a', repeat('x', 262144))), 'metadata.annotations: Too long: may not be more than 262144 bytes'),
	(jsonb_build_object('annotations', jsonb_build_object('a', repeat('日', 87381))), NULL),
	(jsonb_build_object('annotations', jsonb_build_object('a', repeat('日', 87382))), 'metadata.annotations: Too long: may not be more than 262144 bytes'),
	('{"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}', NULL),
	('{"ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}]}', E'metadata.ownerReferences[0].apiVersion: Invalid value: "": version must not be empty\nmetadata.ownerReferences[0].kind: Invalid value: "": kind must not be empty\nmetadata.ownerReferences[0].name: Invalid value: "": name must not be empty\nmetadata.ownerReferences[0].uid: Invalid value: "": uid must not be empty'),
	('{"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}, {"apiVersion": "apps/", "kind": "D", "name": "n"}]}', E'metadata.ownerReferences[1].apiVersion: Invalid value: "apps/": version must not be empty\nmetadata.ownerReferences[1].uid: Invalid value: "": uid must not be empty'),
	('{"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "n", "uid": "u"}]}', 'metadata.ownerReferences[0]: Invalid value: v1.OwnerReference{APIVersion:"v1", Kind:"Event", Name:"n", UID:"u", Controller:(*bool)(nil), BlockOwnerDeletion:(*bool)(nil)}: /v1, Kind=Event is disallowed from being an owner'),
	('{"ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u", "controller": true}, {"apiVersion": "v1", "kind": "B", "name": "b", "uid": "v", "controller": true}]}', 'metadata.ownerReferences: Invalid value: []v1.OwnerReference{v1.OwnerReference{APIVersion:"v1", Kind:"A", Name:"a", UID:"u", Controller:(*bool)(0xc000000000), BlockOwnerDeletion:(*bool)(nil)}, v1.OwnerReference{APIVersion:"v1", Kind:"B", Name:"b", UID:"v", Controller:(*bool)(0xc000000000), BlockOwnerDeletion:(*bool)(nil)}}: Only one reference can have Controller set to true. Found "true" in references for A/a and B/b'),
	('{"finalizers": ["example.com/hold", "orphan"]}', NULL),
	('{"finalizers": ["a b", null]}', 'metadata.finalizers: Invalid value: "a b": name part ' || :'qualified' || E'\nmetadata.finalizers: Invalid value: "": name part must be non-empty\nmetadata.finalizers: Invalid value: "": name part ' || :'qualified'),
	('{"finalizers": ["orphan", "foregroundDeletion"]}', 'metadata.finalizers: Invalid value: []string{"orphan", "foregroundDeletion"}: finalizer orphan and foregroundDeletion cannot be both set'),
	('{"managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2022-11-30T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}, "subresource": "s"}]}', NULL),
	('{"managedFields": [{"manager": "m", "operation": "x", "fieldsType": "y"}]}', E'metadata.managedFields[0].operation: Invalid value: "x": must be `Apply` or `Update`\nmetadata.managedFields[0].fieldsType: Invalid value: "y": must be `FieldsV1`'),
	('{"managedFields": [{"manager": "a\tb", "operation": "Apply"}]}', 'metadata.managedFields[0].manager: Invalid value: "a\tb": should only contain printable characters');
SELECT is(pg_temp.causes(pg_temp.lease(metadata)), causes, 'created: ' || left(metadata::text, 80)) FROM metadata_case;
SELECT is(pg_temp.causes(pg_temp.lease(metadata, '{}', 'there')), causes, 'updated: ' || left(metadata::text, 80)) FROM metadata_case WHERE NOT create_only;

-- what the same fault twice is: one
SELECT is(pg_temp.causes(pg_temp.lease('{"labels": {"a": "b c", "b": "b c"}}')), 'metadata.labels: Invalid value: "b c": ' || :'value', 'the same fault twice is reported once');

-- updates
SELECT is(pg_temp.causes(pg_temp.lease('{"generateName": "a/%"}', '{}', 'there')), E'metadata.generateName: Invalid value: "a/%": may not contain ''/''\nmetadata.generateName: Invalid value: "a/%": may not contain ''%''', 'generateName of what exists is only a path segment');
SELECT is(pg_temp.causes(pg_temp.lease('{"deletionTimestamp": "2022-11-30T00:00:01Z", "deletionGracePeriodSeconds": 30}', '{}', 'there')),
	E'metadata.deletionTimestamp: Invalid value: 2022-11-30 00:00:01 +0000 UTC: field is immutable\nmetadata.deletionGracePeriodSeconds: Invalid value: 30: field is immutable', 'nobody can say that it is being deleted');
SELECT is(pg_temp.causes(pg_temp.lease('{"creationTimestamp": "2022-11-30T00:00:01Z", "generation": 7, "selfLink": "/x"}', '{}', 'there')), NULL, 'creationTimestamp, generation and selfLink are ignored');
UPDATE lease SET finalizers = '{example.com/a}', deletion_timestamp = '2022-11-30', deletion_grace_period_seconds = 0 WHERE name = 'there';
SELECT is(pg_temp.causes(pg_temp.lease('{"finalizers": ["z", "example.com/a", "b", "z"]}', '{}', 'there')),
	'metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"b", "z"}', 'what is being deleted gets no new finalizers');
SELECT is(pg_temp.causes(pg_temp.lease('{"deletionTimestamp": "2021-11-30T00:00:01Z"}', '{}', 'there')), NULL, 'and keeps its deletionTimestamp');

-- a megabyte of anything
SELECT is(length(pg_temp.causes(pg_temp.lease(jsonb_build_object('labels', jsonb_build_object('a', repeat('x', 1048576)))))), 1048576 + length('metadata.labels: Invalid value: "": must be no more than 63 characters'), 'a label of 1 MB');
SELECT is(pg_temp.causes(pg_temp.lease('{}', jsonb_build_object('holderIdentity', repeat('x', 1048576)))), NULL, 'a holder of 1 MB is allowed');

SELECT * FROM finish();
ROLLBACK;
