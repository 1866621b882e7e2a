-- Roles, schemas and the publication as a Supabase project of 2026 has them.
--
-- Runs once per cluster, as supabase_admin, before 020_auth.sql and 030_realtime.sql.
-- Differences to a hosted project, each for want of the part: no safeupdate library (an UPDATE without a filter
-- is not refused), no pgcrypto and uuid-ossp, no storage, vault and GraphQL.
-- Passwords are set by the runner, not here.

-- 1. Roles ---------------------------------------------------------------------------------------------------

create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;

create role authenticator login noinherit;
create role postgres login createdb createrole replication bypassrls;
create role supabase_auth_admin login noinherit createrole;
create role supabase_realtime_admin nologin noinherit;

comment on role anon is 'A request without a signed-in person.';
comment on role authenticated is 'A request of a signed-in person.';
comment on role service_role is 'A request of a trusted server: passes policies, but needs grants.';
comment on role authenticator is 'PostgREST logs in as this role and becomes one of the above per request.';
comment on role postgres is 'Owns the application''s objects; no superuser.';

grant anon, authenticated, service_role to authenticator;
-- With the admin option, so that application SQL may `alter role anon set statement_timeout = ...`.
grant anon, authenticated, service_role to postgres with admin option;
-- `alter role authenticator set pgrst.db_pre_request = ...` asks for the admin option, and for the right to set
-- a parameter that PostgreSQL does not know (hosted, supautils gives it); nothing is inherited.
grant authenticator to postgres with admin true, inherit false, set false;
grant set on parameter
  pgrst.db_aggregates_enabled, pgrst.db_extra_search_path, pgrst.db_max_rows, pgrst.db_plan_enabled,
  pgrst.db_pre_request, pgrst.db_schemas, pgrst.openapi_mode
to postgres;
-- Policies on realtime.messages are made by its owner.
grant supabase_realtime_admin to postgres;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;

-- PostgREST applies a role's settings to the requests it makes as this role.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_auth_admin set search_path = auth;
alter role supabase_auth_admin set idle_in_transaction_session_timeout = '60s';

-- 2. Database and schemas ------------------------------------------------------------------------------------

-- The owner of the database owns schema public, through pg_database_owner.
alter database postgres owner to postgres;

-- The schemas auth and realtime are made in 020 and 030. All belong to supabase_admin: the Supabase CLI's
-- `db reset` drops every schema that does not.
create schema extensions authorization supabase_admin;
create schema storage authorization supabase_admin;

grant usage on schema public, extensions to anon, authenticated, service_role;
grant usage on schema storage to postgres;
grant usage, create on schema extensions to postgres;
-- Hooks of Auth are functions of the application.
grant usage on schema public to supabase_auth_admin;

-- Default privileges of the API roles: the runner sets them at each start, because they are a switch.

-- 3. Publication of Realtime ---------------------------------------------------------------------------------
-- Empty; application SQL adds its tables, so its owner is the owner of those.

create publication supabase_realtime with (publish = 'insert, update, delete, truncate');
alter publication supabase_realtime owner to postgres;

-- 4. PostgREST reloads its schema cache after DDL ------------------------------------------------------------

create function extensions.pgrst_ddl_watch() returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select
    from pg_catalog.pg_event_trigger_ddl_commands() as command
    where command.schema_name is distinct from 'pg_temp'
      and command.command_tag in (
        'CREATE SCHEMA', 'ALTER SCHEMA',
        'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
        'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
        'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
        'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE PROCEDURE', 'ALTER PROCEDURE',
        'CREATE TRIGGER', 'CREATE TYPE', 'ALTER TYPE', 'CREATE RULE', 'COMMENT'
      )
  ) then
    notify pgrst, 'reload schema';
  end if;
end
$$;
comment on function extensions.pgrst_ddl_watch() is 'Called by the event trigger of the same name.';

create function extensions.pgrst_drop_watch() returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select
    from pg_catalog.pg_event_trigger_dropped_objects() as dropped
    where not dropped.is_temporary
      and dropped.object_type in (
        'schema', 'table', 'foreign table', 'view', 'materialized view', 'function', 'procedure', 'trigger',
        'type', 'rule'
      )
  ) then
    notify pgrst, 'reload schema';
  end if;
end
$$;
comment on function extensions.pgrst_drop_watch() is 'Called by the event trigger of the same name.';

create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
comment on event trigger pgrst_ddl_watch is 'PostgREST learns of new and changed objects.';
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_drop_watch();
comment on event trigger pgrst_drop_watch is 'PostgREST learns of dropped objects.';
