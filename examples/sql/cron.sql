-- A job in SQL that runs once, though every host starts it.
--
--	psql -X -q -v ON_ERROR_STOP=1 -v me="$(hostname)-$$" -f cron.sql
--
-- Nothing renews the lease while the job runs, so the duration is what the job
-- takes at most.  If it takes longer all the same, lease_guard() keeps the lease
-- until the transaction has ended.
CREATE TABLE IF NOT EXISTS report (made_at timestamptz, made_by text);

SELECT acquired, status, fencing_token
FROM lease_acquire('report', :'me', duration => '10 min', hold_at_least => '5 min') \gset
\if :acquired
	BEGIN;
	SELECT lease_guard('report', :fencing_token) AS guarded \gset
	INSERT INTO report VALUES (clock_timestamp(), :'me');
	COMMIT;
	-- reserved, for everybody, until the five minutes are over
	SELECT status FROM lease_release('report', :'me', fencing_token => :fencing_token) \gset
	\echo done
\else
	\echo skipped :status
\endif
