-- 010_schema: schema `private`, the sequence of versions, and the tables.
--
-- Names claimed in an app's database: schema `private` (objects in it listed in docs/sql.md), tables
-- public.profiles, public.tickets and public.ticket_notes, and what the later files create. A table of one of these
-- names with another shape stops this file before it changes anything.
--
-- Rules
--   Row level security is on from the statement that creates a table; 030 opens what may be seen.
--   Roles, statuses and priorities are text with a named check, so that a newer value is one
--   constraint away and Realtime sends it as it is.
--   No char(n): Realtime sends its first character only. No virtual generated column.

do $$
declare
  missing text;
begin
  select string_agg(format('%s.%s', needed.table_name, needed.column_name), ', ')
  into missing
  from (
    values
      ('profiles', 'id'), ('profiles', 'user_id'), ('profiles', 'role'), ('profiles', 'is_active'),
      ('tickets', 'id'), ('tickets', 'number'), ('tickets', 'version'), ('tickets', 'assigned_technician_id'),
      ('ticket_notes', 'id'), ('ticket_notes', 'ticket_id'), ('ticket_notes', 'is_internal')
  ) as needed (table_name, column_name)
  where to_regclass('public.' || needed.table_name) is not null
    and not exists (
      select
      from pg_catalog.pg_attribute as a
      where a.attrelid = to_regclass('public.' || needed.table_name)
        and a.attname = needed.column_name
        and not a.attisdropped
    );
  if missing is not null then
    raise exception 'a table of this name already exists and is not the one that jamestronic_sdk needs: it lacks %', missing
      using hint = 'Rename the table, or apply these files to another database. See docs/sql.md, "Names".';
  end if;
end;
$$;

-- An app may have a schema of this name: what it granted and wrote there stays. A new schema grants nothing.
do $$
begin
  if to_regnamespace('private') is null then
    create schema private;
    comment on schema private is 'Helpers, logs and the inner parts of commands. Not exposed by the data API.';
  end if;
end;
$$;
grant usage on schema private to authenticated, service_role;

create table if not exists private.sql_files (
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now(),
  constraint sql_files_pkey primary key (name)
);
comment on table private.sql_files is
  'Which version of each of these files was applied last. Written by the last statement of an exported migration, read by `jamestronic sql check`.';
revoke all on table private.sql_files from public, anon, authenticated, service_role;

create sequence if not exists private.tickets_version_seq as bigint;
comment on sequence private.tickets_version_seq is
  'One for all tickets: trigger tickets_10_stamp takes a number while it holds the row''s lock, so versions rise per row in commit order.';
revoke all on sequence private.tickets_version_seq from public, anon, authenticated, service_role;

create table if not exists public.profiles (
  id uuid not null default gen_random_uuid(),
  user_id uuid,
  role text not null default 'customer',
  full_name text not null default '',
  phone text,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint profiles_pkey primary key (id),
  constraint profiles_user_id_key unique (user_id),
  constraint profiles_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint profiles_role_known check (role in ('admin', 'staff', 'technician', 'transporter', 'customer')),
  constraint profiles_full_name_length check (char_length(full_name) <= 200),
  constraint profiles_phone_length check (char_length(phone) between 1 and 32)
);
alter table public.profiles enable row level security;

comment on table public.profiles is 'People: one row per Auth user, and walk-in customers without one.';
comment on column public.profiles.user_id is 'The Auth user; null for a walk-in customer, and after the Auth user was deleted.';
comment on column public.profiles.role is 'What the person may do: read by get_my_role() for each query, so a change counts at once. Only admins write it.';
comment on column public.profiles.is_active is 'False: the person can sign in, sees this row, and reads and writes nothing else.';

create index if not exists profiles_role_idx on public.profiles (role, full_name);

create table if not exists public.tickets (
  id uuid not null default gen_random_uuid(),
  number bigint generated always as identity (start with 1001),
  version bigint not null default 0,
  title text not null,
  description text not null default '',
  status text not null default 'open',
  priority text not null default 'normal',
  customer_id uuid,
  assigned_technician_id uuid,
  assigned_transporter_id uuid,
  appliance_type text,
  appliance_brand text,
  appliance_model text,
  appliance_serial text,
  pickup_address text,
  delivery_address text,
  scheduled_at timestamptz,
  created_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint tickets_pkey primary key (id),
  constraint tickets_number_key unique (number),
  -- Customers and authors may be erased; who holds a ticket is deactivated instead of deleted (23503: with
  -- `on delete restrict` PostgreSQL 18 would say 23001, which the data API does not know as a conflict).
  constraint tickets_customer_id_fkey foreign key (customer_id)
    references public.profiles (id) on delete set null,
  constraint tickets_created_by_fkey foreign key (created_by)
    references public.profiles (id) on delete set null,
  constraint tickets_assigned_technician_id_fkey foreign key (assigned_technician_id)
    references public.profiles (id),
  constraint tickets_assigned_transporter_id_fkey foreign key (assigned_transporter_id)
    references public.profiles (id),
  constraint tickets_title_length check (char_length(title) <= 200 and title ~ '\S'),
  constraint tickets_description_length check (char_length(description) <= 10000),
  constraint tickets_status_known check (
    status in ('open', 'assigned', 'in_progress', 'waiting_parts', 'ready', 'completed', 'cancelled')
  ),
  constraint tickets_priority_known check (priority in ('low', 'normal', 'high', 'urgent')),
  -- Being worked on means that somebody works on it; trigger tickets_10_stamp keeps the two in step.
  constraint tickets_status_has_technician check (
    assigned_technician_id is not null or status not in ('assigned', 'in_progress', 'waiting_parts')
  ),
  constraint tickets_appliance_type_length check (char_length(appliance_type) <= 100),
  constraint tickets_appliance_brand_length check (char_length(appliance_brand) <= 100),
  constraint tickets_appliance_model_length check (char_length(appliance_model) <= 100),
  constraint tickets_appliance_serial_length check (char_length(appliance_serial) <= 100),
  constraint tickets_pickup_address_length check (char_length(pickup_address) <= 500),
  constraint tickets_delivery_address_length check (char_length(delivery_address) <= 500)
);
alter table public.tickets enable row level security;

