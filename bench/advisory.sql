\set i random(0, :leases - 1)
SELECT pg_try_advisory_lock(:i), pg_advisory_unlock(:i);
