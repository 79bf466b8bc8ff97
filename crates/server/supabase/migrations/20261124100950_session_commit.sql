-- The commit: the only moment a snapshot begins to exist.

set role backupengine_owner;

-- Runs of packs, as the flat array of app.snapshot: session, first number, count; session, ...
create function app.runs_arg(args jsonb, field text, most integer) returns bigint[]
language plpgsql immutable set search_path = '' as $$
declare
  runs jsonb := app.list_arg(args, field, most);
  one  jsonb;
  flat bigint[] := '{}';
begin
  for one in select * from jsonb_array_elements(runs) loop
    flat := flat || app.int_arg(one, 'session', 1, 4294967295) || app.int_arg(one, 'from', 0, 4294967295)
                 || app.int_arg(one, 'count', 1, 4294967296 - app.int_arg(one, 'from', 0, 4294967295));
  end loop;
  return flat;
end $$;

-- That what is stored is what was announced and what the commit says: no snapshot begins on the client's word.
create function app.check_stored(stored jsonb, own app.session, packs bigint, bytes bigint, root_size bigint)
returns void language plpgsql stable set search_path = '' as $$
declare
  differ bigint;
  total  numeric;
begin
  -- A session that makes no snapshot has no root.
  if coalesce((stored ->> 'root')::bigint, 0) <> root_size
     or (own.kind = 'push' and not exists (
       select from app.announced a where a.tenant = own.tenant and a.vault = own.vault and a.s = own.s
         and a.kind = 'root' and a.length = root_size)) then
    perform app.refuse('root_not_stored', 'The root is not stored with the length the commit names.',
                       'Put the root again, then commit.');
  end if;
  select count(*) filter (where known.length is distinct from found.size or found.number >= packs),
         coalesce(sum(found.size), 0)
    into differ, total
    from (select (p -> 0)::bigint as number, (p -> 1)::bigint as size
          from jsonb_array_elements(coalesce(stored -> 'packs', '[]')) p
          -- Kept apart: a cast inside the join would come after the policies, and no index before them.
          offset 0) found
    left join lateral (
      select a.length from app.announced a
      where a.tenant = own.tenant and a.vault = own.vault and a.s = own.s and a.kind = 'pack' and a.number = found.number
      limit 1) known on true;
  if differ > 0 or total + root_size <> bytes then
    perform app.refuse('objects_differ', 'What is stored of this session is not what was announced or committed.',
                       'Put what is missing again, then commit.');
  end if;
end $$;

create function api.op_session_commit(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
<<it>>
declare
  me        app.caller := app.identify();
  asked     bytea := sha256(convert_to((args - 'stored' - 'gc_epoch')::text, 'UTF8'));
  id        bytea := app.id_arg(args, 'id', 8);
  device    bytea := app.id_arg(args, 'device', 16);
  root_size bigint := app.int_arg(args, 'root_size', 0, 268435456);
  head_len  bigint := app.int_arg(args, 'head_len', 0, 4294967295);
  label     bytea := app.bytes_arg(args, 'label', 0, 1048576);
  packs     bigint := app.int_arg(args, 'packs', 0, 4294967295);
  bytes     bigint := app.int_arg(args, 'bytes', 0, 9223372036854775807);
  meta      bigint[] := app.runs_arg(args, 'meta_packs', 64);
  secs      bigint := app.int_arg(args -> 'created', 'secs', -9223372036854775808, 9223372036854775807);
  nanos     bigint := app.int_arg(args -> 'created', 'nanos', 0, 999999999);
  home      app.vault := app.vault_arg(args);
  epoch     bigint := app.epoch_arg(args, home);
  own       app.session;
begin
  if device <> me.device then
    perform app.refuse('wrong_session', 'The snapshot names another device than the one that commits it.');
  end if;
  if length(label) > 1024 then
    perform app.refuse('label_too_long', 'The label is longer than 1024 bytes.', 'Use fewer or shorter tags.');
  end if;
  own := app.session_arg(args, me, home);
  -- The answer may have been lost: word for word the same is no error.
  if own.state = 'committed' and own.committed_by = asked then
    return app.vault_version(home.id);
  end if;
  perform app.need_open(own);
  if own.kind = 'push' and root_size = 0 then
    perform app.bad('root_size');
  end if;
  perform app.check_stored(args -> 'stored', own, packs, bytes, root_size);
  -- Locked from here on: the epoch that is compared is the one the snapshot begins under.
  select * into home from app.vault v where v.id = home.id for update;
  if coalesce(epoch, own.acked_epoch) <> home.gc_epoch then
    perform app.refuse('counters_moved', 'Packs were retired since this session last asked.',
                       'Take in what changed, then commit again.');
  end if;
  if own.kind = 'push' then
    insert into app.snapshot (tenant, vault, s, id, device, created_secs, created_nanos, root_size, head_len, label, meta_packs)
      values (me.tenant, home.id, own.s, it.id, me.device, secs, nanos, it.root_size,
              it.head_len, it.label, meta);
  end if;
  update app.session s
    set state = 'committed', packs = it.packs, bytes = it.bytes, reserved = 0,
        acked_epoch = home.gc_epoch, last_seen = now(), committed_by = asked
    where s.vault = home.id and s.s = own.s;
  update app.vault v
    set snap_version = v.snap_version + (own.kind = 'push')::integer, used_bytes = v.used_bytes + it.bytes
    where v.id = home.id;
  update app.tenant t
    set reserved_bytes = t.reserved_bytes - own.reserved, used_bytes = t.used_bytes + it.bytes
    where t.id = me.tenant;
  perform app.close_session(home.id, own.s);
  return app.vault_version(home.id);
end $$;

grant execute on function app.runs_arg, app.check_stored to authenticated;
grant execute on function api.op_session_commit to authenticated;

reset role;
