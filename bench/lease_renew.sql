\set i random(0, :leases - 1)
\set name 1000000000000000 + :i
\set holder 2000000000000000 + :i
SELECT lease_renew(:name, :holder);
