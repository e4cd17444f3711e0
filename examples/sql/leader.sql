-- Stands by for a lease, and keeps it: one call acquires and renews.
--
--	psql -X -q -v me="$(hostname)-$$" -f leader.sql
--
-- For looking at it: psql alone cannot stop working when the lease is lost.
\if :{?every}
\else
\set every 5
\endif

SELECT status, fencing_token, holder_identity, expires_in
FROM lease_acquire('leader', :'me', duration => '15 s')
\watch :every
