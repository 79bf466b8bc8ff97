-- Giving space back (format.md 8.4, 8.5). The server has no keys: a maintainer's client says what is dead, the server
-- guards when.
--
-- Two counters are compared and set: snap_version and gc_epoch. A retired pack stays readable and can be brought back;
-- it is purged when every session that was opened before knows of it or has ended, and 72 hours have passed, by the
-- server's clock. A purged pack gets no grant any more; its object is handed to the sweep and goes after GRANT_GRACE,
-- when the last grant for it has died: no record of single grants is needed. Order: snapshot, root, packs.
-- Tested in supabase/tests/collect.sql.

set role backupengine_owner;

-- Objects that may be deleted from the bucket, once due: only the sweep reads it, with a key of its own.
create table app.doomed (
  tenant uuid not null,
  vault  bytea not null,
  s      bigint not null,
  due_at timestamptz not null,
  root   boolean not null default false,
  packs  int8multirange not null default '{}',
  primary key (vault, s, due_at),
  foreign key (vault, tenant) references app.vault (id, tenant)
);
create index doomed_due on app.doomed (due_at);
create index doomed_of_tenant on app.doomed (tenant);
alter table app.doomed enable row level security;
create policy aal2 on app.doomed as restrictive for all to public
  using ((select auth.jwt() ->> 'aal') = 'aal2') with check ((select auth.jwt() ->> 'aal') = 'aal2');
create policy live_login on app.doomed as restrictive for all to public
  using ((select app.session_live())) with check ((select app.session_live()));
create policy known_device on app.doomed as restrictive for all to public
  using ((select app.my_device()) is not null) with check ((select app.my_device()) is not null);

-- When a pack was moved, in which epoch, and whether its old object was handed to the sweep.
alter table app.moved add column moved_at timestamptz not null default now();
alter table app.moved add column epoch bigint not null default 0;
alter table app.moved add column given_up boolean not null default false;
grant update (moved_at, epoch, given_up) on app.moved to authenticated;

-- Retiring more than this share of a vault is written down as an alarm.
alter table app.deployment add column alarm_share real not null default 0.25 check (alarm_share between 0 and 1);

create function app.grace() returns interval language sql immutable return interval '72 hours';

-- A grant lives 15 minutes; five more for clocks and for calls under way.
create function app.grant_grace() returns interval language sql immutable return interval '20 minutes';

create function app.size_of(value int8multirange) returns bigint language sql immutable set search_path = '' as $$
  select coalesce(sum(upper(r) - lower(r)), 0)::bigint from unnest(value) as r
$$;

-- Runs of packs, by session.
create function app.packs_arg(args jsonb) returns table (s bigint, packs int8multirange)
language plpgsql stable set search_path = '' as $$
declare
  one   jsonb;
  first bigint;
  many  bigint;
  nums  bigint[] := '{}';
  runs  int8range[] := '{}';
begin
  for one in select value from jsonb_array_elements(app.list_arg(args, 'packs', 4096)) loop
    first := app.int_arg(one, 'from', 0, 4294967294);
    many := app.int_arg(one, 'count', 1, 4294967295);
    if first + many > 4294967295 then
      perform app.bad('count');
    end if;
    nums := nums || app.int_arg(one, 'session', 1, 4294967295);
    runs := runs || int8range(first, first + many);
  end loop;
  return query select n, range_agg(r) from unnest(nums, runs) as given(n, r) group by n order by n;
end $$;

-- Locks the sessions an operation names, in their order; each must have ended in a commit and hold the packs named.
create function app.need_packs(v app.vault, wanted bigint, packs int8multirange) returns app.session
language plpgsql volatile set search_path = '' as $$
declare
  found_ app.session;
begin
  select * into found_ from app.session x where x.vault = v.id and x.s = wanted for update;
  if found_.s is null then
    perform app.refuse('unknown_session', format('Session %s is not in this vault.', wanted));
  end if;
  if found_.state <> 'committed' or not packs <@ int8multirange(int8range(0, found_.packs)) then
    perform app.refuse('wrong_pack', format('Session %s has no such packs, or was not committed.', wanted));
  end if;
  return found_;
