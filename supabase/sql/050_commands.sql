-- 050_commands: the writes that matter, each one statement for the client and one transaction here.
--
-- Every command: public.<name>() is what the API exposes (security invoker, so that the advisors'
-- 0028 and 0029 stay quiet); it hands over to private.<name>() (security definer, because a command
-- may write what its caller may not, such as a technician claiming a ticket).
--
-- Rules, in this order
--   1. who: the actor's role may use the command at all, else PT403
--   2. again: an idempotency key that this actor used before gets the first answer, nothing is done
--   3. which: the row is locked; not there or not visible to the actor: PT404, the two look the same
--   4. when: expected_version is not the row's version: PT409
--   5. what: taken by somebody else: PT409; illegal transition, inactive assignee: PT422
--   6. a command whose result is already there changes nothing and answers the row
-- The detail of each error is JSON: reason, current_version. Never 40001: PostgREST up to 14 repeats it
-- for ever.

-- Security definer: reads profiles whatever the caller may see.
create or replace function private.command_actor(variadic allowed text[])
returns public.profiles
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  -- Inside a definer function current_user is the owner; the setting still says whom we serve.
  caller name := coalesce(nullif(nullif(current_setting('role', true), 'none'), ''), session_user);
  actor public.profiles;
begin
  if (select r.rolsuper or r.rolbypassrls from pg_catalog.pg_roles as r where r.rolname = caller) then
    actor.id := '00000000-0000-0000-0000-000000000000';
    actor.role := 'service';
  else
    select p.* into actor
    from public.profiles as p
    where p.user_id = private.my_user_id() and p.is_active;
  end if;
  if actor.role is null then
    perform private.refuse('PT403', 'no_active_profile', 'there is no active profile for this user');
  elsif actor.role <> all (allowed) then
    perform private.refuse('PT403', 'role_not_allowed', format('a %s may not do this', actor.role));
  end if;
  return actor;
end;
$$;
comment on function private.command_actor(text[]) is
  'Rule 1: the caller''s profile, or the role `service` for a database role that RLS does not bind. Called by the commands.';
revoke all on function private.command_actor(text[]) from public, anon, authenticated, service_role;

create or replace function private.command_first_answer(
  actor public.profiles,
  idempotency_key uuid,
  command text,
  request jsonb
)
returns public.tickets
language plpgsql
set search_path = ''
as $$
declare
  known private.command_answers;
begin
  if idempotency_key is null then
    return null;
  end if;
  -- A second call with the same key waits here until the first one has ended.
  insert into private.command_answers (actor_id, idempotency_key, command, request)
  values (actor.id, command_first_answer.idempotency_key, command_first_answer.command, command_first_answer.request)
  on conflict on constraint command_answers_pkey do nothing;
  if found then
    return null;
  end if;
  select a.* into known
  from private.command_answers as a
  where a.actor_id = actor.id and a.idempotency_key = command_first_answer.idempotency_key;
  if known.command is distinct from command_first_answer.command
    or known.request is distinct from command_first_answer.request
  then
    perform private.refuse('PT422', 'idempotency_key_reused', 'this idempotency key was used for another request');
  end if;
  return jsonb_populate_record(null::public.tickets, known.answer);
end;
$$;
comment on function private.command_first_answer(public.profiles, uuid, text, jsonb) is
  'Rule 2: the answer that this key got before, or null when the command is to be carried out. Called by the commands.';
revoke all on function private.command_first_answer(public.profiles, uuid, text, jsonb)
  from public, anon, authenticated, service_role;

create or replace function private.command_ticket(
  actor public.profiles,
  ticket_id uuid,
  expected_version bigint
)
returns public.tickets
language plpgsql
set search_path = ''
as $$
declare
  ticket public.tickets;
