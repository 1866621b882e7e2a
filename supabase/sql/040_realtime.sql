-- 040_realtime: what Realtime's `postgres_changes` needs.
--
-- Replica identity is DEFAULT (the primary key). FULL would put the unchanged out-of-line values into
-- each event, but it also hands the old values of every column to whoever comes to see the row by
-- that update: Realtime checks the new row only. What DEFAULT leaves out (a `description` too large
-- for its page; 010 keeps it in the row where it fits) clients fetch: a missing column means unknown.

do $$
begin
  if (select c.relreplident <> 'd' from pg_catalog.pg_class as c where c.oid = 'public.tickets'::regclass) then
    alter table public.tickets replica identity default;
  end if;

  -- Every Supabase project has the publication; a bare PostgreSQL may not.
  if not exists (select from pg_catalog.pg_publication as p where p.pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  if not exists (
    select
    from pg_catalog.pg_publication_tables as t
    where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = 'tickets'
  ) then
    alter publication supabase_realtime add table public.tickets;
  end if;
end;
$$;

notify pgrst, 'reload schema';
