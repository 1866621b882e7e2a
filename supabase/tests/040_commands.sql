-- The commands' refusals, and that nobody makes themselves an admin.
-- Run: supabase test db (Docker), or: psql -X -f supabase/tests/040_commands.sql where pgtap is installed.

begin;
\ir support/world.psql

create temporary table calls (actor text, statement text, expected text) on commit drop;
insert into calls
select c.actor, c.statement, c.expected
from (
  values
    ('staff', format('select public.assign_ticket(%L, %L)', pg_temp.thing('', 'pool'), pg_temp.profile_of('technician')), 'yes'),
    ('staff', format('select public.assign_ticket(%L, %L, 1)', pg_temp.thing('', 'pool'), pg_temp.profile_of('technician')), 'PT409'),
    ('staff', format('select public.assign_ticket(%L, %L)', gen_random_uuid(), pg_temp.profile_of('technician')), 'PT404'),
    ('staff', format('select public.assign_ticket(%L, %L)', pg_temp.thing('', 'pool'), pg_temp.profile_of('customer')), 'PT422'),
    ('staff', format('select public.assign_ticket(%L, %L)', pg_temp.thing('', 'pool'), pg_temp.profile_of('deactivated')), 'PT422'),
    ('technician', format('select public.assign_ticket(%L, %L)', pg_temp.thing('', 'pool'), pg_temp.profile_of('technician')), 'PT403'),
    ('customer', format('select public.unassign_ticket(%L)', pg_temp.thing('', 'mine')), 'PT403'),
    ('admin', format('select public.unassign_ticket(%L)', pg_temp.thing('', 'mine')), 'yes'),
    ('technician', format('select public.claim_ticket(%L)', pg_temp.thing('', 'pool')), 'yes'),
    ('technician', format('select public.claim_ticket(%L)', pg_temp.thing('', 'other')), 'PT409'),
    ('admin', format('select public.claim_ticket(%L)', pg_temp.thing('', 'pool')), 'PT403'),
    ('deactivated', format('select public.claim_ticket(%L)', pg_temp.thing('', 'pool')), 'PT403'),
    ('technician', format('select public.release_ticket(%L)', pg_temp.thing('', 'mine')), 'yes'),
    ('technician', format('select public.release_ticket(%L)', pg_temp.thing('', 'other')), 'PT404'),
    ('technician', format('select public.set_ticket_status(%L, ''in_progress'')', pg_temp.thing('', 'mine')), 'yes'),
    ('technician', format('select public.set_ticket_status(%L, ''completed'')', pg_temp.thing('', 'mine')), 'PT422'),
    ('technician', format('select public.set_ticket_status(%L, ''cancelled'')', pg_temp.thing('', 'mine')), 'PT403'),
    ('customer', format('select public.set_ticket_status(%L, ''cancelled'')', pg_temp.thing('', 'mine')), 'PT403'),
    ('staff', format('select public.schedule_transport(%L, %L, now())', pg_temp.thing('', 'mine'), pg_temp.profile_of('transporter2')), 'yes'),
    ('staff', format('select public.schedule_transport(%L, %L, now())', pg_temp.thing('', 'mine'), pg_temp.profile_of('technician')), 'PT422'),
    ('anonymous', format('select public.claim_ticket(%L)', pg_temp.thing('', 'pool')), '42501'),
    ('stranger', 'select public.sync_tickets()', 'PT403'),
    ('technician', 'select public.sync_tickets()', 'yes'),
    ('technician', 'select public.tickets_digest()', 'yes'),
    ('technician', 'select private.prune_sync()', '42501'),
    ('technician', 'select from private.ticket_changes', '42501'),
    ('admin', 'select public.custom_access_token_hook(''{}'')', '42501')
) as c (actor, statement, expected);

select plan((select count(*)::integer from calls));
select is(pg_temp.outcome(c.actor, c.statement), c.expected, c.actor || ': ' || c.statement) from calls as c;
select * from finish();
rollback;
