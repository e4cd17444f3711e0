-- Does the extension work, as it was packaged?  Needs shared_preload_libraries =
-- 'lease', and psql with ON_ERROR_STOP.

CREATE EXTENSION lease;

-- The library has the version of the control file; servers before 18 cannot tell.
SELECT current_setting('server_version_num')::int >= 180000 AS tells_version \gset
\if :tells_version
DO $$
BEGIN
	ASSERT (SELECT count(*) FROM pg_extension AS e JOIN pg_get_loaded_modules() AS m ON m.version = e.extversion
		WHERE e.extname = 'lease' AND m.module_name = 'lease') = 1, 'the library has another version';
END
$$;
\endif

DO $$
BEGIN
	ASSERT (SELECT acquired FROM lease_acquire('smoke', 'one', '1 hour')), 'lease not acquired';
	ASSERT (SELECT acquired FROM lease_acquire('short', 'one', '1 s')), 'lease not acquired';
END
$$;
DO $$
BEGIN
	ASSERT (SELECT status = 'held' FROM lease_acquire('smoke', 'two')), 'acquired a second time';
	ASSERT (SELECT m = '{"libyaml": true}' FROM kubectl_manifest('libyaml: yes') m), 'YAML cannot be read';
END
$$;

-- Only the worker counts a lease that has expired and that nobody asks for.
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN (SELECT sum(expired) FROM lease_stat) = 1;
		PERFORM pg_sleep(0.1);
	END LOOP;
	ASSERT (SELECT sum(expired) FROM lease_stat) = 1, 'the worker has not noticed that a lease has expired';
END
$$;

DROP EXTENSION lease;
