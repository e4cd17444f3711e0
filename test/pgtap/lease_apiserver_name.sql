-- lease_apiserver_name(): Kubernetes' hash of the hostname, of 1.26 and of later versions.
BEGIN;
SELECT plan(27);

CREATE TEMP TABLE vector (hostname text, old text, new text);
INSERT INTO vector VALUES
	('kind-control-plane', 'c4vwjftbvpc5os2vvzle4qg27a', 'c7uylvfxlbqccnk6myfkwetzze'),
	('kind-control-plane2', 'fyloo45sdenffw2ugwaz3likua', 'jb7ye2xt6khowgbfip3kdojotu'),
	('kind-control-plane3', 'dz2dqprdpsgnm756t5rnov7yka', '56dud34xxzkpi7inztejj3syzm'),
	('minikube', 'kcdegeihzlqbkh65rirrc5zxju', 'eqt674mfxb4j56mrjjkoe7b7ii'),
	('master-1', 'nihm5ngprxqxnpjevp7yosa6ze', 'wj467rbl25eeviqacfhvg2yvnm'),
	('localhost', 'jgla3zmib2ggq5buc4hwi5talm', 'l2yubf4cvcl5c7a3wrubrwqdve'),
	('ip-10-0-0-1.ec2.internal', '7dmaekazxkgeb55ssa32u53nae', 'lqs5g6nt6gmd6c6smndge274ei'),
	('', '4oymiquy7qobjgx36tejs35zeq', '2ikcnb3wory4bpirwz777r2iv4');

SELECT is(lease_apiserver_name(hostname), 'kube-apiserver-' || old, 'the API server on "' || hostname || '" has the name of Kubernetes 1.26') FROM vector;
SELECT is(lease_apiserver_name(NULL), NULL, 'NULL has none');
SELECT isnt(lease_apiserver_name('Master-1'), lease_apiserver_name('master-1'), 'case matters');
SELECT is(length(lease_apiserver_name(repeat('x', 100000))), length('kube-apiserver-') + 26, 'the hash always has 26 characters');
SELECT ok(lease_valid_name(lease_apiserver_name(repeat('x', 100000))), 'and makes a valid name');
SELECT is(current_setting('lease.apiserver_identity'), '1.26', 'that is the default');

SET LOCAL lease.apiserver_identity = '1.27';
SELECT is(lease_apiserver_name(hostname), 'apiserver-' || new, 'the API server on "' || hostname || '" has the name of Kubernetes 1.27') FROM vector;
SELECT is(lease_apiserver_name(NULL), NULL, '1.27: NULL has none');
SELECT isnt(lease_apiserver_name('Master-1'), lease_apiserver_name('master-1'), '1.27: case matters');
SELECT is(length(lease_apiserver_name(repeat('x', 100000))), length('apiserver-') + 26, '1.27: the hash always has 26 characters');
SELECT ok(lease_valid_name(lease_apiserver_name(repeat('x', 100000))), '1.27: and makes a valid name');
SELECT throws_ok($$SET LOCAL lease.apiserver_identity = '1.28'$$, '22023', NULL, 'there are two');
SELECT volatility_is('lease_apiserver_name', 'stable', 'it depends on the setting, so it is not immutable');

SELECT * FROM finish();
ROLLBACK;
