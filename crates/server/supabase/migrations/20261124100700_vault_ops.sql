-- Vaults, key envelopes, the list of snapshots.

set role backupengine_owner;

create function app.vault_record(v app.vault, t app.tenant) returns jsonb language sql stable
return jsonb_build_object('vault', encode(v.id, 'hex'), 'root_public', app.base64(v.root_public),
  'created', app.seconds(v.created_at), 'region', t.region, 'version', v.snap_version, 'gc_epoch', v.gc_epoch,
  'used', v.used_bytes, 'quota', t.quota_bytes);

create function app.snapshot_record(n app.snapshot) returns jsonb language sql stable
return jsonb_build_object('session', n.s, 'id', encode(n.id, 'hex'), 'device', encode(n.device, 'hex'),
  'created', case when n.created_secs is null then null
                  else jsonb_build_object('secs', n.created_secs, 'nanos', n.created_nanos) end,
  'committed', app.seconds(n.committed_at), 'root_size', n.root_size, 'head_len', n.head_len,
  'label', app.base64(n.label), 'state', n.state, 'hold', n.hold, 'purge_after', app.seconds(n.purge_after));

-- Newest first. The list is of live snapshots, or of those on their way out.
create function app.snapshot_page(home app.vault, before bigint, most integer, trashed boolean) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  page jsonb;
begin
  select coalesce(jsonb_agg(app.snapshot_record(n) order by n.s desc), '[]') into page
    from (select * from app.snapshot n
          where n.vault = home.id and n.s < before
            and (case when trashed then n.state in ('trashed', 'pinned') else n.state = 'live' end)
          order by n.s desc limit most + 1) n;
  return jsonb_build_object('version', home.snap_version,
    'snapshots', case when jsonb_array_length(page) > most then page - most else page end,
    'more', jsonb_array_length(page) > most);
end $$;

