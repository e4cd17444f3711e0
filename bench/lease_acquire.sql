\set holder 3000000000000000 + :client_id
SELECT lease_acquire('held', :holder);
