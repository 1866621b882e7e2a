-- 030_policies: every grant and every policy of profiles, tickets and notes.
--
-- Rules
--   New projects grant nothing by themselves and old ones grant everything: so first all is taken,
--   then what is needed is given, service_role included. `anon` gets nothing.
--   One policy per table, role and command (several cost a check each, and the advisor warns: 0006).
--   Helpers stand in a sub-select, so that they run once per query. No policy raises.
--   In a policy `my role` is null for a stranger and for a deactivated person: no arm matches.
--
-- Called by: PostgREST (role authenticated), and Realtime when it asks whether a subscriber sees a row.

revoke all on table public.profiles, public.tickets, public.ticket_notes
  from public, anon, authenticated, service_role, supabase_auth_admin;
-- Identity needs no rights on its sequence; old projects give them by default.
revoke all on sequence public.tickets_number_seq from public, anon, authenticated, service_role;

grant select, delete on table public.profiles to authenticated;
grant insert (id, user_id, role, full_name, phone, is_active) on table public.profiles to authenticated;
grant update (user_id, role, full_name, phone, is_active) on table public.profiles to authenticated;
grant select, insert, update, delete on table public.profiles to service_role;

-- Columns that only triggers write (number, version, created_by, created_at, updated_at) are not granted.
grant select, delete on table public.tickets to authenticated;
grant insert (
  id, title, description, priority, customer_id, assigned_technician_id, assigned_transporter_id,
  appliance_type, appliance_brand, appliance_model, appliance_serial, pickup_address, delivery_address,
  scheduled_at
) on table public.tickets to authenticated;
grant update (
  title, description, status, priority, customer_id, assigned_technician_id, assigned_transporter_id,
  appliance_type, appliance_brand, appliance_model, appliance_serial, pickup_address, delivery_address,
  scheduled_at
) on table public.tickets to authenticated;
grant select, insert, update, delete on table public.tickets to service_role;

grant select, delete on table public.ticket_notes to authenticated;
grant insert (id, ticket_id, body, is_internal) on table public.ticket_notes to authenticated;
grant update (body, is_internal) on table public.ticket_notes to authenticated;
grant select, insert, update, delete on table public.ticket_notes to service_role;

-- The access token hook runs as Auth's own role.
grant usage on schema public to supabase_auth_admin;
grant select (user_id, role, is_active) on table public.profiles to supabase_auth_admin;

-- --- profiles ---------------------------------------------------------------------------------------

drop policy if exists profiles_read on public.profiles;
create policy profiles_read on public.profiles
  for select to authenticated
  using (
    user_id = (select private.my_user_id())
    or (select public.get_my_role()) in ('admin', 'staff')
    or id in (select private.my_contact_ids())
  );
comment on policy profiles_read on public.profiles is
  'Oneself (also when deactivated: a program must be able to say so), all for admin and staff, and for technicians and transporters the customers of their own tickets.';

drop policy if exists profiles_read_by_auth on public.profiles;
create policy profiles_read_by_auth on public.profiles
  for select to supabase_auth_admin
  using (true);
comment on policy profiles_read_by_auth on public.profiles is
  'custom_access_token_hook() runs as supabase_auth_admin: without this policy it would find no role, silently.';

drop policy if exists profiles_insert on public.profiles;
create policy profiles_insert on public.profiles
  for insert to authenticated
  with check (
    case (select public.get_my_role())
      when 'admin' then true
      when 'staff' then role = 'customer' and user_id is null
      else false
    end
  );
comment on policy profiles_insert on public.profiles is
  'Admins; staff may register a walk-in customer. Profiles of Auth users come from the trigger on auth.users.';

drop policy if exists profiles_update on public.profiles;
create policy profiles_update on public.profiles
  for update to authenticated
  using (
    case (select public.get_my_role())
      when 'admin' then true
      when 'staff' then role = 'customer' or id = (select public.get_my_profile_id())
      else id = (select public.get_my_profile_id())
    end
  )
  with check (
    case (select public.get_my_role())
      when 'admin' then true
      when 'staff' then role = 'customer' or id = (select public.get_my_profile_id())
      else id = (select public.get_my_profile_id())
    end
  );
comment on policy profiles_update on public.profiles is
  'Admins all, staff the customers, everybody oneself. Which columns: trigger profiles_10_stamp.';

drop policy if exists profiles_delete on public.profiles;
create policy profiles_delete on public.profiles
  for delete to authenticated
  using ((select public.get_my_role()) = 'admin');
comment on policy profiles_delete on public.profiles is
  'Admins. A technician or transporter with tickets is deactivated instead: the foreign keys refuse.';

-- --- tickets ----------------------------------------------------------------------------------------