begin
  select t.* into ticket from public.tickets as t where t.id = command_ticket.ticket_id for update;
  -- The same arms as policy tickets_read_technician_assigned; a test compares the two.
  if ticket.id is null or not coalesce(
    case actor.role
      when 'service' then true
      when 'admin' then true
      when 'staff' then true
      when 'technician' then ticket.assigned_technician_id is null or ticket.assigned_technician_id = actor.id
      when 'transporter' then ticket.assigned_transporter_id = actor.id
      when 'customer' then ticket.customer_id = actor.id
    end,
    false
  ) then
    perform private.refuse('PT404', 'ticket_not_found', 'there is no such ticket, or it is not visible to you');
  end if;
  if ticket.version <> expected_version then
    perform private.refuse('PT409', 'version_conflict', 'the ticket was changed in the meantime', ticket.version);
  end if;
  return ticket;
end;
$$;
comment on function private.command_ticket(public.profiles, uuid, bigint) is
  'Rules 3 and 4: locks the ticket. Called by the commands.';
revoke all on function private.command_ticket(public.profiles, uuid, bigint)
  from public, anon, authenticated, service_role;

create or replace function private.command_done(
  actor public.profiles,
  idempotency_key uuid,
  ticket public.tickets
)
returns public.tickets
language plpgsql
set search_path = ''
as $$
begin
  if idempotency_key is not null then
    update private.command_answers as a
    set answer = to_jsonb(ticket)
    where a.actor_id = actor.id and a.idempotency_key = command_done.idempotency_key;
  end if;
  return ticket;
end;
$$;
comment on function private.command_done(public.profiles, uuid, public.tickets) is
  'Keeps the answer for a retry, and gives it. Called by the commands.';
revoke all on function private.command_done(public.profiles, uuid, public.tickets)
  from public, anon, authenticated, service_role;

create or replace function private.require_unfinished(ticket public.tickets)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if ticket.status in ('completed', 'cancelled') then
    perform private.refuse('PT422', 'illegal_transition', format('the ticket is %s', ticket.status), ticket.version);
  end if;
end;
$$;
comment on function private.require_unfinished(public.tickets) is 'Rule 5 for final statuses. Called by the commands.';
revoke all on function private.require_unfinished(public.tickets) from public, anon, authenticated, service_role;

-- --- assign_ticket ----------------------------------------------------------------------------------

create or replace function private.assign_ticket(
  p_ticket_id uuid, p_technician_id uuid, p_expected_version bigint, p_idempotency_key uuid
)
returns public.tickets
language plpgsql
security definer
set search_path = ''
as $$
declare
  actor public.profiles := private.command_actor('admin', 'staff', 'service');
  ticket public.tickets;
begin
  ticket := private.command_first_answer(actor, p_idempotency_key, 'assign_ticket', jsonb_build_array(
    p_ticket_id, p_technician_id, p_expected_version
  ));
  if ticket.id is not null then
    return ticket;
  end if;
  ticket := private.command_ticket(actor, p_ticket_id, p_expected_version);
  perform private.require_unfinished(ticket);
  if p_technician_id is null then
    perform private.refuse('PT422', 'not_an_active_technician', 'a technician is needed', ticket.version);
  end if;
  if ticket.assigned_technician_id is distinct from p_technician_id then
    update public.tickets as t
    set assigned_technician_id = p_technician_id
    where t.id = ticket.id
    returning t.* into ticket;
  end if;
  return private.command_done(actor, p_idempotency_key, ticket);
end;
$$;
comment on function private.assign_ticket(uuid, uuid, bigint, uuid) is 'The inner part of public.assign_ticket().';
revoke all on function private.assign_ticket(uuid, uuid, bigint, uuid) from public, anon;
grant execute on function private.assign_ticket(uuid, uuid, bigint, uuid) to authenticated, service_role;

create or replace function public.assign_ticket(
  ticket_id uuid, technician_id uuid, expected_version bigint default null, idempotency_key uuid default null
)
returns public.tickets
language sql
set search_path = ''
as $$
  select private.assign_ticket(ticket_id, technician_id, expected_version, idempotency_key);
$$;
comment on function public.assign_ticket(uuid, uuid, bigint, uuid) is
  'Gives a ticket to a technician, also from another one; an open ticket becomes assigned. Called by admin and staff.';