create function api.op_vault_create(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me     app.caller := app.identify();
  wanted bytea := app.id_arg(args, 'vault', 16);
  root   bytea := app.bytes_arg(args, 'root_public', 32, 32);
  cert   bytea := app.bytes_arg(args, 'certificate', 1, 4096);
  name   bytea;
  home   app.vault;
begin
  if args ->> 'name_sealed' is not null then
    name := app.bytes_arg(args, 'name_sealed', 1, 512);
  end if;
  -- An id is taken once in the whole deployment: it is where the bytes lie.
  insert into app.vault as v (id, tenant, bucket, root_public)
    select wanted, me.tenant, d.bucket, root from app.deployment d
    on conflict do nothing;
  if not found then
    perform app.refuse('already_exists', 'A vault of this id exists already.', 'Make a new id.');
  end if;
  insert into app.access (tenant, vault, device, certificate) values (me.tenant, wanted, me.device, cert);
  if name is not null then
    update app.device d set name_sealed = name where d.tenant = me.tenant and d.id = me.device;
  end if;
  home := app.vault_arg(args);
  return (select app.vault_record(home, t) from app.tenant t where t.id = me.tenant);
end $$;

-- With the envelopes of the recovery code: a device that waits and has the code approves itself with what is in them.
create function api.op_vault_list(args jsonb) returns jsonb language plpgsql stable set search_path = '' as $$
begin
  perform app.identify();
  return jsonb_build_object('now', app.seconds(now()), 'vaults', (
    select coalesce(jsonb_agg(app.vault_record(v, t) || jsonb_build_object('recovery', (
      select coalesce(jsonb_agg(app.base64(e.sealed) order by e.created_at desc), '[]')
      from (select * from app.envelope e where e.vault = v.id and e.kind = 'recovery'
            order by e.created_at desc limit 8) e)) order by v.created_at, v.id), '[]')
    from app.vault v join app.tenant t on t.id = v.tenant));
end $$;

create function api.op_envelope_put(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me     app.caller := app.identify();
  wanted bytea := app.id_arg(args, 'vault', 16);
  home   app.vault;
  env_id bytea;
  env_epoch bigint;
  env_kind text;
  bytes  bytea;
  kept   app.envelope;
begin
  -- The first envelopes come with the vault. Whoever adds one later changes how it can be opened.
  if exists (select from app.envelope e where e.vault = wanted and e.created_at < now() - interval '10 minutes') then
    perform app.need_fresh_totp();
  end if;
  env_id := app.id_arg(args, 'id', 8);
  env_epoch := app.int_arg(args, 'epoch', 0, 4294967295);
  env_kind := app.word_arg(args, 'kind', '{passphrase,recovery}');
  bytes := app.bytes_arg(args, 'sealed', 1, 65536);
  if app.bytes_arg(args, 'sha256', 32, 32) <> sha256(bytes) then
    perform app.bad('sha256');
  end if;
  home := app.vault_arg(args);
  insert into app.envelope (tenant, vault, id, epoch, kind, sealed)
    values (me.tenant, home.id, env_id, env_epoch, env_kind, bytes)
    on conflict do nothing;
  if not found then
    select * into kept from app.envelope e where e.vault = home.id and e.id = env_id;
    -- The same again is signed again: the copy in the bucket may still be missing.
    if (kept.epoch, kept.kind, kept.sealed) is distinct from (env_epoch, env_kind, bytes) then
      perform app.refuse('already_exists', 'An envelope of this id exists already.', 'Make a new id.');
    end if;
  end if;
  return jsonb_build_object('presign', jsonb_build_array(jsonb_build_object(
    'at', '', 'method', 'PUT', 'bucket', home.bucket, 'prefix', home.prefix, 'key', 'k/' || encode(env_id, 'hex'),
    'length', length(bytes), 'sha256', app.base64(sha256(bytes)), 'md5', app.base64(decode(md5(bytes), 'hex')))));
end $$;

-- Which envelopes there are from now on, and what devices are given, all at once. Without commit: whether it may be, and
-- grants for the copies of the new ones, which lie in the bucket before anything counts. DEFINER: envelopes are taken away
-- here and nowhere else, and rows of other devices are written.
create function app.change_envelopes(args jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  me       app.caller := app.identify();
  wanted   bytea;
  added    jsonb;
  given    jsonb;
  home     app.vault;
  expected bytea[];
  keep     bytea[];
  after_   bytea[];
  found_   bytea[];
  one      jsonb;
  bytes    bytea;
  target   app.device;
begin
  if me.role is distinct from 'owner' then
    perform app.deny(me, 'change key envelopes');
  end if;
  wanted := app.id_arg(args, 'vault', 16);
  select * into home from app.vault v where v.id = wanted and v.tenant = me.tenant for no key update;
  if home.id is null then
    perform app.refuse('not_found', 'This account has no such vault.');
  end if;
  -- The first envelopes come with the vault. Whoever changes them later changes how it can be opened.
  if home.created_at < now() - interval '10 minutes' then
    perform app.need_fresh_totp();
  end if;
  if jsonb_typeof(args -> 'commit') is distinct from 'boolean' then
    perform app.bad('commit');
  end if;
  added := app.list_arg(args, 'add', 64);
  given := app.list_arg(args, 'devices', 1000);
  expected := app.ids_arg(args, 'expected', 8, 64);
  keep := app.ids_arg(args, 'keep', 8, 64);
  for one in select value from jsonb_array_elements(added) loop
    perform app.int_arg(one, 'epoch', 0, 4294967295), app.word_arg(one, 'kind', '{passphrase,recovery}');
    bytes := app.bytes_arg(one, 'sealed', 1, 65536);
    if app.bytes_arg(one, 'sha256', 32, 32) <> sha256(bytes) then
      perform app.bad('sha256');
    end if;
    after_ := after_ || app.id_arg(one, 'id', 8);
  end loop;
  select array_agg(distinct id order by id) into after_ from unnest(keep || coalesce(after_, '{}')) as id;
  if coalesce(cardinality(after_), 0) not between 1 and 64 or not keep <@ expected then
    perform app.bad('keep');
  end if;
  select coalesce(array_agg(e.id order by e.id), '{}') into found_ from app.envelope e where e.vault = home.id;
  -- The same again, whose answer was lost, is no other change.
  if found_ <> after_ and found_ <> expected then
    perform app.refuse('envelopes_moved', 'The key envelopes were changed meanwhile, by somebody else.',
                       'Look at them, and begin again.');
  end if;
  for one in select value from jsonb_array_elements(given) loop
    perform app.bytes_arg(one, 'sealed', 1, 65536);
    -- Not locked: one that is revoked this moment may as well have been revoked after it.
    select * into target from app.device d where d.tenant = me.tenant and d.id = app.id_arg(one, 'device', 16);
    if target.id is null then
      perform app.refuse('not_found', 'This account has no such device.');
    elsif target.status = 'revoked' then
      perform app.refuse('device_revoked', 'One of the devices was revoked.', 'Begin again, without it.');
    end if;
    if (args ->> 'commit')::boolean then
      update app.access a set envelope = app.bytes_arg(one, 'sealed', 1, 65536)
        where a.tenant = me.tenant and a.vault = home.id and a.device = target.id;
      if not found then
        perform app.refuse('not_found', 'One of the devices has no certificate of this vault.');
      end if;
    end if;
  end loop;
  if (args ->> 'commit')::boolean then
    delete from app.envelope e where e.vault = home.id and e.tenant = me.tenant and not e.id = any (after_);
    insert into app.envelope (tenant, vault, id, epoch, kind, sealed)
      select me.tenant, home.id, decode(a ->> 'id', 'hex'), (a ->> 'epoch')::bigint, a ->> 'kind',
             decode(a ->> 'sealed', 'base64')
      from jsonb_array_elements(added) as a
      on conflict do nothing;
    return jsonb_build_object('now', app.seconds(now()), 'grants', '[]'::jsonb);
  end if;
  return (select jsonb_build_object(
      'now', app.seconds(now()),
      'grants', coalesce(jsonb_agg(null::jsonb), '[]'),
      'presign', coalesce(jsonb_agg(jsonb_build_object(
        'at', '/grants/' || (a.place - 1), 'method', 'PUT', 'bucket', home.bucket, 'prefix', home.prefix,
        'key', 'k/' || (a.value ->> 'id'), 'length', length(decode(a.value ->> 'sealed', 'base64')),
        'sha256', a.value ->> 'sha256',
        'md5', app.base64(decode(md5(decode(a.value ->> 'sealed', 'base64')), 'hex'))) order by a.place), '[]'))
    from jsonb_array_elements(added) with ordinality as a(value, place));
end $$;

create function api.op_envelope_change(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
begin
  return app.change_envelopes(args);
end $$;

create function api.op_version(args jsonb) returns jsonb language plpgsql stable set search_path = '' as $$
declare
  home app.vault := app.vault_arg(args);
begin
  return jsonb_build_object('version', home.snap_version, 'gc_epoch', home.gc_epoch, 'now', app.seconds(now()));
end $$;

create function api.op_snapshot_list(args jsonb) returns jsonb language plpgsql stable set search_path = '' as $$
declare
  before bigint := case when args ->> 'before' is null then 4294967296 else app.int_arg(args, 'before', 0, 4294967295) end;
  most   integer := app.int_arg(args, 'limit', 1, 1000);
begin
  if jsonb_typeof(args -> 'trashed') is distinct from 'boolean' then
    perform app.bad('trashed');
  end if;
  return app.snapshot_page(app.vault_arg(args), before, most, (args ->> 'trashed')::boolean);
end $$;

grant execute on function app.vault_record, app.snapshot_record, app.snapshot_page, app.change_envelopes
  to authenticated;
grant execute on function api.op_vault_create, api.op_vault_list, api.op_envelope_put, api.op_envelope_change, api.op_version,
  api.op_snapshot_list to authenticated;

reset role;
