-- The same at REPEATABLE READ, where the functions lock and write by the executor.
\set isolation 'REPEATABLE READ'
\ir permissions.sql
