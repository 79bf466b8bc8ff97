-- Devices: enrolment, approval, names, revocation.

set role backupengine_owner;

-- Makes the key that signed a device of the user. The first of an account makes the account. DEFINER: before it there
-- is no tenant and no device that a policy could know.
create function app.enroll(args jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  claims jsonb := auth.jwt();
  asker  uuid := (claims ->> 'sub')::uuid;
  public bytea;
  named  bytea;
  vouched bytea;
  here   app.deployment;
  home   uuid;
  known  app.device;
begin
  perform app.need_login();
  perform app.need_fresh_totp();
  public := app.bytes_arg(args, 'sign_public', 32, 32);
  named := app.id_arg(args, 'device', 16);
  if args ->> 'seal_signature' is not null then
    vouched := app.bytes_arg(args, 'seal_signature', 64, 64);
  end if;
  if encode(sha256(public), 'hex') is distinct from claims ->> 'device_key' then
    perform app.refuse('bad_signature', 'The enrolled key is not the one that signed.');
  end if;
  select * into here from app.deployment;
  if here.region is null then
    perform app.refuse('unavailable', 'This server is not set up yet.');
  end if;
  if args ->> 'region' is distinct from here.region then
    perform app.refuse('region_mismatch', format('This is region %s.', here.region),
                       'Use the address of the region the account is to live in.');
  end if;
  -- One enrolment of a user at a time: two first ones would make two accounts.
  perform pg_advisory_xact_lock(hashtextextended(asker::text, 0));
  select * into known from app.device d where d.key_hash = sha256(public);
  if known.id is null then
    select m.tenant into home from app.member m where m.user_id = asker;
    if home is null then
      insert into app.tenant (region, quota_bytes) values (here.region, here.quota_bytes) returning id into home;
      insert into app.member values (home, asker, 'owner');
      known.status := 'active';
      known.role := 'owner';
    else
      known.status := 'pending';
      if (select count(*) from app.device d where d.tenant = home and d.status = 'pending') >= 32 then
        perform app.refuse('too_many_requests', 'Too many devices of this account wait for approval.',
                           'Approve or revoke some of them.');
      end if;
    end if;
    insert into app.device (tenant, id, user_id, sign_public, seal_public, seal_signature, status, role, last_seen, login)
      values (home, named, asker, public, app.bytes_arg(args, 'seal_public', 32, 32), vouched, known.status, known.role,
              now(), (claims ->> 'session_id')::uuid)
      returning * into known;
  elsif known.user_id <> asker or known.id <> named or known.seal_public <> app.bytes_arg(args, 'seal_public', 32, 32) then
    perform app.refuse('already_exists', 'This key is enrolled already, as another device.',
                       'Make new keys for this device.');
  elsif known.status = 'revoked' then
    perform app.refuse('device_revoked', 'This device was revoked.', 'Enrol it anew with new keys.');
  elsif vouched is not null and known.seal_signature is null then
    update app.device d set seal_signature = vouched where d.tenant = known.tenant and d.id = known.id;
  end if;
  return jsonb_build_object('device', encode(known.id, 'hex'), 'status', known.status, 'role', known.role,
                            'region', here.region);
end $$;

create function api.op_device_enroll(args jsonb) returns jsonb language sql volatile set search_path = '' as $$
  select app.enroll(args)
$$;

create function api.op_device_list(args jsonb) returns jsonb language plpgsql stable set search_path = '' as $$
declare
  me app.caller := app.identify();
begin
  return jsonb_build_object('now', app.seconds(now()), 'devices', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'device', encode(d.id, 'hex'), 'sign_public', app.base64(d.sign_public), 'seal_public', app.base64(d.seal_public),
      'seal_signature', app.base64(d.seal_signature), 'status', d.status, 'role', d.role, 'name_sealed', app.base64(d.name_sealed),
      'certificate', app.base64(held.certificate), 'created', app.seconds(d.created_at),
      'last_seen', app.seconds(d.last_seen), 'current', d.id = me.device) order by d.created_at, d.id), '[]')
    from app.device d
    left join lateral (select a.certificate from app.access a join app.vault v on v.id = a.vault
                       where a.tenant = d.tenant and a.device = d.id order by v.created_at, v.id limit 1) held on true));
end $$;

-- A device by its id, of the caller's tenant.
create function app.device_arg(args jsonb) returns app.device language plpgsql stable set search_path = '' as $$
declare
  wanted bytea := app.id_arg(args, 'device', 16);
  found_device app.device;
begin
  select * into found_device from app.device d where d.id = wanted;
  if found_device.id is null then
    perform app.refuse('not_found', 'This account has no such device.');
  end if;
  return found_device;
end $$;

