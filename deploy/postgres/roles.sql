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
-- What an app role was granted before is taken from it. What it made with that is never handed to the owner, who would run it:
-- the script refuses until it is dropped. Only where the app role ran the migrations itself, all that is in `public` is moved.
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

-- A refusal may name what somebody else has named: quoted twice, it is never read as a statement.
SELECT format('DO %L', format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END', 'connect to ' || :'database' || ' first'))
WHERE current_database() <> :'database'
\gexec

SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY[:'owner', :'app']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE :"owner" LOGIN PASSWORD :'owner_password';
ALTER ROLE :"app" LOGIN PASSWORD :'app_password';

-- A role that was there before may be mightier than it looks.
SELECT format('DO %L', format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END',
    rolname || ' has rights beyond this database: give another name'))
FROM pg_roles WHERE rolname IN (:'owner', :'app') AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
\gexec
SELECT format('DO %L', format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END',
    :'app' || ' is a member of ' || roleid::regrole || ': revoke that first'))
FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = :'app')
\gexec

-- Who may come in, and what belongs to whom.
ALTER DATABASE :"database" OWNER TO :"owner";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
REVOKE ALL ON DATABASE :"database" FROM :"app" CASCADE;
GRANT CONNECT ON DATABASE :"database" TO :"app";
SELECT format('ALTER SCHEMA public OWNER TO %I', :'owner')
FROM pg_namespace WHERE nspname = 'public' AND nspowner = quote_ident(:'app')::regrole
\gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM :"app" CASCADE;
-- Anybody may make a large object, and the owner's backup would fail on one that is not its own.
REVOKE EXECUTE ON FUNCTION pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), pg_catalog.lo_from_bytea(oid, bytea) FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"app";
SELECT coalesce((SELECT relowner = quote_ident(:'app')::regrole FROM pg_class WHERE oid = to_regclass('public._sqlx_migrations')), false)
    AS app_migrated
\gset
SELECT format('ALTER TABLE public.%I OWNER TO %I', relname, :'owner')
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
    AND relowner <> quote_ident(:'owner')::regrole AND (relowner <> quote_ident(:'app')::regrole OR :'app_migrated')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
\gexec
SELECT format('ALTER ROUTINE %s OWNER TO %I', oid::regprocedure, :'owner')
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    AND proowner <> quote_ident(:'owner')::regrole AND (proowner <> quote_ident(:'app')::regrole OR :'app_migrated')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
\gexec

-- Its own default privileges are nothing without objects of its own.
SELECT format('DO %L', format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END',
    :'app' || ' owns ' || pg_describe_object(classid, objid, objsubid) || ': drop it first, or give it to whom you trust'))
FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = quote_ident(:'app')::regrole AND deptype = 'o'
    AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND classid <> 'pg_default_acl'::regclass
ORDER BY classid, objid LIMIT 1
\gexec
-- By grants of others than the owner, or in other schemas.
SELECT format('DO %L', format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END',
    :'app' || ' may make things in ' || place || ': revoke that first'))
FROM (
    SELECT 'the database' WHERE has_database_privilege(:'app', current_database(), 'CREATE, TEMPORARY')
    UNION ALL
    SELECT 'the schema ' || nspname FROM pg_namespace WHERE has_schema_privilege(:'app', oid, 'CREATE')
) AS open (place) LIMIT 1
\gexec

-- Rows, now and in tables to come.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"app" CASCADE;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM :"app" CASCADE;
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
