-- Takes some shards, renews them in one statement, and shows who has which.
--
--	psql -X -q -v me=a -v count=8 -v share=4 -f shards.sql

-- One after the other, until there are enough.
SELECT shard, a.status, a.fencing_token
FROM generate_series(0, :count - 1) AS shard,
	lease_acquire('shard-' || shard, :'me', duration => '15 s', namespace => 'shards') AS a
WHERE a.acquired
LIMIT :share;

-- Every five seconds: the first row counts what was renewed, the others are lost
-- (or busy: ask again).
SELECT status, leases, name
FROM lease_renew_all(:'me', namespace => 'shards');

SELECT name, holder_identity, status, fencing_token
FROM lease_status
WHERE namespace = 'shards'
ORDER BY name;
