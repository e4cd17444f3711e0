-- kubectl(): the command line, and what changes objects. What it prints for given objects is compared with the real one's output in
-- test/t/100_kubectl.pl.
BEGIN;
SELECT no_plan();
DELETE FROM lease;
DELETE FROM lease_node;

CREATE FUNCTION pg_temp.error_of(command text, manifest text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM kubectl(command, manifest => manifest);
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION pg_temp.spec(name text) RETURNS jsonb LANGUAGE sql AS $$SELECT lease_object(name) -> 'spec'$$;
CREATE FUNCTION pg_temp.labels(name text) RETURNS jsonb LANGUAGE sql AS $$SELECT lease_object(name) #> '{metadata,labels}'$$;

-- words and flags
INSERT INTO lease (name, holder_identity, labels) VALUES ('a', 'x', '{"app": "web"}'), ('b', 'y', NULL);
INSERT INTO lease (namespace, name) VALUES ('other', 'c');
SELECT is(kubectl(command), E'lease.coordination.k8s.io/a\nlease.coordination.k8s.io/b\n', 'the same: ' || command) FROM (VALUES
	('get leases -o name'), ('kubectl get leases -o name'), ('-n default get leases -oname'), ('get -o=name leases --namespace=default'), ('get leases --output name -n=default'),
	('get "leases" -o n\ame'), (E'get\tleases\n-o ''name'''), ('get lease/a leases/b -o name'), ('get lease a b -o name'), ('get LEASE.v1.coordination.k8s.io -o name'), ('get leases.coord -o name'),
	('get leases -o name -n ""'), ('get leases -o name --no_headers'), ('get leases -o name --no-headers=false -- '), ('get leases -n other -n default -o name'), ('get lease,leases -o name')) v (command);
SELECT is(kubectl('get -Ao name leases'), E'lease.coordination.k8s.io/a\nlease.coordination.k8s.io/b\nlease.coordination.k8s.io/c\n', 'short flags may be joined');
SELECT is(pg_temp.error_of(command), error, command) FROM (VALUES
	('', '42601 command line names no command'), ('kubectl', '42601 command line names no command'), ('frobnicate', '42601 error: unknown command "frobnicate" for "kubectl"'),
	('get leases ''a', '42601 unterminated single quote in command line'), ('get leases "a', '42601 unterminated double quote in command line'), ('get leases a\', '42601 unterminated escape in command line'),
	('get leases; rm -rf /', '0A000 shell syntax is not supported: ";"'), ('get leases "$(x)"', '0A000 shell expansion is not supported'),
	('get leases --foo', E'42601 Error: unknown flag: --foo\nSee ''kubectl get --help'' for usage.'), ('get leases -x', E'42601 Error: unknown shorthand flag: ''x'' in -x\nSee ''kubectl get --help'' for usage.'),
	('get leases -n', E'42601 Error: flag needs an argument: ''n'' in -n\nSee ''kubectl get --help'' for usage.'), ('get leases --output', E'42601 Error: flag needs an argument: --output\nSee ''kubectl get --help'' for usage.'),
	('get leases -A=maybe', E'42601 Error: invalid argument "maybe" for "-A, --all-namespaces" flag: strconv.ParseBool: parsing "maybe": invalid syntax\nSee ''kubectl get --help'' for usage.'),
	('explain leases', '0A000 "kubectl explain" is not supported by kubectl()'), ('edit lease a', '0A000 "kubectl edit" is not supported by kubectl()'), ('diff -f -', '0A000 "kubectl diff" is not supported by kubectl()'),
	('get leases -w', '0A000 flag --watch is not supported by kubectl()'), ('get leases -o go-template={{.}}', '0A000 output format "go-template" is not supported by kubectl()'),
	('get pods', '22023 error: the server doesn''t have a resource type "pods"'), ('get leases.v1', '22023 error: the server doesn''t have a resource type "leases"'), ('get lease.foo.io', '22023 error: the server doesn''t have a resource type "lease"'),
	('get namespaces', '0A000 kubectl() knows leases and nodes only'),
	('get lease a/b', '22023 error: there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. ''kubectl get resource/<resource_name>'' instead of ''kubectl get resource resource/<resource_name>'''),
	('get lease/', '22023 error: arguments in resource/name form must have a single resource and name'), ('get lease/a/b', '22023 error: arguments in resource/name form may not have more than one slash'),
	('get lease ""', '22023 error: resource name may not be empty'), ('get lease a -l x=y', '22023 error: name cannot be provided when a selector is specified'),
	('get lease a -A', '22023 error: a resource cannot be retrieved by name across all namespaces'), ('get lease nope', 'P0002 Error from server (NotFound): leases.coordination.k8s.io "nope" not found'),
	('get lease a,b', 'P0002 Error from server (NotFound): leases.coordination.k8s.io "a,b" not found'),
	('get leases -o yaml --show-labels', '22023 error: --show-labels option cannot be used with yaml printer'), ('get leases -o jsonpath', '22023 error: template format specified but no template given'),
	('get leases -o ''jsonpath={.a''', '22023 error: error parsing jsonpath {.a, unclosed action'), ('get leases -o custom-columns=A', '22023 error: unexpected custom-columns spec: A, expected <header>:<json-path-expr>'),
	('delete lease', '22023 error: resource(s) were provided, but no name was specified'), ('label lease a', '22023 error: at least one label update is required'),
	('label lease a -x=a', E'42601 Error: unknown shorthand flag: ''x'' in -x=a\nSee ''kubectl label --help'' for usage.'),
	('label lease a k=v k-', '22023 error: can not both modify and remove a label in the same command'), ('create lease foo', E'22023 error: Unexpected args: [lease foo]\nSee ''kubectl create -h'' for help and examples'),
	('create -f x.yaml', '0A000 kubectl() reads no files'), ('delete lease a --dry-run=x', '22023 error: Invalid dry-run value (x). Must be "none", "server", or "client".')) v (command, error);
SELECT is(pg_temp.error_of(NULL), '22004 command must not be null', 'no command');
SELECT is(kubectl('get lease nope --ignore-not-found'), '', '--ignore-not-found');
SELECT is(kubectl('get leases', at => '2100-01-01') ~ '[0-9]+y', true, 'AGE is counted to at');

-- jsonpath and custom columns
SELECT is(kubectl_jsonpath('{"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2.5}, {"n": "z"}], "b.c": {"d": true}, "e": null}', template), printed, 'template: ' || template) FROM (VALUES
	('{.a[0].n}', 'x'), ('{.a[*].n}', 'x y z'), ('{.a[-1].n}', 'z'), ('{.a[0:2].v}', '1 2.5'), ('{.a[::2].n}', 'x z'), ('{.a[0,2].n}', 'x z'), ('{..n}', 'x y z'), ('{.b\.c.d}', 'true'), ('{[''b\.c''].d}', 'true'),
	('{.a[?(@.n=="y")].v}', '2.5'), ('{.a[?(@.v>1)].n}', 'y'), ('{.a[?(@.v)].n}', 'x y'), ('{range .a[*]}{.n}={.v}{"\n"}{end}', E'x=1\ny=2.5\nz=\n'), ('v={.a[1].v};', 'v=2.5;'), ('{.a[0]}', '{"n":"x","v":1}'),
	('{.nothing}', ''), ('{.e}', 'null'), ('{.a[1:1].n}', ''), ('{$.a[0].n} {@.a[1].n}', 'x y'), ('', '')) v (template, printed);
SELECT is(kubectl('get leases -o custom-columns=NAME:.metadata.name,APP:metadata.labels.app,L:{.metadata.labels}'), E'NAME   APP      L\na      web      map[app:web]\nb      <none>   <none>\n', 'custom columns');
SELECT is(kubectl('get leases --sort-by=.spec.holderIdentity -o name'), E'lease.coordination.k8s.io/a\nlease.coordination.k8s.io/b\n', 'sorted');

SELECT is(kubectl('get leases -o ''jsonpath-as-json={.items[*].metadata.name}'''), E'[\n    "a",\n    "b"\n]\n', 'what a template finds, as JSON');

SELECT is(kubectl('get leases --sort-by=.metadata.labels.app -o name'), E'lease.coordination.k8s.io/b\nlease.coordination.k8s.io/a\n', 'what has no such field comes first');
SELECT is(kubectl('get leases -A --sort-by=.metadata.labels.app -o name'), E'lease.coordination.k8s.io/c\nlease.coordination.k8s.io/b\nlease.coordination.k8s.io/a\n', 'in the reverse of its order, as Go''s insertion sort has it');

-- create
SELECT is(kubectl('create -f -', manifest => E'apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata:\n  name: made\n  labels: {"on": "yes"}\nspec:\n  holderIdentity: x\n  leaseDurationSeconds: 0x10\n---\n# nothing\n---\n'
	'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: listed, namespace: other}}\n'),
	E'lease.coordination.k8s.io/made created\nlease.coordination.k8s.io/listed created\n', 'created, from two documents and a list');
SELECT is(pg_temp.spec('made'), '{"holderIdentity": "x", "leaseDurationSeconds": 16}', 'as it was written');
SELECT is(pg_temp.error_of('create -f -', manifest), error, 'create: ' || error) FROM (VALUES
	('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "made"}}', '23505 Error from server (AlreadyExists): error when creating "STDIN": leases.coordination.k8s.io "made" already exists'),
	('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": {"leaseDurationSeconds": 0}}', 'LS422 The Lease "x" is invalid: spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0'),
	('{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}',
		E'LS422 The Lease "x" is invalid: \n* spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0\n* spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0'),
	('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}', E'22023 error: resource mapping not found for name: "x" namespace: "" from "STDIN": no matches for kind "Pod" in version "v1"\nensure CRDs are installed first'),
	(E'a: b\n c: d', '22P02 error: error parsing STDIN: error converting YAML to JSON: yaml: line 2: mapping values are not allowed in this context'),
	('', '22023 error: no objects passed to create')) v (manifest, error);
SELECT is(pg_temp.error_of('-n default create -f -', '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x", "namespace": "other"}}'),
	'22023 error: the namespace from the provided object "other" does not match the namespace "default". You must pass ''--namespace=other'' to perform this operation.', 'two namespaces');
SELECT is(kubectl('create -f - --dry-run=server', manifest => '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "dry"}}') || coalesce(lease_object('dry')::text, 'missing'),
	E'lease.coordination.k8s.io/dry created (server dry run)\nmissing', 'a dry run makes nothing');

-- apply
CREATE FUNCTION pg_temp.apply(metadata text) RETURNS text LANGUAGE sql AS
	$$SELECT kubectl('apply -f -', manifest => format(E'apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: applied, %s}\nspec: {holderIdentity: h}\n', metadata))$$;
SELECT is(pg_temp.apply('labels: {a: b, c: d}'), E'lease.coordination.k8s.io/applied created\n', 'applied: created');
UPDATE lease SET labels = labels || '{"by": "hand"}' WHERE name = 'applied';
SELECT is(pg_temp.apply('labels: {a: b2}'), E'lease.coordination.k8s.io/applied configured\n', 'configured');
SELECT is(pg_temp.labels('applied'), '{"a": "b2", "by": "hand"}', 'what is not applied any more goes, what somebody else has set stays');
SELECT is(pg_temp.apply('labels: {a: b2}'), E'lease.coordination.k8s.io/applied unchanged\n', 'unchanged');
SELECT is(lease_object('applied') #>> '{metadata,annotations,kubectl.kubernetes.io/last-applied-configuration}',
	E'{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"annotations":{},"labels":{"a":"b2"},"name":"applied","namespace":"default"},"spec":{"holderIdentity":"h"}}\n', 'and it is remembered');

UPDATE lease SET annotations = '{"kubectl.kubernetes.io/last-applied-configuration": "[1]"}' WHERE name = 'applied';
SELECT is(pg_temp.apply('labels: {a: b2}'), E'lease.coordination.k8s.io/applied configured\n', 'also when somebody has made a list of that');

-- patch, replace
SELECT is(kubectl('patch lease made -p ''{"spec": {"holderIdentity": "p", "leaseDurationSeconds": null}}'''), E'lease.coordination.k8s.io/made patched\n', 'patched');
SELECT is(pg_temp.spec('made'), '{"holderIdentity": "p"}', 'null removes');
SELECT is(kubectl('patch lease made --type merge -p ''spec: {holderIdentity: p}'''), E'lease.coordination.k8s.io/made patched (no change)\n', 'no change');
SELECT is(kubectl('patch lease made --type json -p ''[{"op": "test", "path": "/metadata/labels/on", "value": "yes"}, {"op": "add", "path": "/metadata/labels/a~1b", "value": "1"}, {"op": "remove", "path": "/metadata/labels/on"}, {"op": "add", "path": "/metadata/finalizers", "value": ["x/a"]}, {"op": "add", "path": "/metadata/finalizers/-", "value": "x/b"}]'''),
	E'lease.coordination.k8s.io/made patched\n', 'a JSON patch');
SELECT is(lease_object('made') #> '{metadata,labels}' || (lease_object('made') #> '{metadata,finalizers}'), '[{"a/b": "1"}, "x/a", "x/b"]', 'does what it says');
SELECT is(pg_temp.error_of(command), error, command) FROM (VALUES
	('patch lease made --type json -p ''[{"op": "test", "path": "/kind", "value": "x"}]''', '22023 The request is invalid: the server rejected our request due to an error in our request'),
	('patch lease made -p ''{"metadata": {"name": "x"}}''', 'LS400 Error from server (BadRequest): the name of the object (x) does not match the name on the URL (made)'),
	('patch lease made -p ''{"metadata": {"resourceVersion": "1"}}''', 'LS409 Error from server (Conflict): Operation cannot be fulfilled on leases.coordination.k8s.io "made": the object has been modified; please apply your changes to the latest version and try again'),
	('patch lease made', '22023 error: must specify --patch or --patch-file containing the contents of the patch')) v (command, error);
SELECT is(kubectl('replace -f -', manifest => '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "made"}, "spec": {"holderIdentity": "r"}}'), E'lease.coordination.k8s.io/made replaced\n', 'replaced');
SELECT is(lease_object('made') - 'apiVersion' - 'kind' #- '{metadata,uid}' #- '{metadata,creationTimestamp}' #- '{metadata,resourceVersion}', '{"metadata": {"name": "made", "namespace": "default"}, "spec": {"holderIdentity": "r"}}', 'by what was given');

-- label, annotate, delete
SELECT is(kubectl('label lease a b x=1'), E'lease.coordination.k8s.io/a labeled\nlease.coordination.k8s.io/b labeled\n', 'labeled');
SELECT is(kubectl('label lease a x-'), E'lease.coordination.k8s.io/a unlabeled\n', 'unlabeled');
SELECT is(kubectl('label lease a x-'), E'label "x" not found.\nlease.coordination.k8s.io/a not labeled\n', 'not found');
SELECT is(kubectl('annotate lease a note=''hi there'' -o yaml') ~ 'note: hi there', true, '-o prints the object');
SELECT is(kubectl('delete lease -l x=1 --dry-run=client'), E'lease.coordination.k8s.io "b" deleted (dry run)\n', 'a dry run');
SELECT is(kubectl('delete lease -l x=1'), E'lease.coordination.k8s.io "b" deleted\n', 'deleted');
SELECT is(lease_object('b'), NULL, 'it is gone');

-- nodes
SELECT is(kubectl('create -f -', manifest => '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}'), E'node/n created\n', 'a node');
SELECT is(kubectl('label node n node-role.kubernetes.io/worker='), E'node/n labeled\n', 'labeled');
SELECT is(kubectl('get no n --no-headers', at => clock_timestamp() + '1 s') ~ '^n +Unknown +worker +[0-9]s +\n$', true, 'is there');
SELECT is(kubectl('delete node n'), E'node "n" deleted\n', 'and deleted');

-- by the privileges of who asks
CREATE ROLE lease_test_kubectl;
GRANT SELECT ON lease TO lease_test_kubectl;
SET LOCAL ROLE lease_test_kubectl;
SELECT is(kubectl('get leases -o name'), E'lease.coordination.k8s.io/a\nlease.coordination.k8s.io/applied\nlease.coordination.k8s.io/made\n', 'SELECT is enough to look');
SELECT is(left(pg_temp.error_of(command), 5), '42501', 'not enough for: ' || command) FROM (VALUES ('get nodes'), ('label lease a z=1'), ('delete lease a'), ('patch lease a -p ''{"spec": {"holderIdentity": "z"}}''')) v (command);
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
