-- 070_broadcast: tells each person at once what concerns them, by private channels.
--
-- Topics
--     tickets:admin          admin and staff: every ticket
--     tickets:pool           technicians: the unassigned tickets, and that one left the pool
--     tickets:person:<id>    one person (profiles.id): the tickets they repair, move or own
-- Events, each with ticket_id, version and committed_at (the clock when the trigger ran, at the end of the
-- statement: as near to the commit as a trigger can say)
--     ticket_changed         with `record`: the row, as its reader may select it
--     ticket_left            you no longer see the ticket; nothing else is told
--     ticket_deleted         the ticket is gone
--
-- Rules
--   A hint, not a promise: what gets lost in transit comes with the next sync_tickets(). A write never
--   fails because it could not be told.
--   Nobody hears another's topic, and nobody but the trigger speaks on one: restrictive policies hold
--   even where an app has policies of its own on realtime.messages.
--   Where the project's Realtime is too old for realtime.send there is a notice and no trigger.

create or replace function private.may_hear(topic text)
returns boolean
language sql
stable
set search_path = ''
as $$
  select coalesce(
    -- Who is let in believes that they will be told; nobody is where nobody speaks.
    exists (
      select from pg_catalog.pg_trigger as t
      where t.tgname = 'tickets_60_broadcast'
        and t.tgrelid = to_regclass('public.tickets')
        and t.tgenabled in ('O', 'A')
    )
    and case may_hear.topic
      when 'tickets:admin' then (select public.get_my_role()) in ('admin', 'staff')
      when 'tickets:pool' then (select public.get_my_role()) = 'technician'
      else may_hear.topic = 'tickets:person:' || (select public.get_my_profile_id())::text
    end,
    false
  );
$$;
comment on function private.may_hear(text) is
  'Whether the caller may listen to that topic of ours. Called by the policies on realtime.messages; never raises.';
revoke all on function private.may_hear(text) from public, anon;
grant execute on function private.may_hear(text) to authenticated, service_role;

-- Security definer: realtime.send writes realtime.messages with the rights of its caller.
create or replace function private.tickets_broadcast()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  brief jsonb;
  full_row jsonb;
  gains text[] := '{tickets:admin}';
  losses text[] := '{}';
  -- Who holds the ticket, before and after.
  before uuid[];
  after uuid[];
begin
  if tg_op <> 'INSERT' then
    before := array[old.assigned_technician_id, old.assigned_transporter_id, old.customer_id];
  end if;

  if tg_op = 'DELETE' then
    brief := jsonb_build_object(
      'ticket_id', old.id,
      'version', nextval('private.tickets_version_seq'::regclass),
      'committed_at', clock_timestamp()
    );
    if old.assigned_technician_id is null then
      gains := gains || '{tickets:pool}';
    end if;
    perform realtime.send(brief, 'ticket_deleted', d.topic, true)
    from (
      select unnest(gains) as topic
      union
      select 'tickets:person:' || p.id::text from unnest(before) as p (id) where p.id is not null
    ) as d;
    return null;
  end if;

  after := array[new.assigned_technician_id, new.assigned_transporter_id, new.customer_id];
  brief := jsonb_build_object(
    'ticket_id', new.id,
    'version', new.version,
    'committed_at', clock_timestamp()
  );
  full_row := brief || jsonb_build_object('record', to_jsonb(new));
  if new.assigned_technician_id is null then
    gains := gains || '{tickets:pool}';
  elsif tg_op = 'UPDATE' and old.assigned_technician_id is null then
    losses := losses || '{tickets:pool}';
  end if;
  if after is distinct from before and before is not null then
    -- Back in the pool, the technician who had the ticket still sees it.
    if new.assigned_technician_id is null and old.assigned_technician_id is not null then
      after := after || old.assigned_technician_id;
    end if;
    losses := losses || array(
      select distinct 'tickets:person:' || p.id::text
      from unnest(before) as p (id)
      where p.id is not null and p.id <> all (array_remove(after, null))
    );
  end if;

  perform realtime.send(full_row, 'ticket_changed', g.topic, true)
  from (
    select unnest(gains) as topic
    union
    select 'tickets:person:' || p.id::text from unnest(after) as p (id) where p.id is not null
  ) as g;
  if losses <> '{}' then
    perform realtime.send(brief, 'ticket_left', l.topic, true) from unnest(losses) as l (topic);
  end if;
  return null;
exception
  -- Realtime's schema is not ours: it may be dropped or changed below us.
  when undefined_function or invalid_schema_name or insufficient_privilege then
    raise warning 'no broadcast for a ticket: % (%)', sqlerrm, sqlstate;
    return null;
end;
$$;
comment on function private.tickets_broadcast() is
  'Trigger tickets_60_broadcast: sends each change to the topics of those whom it concerns, also of those who lost the ticket.';
revoke all on function private.tickets_broadcast() from public, anon, authenticated, service_role;

do $$
begin
  if to_regclass('realtime.messages') is null
    or to_regprocedure('realtime.topic()') is null
    or to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null
  then
    drop trigger if exists tickets_60_broadcast on public.tickets;
    raise notice 'realtime.send is missing: tickets are not broadcast; postgres_changes and polling work without';
    return;
  end if;

  create or replace trigger tickets_60_broadcast
    after insert or update or delete on public.tickets
    for each row execute function private.tickets_broadcast();
  comment on trigger tickets_60_broadcast on public.tickets is 'See private.tickets_broadcast(); fires for every writer.';

  begin
    drop policy if exists jamestronic_read on realtime.messages;
    create policy jamestronic_read on realtime.messages
      for select to authenticated
      using (extension = 'broadcast' and (select private.may_hear((select realtime.topic()))));

    drop policy if exists jamestronic_read_guard on realtime.messages;
    create policy jamestronic_read_guard on realtime.messages
      as restrictive for select to authenticated
      using (
        coalesce((select realtime.topic()) not like 'tickets:%', true)
        or (select private.may_hear((select realtime.topic())))
      );

    -- `anon` may not call our helpers, and a policy must not raise.
    drop policy if exists jamestronic_read_guard_anon on realtime.messages;
    create policy jamestronic_read_guard_anon on realtime.messages
      as restrictive for select to anon
      using (coalesce((select realtime.topic()) not like 'tickets:%', true));

    drop policy if exists jamestronic_write_guard on realtime.messages;
    create policy jamestronic_write_guard on realtime.messages
      as restrictive for insert to anon, authenticated
      with check (coalesce((select realtime.topic()) not like 'tickets:%', true) and topic not like 'tickets:%');

    comment on policy jamestronic_read on realtime.messages is
      'Each person hears their own topics. Called by Realtime when somebody joins a private channel.';
    comment on policy jamestronic_read_guard on realtime.messages is
      'No other policy opens our topics. Called by Realtime when somebody joins a private channel.';
    comment on policy jamestronic_read_guard_anon on realtime.messages is
      'As jamestronic_read_guard, for requests without a signed-in person.';
    comment on policy jamestronic_write_guard on realtime.messages is
      'Only trigger tickets_60_broadcast speaks on our topics. Called by Realtime when somebody sends.';
  exception
    when insufficient_privilege then
      raise notice 'no right to write policies for realtime.messages: private channels stay closed (%)', sqlerrm;
  end;
end;
$$;

notify pgrst, 'reload schema';
