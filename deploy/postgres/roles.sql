-- Makes the two roles that share one database: an owner, which runs migrations, and an app role, which serves. For psql, as
-- superuser, in the database itself; may be run again at any time, also on a database that was served by one role so far.
--
--   OWNER_PASSWORD=… APP_PASSWORD=… psql --no-psqlrc --file roles.sql DATABASE
--
-- Variables (psql --set NAME=VALUE), with their defaults:
--   owner, app                      deepersensor_owner, deepersensor_app
--   owner_password, app_password    the environment's OWNER_PASSWORD and APP_PASSWORD: arguments can be read by every user
--   database                        the one that psql is connected to; naming another one is an error
-- Without passwords nothing is done, because PostgreSQL's image runs this file, too, once 10-roles.sh has.
--
-- The app role reads and changes rows. It cannot make, change or drop anything, cannot make temporary tables, and can add to
-- `audit_log` but neither change nor remove what is there. Tables of later migrations are covered by default privileges; what
-- those give away too much of `audit_log` and `_sqlx_migrations`, `deepersensor migrate` takes back at once.
--
-- Either everything is done or nothing: the script is one transaction.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner}
\else
    \set owner deepersensor_owner
\endif
\if :{?app}
\else
    \set app deepersensor_app
\endif
\if :{?database}
\else
    \set database :DBNAME
\endif
\if :{?owner_password}
\else
    \getenv owner_password OWNER_PASSWORD
\endif
\if :{?app_password}
\else
    \getenv app_password APP_PASSWORD
\endif
\if :{?owner_password}
\else
    \set missing yes
\endif
\if :{?app_password}
\else
    \set missing yes
\endif
\if :{?missing}
    \warn 'roles.sql: no passwords are given, so nothing is done'
    \quit
\endif

BEGIN;
SET LOCAL client_min_messages = warning;
-- Statements with passwords stay out of the server's log.
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = 'panic';

SELECT format('DO $refusal$ BEGIN RAISE EXCEPTION %L; END $refusal$', 'connect to ' || :'database' || ' first')
WHERE current_database() <> :'database'
\gexec

SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY[:'owner', :'app']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE :"owner" LOGIN PASSWORD :'owner_password';
ALTER ROLE :"app" LOGIN PASSWORD :'app_password';

-- A role that was there before may be mightier than it looks.
SELECT format('DO $refusal$ BEGIN RAISE EXCEPTION %L; END $refusal$', rolname || ' has rights beyond this database: give another name')
FROM pg_roles WHERE rolname IN (:'owner', :'app') AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
\gexec
SELECT format('DO $refusal$ BEGIN RAISE EXCEPTION %L; END $refusal$', :'app' || ' is a member of ' || roleid::regrole || ': revoke that first')
FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = :'app')
\gexec

-- Who may come in, and what belongs to whom.
ALTER DATABASE :"database" OWNER TO :"owner";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"app";
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"app";
SELECT format('ALTER TABLE public.%I OWNER TO %I', relname, :'owner')
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
    AND relowner <> (SELECT oid FROM pg_roles WHERE rolname = :'owner')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
\gexec
SELECT format('ALTER ROUTINE %s OWNER TO %I', oid::regprocedure, :'owner')
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    AND proowner <> (SELECT oid FROM pg_roles WHERE rolname = :'owner')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
\gexec

-- Rows, now and in tables to come.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"app";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO :"app";
SELECT format('REVOKE %s ON public.%I FROM %I', too_much, name, :'app')
FROM (VALUES ('audit_log', 'UPDATE, DELETE'), ('_sqlx_migrations', 'INSERT, UPDATE, DELETE')) AS kept (name, too_much)
WHERE to_regclass('public.' || name) IS NOT NULL
\gexec

-- What the service asks for in every session, for those who come with another program.
ALTER ROLE :"app" IN DATABASE :"database" SET search_path = 'public';
ALTER ROLE :"app" IN DATABASE :"database" SET statement_timeout = '5s';
ALTER ROLE :"app" IN DATABASE :"database" SET lock_timeout = '4s';
ALTER ROLE :"app" IN DATABASE :"database" SET idle_in_transaction_session_timeout = '10s';
-- A migration may take its time, but not while it waits for a lock and everybody else behind it.
ALTER ROLE :"owner" IN DATABASE :"database" SET search_path = 'public';
ALTER ROLE :"owner" IN DATABASE :"database" SET lock_timeout = '30s';
ALTER ROLE :"owner" IN DATABASE :"database" SET idle_in_transaction_session_timeout = '60s';
COMMIT;