end $$;

create function app.counters(v app.vault) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('version', x.snap_version, 'gc_epoch', x.gc_epoch, 'now', app.seconds(now()))
  from app.vault x where x.id = v.id
$$;

create function app.need_counters(v app.vault, version bigint, epoch bigint) returns void
language plpgsql stable set search_path = '' as $$
begin
  if v.gc_epoch <> epoch or v.snap_version <> version then
    perform app.refuse('counters_moved', 'The list of snapshots or of retired packs has moved on.',
                       'Begin the collection again.');
  end if;
end $$;

-- Packs of a session that lie elsewhere and whose old objects are gone.
create function app.given_up(vault bytea, session bigint) returns int8multirange
language sql stable set search_path = '' as $$
  select coalesce(range_agg(int8range(m.number, m.number + 1)), '{}')
  from app.moved m where m.vault = given_up.vault and m.s = session and m.given_up
$$;

-- Hands objects to the sweep, and takes their bytes off what the account uses. Nobody may write the table itself.
-- Bytes of single packs are not known: a session's are shared out evenly, and add up when its last pack goes. DEFINER.
create function app.give_up(vault bytea, session bigint, packs int8multirange, root boolean) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  me     app.caller := app.identify();
  x      app.session;
  shot   app.snapshot;
  due    timestamptz := clock_timestamp() + app.grant_grace();
  gone   bigint;
  free   bigint := 0;
begin
  select * into x from app.session y where y.vault = give_up.vault and y.s = session and y.tenant = me.tenant for update;
  if x.s is null or me.status <> 'active' or me.role not in ('owner', 'maintainer') then
    perform app.deny(me, 'give up objects');
  end if;
  select * into shot from app.snapshot n where n.vault = x.vault and n.s = x.s;
  if root then
    -- What an owner can still bring back keeps its root.
    if shot.state is distinct from 'purged' then
      perform app.deny(me, 'give up the root of a snapshot that is there');
    end if;
    free := shot.root_size;
  end if;
  -- Only what was marked before.
  if not packs <@ (x.deleted + app.given_up(x.vault, x.s)) then
    perform app.deny(me, 'give up packs that are there');
  end if;
  if x.packs > 0 then
    gone := app.size_of(x.deleted + app.given_up(x.vault, x.s));
    free := free + (x.bytes - coalesce(shot.root_size, 0)) * gone / x.packs
                 - (x.bytes - coalesce(shot.root_size, 0)) * (gone - app.size_of(packs)) / x.packs;
  end if;
  insert into app.doomed (tenant, vault, s, due_at, root, packs)
    values (x.tenant, x.vault, x.s, due, give_up.root, give_up.packs);
  update app.vault v set used_bytes = greatest(used_bytes - free, 0) where v.id = x.vault;
  update app.tenant t set used_bytes = greatest(used_bytes - free, 0) where t.id = x.tenant;
end $$;