drop policy if exists tickets_read_technician_assigned on public.tickets;
create policy tickets_read_technician_assigned on public.tickets
  for select to authenticated
  using (
    case (select public.get_my_role())
      when 'technician' then
        assigned_technician_id is null or assigned_technician_id = (select public.get_my_profile_id())
      when 'admin' then true
      when 'staff' then true
      when 'transporter' then assigned_transporter_id = (select public.get_my_profile_id())
      when 'customer' then customer_id = (select public.get_my_profile_id())
      else false
    end
  );
comment on policy tickets_read_technician_assigned on public.tickets is
  'A technician reads the tickets assigned to them and the unassigned ones. The other roles'' arms stand here too, because the advisor allows one policy per role and command: admin and staff all, a transporter what is theirs to move, a customer their own.';

drop policy if exists tickets_insert on public.tickets;
create policy tickets_insert on public.tickets
  for insert to authenticated
  with check (
    case (select public.get_my_role())
      when 'admin' then true
      when 'staff' then true
      when 'customer' then
        customer_id = (select public.get_my_profile_id())
        and status = 'open'
        and priority = 'normal'
        and assigned_technician_id is null
        and assigned_transporter_id is null
        and scheduled_at is null
      else false
    end
  );
comment on policy tickets_insert on public.tickets is
  'Admin and staff; a customer opens a plain ticket of their own.';

drop policy if exists tickets_update on public.tickets;
create policy tickets_update on public.tickets
  for update to authenticated
  using (
    case (select public.get_my_role())
      when 'admin' then true
      when 'staff' then true
      when 'technician' then assigned_technician_id = (select public.get_my_profile_id())
      when 'transporter' then assigned_transporter_id = (select public.get_my_profile_id())
      when 'customer' then customer_id = (select public.get_my_profile_id())
      else false
    end
  )
  with check (
    case (select public.get_my_role())
      when 'admin' then true
      when 'staff' then true
      when 'technician' then assigned_technician_id = (select public.get_my_profile_id())
      when 'transporter' then assigned_transporter_id = (select public.get_my_profile_id())
      when 'customer' then customer_id = (select public.get_my_profile_id())
      else false
    end
  );
comment on policy tickets_update on public.tickets is
  'Admin and staff all; the others what is theirs, and only so that it stays theirs. Which columns: trigger tickets_20_guard.';

drop policy if exists tickets_delete on public.tickets;
create policy tickets_delete on public.tickets
  for delete to authenticated
  using ((select public.get_my_role()) = 'admin');
comment on policy tickets_delete on public.tickets is 'Admins only; everybody else cancels.';

-- --- notes ------------------------------------------------------------------------------------------
-- "The ticket is visible" is asked of tickets under its own policy, not repeated here.

drop policy if exists ticket_notes_read on public.ticket_notes;
create policy ticket_notes_read on public.ticket_notes
  for select to authenticated
  using (
    (not is_internal or (select public.get_my_role()) in ('admin', 'staff', 'technician'))
    and exists (select from public.tickets as t where t.id = ticket_notes.ticket_id)
  );
comment on policy ticket_notes_read on public.ticket_notes is
  'Whoever sees the ticket; internal notes admin, staff and technicians only.';

drop policy if exists ticket_notes_insert on public.ticket_notes;
create policy ticket_notes_insert on public.ticket_notes
  for insert to authenticated
  with check (
    (not is_internal or (select public.get_my_role()) in ('admin', 'staff', 'technician'))
    and author_id = (select public.get_my_profile_id())
    and exists (select from public.tickets as t where t.id = ticket_notes.ticket_id)
  );
comment on policy ticket_notes_insert on public.ticket_notes is
  'Whoever sees the ticket, in their own name; internal notes admin, staff and technicians only.';

drop policy if exists ticket_notes_update on public.ticket_notes;
create policy ticket_notes_update on public.ticket_notes
  for update to authenticated
  using (author_id = (select public.get_my_profile_id()) or (select public.get_my_role()) = 'admin')
  with check (
    (not is_internal or (select public.get_my_role()) in ('admin', 'staff', 'technician'))
    and (author_id = (select public.get_my_profile_id()) or (select public.get_my_role()) = 'admin')
  );
comment on policy ticket_notes_update on public.ticket_notes is
  'The author, while the ticket is visible to them, and admins.';

drop policy if exists ticket_notes_delete on public.ticket_notes;
create policy ticket_notes_delete on public.ticket_notes
  for delete to authenticated
  using ((select public.get_my_role()) = 'admin');
comment on policy ticket_notes_delete on public.ticket_notes is 'Admins only.';

notify pgrst, 'reload schema';
