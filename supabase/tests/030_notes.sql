-- Who may do what with notes.
-- The table is the one of tests/contract/test_policies.py, which explains the cells; a test compares the two.
-- Run: supabase test db (Docker), or: psql -X -f supabase/tests/030_notes.sql where pgtap is installed.

begin;
\ir support/world.psql

create temporary table cells on commit drop as
select * from pg_temp.cells($matrix$
                          anonymous stranger deactivated customer transporter technician staff admin service
select mine public        42501     -        -           yes      yes         yes        yes   yes   yes
select mine internal      42501     -        -           -        -           yes        yes   yes   yes
select other public       42501     -        -           -        -           -          yes   yes   yes
select other internal     42501     -        -           -        -           -          yes   yes   yes
select pool public        42501     -        -           -        -           yes        yes   yes   yes
select pool internal      42501     -        -           -        -           yes        yes   yes   yes
insert mine public        42501     42501    42501       yes      yes         yes        yes   yes   yes
insert mine internal      42501     42501    42501       42501    42501       yes        yes   yes   yes
insert other public       42501     42501    42501       42501    42501       42501      yes   yes   yes
insert other internal     42501     42501    42501       42501    42501       42501      yes   yes   yes
insert pool public        42501     42501    42501       42501    42501       yes        yes   yes   yes
insert pool internal      42501     42501    42501       42501    42501       yes        yes   yes   yes
update mine public        42501     -        -           -        -           yes        -     yes   yes
update mine internal      42501     -        -           -        -           yes        -     yes   yes
update other public       42501     -        -           -        -           -          -     yes   yes
update other internal     42501     -        -           -        -           -          -     yes   yes
author mine public        42501     42501    42501       42501    42501       42501      42501 42501 yes
delete mine public        42501     -        -           -        -           -          -     yes   yes
delete other public       42501     -        -           -        -           -          -     yes   yes
$matrix$);

create function pg_temp.statement(actor text, line text) returns text language plpgsql
as $$
declare
  w text[] := regexp_split_to_array(line, ' ');
begin
  return case w[1]
    when 'select' then format('select from public.ticket_notes where id = %L', pg_temp.thing('', w[2] || ' ' || w[3]))
    when 'insert' then format(
      'insert into public.ticket_notes (ticket_id, body, is_internal) values (%L, ''New'', %L)',
      pg_temp.thing(actor, w[2]), w[3] = 'internal'
    )
    when 'update' then format(
      'update public.ticket_notes set body = ''New'' where id = %L', pg_temp.thing('', w[2] || ' ' || w[3])
    )
    when 'author' then format(
      'update public.ticket_notes set author_id = null where id = %L', pg_temp.thing('', w[2] || ' ' || w[3])
    )
    when 'delete' then format('delete from public.ticket_notes where id = %L', pg_temp.thing('', w[2] || ' ' || w[3]))
  end;
end;
$$;

select plan((select count(*)::integer from cells));
select is(pg_temp.outcome(c.actor, pg_temp.statement(c.actor, c.line)), c.expected, c.actor || ': ' || c.line)
from cells as c;
select * from finish();
rollback;
