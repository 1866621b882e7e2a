-- Who may do what with tickets.
-- The table is the one of tests/contract/test_policies.py, which explains the cells; a test compares the two.
-- Run: supabase test db (Docker), or: psql -X -f supabase/tests/010_tickets.sql where pgtap is installed.

begin;
\ir support/world.psql

create temporary table cells on commit drop as
select * from pg_temp.cells($matrix$
                          anonymous stranger deactivated customer transporter technician staff admin service
select mine               42501     -        -           yes      yes         yes        yes   yes   yes
select other              42501     -        -           -        -           -          yes   yes   yes
select pool               42501     -        -           -        -           yes        yes   yes   yes
insert plain              42501     42501    42501       yes      42501       42501      yes   yes   yes
insert returning          42501     42501    42501       yes      42501       42501      yes   yes   yes
insert for other          42501     42501    42501       42501    42501       42501      yes   yes   yes
insert urgent             42501     42501    42501       42501    42501       42501      yes   yes   yes
insert assigned           42501     42501    42501       42501    42501       42501      yes   yes   yes
insert version            42501     42501    42501       42501    42501       42501      42501 42501 yes
update title mine         42501     -        -           yes      PT403       PT403      yes   yes   yes
update title other        42501     -        -           -        -           -          yes   yes   yes
update title pool         42501     -        -           -        -           -          yes   yes   yes
update priority mine      42501     -        -           PT403    PT403       PT403      yes   yes   yes
update priority other     42501     -        -           -        -           -          yes   yes   yes
update priority pool      42501     -        -           -        -           -          yes   yes   yes
update status mine        42501     -        -           PT403    PT403       PT403      yes   yes   yes
update status other       42501     -        -           -        -           -          yes   yes   yes
update status pool        42501     -        -           -        -           -          yes   yes   yes
update appliance mine     42501     -        -           yes      PT403       yes        yes   yes   yes
update appliance other    42501     -        -           -        -           -          yes   yes   yes
update appliance pool     42501     -        -           -        -           -          yes   yes   yes
update address mine       42501     -        -           yes      PT403       PT403      yes   yes   yes
update address other      42501     -        -           -        -           -          yes   yes   yes
update address pool       42501     -        -           -        -           -          yes   yes   yes
update schedule mine      42501     -        -           PT403    yes         PT403      yes   yes   yes
update schedule other     42501     -        -           -        -           -          yes   yes   yes
update schedule pool      42501     -        -           -        -           -          yes   yes   yes
update technician mine    42501     -        -           PT403    PT403       PT403      yes   yes   yes
update technician other   42501     -        -           -        -           -          yes   yes   yes
update technician pool    42501     -        -           -        -           -          yes   yes   yes
update transporter mine   42501     -        -           PT403    PT403       PT403      yes   yes   yes
update transporter other  42501     -        -           -        -           -          yes   yes   yes
update transporter pool   42501     -        -           -        -           -          yes   yes   yes
update customer mine      42501     -        -           PT403    PT403       PT403      yes   yes   yes
update customer other     42501     -        -           -        -           -          yes   yes   yes
update customer pool      42501     -        -           -        -           -          yes   yes   yes
update version mine       42501     42501    42501       42501    42501       42501      42501 42501 yes
update version other      42501     42501    42501       42501    42501       42501      42501 42501 yes
update version pool       42501     42501    42501       42501    42501       42501      42501 42501 yes
update author mine        42501     42501    42501       42501    42501       42501      42501 42501 yes
update author other       42501     42501    42501       42501    42501       42501      42501 42501 yes
update author pool        42501     42501    42501       42501    42501       42501      42501 42501 yes
delete mine               42501     -        -           -        -           -          -     yes   yes
delete other              42501     -        -           -        -           -          -     yes   yes
delete pool               42501     -        -           -        -           -          -     yes   yes
$matrix$);

create function pg_temp.statement(actor text, line text) returns text language plpgsql
as $$
declare
  w text[] := regexp_split_to_array(line, ' ');
begin
  return case
    when w[1] = 'select' then format('select from public.tickets where id = %L', pg_temp.thing(actor, w[2]))
    when w[1] = 'delete' then format('delete from public.tickets where id = %L', pg_temp.thing(actor, w[2]))
    when w[1] = 'update' then format(
      'update public.tickets set %s where id = %L',
      case w[2]
        when 'title' then 'title = ''Dishwasher hums'''
        when 'priority' then 'priority = ''urgent'''
        when 'status' then 'status = ''cancelled'''
        when 'appliance' then 'appliance_model = ''WM-1'''
        when 'address' then 'pickup_address = ''1 Main Street'''
        when 'schedule' then 'scheduled_at = now()'
        when 'technician' then 'assigned_technician_id = null'
        when 'transporter' then 'assigned_transporter_id = null'
        when 'customer' then 'customer_id = null'
        when 'version' then 'version = 1'
        when 'author' then 'created_by = null'
      end,
      pg_temp.thing(actor, w[3])
    )
    when line = 'insert plain' then 'insert into public.tickets (title) values (''New'')'
    when line = 'insert returning' then 'insert into public.tickets (title) values (''New'') returning id'
    when line = 'insert for other' then format(
      'insert into public.tickets (title, customer_id) values (''New'', %L)', pg_temp.profile_of('customer2')
    )
    when line = 'insert urgent' then 'insert into public.tickets (title, priority) values (''New'', ''urgent'')'
    when line = 'insert assigned' then format(
      'insert into public.tickets (title, assigned_technician_id) values (''New'', %L)',
      pg_temp.profile_of('technician')
    )
    when line = 'insert version' then 'insert into public.tickets (title, version) values (''New'', 1)'
  end;
end;
$$;

select plan((select count(*)::integer from cells));
select is(pg_temp.outcome(c.actor, pg_temp.statement(c.actor, c.line)), c.expected, c.actor || ': ' || c.line)
from cells as c;
select * from finish();
rollback;