-- Makes a device active in a role. By an owner with a fresh one-time code, or by the device itself where the front
-- verified the vault's root key over exactly these keys and this role. DEFINER: a pending device writes its own row.
create function app.approve(args jsonb) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  me          app.caller := app.identify();
  proven      text := auth.jwt() ->> 'root_key';
  by_root     boolean;
  wanted      bytea;
  cert        bytea;
  sealed      bytea;
  new_role    text;
  target      app.device;
  home        app.vault;
begin
  by_root := proven is not null and args ->> 'device' = encode(me.device, 'hex');
  if not by_root then
    if me.role is distinct from 'owner' then
      perform app.deny(me, 'approve devices');
    end if;
    perform app.need_fresh_totp();
  end if;
  wanted := app.id_arg(args, 'vault', 16);
  new_role := app.word_arg(args, 'role', '{owner,maintainer,writer,reader}');
  cert := app.bytes_arg(args, 'certificate', 1, 4096);
  if args ->> 'envelope' is not null then
    sealed := app.bytes_arg(args, 'envelope', 1, 65536);
  end if;
  select * into home from app.vault v where v.id = wanted and v.tenant = me.tenant;
  if home.id is null then
    perform app.refuse('not_found', 'This account has no such vault.');
  end if;
  if by_root and proven <> encode(home.root_public, 'hex') then
    perform app.deny(me, 'approve itself with another vault''s key');
  end if;
  select * into target from app.device d
    where d.tenant = me.tenant and d.id = app.id_arg(args, 'device', 16) for update;
  if target.id is null then
    perform app.refuse('not_found', 'This account has no such device.');
  end if;
  if target.status = 'revoked' then
    perform app.refuse('device_revoked', 'The device to approve was revoked.', 'Enrol it anew with new keys.');
  end if;
  update app.device d set status = 'active', role = new_role where d.tenant = me.tenant and d.id = target.id;
  insert into app.access as a (tenant, vault, device, certificate, envelope)
    values (me.tenant, home.id, target.id, cert, sealed)
    on conflict on constraint access_pkey do update
      set certificate = excluded.certificate, envelope = coalesce(excluded.envelope, a.envelope), created_at = now();
end $$;

create function api.op_device_approve(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
begin
  perform app.approve(args);
  return jsonb_build_object('now', app.seconds(now()));
end $$;

create function api.op_device_rename(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me     app.caller := app.identify();
  name   bytea;
  target app.device;
begin
  if me.role is distinct from 'owner' and args ->> 'device' is distinct from encode(me.device, 'hex') then
    perform app.deny(me, 'rename other devices');
  end if;
  name := app.bytes_arg(args, 'name_sealed', 1, 512);
  target := app.device_arg(args);
  update app.device d set name_sealed = name where d.tenant = me.tenant and d.id = target.id;
  return jsonb_build_object('now', app.seconds(now()));
end $$;

-- Ends a device, its login, and what it was writing. DEFINER: it ends another's sessions and a row of schema auth.
create function app.end_device(args jsonb) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  me     app.caller := app.identify();
  target app.device;
  one    app.session;
begin
  if args ->> 'device' is distinct from encode(me.device, 'hex') then
    if me.role is distinct from 'owner' then
      perform app.deny(me, 'revoke other devices');
    end if;
    perform app.need_fresh_totp();
  end if;
  -- Sessions before devices, as a push takes its locks.
  for one in select * from app.session s
             where s.tenant = me.tenant and s.device = app.id_arg(args, 'device', 16) and s.state = 'open'
             order by s.vault, s.s for update loop
    perform app.drop_session(one);
  end loop;
  select * into target from app.device d
    where d.tenant = me.tenant and d.id = app.id_arg(args, 'device', 16) for update;
  if target.id is null then
    perform app.refuse('not_found', 'This account has no such device.');
  end if;
  update app.device d set status = 'revoked', revoked_at = now()
    where d.tenant = me.tenant and d.id = target.id and d.status <> 'revoked';
  begin
    -- A login that another device goes on with is that device's.
    delete from auth.sessions s where s.id = target.login and s.user_id = target.user_id
      and not exists (select from app.device d where d.tenant = me.tenant and d.login = target.login
                      and d.status <> 'revoked');
  exception when insufficient_privilege then
    -- Not ours to delete here; the revocation alone ends the device.
    null;
  end;
end $$;

create function api.op_device_revoke(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
begin
  perform app.end_device(args);
  return jsonb_build_object('now', app.seconds(now()));
end $$;

grant execute on function app.enroll, app.device_arg, app.approve, app.end_device to authenticated;
grant execute on function api.op_device_enroll, api.op_device_list, api.op_device_approve, api.op_device_rename,
  api.op_device_revoke to authenticated;

reset role;