-- Where a collection begins. Snapshots whose time in the trash is over end here: they are purged, or pinned while
-- somebody has them mounted (a mount that slept keeps its lease for as long as packs have grace).
create function api.op_gc_begin(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  v     app.vault := app.vault_arg(args);
  one   app.snapshot;
  goal  text;
  moved boolean := false;
begin
  perform app.expire_sessions(v.id);
  -- Sessions before the vault, as everywhere.
  perform from app.session x
    where x.vault = v.id and exists (select from app.snapshot n where n.vault = x.vault and n.s = x.s
      and n.state in ('trashed', 'pinned') and not n.hold and n.purge_after <= now())
    order by x.s for update;
  for one in
    select * from app.snapshot n
    where n.vault = v.id and n.state in ('trashed', 'pinned') and not n.hold and n.purge_after <= now()
    order by n.s for update
  loop
    goal := case when exists (select from app.lease l where l.vault = v.id and l.expires_at > now() - app.grace()
                                and one.s = any (l.snapshots)) then 'pinned' else 'purged' end;
    continue when goal = one.state;
    update app.snapshot n set state = goal where n.vault = v.id and n.s = one.s;
    moved := true;
    if goal = 'purged' then
      perform app.give_up(v.id, one.s, '{}', true);
    end if;
  end loop;
  if moved then
    perform app.list_moved(v);
  end if;
  return app.counters(v) || jsonb_build_object('snapshots', (
    select coalesce(jsonb_agg(app.snapshot_record(n) order by n.s desc), '[]')
    from app.snapshot n where n.vault = v.id and n.state <> 'purged'));
end $$;

-- Writes an alarm down where more than the set share of the vault is retired. It counts what all calls have retired
-- and nobody has brought back, so that many small ones show as well. DEFINER.
create function app.watch_retired(vault bytea) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  me    app.caller := app.identify();
  v     app.vault;
  share numeric;
begin
  select * into v from app.vault x where x.id = watch_retired.vault and x.tenant = me.tenant;
  select sum(x.bytes::numeric * app.size_of(x.retired - x.deleted) / x.packs) into share
    from app.session x where x.vault = v.id and x.packs > 0 and x.retired <> '{}';
  if share > v.used_bytes * (select d.alarm_share from app.deployment d)::numeric then
    perform app.append_audit(me.tenant, me.user_id, me.device, me.login, 'gc-retire',
                             sha256(v.id || convert_to(v.gc_epoch::text, 'UTF8')), 'alarm');
  end if;
end $$;

create function api.op_gc_retire(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  version bigint := app.int_arg(args, 'version', 0, 9223372036854775807);
  epoch   bigint := app.int_arg(args, 'gc_epoch', 0, 9223372036854775807);
  v       app.vault;
  one     record;
  x       app.session;
  fresh   int8multirange;
  log     jsonb := '[]';
begin
  perform app.packs_arg(args);
  v := app.vault_arg(args);
  -- First, so that whoever is late is told that; again under the lock.
  perform app.need_counters(v, version, epoch);
  for one in select * from app.packs_arg(args) loop
    x := app.need_packs(v, one.s, one.packs);
    -- A pack that others were moved into goes when none of those is left.
    if exists (select from app.moved m join app.session o on o.vault = m.vault and o.s = m.s
               where m.vault = v.id and m.to_s = one.s and one.packs @> m.to_number and not o.deleted @> m.number) then
      perform app.refuse('in_use', format('Packs of session %s hold what was moved there.', one.s));
    end if;
    fresh := one.packs - x.retired - x.deleted;
    continue when fresh = '{}';
    update app.session y set retired = y.retired + fresh where y.vault = v.id and y.s = one.s;
    log := log || app.runs(fresh, one.s);
  end loop;
  select * into v from app.vault y where y.id = v.id for update;
  perform app.need_counters(v, version, epoch);
  if log <> '[]' then
    insert into app.gc_log (tenant, vault, epoch, retired) values (v.tenant, v.id, v.gc_epoch + 1, log);
    update app.vault y set gc_epoch = y.gc_epoch + 1 where y.id = v.id;
    perform app.watch_retired(v.id);
  end if;
  return app.counters(v);
end $$;

-- Brings packs of any device's session back: retired ones, and moved ones whose old object is there, since the copy may
-- lack what the caller refers to. A writer may, though it may not touch other sessions otherwise. DEFINER.
create function app.revive(vault bytea, session bigint, packs int8multirange) returns int8multirange
language plpgsql volatile security definer set search_path = '' as $$
declare
  me    app.caller := app.identify();
  x     app.session;
  again int8multirange;
begin
  if me.status <> 'active' or me.role not in ('owner', 'maintainer', 'writer') then
    perform app.deny(me, 'bring packs back');
  end if;
  select * into x from app.session y
    where y.vault = revive.vault and y.s = session and y.tenant = me.tenant for update;
  if x.s is null then
    perform app.refuse('unknown_session', format('Session %s is not in this vault.', session));
  end if;
  if x.state <> 'committed' or not packs <@ int8multirange(int8range(0, x.packs)) then
    perform app.refuse('wrong_pack', format('Session %s has no such packs, or was not committed.', session));
  end if;
  if packs && x.deleted then
    perform app.refuse('pack_gone', format('Some of these packs of session %s are gone.', session),
                       'List the sessions and refer to what is there.');
  end if;
  again := packs * x.retired;
  update app.session y set retired = y.retired - again where y.vault = x.vault and y.s = x.s;
  with back as (
    delete from app.moved m where m.vault = x.vault and m.s = x.s and packs @> m.number and not m.given_up returning m.number)
  select again + coalesce(range_agg(int8range(b.number, b.number + 1)), '{}') into again from back b;
  return again;
end $$;

create function api.op_gc_unretire(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  v     app.vault;
  one   record;
  log   jsonb := '[]';
begin
  perform app.packs_arg(args);
  v := app.vault_arg(args);
  for one in select * from app.packs_arg(args) loop
    log := log || app.runs(app.revive(v.id, one.s, one.packs), one.s);
  end loop;
  if log <> '[]' then
    update app.vault y set gc_epoch = y.gc_epoch + 1 where y.id = v.id returning * into v;
    insert into app.gc_log (tenant, vault, epoch, revived) values (v.tenant, v.id, v.gc_epoch, log);
  end if;
  return app.counters(v);
end $$;

-- Frames of pushed packs were copied into packs of a compaction or heal. Those are physical only: nothing refers to
-- them but this map, and moving again writes the entry anew, so there are no chains. Both counters are compared: a
-- snapshot that was committed meanwhile may need frames that were not copied. And an epoch begins: a push that is under
-- way may have taken one for stored.
create function api.op_gc_move(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  version bigint := app.int_arg(args, 'version', 0, 9223372036854775807);
  epoch bigint := app.int_arg(args, 'gc_epoch', 0, 9223372036854775807);
  list  jsonb := app.list_arg(args, 'moves', 4096);
  v     app.vault;
  one   jsonb;
  run   record;
  x     app.session;
begin
  for one in select value from jsonb_array_elements(list) loop
    perform app.int_arg(one, 'from_session', 1, 4294967295), app.int_arg(one, 'from_number', 0, 4294967294),
            app.int_arg(one, 'to_session', 1, 4294967295), app.int_arg(one, 'to_number', 0, 4294967294);
  end loop;
  v := app.vault_arg(args);
  perform app.need_counters(v, version, epoch);
  -- Sessions are locked in their order, as everywhere.
  for run in
    select side.s, range_agg(int8range(side.number, side.number + 1)) as packs, bool_or(side.target) as target,
           bool_or(not side.target) as source
    from jsonb_array_elements(list) as m,
      lateral (values ((m ->> 'from_session')::bigint, (m ->> 'from_number')::bigint, false),
                      ((m ->> 'to_session')::bigint, (m ->> 'to_number')::bigint, true)) as side(s, number, target)
    group by side.s order by side.s
  loop
    x := app.need_packs(v, run.s, run.packs);
    if run.source and x.kind <> 'push' or run.target and x.kind = 'push' then
      perform app.refuse('wrong_pack', 'Packs are moved from pushes to compactions and heals only.');
    end if;
    if run.packs && x.deleted or run.target and run.packs && x.retired then
      perform app.refuse('pack_gone', format('Some of these packs of session %s are gone or going.', run.s),
                         'Begin the collection again.');
    end if;
  end loop;
  select * into v from app.vault y where y.id = v.id for update;
  perform app.need_counters(v, version, epoch);
  -- What lies in its copy alone stays there while a push is open: it may need frames that a second copy lacks, and there is
  -- nothing to bring back. Under the lock, which opening a session takes as well.
  if exists (select from app.session o where o.vault = v.id and o.state = 'open' and o.kind = 'push')
     and exists (select from jsonb_array_elements(list) as m
                 join app.moved g on g.vault = v.id and g.s = (m ->> 'from_session')::bigint
                   and g.number = (m ->> 'from_number')::bigint and g.given_up) then
    perform app.refuse('in_use', 'Some of these packs lie in a copy alone, and a push is open that may need all of it.',
                       'Try again when it has ended.');
  end if;
  begin
    insert into app.moved as o (tenant, vault, s, number, to_s, to_number, epoch)
      select v.tenant, v.id, (m ->> 'from_session')::bigint, (m ->> 'from_number')::bigint,
             (m ->> 'to_session')::bigint, (m ->> 'to_number')::bigint, v.gc_epoch + 1
      from jsonb_array_elements(list) as m
      on conflict on constraint moved_pkey do update
        set to_s = excluded.to_s, to_number = excluded.to_number, moved_at = now(), epoch = excluded.epoch;
  exception when cardinality_violation then
    perform app.refuse('wrong_pack', 'A pack is moved to one place only.');
  end;
  if list <> '[]' then
    update app.vault y set gc_epoch = y.gc_epoch + 1 where y.id = v.id;
  end if;
  return app.counters(v);
end $$;

-- What of these packs may go now: retired ones, when every open session knows of it and their grace is over.
create function app.ripe(v app.vault, x app.session, packs int8multirange) returns int8multirange
language sql stable set search_path = '' as $$
  select packs * x.retired - x.deleted - coalesce((
    select range_agg(int8range((run ->> 'from')::bigint, (run ->> 'from')::bigint + (run ->> 'count')::bigint))
    from app.gc_log g, jsonb_array_elements(g.retired) as run
    where g.vault = v.id and (run ->> 'session')::bigint = x.s
      and (g.at > now() - app.grace()
           or g.epoch > (select min(o.acked_epoch) from app.session o where o.vault = v.id and o.state = 'open'))), '{}')
$$;

-- Deletes what may be deleted of the packs named, and says which objects those were. Old objects of packs that were moved
-- go by the same time; the packs stay, elsewhere.
create function api.op_gc_purge(args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  v      app.vault;
  one    record;
  x      app.session;
  gone   int8multirange;
  left_  int8multirange;
  before int8multirange;
  log    jsonb := '[]';
begin
  perform app.packs_arg(args);
  v := app.vault_arg(args);
  perform app.expire_sessions(v.id);
  -- Sessions before the vault, as everywhere.
  for one in select * from app.packs_arg(args) loop
    perform app.need_packs(v, one.s, one.packs);
  end loop;
  for one in select * from app.packs_arg(args) loop
    x := app.need_packs(v, one.s, one.packs);
    before := app.given_up(v.id, one.s);
    gone := app.ripe(v, x, one.packs);
    select coalesce(range_agg(int8range(m.number, m.number + 1)), '{}') into left_
      from app.moved m
      where m.vault = v.id and m.s = one.s and one.packs @> m.number and not x.deleted @> m.number
        and not m.given_up and m.moved_at <= now() - app.grace()
        and m.epoch <= coalesce((select min(o.acked_epoch) from app.session o where o.vault = v.id and o.state = 'open'), m.epoch);
    if gone + left_ <> '{}' then
      update app.session y set deleted = y.deleted + gone where y.vault = v.id and y.s = one.s;
      update app.moved m set given_up = true where m.vault = v.id and m.s = one.s and (left_ + gone) @> m.number;
      perform app.give_up(v.id, one.s, left_ + gone - before, false);
      log := log || app.runs(left_ + gone - before, one.s);
    end if;
  end loop;
  return jsonb_build_object('vault', encode(v.id, 'hex'), 'packs', log);
end $$;

grant execute on function app.grace, app.grant_grace, app.size_of, app.packs_arg, app.need_packs, app.counters,
  app.need_counters, app.given_up, app.give_up, app.watch_retired, app.revive, app.ripe,
  api.op_gc_begin, api.op_gc_retire, api.op_gc_unretire, api.op_gc_move, api.op_gc_purge to authenticated;

reset role;