comment on table public.tickets is 'Repairs.';
comment on column public.tickets.number is 'Running number for people: JT-1001.';
comment on column public.tickets.version is 'Rises with every change of the row, in commit order. Set by trigger tickets_10_stamp; what a caller writes is ignored.';
comment on column public.tickets.assigned_technician_id is 'Null: in the pool that every technician sees.';
comment on column public.tickets.created_by is 'Who opened the ticket. Set by trigger tickets_10_stamp.';

-- The queries and policies look rows up by person and walk them by number (immutable, unique: one
-- column is a keyset). No index on `version` or `updated_at`: each update changes them, and an index
-- on either would turn every update into a rewrite of all index entries of the row.
create index if not exists tickets_assigned_technician_id_idx
  on public.tickets (assigned_technician_id, number desc);
create index if not exists tickets_assigned_transporter_id_idx
  on public.tickets (assigned_transporter_id, number desc);
create index if not exists tickets_customer_id_idx on public.tickets (customer_id, number desc);
create index if not exists tickets_created_by_idx on public.tickets (created_by);
create index if not exists tickets_status_idx on public.tickets (status, number desc);

create table if not exists public.ticket_notes (
  id uuid not null default gen_random_uuid(),
  ticket_id uuid not null,
  author_id uuid,
  body text not null,
  is_internal boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint ticket_notes_pkey primary key (id),
  constraint ticket_notes_ticket_id_fkey foreign key (ticket_id) references public.tickets (id) on delete cascade,
  constraint ticket_notes_author_id_fkey foreign key (author_id) references public.profiles (id) on delete set null,
  constraint ticket_notes_body_length check (char_length(body) <= 10000 and body ~ '\S')
);
alter table public.ticket_notes enable row level security;

comment on table public.ticket_notes is 'What people say about a ticket.';
comment on column public.ticket_notes.author_id is 'profiles.id of who wrote it. Set by trigger ticket_notes_10_stamp; null when the person was erased, or for the service.';
comment on column public.ticket_notes.is_internal is 'True: for admin, staff and technicians only.';

create index if not exists ticket_notes_ticket_id_idx on public.ticket_notes (ticket_id, created_at);
create index if not exists ticket_notes_author_id_idx on public.ticket_notes (author_id);

create table if not exists private.ticket_transitions (
  from_status text not null,
  to_status text not null,
  roles text[] not null,
  constraint ticket_transitions_pkey primary key (from_status, to_status)
);
comment on table private.ticket_transitions is
  'Which status may follow which, and who may say so. `open` and `assigned` also follow each other by assigning and unassigning.';
revoke all on table private.ticket_transitions from public, anon, authenticated, service_role;

insert into private.ticket_transitions (from_status, to_status, roles)
values
  ('open', 'cancelled', '{admin,staff}'),
  ('assigned', 'in_progress', '{admin,staff,technician}'),
  ('assigned', 'cancelled', '{admin,staff}'),
  ('in_progress', 'waiting_parts', '{admin,staff,technician}'),
  ('in_progress', 'ready', '{admin,staff,technician}'),
  ('in_progress', 'completed', '{admin,staff,technician}'),
  ('in_progress', 'cancelled', '{admin,staff}'),
  ('waiting_parts', 'in_progress', '{admin,staff,technician}'),
  ('waiting_parts', 'cancelled', '{admin,staff}'),
  ('ready', 'in_progress', '{admin,staff,technician}'),
  ('ready', 'completed', '{admin,staff,technician,transporter}'),
  ('ready', 'cancelled', '{admin,staff}')
on conflict on constraint ticket_transitions_pkey
do update set roles = excluded.roles
where ticket_transitions.roles is distinct from excluded.roles;

create table if not exists private.command_answers (
  actor_id uuid not null,
  idempotency_key uuid not null,
  command text not null,
  request jsonb not null,
  answer jsonb,
  created_at timestamptz not null default now(),
  constraint command_answers_pkey primary key (actor_id, idempotency_key)
);
comment on table private.command_answers is
  'What a command with an idempotency key answered, so that a retry gets the same answer. Kept for a day.';
revoke all on table private.command_answers from public, anon, authenticated, service_role;

create index if not exists command_answers_created_at_idx on private.command_answers (created_at);

-- `description` is the only column that can grow beyond a page's quarter. `main` keeps it in the row
-- when it fits, so that Realtime's UPDATE carries it (an unchanged out-of-line value is left out).
do $$
begin
  if (
    select a.attstorage <> 'm'
    from pg_catalog.pg_attribute as a
    where a.attrelid = 'public.tickets'::regclass and a.attname = 'description'
  ) then
    alter table public.tickets alter column description set storage main;
  end if;
end;
$$;

notify pgrst, 'reload schema';
