-- A table that only the holder of a lease can write to.
--
--	psql -X -q -v me=a -f writer.sql
CREATE TABLE IF NOT EXISTS journal (
	writer text,
	line bigint,
	token bigint,
	PRIMARY KEY (writer, line)
);
CREATE OR REPLACE TRIGGER fence
BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON journal
FOR EACH STATEMENT EXECUTE FUNCTION lease_guard_trigger('journal');

SELECT fencing_token FROM lease_acquire('journal', :'me', duration => '15 s') \gset

-- In the transaction that writes, either ...
BEGIN;
SELECT lease_guard('journal', :fencing_token) AS guarded \gset
INSERT INTO journal VALUES (:'me', 1, :fencing_token);
COMMIT;

-- ... or, for programs that shall not know of leases, with a setting:
BEGIN;
SET LOCAL lease.fencing_tokens = :fencing_token;
INSERT INTO journal VALUES (:'me', 2, :fencing_token);
COMMIT;

-- Whoever has no token is refused, and so is who has an old one.
INSERT INTO journal VALUES (:'me', 3, NULL);
SELECT status FROM lease_release('journal', :'me') \gset
SELECT lease_guard('journal', :fencing_token);