revoke all on function public.assign_ticket(uuid, uuid, bigint, uuid) from public, anon, authenticated, service_role;
grant execute on function public.assign_ticket(uuid, uuid, bigint, uuid) to authenticated, service_role;

-- --- unassign_ticket --------------------------------------------------------------------------------

create or replace function private.unassign_ticket(
  p_ticket_id uuid, p_expected_version bigint, p_idempotency_key uuid
)
returns public.tickets
language plpgsql
security definer
set search_path = ''
as $$
declare
  actor public.profiles := private.command_actor('admin', 'staff', 'service');
  ticket public.tickets;
begin
  ticket := private.command_first_answer(actor, p_idempotency_key, 'unassign_ticket', jsonb_build_array(
    p_ticket_id, p_expected_version
  ));
  if ticket.id is not null then
    return ticket;
  end if;
  ticket := private.command_ticket(actor, p_ticket_id, p_expected_version);
  perform private.require_unfinished(ticket);
  if ticket.assigned_technician_id is not null then
    update public.tickets as t
    set assigned_technician_id = null
    where t.id = ticket.id
    returning t.* into ticket;
  end if;
  return private.command_done(actor, p_idempotency_key, ticket);
end;
$$;
comment on function private.unassign_ticket(uuid, bigint, uuid) is 'The inner part of public.unassign_ticket().';
revoke all on function private.unassign_ticket(uuid, bigint, uuid) from public, anon;
grant execute on function private.unassign_ticket(uuid, bigint, uuid) to authenticated, service_role;

create or replace function public.unassign_ticket(
  ticket_id uuid, expected_version bigint default null, idempotency_key uuid default null
)
returns public.tickets
language sql
set search_path = ''
as $$
  select private.unassign_ticket(ticket_id, expected_version, idempotency_key);
$$;
comment on function public.unassign_ticket(uuid, bigint, uuid) is
  'Puts a ticket back into the pool; assigned, in_progress and waiting_parts become open. Called by admin and staff.';
revoke all on function public.unassign_ticket(uuid, bigint, uuid) from public, anon, authenticated, service_role;
grant execute on function public.unassign_ticket(uuid, bigint, uuid) to authenticated, service_role;

-- --- claim_ticket -----------------------------------------------------------------------------------

create or replace function private.claim_ticket(
  p_ticket_id uuid, p_expected_version bigint, p_idempotency_key uuid
)
returns public.tickets
language plpgsql
security definer
set search_path = ''
as $$
declare
  actor public.profiles := private.command_actor('technician');
  ticket public.tickets;
begin
  ticket := private.command_first_answer(actor, p_idempotency_key, 'claim_ticket', jsonb_build_array(
    p_ticket_id, p_expected_version
  ));
  if ticket.id is not null then
    return ticket;
  end if;
  -- Rule 3 would say PT404 to the losers of a race, who saw the ticket a moment ago: they are told
  -- that it is taken. Nobody else can know its id, and they learn nothing but its version.
  select t.* into ticket from public.tickets as t where t.id = p_ticket_id for update;
  if ticket.id is null then
    perform private.refuse('PT404', 'ticket_not_found', 'there is no such ticket, or it is not visible to you');
  end if;
  if ticket.assigned_technician_id <> actor.id then
    perform private.refuse('PT409', 'already_taken', 'another technician has the ticket', ticket.version);
  end if;
  if ticket.version <> p_expected_version then
    perform private.refuse('PT409', 'version_conflict', 'the ticket was changed in the meantime', ticket.version);
  end if;
  perform private.require_unfinished(ticket);
  if ticket.assigned_technician_id is null then
    if ticket.status <> 'open' then
      perform private.refuse('PT422', 'illegal_transition', format('the ticket is %s', ticket.status), ticket.version);
    end if;
    update public.tickets as t
    set assigned_technician_id = actor.id
    where t.id = ticket.id
    returning t.* into ticket;
  end if;
  return private.command_done(actor, p_idempotency_key, ticket);
