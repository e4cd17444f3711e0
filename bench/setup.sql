-- The leases, and a table that somebody would make by hand for the same
-- purpose: same columns, same rows, same fillfactor, no trigger, no CHECK.
CREATE EXTENSION lease;

-- Names and holders are 16 bytes long, and numbers, so that pgbench can pass
-- them as parameters as an application would.
INSERT INTO lease (name, holder_identity, lease_duration_seconds,
				   acquire_time, renew_time, lease_transitions)
SELECT 1000000000000000 + i, 2000000000000000 + i, 86400,
	   clock_timestamp(), clock_timestamp(), 0
FROM generate_series(0, :leases - 1) i;

-- A lease for the losers, held by somebody who is not here.
SELECT acquired FROM lease_acquire('held', 'somebody', '1 day');

CREATE TABLE handmade (LIKE lease, PRIMARY KEY (namespace, name)) WITH (fillfactor = 60);
INSERT INTO handmade TABLE lease;

CREATE FUNCTION handmade_renew(
	the_name text,
	the_holder text,
	OUT renewed boolean,
	OUT token bigint,
	OUT expires_at timestamptz)
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE handmade
	SET renew_time = clock_timestamp(),
		resource_version = resource_version + 1
	WHERE namespace = 'default' AND name = the_name
		AND holder_identity = the_holder
		AND renew_time + lease_duration_seconds * interval '1 s' > clock_timestamp()
	RETURNING fencing_token, renew_time + lease_duration_seconds * interval '1 s'
	INTO token, handmade_renew.expires_at;
	renewed := FOUND;
END
$$;

VACUUM ANALYZE;
