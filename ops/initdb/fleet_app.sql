-- Run by the image of PostgreSQL where its data directory is new. The role of the other applications exists from the
-- start, with the password of its secret; `fleet-jobs bootstrap` makes the other roles, and leaves this password alone.
\set password `cat /run/secrets/fleet_app_password`
CREATE ROLE fleet_app LOGIN PASSWORD :'password';
