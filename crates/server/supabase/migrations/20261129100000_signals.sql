-- Signs of trouble: a push that looked like the work of ransomware holds the snapshot before it; a mass retire shows; what the
-- store keeps locked is deleted later.
--
-- Holding only adds: a device may have what it made itself be kept, and cannot let it go. Why, the server is not told.
-- Tested in supabase/tests/signals.sql.

set role backupengine_owner;

-- Holds a snapshot of the caller's own device. One that is gone, or another device's, stays as it is: a push is never
-- refused for it. DEFINER: writers change no snapshot otherwise.
create function app.hold_own(vault bytea, session bigint) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  me app.caller := app.identify();
begin
  if me.status <> 'active' or me.role not in ('owner', 'maintainer', 'writer') then
    perform app.deny(me, 'hold snapshots');
  end if;
  update app.snapshot n set hold = true
    where n.vault = hold_own.vault and n.tenant = me.tenant and n.s = session and n.device = me.device
      and n.state <> 'purged' and not n.hold;
end $$;

-- The commit as it was, and the hold with it: both or neither. Snapshots before the vault, as everywhere; the version
-- moves with the commit.
alter function api.op_session_commit(jsonb) set schema app;
alter function app.op_session_commit(jsonb) rename to commit_session;

create function api.op_session_commit(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  home   app.vault := app.vault_arg(args);
  wanted bigint := case when args ->> 'hold' is not null then app.int_arg(args, 'hold', 1, 4294967295) end;
begin
  if wanted is not null then
    perform app.hold_own(home.id, wanted);
  end if;
  return app.commit_session(args);
end $$;

-- Bytes of packs that were retired and can still be brought back: a session's are shared out evenly.
create function app.retired_bytes(v app.vault) returns bigint
language sql stable set search_path = '' as $$
  select coalesce(sum(x.bytes::numeric * app.size_of(x.retired - x.deleted) / x.packs), 0)::bigint
  from app.session x where x.vault = v.id and x.packs > 0 and x.retired <> '{}'
$$;

-- Whether that is more than the share at which it is an alarm.
create function app.is_mass(v app.vault, retired bigint) returns boolean
language sql stable set search_path = '' as $$
  select retired > v.used_bytes * d.alarm_share::numeric from app.deployment d
$$;

create index audit_alarms on app.audit (tenant, number) where result = 'alarm';

-- As before, and the alarm for as long as it stands: until what was retired is brought back or gone. Owners see who did it.
create or replace function api.op_usage(args jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'used', t.used_bytes, 'reserved', t.reserved_bytes, 'quota', t.quota_bytes, 'region', t.region,
    'devices', (select count(*) from app.device d where d.tenant = t.id and d.status = 'active'),
    'snapshots', (select count(*) from app.snapshot n where n.tenant = t.id and n.state = 'live'),
    'alarm', (
      select jsonb_build_object('retired', of_all.retired, 'of', of_all.used, 'at', app.seconds(a.at),
                                'device', encode(a.actor_device, 'hex'))
      from (select sum(r.bytes)::bigint as retired, sum(v.used_bytes)::bigint as used
            from app.vault v, lateral (select app.retired_bytes(v) as bytes) r where app.is_mass(v, r.bytes)) of_all
      cross join lateral (
        select x.at, x.actor_device from app.audit x
        where x.tenant = t.id and x.result = 'alarm' order by x.number desc limit 1) a
      where of_all.retired > 0),
    'now', app.seconds(now())))
  from app.tenant t
$$;

-- Puts off what is due of a session: the store keeps some of it locked until then (seconds since 1970), ten years at most.
-- All of it, in its order: where a root stays its packs do. DEFINER: all accounts.
create function api.sweep_later(vault text, session bigint, until bigint) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  goal timestamptz := least(to_timestamp(until), clock_timestamp() + interval '10 years');
begin
  with put_off as (
    delete from app.doomed d
      where d.vault = decode(sweep_later.vault, 'hex') and d.s = session and d.due_at <= clock_timestamp() and d.due_at < goal
      returning *)
  insert into app.doomed (tenant, vault, s, due_at, root, packs)
    select p.tenant, p.vault, p.s, goal + (p.due_at - min(p.due_at) over ()), p.root, p.packs from put_off p
    on conflict on constraint doomed_pkey do update
      set root = app.doomed.root or excluded.root, packs = app.doomed.packs + excluded.packs;
end $$;

grant execute on function api.sweep_later to backupengine_front;
grant execute on function app.hold_own, app.retired_bytes, app.is_mass, api.op_session_commit, api.op_usage to authenticated;

reset role;