end;
$$;
comment on function private.claim_ticket(uuid, bigint, uuid) is 'The inner part of public.claim_ticket().';
revoke all on function private.claim_ticket(uuid, bigint, uuid) from public, anon;
grant execute on function private.claim_ticket(uuid, bigint, uuid) to authenticated, service_role;

create or replace function public.claim_ticket(
  ticket_id uuid, expected_version bigint default null, idempotency_key uuid default null
)
returns public.tickets
language sql
set search_path = ''
as $$
  select private.claim_ticket(ticket_id, expected_version, idempotency_key);
$$;
comment on function public.claim_ticket(uuid, bigint, uuid) is
  'Takes an open ticket out of the pool for the caller; the first of many wins, the others get PT409. Called by technicians.';
revoke all on function public.claim_ticket(uuid, bigint, uuid) from public, anon, authenticated, service_role;
grant execute on function public.claim_ticket(uuid, bigint, uuid) to authenticated, service_role;

-- --- release_ticket ---------------------------------------------------------------------------------

create or replace function private.release_ticket(
  p_ticket_id uuid, p_expected_version bigint, p_idempotency_key uuid
)
returns public.tickets
language plpgsql
security definer
set search_path = ''
as $$
declare
  actor public.profiles := private.command_actor('technician');
  ticket public.tickets;
begin
  ticket := private.command_first_answer(actor, p_idempotency_key, 'release_ticket', jsonb_build_array(
    p_ticket_id, p_expected_version
  ));
  if ticket.id is not null then
    return ticket;
  end if;
  ticket := private.command_ticket(actor, p_ticket_id, p_expected_version);
  if ticket.assigned_technician_id is null then
    perform private.refuse('PT409', 'not_yours', 'the ticket is not assigned to you', ticket.version);
  end if;
  if not ticket.status in ('assigned', 'in_progress', 'waiting_parts') then
    perform private.refuse('PT422', 'illegal_transition', format('the ticket is %s', ticket.status), ticket.version);
  end if;
  update public.tickets as t
  set assigned_technician_id = null
  where t.id = ticket.id
  returning t.* into ticket;
  return private.command_done(actor, p_idempotency_key, ticket);
end;
$$;
comment on function private.release_ticket(uuid, bigint, uuid) is 'The inner part of public.release_ticket().';
revoke all on function private.release_ticket(uuid, bigint, uuid) from public, anon;
grant execute on function private.release_ticket(uuid, bigint, uuid) to authenticated, service_role;

create or replace function public.release_ticket(
  ticket_id uuid, expected_version bigint default null, idempotency_key uuid default null
)
returns public.tickets
language sql
set search_path = ''
as $$
  select private.release_ticket(ticket_id, expected_version, idempotency_key);
$$;
comment on function public.release_ticket(uuid, bigint, uuid) is
  'Gives an unfinished ticket of the caller back to the pool. Called by the technician who has it.';
revoke all on function public.release_ticket(uuid, bigint, uuid) from public, anon, authenticated, service_role;
grant execute on function public.release_ticket(uuid, bigint, uuid) to authenticated, service_role;

-- --- set_ticket_status ------------------------------------------------------------------------------

create or replace function private.set_ticket_status(
  p_ticket_id uuid, p_status text, p_expected_version bigint, p_idempotency_key uuid
)
returns public.tickets
language plpgsql
security definer
set search_path = ''
as $$
declare
  actor public.profiles := private.command_actor('admin', 'staff', 'technician', 'transporter', 'service');
  ticket public.tickets;
begin
  ticket := private.command_first_answer(actor, p_idempotency_key, 'set_ticket_status', jsonb_build_array(
    p_ticket_id, p_status, p_expected_version
  ));
  if ticket.id is not null then
    return ticket;
  end if;
  ticket := private.command_ticket(actor, p_ticket_id, p_expected_version);
  -- A technician sees the pool, but works on tickets of their own only.
  if actor.role = 'technician' and ticket.assigned_technician_id is null then
    perform private.refuse('PT403', 'not_yours', 'the ticket is not assigned to you', ticket.version);
  end if;
  if ticket.status is distinct from p_status then
    if not private.is_transition(ticket.status, p_status, null) then
      perform private.refuse(
        'PT422', 'illegal_transition', format('a ticket does not go from %s to that status', ticket.status), ticket.version
      );
    end if;
    if actor.role <> 'service' and not private.is_transition(ticket.status, p_status, actor.role) then
      perform private.refuse(
        'PT403', 'role_not_allowed', format('a %s may not set that status', actor.role), ticket.version
      );
    end if;
    update public.tickets as t
    set status = p_status
    where t.id = ticket.id
    returning t.* into ticket;
  end if;
  return private.command_done(actor, p_idempotency_key, ticket);
