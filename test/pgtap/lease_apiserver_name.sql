-- lease_apiserver_name(): Kubernetes 1.26's hash of the hostname.
BEGIN;
SELECT plan(12);

SELECT is(lease_apiserver_name(hostname), 'apiserver-' || hash, 'the API server on "' || hostname || '" has the name of Kubernetes 1.26')
FROM (VALUES
	('kind-control-plane', 'c4vwjftbvpc5os2vvzle4qg27a'),
	('kind-control-plane2', 'fyloo45sdenffw2ugwaz3likua'),
	('kind-control-plane3', 'dz2dqprdpsgnm756t5rnov7yka'),
	('minikube', 'kcdegeihzlqbkh65rirrc5zxju'),
	('master-1', 'nihm5ngprxqxnpjevp7yosa6ze'),
	('localhost', 'jgla3zmib2ggq5buc4hwi5talm'),
	('ip-10-0-0-1.ec2.internal', '7dmaekazxkgeb55ssa32u53nae'),
	('', '4oymiquy7qobjgx36tejs35zeq')) v (hostname, hash);
SELECT is(lease_apiserver_name(NULL), NULL, 'NULL has none');
SELECT isnt(lease_apiserver_name('Master-1'), lease_apiserver_name('master-1'), 'case matters');
SELECT is(length(lease_apiserver_name(repeat('x', 100000))), length('apiserver-') + 26, 'the hash always has 26 characters');
SELECT ok(lease_valid_name(lease_apiserver_name(repeat('x', 100000))), 'and makes a valid name');

SELECT * FROM finish();
ROLLBACK;
