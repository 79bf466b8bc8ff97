-- What an owner decides: which snapshots go, which stay, how long the trash is kept; when devices are expected to push.
--
-- Nothing is deleted here. A snapshot in the trash stays until purge_after, by the server's clock, and a collection
-- treats it as live until then. Tested in supabase/tests/retention.sql.

set role backupengine_owner;

-- How long the trash of a vault is kept now.
create function app.trash_days_now(v app.vault) returns integer
language sql stable set search_path = '' as $$
  select case when v.next_trash_from <= now() then v.next_trash_days else v.trash_days end
$$;

-- Sessions by number, each at most once.
create function app.sessions_arg(args jsonb) returns bigint[]
language plpgsql stable set search_path = '' as $$
declare
  list   jsonb := app.list_arg(args, 'sessions', 1000);
  found_ bigint[] := '{}';
  one    jsonb;
begin
  for one in select value from jsonb_array_elements(list) loop
    found_ := found_ || app.int_arg(jsonb_build_object('sessions', one), 'sessions', 1, 4294967295);
  end loop;
  return array(select distinct s from unnest(found_) as s order by s);
end $$;

-- Locks the snapshots an operation names. One that is purged is as unknown as one that never was.
create function app.need_snapshots(v app.vault, sessions bigint[]) returns setof app.snapshot
language plpgsql volatile set search_path = '' as $$
declare
  wanted bigint;
  found_ app.snapshot;
begin
  foreach wanted in array sessions loop
    select * into found_ from app.snapshot n
      where n.vault = v.id and n.s = wanted and n.state <> 'purged' for update;
    if found_.s is null then
      perform app.refuse('not_found', format('Snapshot %s is not in this vault.', wanted),
                         'List the snapshots and try again.');
    end if;
    return next found_;
  end loop;
end $$;

-- The list has changed.
create function app.list_moved(v app.vault) returns void
language plpgsql volatile set search_path = '' as $$
begin
  update app.vault set snap_version = snap_version + 1 where id = v.id;
end $$;

create function app.done() returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object('now', app.seconds(now()))
$$;

create function api.op_snapshot_trash(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  sessions bigint[] := app.sessions_arg(args);
  v        app.vault := app.vault_arg(args);
  one      app.snapshot;
  moved    boolean := false;
begin
  for one in select * from app.need_snapshots(v, sessions) loop
    if one.hold then
      perform app.refuse('held', format('Snapshot %s is held against removal.', one.s),
                         'Let it go first, if it really is to be removed.');
    end if;
    -- Again is no new period: what is in the trash keeps its time.
    if one.state = 'live' then
      update app.snapshot n
        set state = 'trashed', purge_after = now() + make_interval(days => app.trash_days_now(v))
        where n.vault = v.id and n.s = one.s;
      moved := true;
    end if;
  end loop;
  if moved then
    perform app.list_moved(v);
  end if;
  return app.done();
end $$;

create function api.op_snapshot_untrash(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  sessions bigint[] := app.sessions_arg(args);
  v        app.vault := app.vault_arg(args);
  one      app.snapshot;
  moved    boolean := false;
begin
  for one in select * from app.need_snapshots(v, sessions) loop
    if one.state <> 'live' then
      update app.snapshot n set state = 'live', purge_after = null where n.vault = v.id and n.s = one.s;
      moved := true;
    end if;
  end loop;
  if moved then
    perform app.list_moved(v);
  end if;
  return app.done();
end $$;

create function api.op_snapshot_hold(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  sessions bigint[] := app.sessions_arg(args);
  held     boolean;
  v        app.vault;
  one      app.snapshot;
  moved    boolean := false;
begin
  if jsonb_typeof(args -> 'hold') is distinct from 'boolean' then
    perform app.bad('hold');
  end if;
  held := (args ->> 'hold')::boolean;
  v := app.vault_arg(args);
  for one in select * from app.need_snapshots(v, sessions) loop
    if one.hold <> held then
      update app.snapshot n set hold = held where n.vault = v.id and n.s = one.s;
      moved := true;
    end if;
  end loop;
  if moved then
    perform app.list_moved(v);
  end if;
  return app.done();
end $$;

create function api.op_snapshot_tag(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  session bigint := app.int_arg(args, 'session', 1, 4294967295);
  tag     bytea := app.bytes_arg(args, 'label', 0, 1048576);
  v       app.vault;
begin
  if length(tag) > 1024 then
    perform app.refuse('label_too_long', 'A label has at most 1024 bytes.');
  end if;
  v := app.vault_arg(args);
  perform app.need_snapshots(v, array[session]);
  update app.snapshot n set label = tag where n.vault = v.id and n.s = session;
  perform app.list_moved(v);
  return app.done();
end $$;

-- Longer counts at once. Shorter counts when the old time has passed, for what is put into the trash from then on: whoever
-- takes over an owner's device gains nothing by it before somebody notices.
create function api.op_retention_set(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  wanted  integer := app.int_arg(args, 'trash_days', 14, 3650);
  v       app.vault := app.vault_arg(args);
  current integer;
begin
  select * into v from app.vault where id = v.id for update;
  current := app.trash_days_now(v);
  if wanted >= current then
    update app.vault set trash_days = wanted, next_trash_days = null, next_trash_from = null where id = v.id;
  else
    update app.vault set trash_days = current, next_trash_days = wanted,
                         next_trash_from = now() + make_interval(days => current)
      where id = v.id;
  end if;
  return app.done();
end $$;

create function api.op_schedule_put(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  me     app.caller := app.identify();
  wanted bytea := app.id_arg(args, 'device', 16);
  rule   bytea := app.bytes_arg(args, 'rule_sealed', 0, 1024);
  due    bigint := app.int_arg(args, 'next_due', 0, 253402300799);
  v      app.vault;
begin
  if wanted <> me.device and me.role <> 'owner' then
    perform app.deny(me, 'set the schedule of another device');
  end if;
  v := app.vault_arg(args);
  if not exists (select from app.device d where d.tenant = me.tenant and d.id = wanted and d.status <> 'revoked') then
    perform app.refuse('not_found', 'This account has no such device.');
  end if;
  insert into app.schedule as s (tenant, vault, device, rule_sealed, next_due)
    values (me.tenant, v.id, wanted, rule, to_timestamp(due))
    on conflict on constraint schedule_pkey do update
      set rule_sealed = excluded.rule_sealed, next_due = excluded.next_due;
  return app.done();
end $$;

-- Own row only, except for owners: a policy says so.
create function api.op_schedule_list(args jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v app.vault := app.vault_arg(args);
begin
  return jsonb_build_object('now', app.seconds(now()), 'schedules', (
    select coalesce(jsonb_agg(jsonb_build_object(
        'device', encode(s.device, 'hex'),
        'rule_sealed', app.base64(s.rule_sealed),
        'next_due', app.seconds(s.next_due),
        'overdue', s.next_due < now() and not exists (
          select from app.snapshot n
          where n.tenant = s.tenant and n.device = s.device and n.vault = s.vault and n.committed_at >= s.next_due)
      ) order by s.device), '[]')
    from app.schedule s where s.vault = v.id));
end $$;

grant execute on function app.trash_days_now, app.sessions_arg, app.need_snapshots, app.list_moved, app.done,
  api.op_snapshot_trash, api.op_snapshot_untrash, api.op_snapshot_hold, api.op_snapshot_tag, api.op_retention_set,
  api.op_schedule_put, api.op_schedule_list to authenticated;

reset role;