end;
$$;
comment on function private.set_ticket_status(uuid, text, bigint, uuid) is 'The inner part of public.set_ticket_status().';
revoke all on function private.set_ticket_status(uuid, text, bigint, uuid) from public, anon;
grant execute on function private.set_ticket_status(uuid, text, bigint, uuid) to authenticated, service_role;

create or replace function public.set_ticket_status(
  ticket_id uuid, status text, expected_version bigint default null, idempotency_key uuid default null
)
returns public.tickets
language sql
set search_path = ''
as $$
  select private.set_ticket_status(ticket_id, status, expected_version, idempotency_key);
$$;
comment on function public.set_ticket_status(uuid, text, bigint, uuid) is
  'Moves a ticket on, as private.ticket_transitions allows. Called by admin, staff, the technician who has it, and its transporter.';
revoke all on function public.set_ticket_status(uuid, text, bigint, uuid) from public, anon, authenticated, service_role;
grant execute on function public.set_ticket_status(uuid, text, bigint, uuid) to authenticated, service_role;

-- --- schedule_transport -----------------------------------------------------------------------------

create or replace function private.schedule_transport(
  p_ticket_id uuid, p_transporter_id uuid, p_scheduled_at timestamptz, p_expected_version bigint, p_idempotency_key uuid
)
returns public.tickets
language plpgsql
security definer
set search_path = ''
as $$
declare
  actor public.profiles := private.command_actor('admin', 'staff', 'service');
  ticket public.tickets;
begin
  ticket := private.command_first_answer(actor, p_idempotency_key, 'schedule_transport', jsonb_build_array(
    p_ticket_id, p_transporter_id, p_scheduled_at, p_expected_version
  ));
  if ticket.id is not null then
    return ticket;
  end if;
  ticket := private.command_ticket(actor, p_ticket_id, p_expected_version);
  perform private.require_unfinished(ticket);
  if (ticket.assigned_transporter_id, ticket.scheduled_at) is distinct from (p_transporter_id, p_scheduled_at) then
    update public.tickets as t
    set assigned_transporter_id = p_transporter_id, scheduled_at = p_scheduled_at
    where t.id = ticket.id
    returning t.* into ticket;
  end if;
  return private.command_done(actor, p_idempotency_key, ticket);
end;
$$;
comment on function private.schedule_transport(uuid, uuid, timestamptz, bigint, uuid) is
  'The inner part of public.schedule_transport().';
revoke all on function private.schedule_transport(uuid, uuid, timestamptz, bigint, uuid) from public, anon;
grant execute on function private.schedule_transport(uuid, uuid, timestamptz, bigint, uuid) to authenticated, service_role;

create or replace function public.schedule_transport(
  ticket_id uuid,
  transporter_id uuid,
  scheduled_at timestamptz,
  expected_version bigint default null,
  idempotency_key uuid default null
)
returns public.tickets
language sql
set search_path = ''
as $$
  select private.schedule_transport(ticket_id, transporter_id, scheduled_at, expected_version, idempotency_key);
$$;
comment on function public.schedule_transport(uuid, uuid, timestamptz, bigint, uuid) is
  'Sets who moves the device and when; both null: nobody. Called by admin and staff.';
revoke all on function public.schedule_transport(uuid, uuid, timestamptz, bigint, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.schedule_transport(uuid, uuid, timestamptz, bigint, uuid) to authenticated, service_role;

notify pgrst, 'reload schema';
