-- Sessions of writing: the rules of crates/model/src/ledger.rs, and what only a control plane has to say (announced
-- bytes, quota, epochs). Locks in this order: session, vault, tenant.

set role backupengine_owner;

-- Hands what was announced in a session that ends in nothing to the sweep: some of it may be stored, and a grant that was
-- given may still store more until it dies. For definer functions.
create function app.doom_announced(of_vault bytea, session bigint) returns void
language plpgsql volatile set search_path = '' as $$
begin
  insert into app.doomed (tenant, vault, s, due_at, root, packs)
    select a.tenant, a.vault, a.s, clock_timestamp() + app.grant_grace(), bool_or(a.kind = 'root'),
           coalesce(range_agg(int8range(a.number, a.number + 1)) filter (where a.kind = 'pack'), '{}')
    from app.announced a
    where a.tenant = (select v.tenant from app.vault v where v.id = of_vault) and a.vault = of_vault and a.s = session
    group by a.tenant, a.vault, a.s;
end $$;

-- Ends an open session without a snapshot: its number stays used, its reservation is freed. For definer functions.
create function app.drop_session(one app.session) returns void language plpgsql volatile set search_path = '' as $$
begin
  update app.session s set state = 'expired', reserved = 0 where s.vault = one.vault and s.s = one.s;
  update app.tenant t set reserved_bytes = t.reserved_bytes - one.reserved where t.id = one.tenant and one.reserved > 0;
  perform app.doom_announced(one.vault, one.s);
  delete from app.announced a where a.tenant = one.tenant and a.vault = one.vault and a.s = one.s;
end $$;

-- Ends what gave no sign of life for 72 hours. Skips what another call holds. DEFINER: sessions of other devices.
create function app.expire_sessions(of_vault bytea) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  one app.session;
begin
  for one in select * from app.session s
             where s.vault = of_vault and s.tenant = app.my_tenant() and s.state = 'open'
               and s.last_seen < now() - interval '72 hours'
             for update skip locked loop
    perform app.drop_session(one);
  end loop;
end $$;

-- Forgets what was announced in sessions that are open no more. DEFINER: no client role may delete.
create function app.close_session(of_vault bytea, session bigint) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  one app.session;
begin
  select * into one from app.session s where s.vault = of_vault and s.s = session and s.tenant = app.my_tenant();
  if one.state <> 'open' then
    if one.state = 'expired' then
      perform app.doom_announced(of_vault, session);
    end if;
    delete from app.announced a where a.tenant = one.tenant and a.vault = of_vault and a.s = session;
  end if;
end $$;

-- The caller's own session, locked.
create function app.session_arg(args jsonb, me app.caller, home app.vault) returns app.session
language plpgsql volatile set search_path = '' as $$
declare
  wanted bigint := app.int_arg(args, 'session', 0, 4294967295);
  own    app.session;
begin
  select * into own from app.session s where s.vault = home.id and s.s = wanted and s.device = me.device for update;
  if own.vault is null then
    perform app.refuse('unknown_session', 'This device has no such session.');
  end if;
  return own;
end $$;

create function app.need_open(own app.session) returns void language plpgsql stable set search_path = '' as $$
begin
  if app.state_of(own.state, own.last_seen) <> 'open' then
    perform app.refuse('not_open', format('Session %s has ended.', own.s), 'Open a new session.');
  end if;
end $$;

create function app.vault_version(of_vault bytea) returns jsonb language sql stable set search_path = '' as $$
  select jsonb_build_object('version', v.snap_version, 'gc_epoch', v.gc_epoch, 'now', app.seconds(now()))
  from app.vault v where v.id = of_vault
$$;

