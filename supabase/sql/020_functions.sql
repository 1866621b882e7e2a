-- 020_functions: who is asking, and the triggers on profiles, tickets and Auth's users.
--
-- Rules
--   The role is read from `profiles` for each query: changing or deactivating a profile counts at
--   once, not when the token expires. Nothing that a user can write (`user_metadata`) sets a role.
--   Functions that a policy calls never raise: one that raises ends Realtime's poll for everybody.
--   `security definer` functions live in `private`, which the API does not expose. Each loses EXECUTE
--   from PUBLIC. A trigger function needs no EXECUTE to fire.

-- Called by my_role() and my_profile_id(). auth.uid() would raise when `sub` is not a uuid.
create or replace function private.my_user_id()
returns uuid
language sql
stable
set search_path = ''
as $$
  select case
    when claim.sub ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
      then claim.sub::uuid
  end
  from (select (select auth.jwt()) ->> 'sub' as sub) as claim;
$$;
comment on function private.my_user_id() is
  'The verified token''s user, or null. Called by policies and by the functions that say who is asking; never raises.';
revoke all on function private.my_user_id() from public, anon;
grant execute on function private.my_user_id() to authenticated, service_role;

-- Security definer: policies on `profiles` would otherwise ask themselves (42P17).
create or replace function private.my_role()
returns text
language sql
stable
security definer
set search_path = ''
as $$
  select p.role
  from public.profiles as p
  where p.user_id = private.my_user_id() and p.is_active;
$$;
comment on function private.my_role() is 'The inner part of get_my_role().';
revoke all on function private.my_role() from public, anon;
grant execute on function private.my_role() to authenticated, service_role;

-- Security definer: as my_role().
create or replace function private.my_profile_id()
returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select p.id
  from public.profiles as p
  where p.user_id = private.my_user_id() and p.is_active;
$$;
comment on function private.my_profile_id() is 'The inner part of get_my_profile_id().';
revoke all on function private.my_profile_id() from public, anon;
grant execute on function private.my_profile_id() to authenticated, service_role;

create or replace function public.get_my_role()
returns text
language sql
stable
set search_path = ''
as $$
  select private.my_role();
$$;
comment on function public.get_my_role() is
  'The role of the caller''s active profile as of now; null without one. Called by policies as (select get_my_role()), and by clients.';
revoke all on function public.get_my_role() from public, anon, authenticated, service_role;
grant execute on function public.get_my_role() to authenticated, service_role;

create or replace function public.get_my_profile_id()
returns uuid
language sql
stable
set search_path = ''
as $$
  select private.my_profile_id();
$$;
comment on function public.get_my_profile_id() is
  'profiles.id of the caller''s active profile; null without one. Called by policies as (select get_my_profile_id()), and by clients.';
revoke all on function public.get_my_profile_id() from public, anon, authenticated, service_role;
grant execute on function public.get_my_profile_id() to authenticated, service_role;

-- Security definer: a technician may not read the profiles that the answer is made from.
create or replace function private.my_contact_ids()
returns setof uuid
language sql
stable
security definer
set search_path = ''
as $$
  select t.customer_id
  from public.tickets as t, (select private.my_role() as role, private.my_profile_id() as id) as me
  where t.customer_id is not null
    and (
      (me.role = 'technician' and t.assigned_technician_id = me.id)
      or (me.role = 'transporter' and t.assigned_transporter_id = me.id)
    );
$$;
comment on function private.my_contact_ids() is
  'The customers whose device the caller repairs or moves. Called by policy profiles_read.';
revoke all on function private.my_contact_ids() from public, anon;
grant execute on function private.my_contact_ids() to authenticated, service_role;

