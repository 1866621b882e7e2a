-- Schema `realtime`: what application SQL may call or write policies for. Run once, as supabase_admin.
-- The publication `supabase_realtime` is made with the roles, in 010_roles.sql.

create schema if not exists realtime authorization supabase_admin;
grant usage on schema realtime to postgres, anon, authenticated, service_role;

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'supabase_realtime_admin') then
    create role supabase_realtime_admin nologin noinherit;
  end if;
end
$$;
grant usage, create on schema realtime to supabase_realtime_admin;
-- Application SQL, run as `postgres`, writes the policies of realtime.messages; only an owner can.
grant supabase_realtime_admin to postgres;

-- One partition per day, `messages_YYYY_MM_DD`. The server makes and drops them (partitions.py): with none for
-- today every realtime.send is lost with a warning, as on the hosted service before the first client came.
create table realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  constraint messages_pkey primary key (id, inserted_at),
  constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);
alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private is true;
grant select, insert, update on realtime.messages to postgres, anon, authenticated, service_role;
comment on table realtime.messages is
  'Broadcasts from the database; its policies decide who may read and write private channels.';

-- Followed by the server: what is inserted above is broadcast on commit.
create publication supabase_realtime_messages_publication for table realtime.messages;

create function realtime.topic() returns text
language sql stable
set search_path = ''
as $$
  select nullif(pg_catalog.current_setting('realtime.topic', true), '')
$$;
comment on function realtime.topic() is
  'Called by policies of realtime.messages: the channel that is asked about; null elsewhere.';

create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void
language plpgsql
set search_path = ''
as $$
declare
  message_id uuid := pg_catalog.gen_random_uuid();
  message_payload jsonb;
begin
  begin
    if pg_catalog.jsonb_typeof(send.payload) is distinct from 'object' then
      raise exception 'payload must be a JSON object';
    end if;
    message_payload := case
      when send.payload ? 'id' then send.payload
      else send.payload || pg_catalog.jsonb_build_object('id', message_id)
    end;
    perform pg_catalog.set_config('realtime.topic', send.topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
    values (message_id, message_payload, send.event, send.topic, send.private, 'broadcast');
  exception
    -- A broadcast is never a reason for the caller's transaction to fail: the hosted service warns, too.
    when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end
$$;
comment on function realtime.send(jsonb, text, text, boolean) is
  'Called by triggers and functions: broadcasts to a channel on commit, with the rights of the caller.';

create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
returns void
language plpgsql
set search_path = ''
as $$
begin
  begin
    perform pg_catalog.set_config('realtime.topic', send_binary.topic, true);
    insert into realtime.messages (binary_payload, event, topic, private, extension)
    values (send_binary.payload, send_binary.event, send_binary.topic, send_binary.private, 'broadcast');
  exception
    when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end
$$;
comment on function realtime.send_binary(bytea, text, text, boolean) is
  'As realtime.send, for bytes; only clients of protocol 2.0.0 get them.';

create function realtime.broadcast_changes(
  topic_name text,
  event_name text,
  operation text,
  table_name text,
  table_schema text,
  new record,
  old record,
  level text default 'ROW'
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if broadcast_changes.level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if broadcast_changes.operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'Unexpected operation type: %', broadcast_changes.operation;
  end if;
  perform realtime.send(
    pg_catalog.jsonb_build_object(
      'schema', table_schema,
      'table', table_name,
      'operation', operation,
      'record', case when operation = 'DELETE' then null else pg_catalog.to_jsonb(new) end,
      'old_record', case when operation = 'INSERT' then null else pg_catalog.to_jsonb(old) end
    ),
    event_name,
    topic_name
  );
end
$$;
comment on function realtime.broadcast_changes(text, text, text, text, text, record, record, text) is
  'Called by row triggers: broadcasts the change to a private channel.';

-- Row level security of postgres_changes. A loop and no join: a policy may read its claims once per statement.
create function realtime.rows_visible_to(question text, candidates jsonb, asker text, claims text[])
returns table (visible bigint[])
language plpgsql
-- No search_path of its own: a policy may call a function that goes by the session's.
as $$
declare
  -- Prepared once per connection: planning a policy takes longer than asking it.
  prepared_name text := 'rows_visible_to_' || pg_catalog.md5(question);
  call text := pg_catalog.format('execute %I (%L)', prepared_name, candidates);
  each_claims text;
begin
  if not exists (select from pg_catalog.pg_prepared_statements as p where p.name = prepared_name) then
    execute pg_catalog.format('prepare %I (jsonb) as %s', prepared_name, question);
  end if;
  perform pg_catalog.set_config('role', asker, true);
  foreach each_claims in array claims loop
    perform pg_catalog.set_config('request.jwt.claims', each_claims, true);
    execute call into visible;
    return next;
  end loop;
end
$$;
comment on function realtime.rows_visible_to(text, jsonb, text, text[]) is
  'Called by the Realtime server, in a transaction that it rolls back: which rows a role sees with each claims.';
revoke execute on function realtime.rows_visible_to(text, jsonb, text, text[]) from public;

grant execute on function
  realtime.topic(),
  realtime.send(jsonb, text, text, boolean),
  realtime.send_binary(bytea, text, text, boolean),
  realtime.broadcast_changes(text, text, text, text, text, record, record, text)
to postgres, anon, authenticated, service_role;
