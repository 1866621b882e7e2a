-- 060_sync: the change log, and what changed for me since I last asked.
--
-- Rules
--   1. Each change of a ticket writes one row of private.ticket_changes in the same transaction: who
--      held the ticket before and after, its version, the transaction's xid8. Nobody else writes it.
--   2. A position is pg_current_snapshot(), taken in the statement that reads the rows (the functions
--      are STABLE: all they read is read in their caller's snapshot). "Since" means not visible in that
--      snapshot. So nothing is lost when transactions commit out of order, as a sequence or a time
--      stamp would lose it, and nothing comes twice while a long transaction stays open.
--   3. The log answers which tickets to look at, row level security answers which I may see. A ticket
--      that I could see and no longer can is told by id, version and whether it was deleted: no more.
--   4. A removed ticket carries the version of the last change that concerned me. What the caller
--      holds with a lower version is older; a ticket that comes back has a higher one.
--   5. A position that is older than what is kept, comes from another log, another person or another
--      role, or lies in the future (a restored or replicated database) is answered `reset`, never in part.
--   6. Pages: a position may name a place in a page-wise read. All pages belong to one position; what
--      changes meanwhile comes with the next delta.
--   7. The log is pruned by age and by number, by pg_cron where that is installed, and otherwise by
--      the changes themselves: it cannot grow without bound.
--
-- Positions are opaque to callers. Their text is
--     <snapshot>@<viewer>                    read completely up to this snapshot
--     <snapshot>@<viewer>/<until>/<after>    in the middle of a delta
--     @<viewer>/<until>/<after>              in the middle of a first read
-- where <viewer> hashes the log's identity, the role and the profile, and <after> is a ticket's id.

create table if not exists private.ticket_changes (
  id bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  changed_at timestamptz not null default clock_timestamp(),
  ticket_id uuid not null,
  version bigint not null,
  operation text not null,
  technician_before uuid,
  technician_after uuid,
  transporter_before uuid,
  transporter_after uuid,
  customer_before uuid,
  customer_after uuid,
  constraint ticket_changes_pkey primary key (id),
  constraint ticket_changes_operation_known check (operation in ('INSERT', 'UPDATE', 'DELETE'))
);
comment on table private.ticket_changes is
  'Append-only: who held a ticket before and after each change. Written by trigger tickets_50_log, read by sync_tickets().';
revoke all on table private.ticket_changes from public, anon, authenticated, service_role;

create index if not exists ticket_changes_xid_idx on private.ticket_changes (xid);

create table if not exists private.sync_state (
  singleton boolean not null default true,
  log_id uuid not null default gen_random_uuid(),
  pruned_below xid8 not null default '0',
  constraint sync_state_pkey primary key (singleton),
  constraint sync_state_singleton check (singleton)
);
comment on table private.sync_state is
  'One row. log_id: a new one makes every position invalid. pruned_below: changes of transactions below this may be gone.';
revoke all on table private.sync_state from public, anon, authenticated, service_role;
insert into private.sync_state default values on conflict do nothing;

-- --- writing the log --------------------------------------------------------------------------------

-- Security definer: nobody but this trigger writes the log.
create or replace function private.tickets_log()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    insert into private.ticket_changes (
      ticket_id, version, operation, technician_before, technician_after, transporter_before,
      transporter_after, customer_before, customer_after
    )
    values (
      new.id, new.version, tg_op, old.assigned_technician_id, new.assigned_technician_id,
      old.assigned_transporter_id, new.assigned_transporter_id, old.customer_id, new.customer_id
    );
  elsif tg_op = 'INSERT' then
    insert into private.ticket_changes (
      ticket_id, version, operation, technician_after, transporter_after, customer_after
    )
    values (
      new.id, new.version, tg_op, new.assigned_technician_id, new.assigned_transporter_id, new.customer_id
    );
  else
    insert into private.ticket_changes (
      ticket_id, version, operation, technician_before, transporter_before, customer_before
    )
    values (
      old.id, nextval('private.tickets_version_seq'::regclass), tg_op, old.assigned_technician_id,
      old.assigned_transporter_id, old.customer_id
    );
  end if;
  -- One change in 1024 clears away what is too old: the bound holds without a scheduler.
  if tg_op <> 'DELETE' and new.version % 1024 = 0 then
    perform private.prune_sync();
  end if;
  return null;
end;
$$;
comment on function private.tickets_log() is 'Trigger tickets_50_log: one row of private.ticket_changes per change.';
revoke all on function private.tickets_log() from public, anon, authenticated, service_role;

create or replace trigger tickets_50_log
  after insert or update or delete on public.tickets
  for each row execute function private.tickets_log();
comment on trigger tickets_50_log on public.tickets is 'See private.tickets_log(); fires for every writer.';

-- Security definer: writes private.sync_state for whoever truncates.
create or replace function private.tickets_truncated()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform private.reset_sync();
  return null;
end;
$$;
comment on function private.tickets_truncated() is
  'Trigger tickets_50_truncate: a truncated table says nothing per row, so every position becomes invalid.';
revoke all on function private.tickets_truncated() from public, anon, authenticated, service_role;

create or replace trigger tickets_50_truncate
  after truncate on public.tickets
  for each statement execute function private.tickets_truncated();
comment on trigger tickets_50_truncate on public.tickets is 'See private.tickets_truncated().';

create or replace function private.reset_sync()
returns void
language sql
set search_path = ''
as $$
  delete from private.ticket_changes;
  update private.sync_state set log_id = gen_random_uuid(), pruned_below = '0' where singleton;
$$;
comment on function private.reset_sync() is
  'Makes every client read everything once. Called by trigger tickets_50_truncate, and by people after restoring a dump or changing a policy by hand.';
revoke all on function private.reset_sync() from public, anon, authenticated, service_role;

create or replace function private.prune_sync(
  keep interval default interval '7 days',
  keep_rows bigint default 1000000,
  at_most integer default 10000
)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  pruned bigint;
  highest xid8;
begin
  -- Two at once would wait for each other's rows; the other one does the work.
  if not pg_try_advisory_xact_lock(hashtextextended('jamestronic_sdk.prune_sync', 0)) then
    return 0;
  end if;
  with doomed as (
    delete from private.ticket_changes as c
    where c.id in (
      -- The oldest first, and only then their age: the cost is at_most rows even when none is old.
      select o.id
      from (
        select l.id, l.changed_at from private.ticket_changes as l order by l.id limit at_most
      ) as o
      where o.changed_at < now() - keep
        or o.id <= (select max(l.id) - keep_rows from private.ticket_changes as l)
    )
    returning c.xid
  )
  select count(*), (array_agg(d.xid order by d.xid desc))[1]
  into pruned, highest
  from doomed as d;
  if highest is not null then
    -- xid8 has no arithmetic: through text to the next number.
    update private.sync_state as s
    set pruned_below = (highest::text::numeric + 1)::text::xid8
    where s.singleton and s.pruned_below <= highest;
  end if;
  delete from private.command_answers as a where a.created_at < now() - interval '1 day';
  return pruned;
end;
$$;
comment on function private.prune_sync(interval, bigint, integer) is
  'Deletes changes older than 7 days or beyond a million, some thousands at a time, and answers of commands older than a day. Called by trigger tickets_50_log and by pg_cron. Answers how many changes went.';
revoke all on function private.prune_sync(interval, bigint, integer) from public, anon, authenticated, service_role;

do $$
begin
  if to_regprocedure('cron.schedule(text,text,text)') is not null then
    perform cron.schedule('jamestronic-prune-sync', '17 * * * *', 'select private.prune_sync(at_most => 100000)');
  else
    raise notice 'pg_cron is not installed: the change log is pruned by the changes themselves';
  end if;
end;
$$;

-- --- reading it -------------------------------------------------------------------------------------

-- Security definer: reads private.sync_state.
create or replace function private.sync_viewer(as_role text, profile_id uuid)
returns text
language sql
stable
security definer
set search_path = ''
as $$
  select left(md5(concat_ws(' ', s.log_id, as_role, profile_id)), 16)
  from private.sync_state as s;
$$;
comment on function private.sync_viewer(text, uuid) is
  'Whose position it is: log, role and person in one hash. Called by sync_tickets().';
revoke all on function private.sync_viewer(text, uuid) from public, anon;
grant execute on function private.sync_viewer(text, uuid) to authenticated, service_role;

-- Security definer: reads private.sync_state.
create or replace function private.sync_is_kept(since pg_snapshot)
returns boolean
language sql
stable
security definer
set search_path = ''
as $$
  select pg_snapshot_xmin(since) >= s.pruned_below
    and pg_snapshot_xmax(since) <= pg_snapshot_xmax(pg_current_snapshot())
  from private.sync_state as s;
$$;
comment on function private.sync_is_kept(pg_snapshot) is
  'Whether the log still holds every change since that snapshot, and the snapshot is not of the future. Called by sync_tickets().';
revoke all on function private.sync_is_kept(pg_snapshot) from public, anon;
grant execute on function private.sync_is_kept(pg_snapshot) to authenticated, service_role;

-- Security definer: reads private.ticket_changes. It asks for the caller itself: a caller that could
-- name the viewer could read the changes of others.
create or replace function private.sync_changes(since pg_snapshot, until pg_snapshot, after uuid, at_most integer)
returns table (ticket_id uuid, version bigint, deleted boolean)
language plpgsql
stable
security definer
set search_path = ''
-- The log is read at its end. Without statistics of the newest rows the planner might read all of it.
set enable_seqscan = off
as $$
declare
  caller name := coalesce(nullif(nullif(current_setting('role', true), 'none'), ''), session_user);
  as_role text := private.my_role();
  me uuid := private.my_profile_id();
begin
  if as_role is null and (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles as r where r.rolname = caller) then
    as_role := 'service';
  end if;
  return query
  select c.ticket_id, max(c.version), bool_or(c.operation = 'DELETE')
  from private.ticket_changes as c
  where c.xid >= pg_snapshot_xmin(since)
    and not pg_visible_in_snapshot(c.xid, since)
    and (until is null or pg_visible_in_snapshot(c.xid, until))
    and (after is null or c.ticket_id > after)
    -- Could I see it before, or can I see it after? The arms of tickets_read_technician_assigned.
    and case as_role
      when 'technician' then
        (c.operation <> 'INSERT' and (c.technician_before is null or c.technician_before = me))
        or (c.operation <> 'DELETE' and (c.technician_after is null or c.technician_after = me))
      when 'admin' then true
      when 'staff' then true
      when 'service' then true
      when 'transporter' then c.transporter_before = me or c.transporter_after = me
      when 'customer' then c.customer_before = me or c.customer_after = me
      else false
    end
  group by c.ticket_id
  order by c.ticket_id
  limit at_most;
end;
$$;
comment on function private.sync_changes(pg_snapshot, pg_snapshot, uuid, integer) is
  'The tickets whose changes between two snapshots concern the caller: id, version of the last such change, whether it was deleted. Called by sync_tickets().';
revoke all on function private.sync_changes(pg_snapshot, pg_snapshot, uuid, integer) from public, anon;
grant execute on function private.sync_changes(pg_snapshot, pg_snapshot, uuid, integer) to authenticated, service_role;

create or replace function private.to_snapshot(text_of_it text)
returns pg_snapshot
language plpgsql
immutable
set search_path = ''
as $$
begin
  if text_of_it ~ '^[0-9]{1,19}:[0-9]{1,19}:([0-9]{1,19}(,[0-9]{1,19})*)?$' then
    return text_of_it::pg_snapshot;
  end if;
  return null;
exception
  when invalid_text_representation then
    return null;
end;
$$;
comment on function private.to_snapshot(text) is
  'A snapshot from its text, or null for any other text. Called by sync_tickets().';
revoke all on function private.to_snapshot(text) from public, anon;
grant execute on function private.to_snapshot(text) to authenticated, service_role;

-- It answers json, not jsonb: a large first read is text either way, and building a tree of it first takes
-- six times as long (measured with 50,000 tickets).
do $$
begin
  if (
    select p.prorettype = 'jsonb'::regtype
    from pg_proc as p
    where p.oid = to_regprocedure('public.sync_tickets(text,integer)')
  ) then
    drop function public.sync_tickets(text, integer);
  end if;
end;
$$;

create or replace function public.sync_tickets("cursor" text default null, page integer default 500)
returns json
language plpgsql
stable
set search_path = ''
as $$
declare
  present constant pg_snapshot := pg_current_snapshot();
  page_size constant integer := least(greatest(coalesce(page, 500), 1), 1000);
  as_role text := public.get_my_role();
  me uuid := public.get_my_profile_id();
  viewer text;
  parts text[];
  since pg_snapshot;
  until pg_snapshot;
  after uuid;
  ids uuid[];
  more boolean;
  lag constant bigint := pg_snapshot_xmax(present)::text::bigint - pg_snapshot_xmin(present)::text::bigint;
  answer json;
begin
  if as_role is null and not row_security_active('public.tickets'::regclass) then
    as_role := 'service';
  elsif as_role is null then
    perform private.refuse('PT403', 'no_active_profile', 'there is no active profile for this user');
  end if;
  viewer := private.sync_viewer(as_role, me);

  if "cursor" is not null then
    parts := regexp_match(
      "cursor",
      '^([0-9:,]*)@([0-9a-f]{16})(?:/([0-9:,]+)/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}))?$'
    );
    since := private.to_snapshot(parts[1]);
    until := private.to_snapshot(parts[3]);
    after := parts[4]::uuid;
    if parts is null or (since is null and parts[1] <> '') or (until is null and (since is null or parts[3] is not null)) then
      return json_build_object('kind', 'reset', 'reason', 'malformed');
    elsif parts[2] <> viewer then
      return json_build_object('kind', 'reset', 'reason', 'other_viewer');
    elsif not (private.sync_is_kept(coalesce(since, until)) and private.sync_is_kept(coalesce(until, since))) then
      return json_build_object('kind', 'reset', 'reason', 'too_old');
    end if;
  end if;

  if since is null then
    -- A first read: everything that I may see, by id. One query per role, so that the indexes are used
    -- and the cost is that of the rows seen; the policy is applied all the same.
    after := coalesce(after, '00000000-0000-0000-0000-000000000000');
    if as_role = 'technician' then
      select array_agg(v.id order by v.id) into ids
      from (
        select t.id
        from public.tickets as t
        where (t.assigned_technician_id = me or t.assigned_technician_id is null) and t.id > after
        order by t.id
        limit page_size + 1
      ) as v;
    elsif as_role = 'transporter' then
      select array_agg(v.id order by v.id) into ids
      from (
        select t.id from public.tickets as t
        where t.assigned_transporter_id = me and t.id > after
        order by t.id
        limit page_size + 1
      ) as v;
    elsif as_role = 'customer' then
      select array_agg(v.id order by v.id) into ids
      from (
        select t.id from public.tickets as t
        where t.customer_id = me and t.id > after
        order by t.id
        limit page_size + 1
      ) as v;
    else
      select array_agg(v.id order by v.id) into ids
      from (
        select t.id from public.tickets as t where t.id > after order by t.id limit page_size + 1
      ) as v;
    end if;
    more := coalesce(cardinality(ids), 0) > page_size;
    select json_build_object(
      'kind', 'snapshot',
      'upserts', coalesce(json_agg(to_json(t) order by t.id), '[]'),
      'removed', '[]'::json,
      'more', more,
      'lag', lag,
      -- For who reads the rest another way: what changes from here on comes with it.
      'base', concat(coalesce(until, present), '@', viewer),
      'cursor', case
        when more then concat('@', viewer, '/', coalesce(until, present), '/', ids[page_size])
        else concat(coalesce(until, present), '@', viewer)
      end
    )
    into answer
    from public.tickets as t
    where t.id = any (ids[1:page_size]);
  else
    with changed as (
      select c.ticket_id, c.version, c.deleted, row_number() over (order by c.ticket_id) as place
      from private.sync_changes(since, until, after, page_size + 1) as c
    )
    select json_build_object(
      'kind', 'delta',
      'lag', lag,
      'upserts', coalesce(
        json_agg(to_json(t) order by c.ticket_id) filter (where t.id is not null and c.place <= page_size), '[]'
      ),
      'removed', coalesce(
        json_agg(json_build_object('id', c.ticket_id, 'version', c.version, 'deleted', c.deleted) order by c.ticket_id)
          filter (where t.id is null and c.place <= page_size),
        '[]'
      ),
      'more', count(*) > page_size,
      'cursor', case
        when count(*) > page_size then concat(
          since, '@', viewer, '/', coalesce(until, present), '/',
          (max(c.ticket_id::text) filter (where c.place = page_size))
        )
        else concat(coalesce(until, present), '@', viewer)
      end
    )
    into answer
    from changed as c
    left join public.tickets as t on t.id = c.ticket_id;
  end if;

  return answer;
end;
$$;
comment on function public.sync_tickets(text, integer) is
  'What changed for the caller since `cursor` (null: everything), at most `page` tickets (1 to 1000): kind (snapshot, delta, reset), upserts, removed, more, cursor for the next call, lag, and with a snapshot base: the cursor of its moment. Called by TicketStore.';
revoke all on function public.sync_tickets(text, integer) from public, anon, authenticated, service_role;
grant execute on function public.sync_tickets(text, integer) to authenticated, service_role;

create or replace function public.tickets_digest()
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  as_role text := public.get_my_role();
  me uuid := public.get_my_profile_id();
  rows_seen bigint;
  mixed bigint;
begin
  if as_role is null and not row_security_active('public.tickets'::regclass) then
    as_role := 'service';
  elsif as_role is null then
    perform private.refuse('PT403', 'no_active_profile', 'there is no active profile for this user');
  end if;
  -- One query per role, so that the cost is that of the rows seen. The policy is applied all the same.
  -- The hash is written out each time: a function per row would cost more than it does.
  if as_role = 'technician' then
    select count(*), bit_xor(('x' || left(md5(t.id::text || ':' || t.version::text), 16))::bit(64)::bigint)
    into rows_seen, mixed
    from public.tickets as t
    where t.assigned_technician_id = me or t.assigned_technician_id is null;
  elsif as_role = 'transporter' then
    select count(*), bit_xor(('x' || left(md5(t.id::text || ':' || t.version::text), 16))::bit(64)::bigint)
    into rows_seen, mixed
    from public.tickets as t
    where t.assigned_transporter_id = me;
  elsif as_role = 'customer' then
    select count(*), bit_xor(('x' || left(md5(t.id::text || ':' || t.version::text), 16))::bit(64)::bigint)
    into rows_seen, mixed
    from public.tickets as t
    where t.customer_id = me;
  else
    select count(*), bit_xor(('x' || left(md5(t.id::text || ':' || t.version::text), 16))::bit(64)::bigint)
    into rows_seen, mixed
    from public.tickets as t;
  end if;
  return jsonb_build_object('count', rows_seen, 'digest', lpad(to_hex(coalesce(mixed, 0)), 16, '0'));
end;
$$;
comment on function public.tickets_digest() is
  'count, and digest: 16 hexadecimal digits, the XOR of the first 8 bytes of md5(id:version) over the tickets that the caller may see. Called by TicketStore.';
revoke all on function public.tickets_digest() from public, anon, authenticated, service_role;
grant execute on function public.tickets_digest() to authenticated, service_role;

notify pgrst, 'reload schema';