create or replace function private.refuse(
  code text,
  reason text,
  message text,
  current_version bigint default null
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = refuse.code,
    message = refuse.message,
    detail = jsonb_build_object('reason', refuse.reason, 'current_version', refuse.current_version)::text;
end;
$$;
comment on function private.refuse(text, text, text, bigint) is
  'Raises PTxyz (HTTP xyz) with a machine-readable detail. Called by commands and by the triggers on tickets and profiles; never by a policy.';
revoke all on function private.refuse(text, text, text, bigint) from public, anon;
grant execute on function private.refuse(text, text, text, bigint) to authenticated, service_role;

-- --- profiles ---------------------------------------------------------------------------------------

create or replace function private.profiles_before_write()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    new.id := old.id;
    new.created_at := old.created_at;
    -- Columns that are not a person's own. Owner and service (no RLS for them) are trusted.
    if row_security_active('public.profiles'::regclass)
      and (select public.get_my_role()) is distinct from 'admin'
      and (new.role, new.is_active, new.user_id) is distinct from (old.role, old.is_active, old.user_id)
    then
      perform private.refuse('PT403', 'admins_only', 'only an admin changes role, is_active or user_id of a profile');
    end if;
    if new.user_id is null and old.user_id is not null then
      new.is_active := false;
    end if;
  end if;
  new.updated_at := clock_timestamp();
  return new;
end;
$$;
comment on function private.profiles_before_write() is
  'Trigger profiles_10_stamp: keeps id and created_at, stops others than admins from changing a role, deactivates the profile of a deleted user.';
revoke all on function private.profiles_before_write() from public, anon, authenticated, service_role;

create or replace trigger profiles_10_stamp
  before insert or update on public.profiles
  for each row execute function private.profiles_before_write();
comment on trigger profiles_10_stamp on public.profiles is 'See private.profiles_before_write(); fires for every writer.';

-- --- Auth's users -----------------------------------------------------------------------------------

-- Security definer: supabase_auth_admin, who inserts users, has no rights on profiles.
create or replace function private.auth_user_written()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  told text := new.raw_app_meta_data ->> 'role';
begin
  if told not in ('admin', 'staff', 'technician', 'transporter', 'customer') then
    told := null;
  end if;
  if tg_op = 'INSERT' then
    insert into public.profiles (user_id, role, full_name, phone)
    values (
      new.id,
      coalesce(told, 'customer'),
      left(coalesce(new.raw_user_meta_data ->> 'full_name', ''), 200),
      nullif(left(new.phone, 32), '')
    )
    on conflict (user_id) do nothing;
  elsif told is not null and told is distinct from (old.raw_app_meta_data ->> 'role') then
    update public.profiles as p
    set role = told
    where p.user_id = new.id and p.role <> told;
  end if;
  return null;
end;
$$;
comment on function private.auth_user_written() is
  'Triggers jamestronic_user_created and jamestronic_user_role_set on auth.users: a new user gets a profile. The role comes from app_metadata, which only the admin API writes; Auth writes it in a second statement after the INSERT.';
revoke all on function private.auth_user_written() from public, anon, authenticated, service_role;

-- auth.users belongs to Auth: `drop trigger` and `comment on trigger` are not allowed there, so the
-- comments stand on the function and a trigger that is there is replaced in place.
create or replace trigger jamestronic_user_created
  after insert on auth.users
  for each row execute function private.auth_user_written();

create or replace trigger jamestronic_user_role_set
  after update of raw_app_meta_data on auth.users
  for each row
  when (old.raw_app_meta_data is distinct from new.raw_app_meta_data)
  execute function private.auth_user_written();

-- Users that were there before this file.
insert into public.profiles (user_id, role, full_name, phone)
select
  u.id,
  case
    when u.raw_app_meta_data ->> 'role' in ('admin', 'staff', 'technician', 'transporter', 'customer')
      then u.raw_app_meta_data ->> 'role'
    else 'customer'
  end,
  left(coalesce(u.raw_user_meta_data ->> 'full_name', ''), 200),
  nullif(left(u.phone, 32), '')
from auth.users as u
where not exists (select from public.profiles as p where p.user_id = u.id)
on conflict (user_id) do nothing;

create or replace function public.custom_access_token_hook(event jsonb)
returns jsonb
language sql
stable
set search_path = ''
as $$
  -- A deactivated person, or one without a profile, gets a token without a role.
  select jsonb_set(
    event,
    '{claims,app_metadata}',
    case
      when jsonb_typeof(event #> '{claims,app_metadata}') = 'object' then (event #> '{claims,app_metadata}') - 'role'
      else '{}'
    end || coalesce(
      (
        select jsonb_build_object('role', p.role)
        from public.profiles as p
        where p.user_id = (event ->> 'user_id')::uuid and p.is_active
      ),
      '{}'
    )
  );
$$;
comment on function public.custom_access_token_hook(jsonb) is
  'Puts the role of the profile into the token''s app_metadata, for programs that read tokens: the policies ask the profile itself. Called by Auth, as supabase_auth_admin, whenever it issues a token (config.toml, auth.hook.custom_access_token).';
revoke all on function public.custom_access_token_hook(jsonb) from public, anon, authenticated, service_role;
grant execute on function public.custom_access_token_hook(jsonb) to supabase_auth_admin;

-- --- tickets ----------------------------------------------------------------------------------------

-- Security definer: the sequence, the profile of the assignee and the transitions are not the caller's.
create or replace function private.tickets_stamp()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    new.created_at := now();
    new.created_by := coalesce((select public.get_my_profile_id()), new.created_by);
    if (select public.get_my_role()) = 'customer' then
      new.customer_id := coalesce(new.customer_id, new.created_by);
    end if;
  else
    new.id := old.id;
    new.number := old.number;
    new.created_at := old.created_at;
    -- Only the foreign key's "set null" changes the author.
    if new.created_by is not null then
      new.created_by := old.created_by;
    end if;
  end if;

  if tg_op = 'INSERT' or new.assigned_technician_id is distinct from old.assigned_technician_id then
    if new.assigned_technician_id is null then
      if tg_op = 'UPDATE' and new.status in ('assigned', 'in_progress', 'waiting_parts') then
        new.status := 'open';
      end if;
    else
      if not exists (
        select
        from public.profiles as p
        where p.id = new.assigned_technician_id and p.role = 'technician' and p.is_active
      ) then
        perform private.refuse('PT422', 'not_an_active_technician', 'the assignee is not an active technician', old.version);
      end if;
      if new.status = 'open' then
        new.status := 'assigned';
      end if;
    end if;
  end if;

  if new.assigned_transporter_id is not null
    and (tg_op = 'INSERT' or new.assigned_transporter_id is distinct from old.assigned_transporter_id)
    and not exists (
      select
      from public.profiles as p
      where p.id = new.assigned_transporter_id and p.role = 'transporter' and p.is_active
    )
  then
    perform private.refuse('PT422', 'not_an_active_transporter', 'the mover is not an active transporter', old.version);
  end if;

  new.version := nextval('private.tickets_version_seq'::regclass);
  new.updated_at := clock_timestamp();
  return new;
end;
$$;
comment on function private.tickets_stamp() is
  'Trigger tickets_10_stamp: version, time stamps, author; keeps status and assignee in step; only active technicians and transporters get tickets.';
revoke all on function private.tickets_stamp() from public, anon, authenticated, service_role;

-- Security definer: a table that no API role may read.
create or replace function private.is_transition(from_status text, to_status text, as_role text)
returns boolean
language sql
stable
security definer
set search_path = ''
as $$
  select exists (
    select
    from private.ticket_transitions as t
    where t.from_status = is_transition.from_status
      and t.to_status = is_transition.to_status
      and (is_transition.as_role is null or is_transition.as_role = any (t.roles))
  );
$$;
comment on function private.is_transition(text, text, text) is
  'Whether a status may follow another, for a role or (null) for anybody. Called by tickets_20_guard and set_ticket_status().';
revoke all on function private.is_transition(text, text, text) from public, anon;
grant execute on function private.is_transition(text, text, text) to authenticated, service_role;

-- Security invoker on purpose: it must know who writes. The commands (050), the service role and
-- foreign key actions write as roles that row level security does not bind: those pass.
create or replace function private.tickets_guard()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  my_role text;
  mine text[];
begin
  if not row_security_active('public.tickets'::regclass) then
    return new;
  end if;
  my_role := public.get_my_role();
  -- What each role may change by a plain update. Fails closed: a column not named here is nobody's.
  mine := array['version', 'updated_at'] || case my_role
    when 'technician' then array[
      'status', 'appliance_type', 'appliance_brand', 'appliance_model', 'appliance_serial'
    ]
    when 'transporter' then array['scheduled_at']
    when 'customer' then array[
      'title', 'description', 'appliance_type', 'appliance_brand', 'appliance_model', 'appliance_serial',
      'pickup_address', 'delivery_address'
    ]
    when 'admin' then array[
      'title', 'description', 'status', 'priority', 'customer_id', 'assigned_technician_id',
      'assigned_transporter_id', 'appliance_type', 'appliance_brand', 'appliance_model',
      'appliance_serial', 'pickup_address', 'delivery_address', 'scheduled_at'
    ]
    when 'staff' then array[
      'title', 'description', 'status', 'priority', 'customer_id', 'assigned_technician_id',
      'assigned_transporter_id', 'appliance_type', 'appliance_brand', 'appliance_model',
      'appliance_serial', 'pickup_address', 'delivery_address', 'scheduled_at'
    ]
    else array[]::text[]
  end;
  if (to_jsonb(new) - mine) is distinct from (to_jsonb(old) - mine) then
    perform private.refuse(
      'PT403', 'column_not_yours', format('a %s may not change that column of a ticket', coalesce(my_role, 'stranger')), old.version
    );
  end if;
  if my_role = 'customer' and old.status not in ('open', 'assigned') then
    perform private.refuse('PT403', 'work_has_begun', 'a customer may not change a ticket once work has begun', old.version);
  end if;
  if new.status is distinct from old.status
    and not (
      new.assigned_technician_id is distinct from old.assigned_technician_id
      and new.status = case when new.assigned_technician_id is null then 'open' else 'assigned' end
    )
  then
    if not private.is_transition(old.status, new.status, null) then
      perform private.refuse(
        'PT422', 'illegal_transition', format('a ticket does not go from %s to that status', old.status), old.version
      );
    elsif not private.is_transition(old.status, new.status, my_role) then
      perform private.refuse('PT403', 'role_not_allowed', format('a %s may not set that status', my_role), old.version);
    end if;
  end if;
  return new;
end;
$$;
comment on function private.tickets_guard() is
  'Trigger tickets_20_guard: which columns each role may change by a plain update, and which status may follow which.';
revoke all on function private.tickets_guard() from public, anon, authenticated, service_role;

-- The names give the order: PostgreSQL fires triggers by name.
create or replace trigger tickets_10_stamp
  before insert or update on public.tickets
  for each row execute function private.tickets_stamp();
comment on trigger tickets_10_stamp on public.tickets is 'See private.tickets_stamp(); fires for every writer.';

create or replace trigger tickets_20_guard
  before update on public.tickets
  for each row execute function private.tickets_guard();
comment on trigger tickets_20_guard on public.tickets is 'See private.tickets_guard(); binds whom row level security binds.';

-- --- notes ------------------------------------------------------------------------------------------

create or replace function private.ticket_notes_stamp()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    if row_security_active('public.ticket_notes'::regclass) then
      new.author_id := (select public.get_my_profile_id());
    end if;
    new.created_at := now();
  elsif row_security_active('public.ticket_notes'::regclass) then
    new.author_id := old.author_id;
    new.ticket_id := old.ticket_id;
    new.created_at := old.created_at;
  end if;
  new.updated_at := clock_timestamp();
  return new;
end;
$$;
comment on function private.ticket_notes_stamp() is
  'Trigger ticket_notes_10_stamp: a note belongs to who wrote it and stays with its ticket.';
revoke all on function private.ticket_notes_stamp() from public, anon, authenticated, service_role;

create or replace trigger ticket_notes_10_stamp
  before insert or update on public.ticket_notes
  for each row execute function private.ticket_notes_stamp();
comment on trigger ticket_notes_10_stamp on public.ticket_notes is 'See private.ticket_notes_stamp(); fires for every writer.';

notify pgrst, 'reload schema';
