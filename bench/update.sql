\set i random(0, :leases - 1)
\set name 1000000000000000 + :i
\set holder 2000000000000000 + :i
UPDATE handmade SET renew_time = clock_timestamp(), resource_version = resource_version + 1 WHERE namespace = 'default' AND name = :name AND holder_identity = :holder AND renew_time + lease_duration_seconds * interval '1 s' > clock_timestamp() RETURNING fencing_token, renew_time + lease_duration_seconds * interval '1 s';
