\set holder 3000000000000000 + :client_id
SELECT holder_identity = :holder OR renew_time + lease_duration_seconds * interval '1 s' <= clock_timestamp() FROM handmade WHERE namespace = 'default' AND name = 'held' FOR UPDATE;