create function api.op_session_open(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me   app.caller := app.identify();
  kind text := app.word_arg(args, 'kind', '{push,compact,heal}');
  home app.vault;
begin
  if me.role <> 'owner' and (kind = 'push') <> (me.role = 'writer') then
    perform app.deny(me, format('open a session of kind %s', kind));
  end if;
  home := app.vault_arg(args);
  perform app.expire_sessions(home.id);
  update app.vault v set next_session = v.next_session + 1
    where v.id = home.id and v.next_session <= 4294967295
    returning * into home;
  if home.id is null then
    perform app.refuse('numbers_used_up', 'All session numbers of this vault are used up.', 'Make a new vault.');
  end if;
  insert into app.session (tenant, vault, s, device, kind, acked_epoch)
    values (me.tenant, home.id, home.next_session - 1, me.device, kind, home.gc_epoch);
  return jsonb_build_object('session', home.next_session - 1, 'version', home.snap_version, 'gc_epoch', home.gc_epoch,
                            'now', app.seconds(now()));
end $$;

create function api.op_session_urls(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me     app.caller := app.identify();
  asked  jsonb := app.list_arg(args, 'blobs', 256);
  home   app.vault;
  own    app.session;
  bad    text;
  added  bigint;
  fresh  bigint;
  taken  bigint;
begin
  -- In the order of the cases: a cast comes after its form.
  select found.what into bad
    from (select case
            when coalesce(b ->> 'kind' not in ('pack', 'root'), true) then 'kind'
            when coalesce(b ->> 'number' !~ '^[0-9]{1,10}$', true) then 'number'
            when (b ->> 'number')::bigint > case b ->> 'kind' when 'root' then 0 else 4294967295 end then 'number'
            when coalesce(b ->> 'length' !~ '^[0-9]{1,9}$', true) then 'length'
            when (b ->> 'length')::bigint not between 1 and 268435456 then 'length'
            when coalesce(b ->> 'sha256' !~ '^[A-Za-z0-9+/]{43}=$', true) then 'sha256'
            when b ->> 'md5' !~ '^[A-Za-z0-9+/]{22}==$' then 'md5' end as what
          from jsonb_array_elements(asked) b) found
    where found.what is not null limit 1;
  if bad is not null then
    perform app.bad(bad);
  end if;
  home := app.vault_arg(args);
  own := app.session_arg(args, me, home);
  perform app.need_open(own);

  with put as (
    insert into app.announced as a (tenant, vault, s, kind, number, length, sha256)
      select me.tenant, home.id, own.s, b.kind, b.number, b.length, decode(b.sha256, 'base64')
      from jsonb_to_recordset(asked) as b(kind text, number bigint, length bigint, sha256 text)
      on conflict on constraint announced_pkey do nothing
      returning a.length)
  select coalesce(sum(length), 0), count(*) into added, fresh from put;
  if fresh < jsonb_array_length(asked) then
    -- Some stood there before: with these bytes they are signed again, with others never. A lateral with a limit is
    -- one look-up each, whatever the planner believes of this table.
    select b.number into taken
      from jsonb_to_recordset(asked) as b(kind text, number bigint, length bigint, sha256 text)
      cross join lateral (
        select a.length, a.sha256 from app.announced a
        where a.tenant = home.tenant and a.vault = home.id and a.s = own.s and a.kind = b.kind and a.number = b.number
        limit 1) known
      where known.length <> b.length or known.sha256 <> decode(b.sha256, 'base64')
      limit 1;
    if found then
      perform app.refuse('number_taken',
        format('Number %s of session %s was announced before with other bytes.', taken, own.s),
        'Give these bytes a number of their own.');
    end if;
  end if;

  update app.session s set last_seen = now(), reserved = s.reserved + added where s.vault = home.id and s.s = own.s;
  if added > 0 then
    update app.tenant t set reserved_bytes = t.reserved_bytes + added
      where t.id = me.tenant
        and (t.quota_bytes is null or t.used_bytes + t.reserved_bytes + added <= t.quota_bytes);
    if not found then
      perform app.refuse('quota_exceeded', 'These bytes would be more than the account may take.',
                         'Remove snapshots and give their space back, or have the quota raised.');
    end if;
  end if;
  return (
    select jsonb_build_object(
      'now', app.seconds(now()),
      'grants', coalesce(jsonb_agg(null::jsonb), '[]'),
      'presign', coalesce(jsonb_agg(jsonb_build_object(
        'at', '/grants/' || (b.place - 1), 'method', 'PUT', 'bucket', home.bucket, 'prefix', home.prefix,
        'key', case b.kind when 'root' then 'r/' || app.hex8(own.s)
                           else 'p/' || app.hex8(own.s) || '/' || app.hex8(b.number) end,
        'length', b.length, 'sha256', b.sha256, 'md5', b.md5) order by b.place), '[]'))
    from rows from (jsonb_to_recordset(asked) as (kind text, number bigint, length bigint, sha256 text, md5 text))
      with ordinality as b(kind, number, length, sha256, md5, place));
end $$;

-- Takes in the epoch a caller says it knows; null where it says none.
create function app.epoch_arg(args jsonb, home app.vault) returns bigint
language plpgsql immutable set search_path = '' as $$
begin
  return case when args ->> 'gc_epoch' is null then null else app.int_arg(args, 'gc_epoch', 0, home.gc_epoch) end;
end $$;

create function api.op_session_heartbeat(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me    app.caller := app.identify();
  home  app.vault := app.vault_arg(args);
  epoch bigint := app.epoch_arg(args, home);
  own   app.session := app.session_arg(args, me, home);
begin
  perform app.need_open(own);
  update app.session s set last_seen = now(), acked_epoch = greatest(s.acked_epoch, coalesce(epoch, s.acked_epoch))
    where s.vault = home.id and s.s = own.s;
  return app.vault_version(home.id);
end $$;

create function api.op_session_abort(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me   app.caller := app.identify();
  home app.vault := app.vault_arg(args);
  own  app.session := app.session_arg(args, me, home);
begin
  if own.state = 'committed' then
    perform app.need_open(own);
  end if;
  if own.state = 'open' then
    update app.session s set state = 'expired', reserved = 0 where s.vault = home.id and s.s = own.s;
    update app.tenant t set reserved_bytes = t.reserved_bytes - own.reserved where t.id = me.tenant and own.reserved > 0;
    perform app.close_session(home.id, own.s);
  end if;
  return jsonb_build_object('now', app.seconds(now()));
end $$;

-- What an open session has announced so far, as far as the caller may see it: numbers below this, and all of them once
-- the root was. A push that goes on with the session must not announce them again with other bytes.
create function app.numbers_used(of_tenant uuid, of_vault bytea, session bigint) returns bigint language sql stable set search_path = '' as $$
  select coalesce(max(case a.kind when 'root' then 4294967295 else least(a.number + 1, 4294967295) end), 0)
    from app.announced a where a.tenant = of_tenant and a.vault = of_vault and a.s = session
$$;

create function api.op_session_list(args jsonb) returns jsonb language plpgsql stable set search_path = '' as $$
declare
  home  app.vault := app.vault_arg(args);
  above bigint := app.int_arg(args, 'after', 0, 4294967295);
  most  bigint := app.int_arg(args, 'limit', 1, 1000);
  page  jsonb;
begin
  select coalesce(jsonb_agg(jsonb_build_object(
      'session', s.s, 'device', encode(s.device, 'hex'), 'kind', s.kind, 'state', app.state_of(s.state, s.last_seen),
      'opened', app.seconds(s.opened_at), 'packs', case when s.state = 'open' then app.numbers_used(s.tenant, s.vault, s.s) else s.packs end,
      'bytes', s.bytes,
      'retired', case when isempty(s.retired) then '[]' else app.runs(s.retired, s.s) end,
      'deleted', case when isempty(s.deleted) then '[]' else app.runs(s.deleted, s.s) end,
      'acked', s.acked_epoch,
      'moved', (select coalesce(jsonb_agg(jsonb_build_object('number', m.number, 'to_session', m.to_s, 'to_number', m.to_number,
                                                             'gc_epoch', m.epoch, 'gone', m.given_up) order by m.number), '[]')
                from app.moved m where m.vault = s.vault and m.s = s.s and not s.deleted @> m.number)) order by s.s), '[]')
    into page
    from (select * from app.session s where s.vault = home.id and s.s > above order by s.s limit most + 1) s;
  return jsonb_build_object('sessions', case when jsonb_array_length(page) > most then page - most::integer else page end,
                            'more', jsonb_array_length(page) > most, 'gc_epoch', home.gc_epoch);
end $$;

create function api.op_place(args jsonb) returns jsonb language plpgsql stable set search_path = '' as $$
declare
  me     app.caller := app.identify();
  home   app.vault := app.vault_arg(args);
  wanted bigint := app.int_arg(args, 'session', 0, 4294967295);
begin
  if not exists (select from app.session s where s.vault = home.id and s.s = wanted and s.device = me.device
                 and app.state_of(s.state, s.last_seen) = 'open') then
    perform app.refuse('not_open', format('Session %s is none this device is writing.', wanted));
  end if;
  return jsonb_build_object('bucket', home.bucket, 'prefix', home.prefix);
end $$;

grant execute on function app.expire_sessions, app.close_session, app.session_arg, app.need_open,
  app.vault_version, app.epoch_arg, app.numbers_used to authenticated;
grant execute on function api.op_session_open, api.op_session_urls, api.op_session_heartbeat, api.op_session_abort,
  api.op_session_list, api.op_place to authenticated;

reset role;
