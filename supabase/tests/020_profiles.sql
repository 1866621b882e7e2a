-- Who may do what with profiles.
-- The table is the one of tests/contract/test_policies.py, which explains the cells; a test compares the two.
-- Run: supabase test db (Docker), or: psql -X -f supabase/tests/020_profiles.sql where pgtap is installed.

begin;
\ir support/world.psql

create temporary table cells on commit drop as
select * from pg_temp.cells($matrix$
                          anonymous stranger deactivated customer transporter technician staff admin service
select self               42501     -        yes         yes      yes         yes        yes   yes   -
select customer           42501     -        -           yes      yes         yes        yes   yes   yes
select customer2          42501     -        -           -        -           -          yes   yes   yes
select technician2        42501     -        -           -        -           -          yes   yes   yes
select admin2             42501     -        -           -        -           -          yes   yes   yes
update name self          42501     -        -           yes      yes         yes        yes   yes   -
update name customer      42501     -        -           yes      -           -          yes   yes   yes
update name technician2   42501     -        -           -        -           -          -     yes   yes
update role self          42501     -        -           PT403    PT403       PT403      PT403 -     -
update role customer      42501     -        -           PT403    -           -          PT403 yes   yes
update role technician2   42501     -        -           -        -           -          -     yes   yes
update active self        42501     -        -           PT403    PT403       PT403      PT403 yes   -
update active customer    42501     -        -           PT403    -           -          PT403 yes   yes
update active technician2 42501     -        -           -        -           -          -     yes   yes
update user self          42501     -        -           PT403    PT403       PT403      PT403 yes   -
update user customer      42501     -        -           PT403    -           -          PT403 yes   yes
update user technician2   42501     -        -           -        -           -          -     yes   yes
insert walk-in            42501     42501    42501       42501    42501       42501      yes   yes   yes
insert admin              42501     42501    42501       42501    42501       42501      42501 yes   yes
delete without tickets    42501     -        -           -        -           -          -     yes   yes
delete self               42501     -        -           -        -           -          -     yes   -
$matrix$);

create function pg_temp.whose(actor text, whom text) returns uuid language sql stable
as $$
  select coalesce(pg_temp.profile_of(case whom when 'self' then actor else whom end), gen_random_uuid())
$$;

create function pg_temp.statement(actor text, line text) returns text language plpgsql
as $$
declare
  w text[] := regexp_split_to_array(line, ' ');
begin
  w := w || array[null, null]::text[];
  return case
    when w[1] = 'select' then format('select from public.profiles where id = %L', pg_temp.whose(actor, w[2]))
    when w[1] = 'update' then format(
      'update public.profiles set %s where id = %L %s',
      case w[2]
        when 'name' then 'full_name = ''New'''
        when 'role' then 'role = ''admin'''
        when 'active' then 'is_active = not is_active'
        when 'user' then 'user_id = null'
      end,
      pg_temp.whose(actor, w[3]),
      case w[2] when 'role' then 'and role <> ''admin''' else '' end
    )
    when line = 'insert walk-in' then 'insert into public.profiles (full_name) values (''Walk-in'')'
    when line = 'insert admin' then 'insert into public.profiles (role) values (''admin'')'
    when line = 'delete without tickets' then format(
      'delete from public.profiles where id = %L', pg_temp.profile_of('staff2')
    )
    when line = 'delete self' then format('delete from public.profiles where id = %L', pg_temp.whose(actor, 'self'))
  end;
end;
$$;

select plan((select count(*)::integer from cells));
select is(pg_temp.outcome(c.actor, pg_temp.statement(c.actor, c.line)), c.expected, c.actor || ': ' || c.line)
from cells as c;
select * from finish();
rollback;
