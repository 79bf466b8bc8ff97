-- api.call: the one way in, and the order of its checks: aal2, live login, known device, revoked, pending, nonce, role,
-- fresh one-time code; then the operation: arguments, existence, rules.
--
-- It is SECURITY INVOKER, because SET ROLE is an error inside a definer function: it takes the role authenticated for
-- the rest of the transaction, so that policies bind everything an operation does. The answer may carry words for the
-- front (presign, list), which it acts on and takes out.

set role backupengine_owner;

-- Settles who may go on, uses up the nonce, looks for an answer given before. Null where the operation is still to be
-- done. DEFINER.
create function app.enter(op text, args jsonb, out mutates boolean, out kept jsonb)
language plpgsql volatile security definer set search_path = '' as $$
declare
  claims jsonb := auth.jwt();
  rule   app.operation;
  me     app.caller;
  taken  bytea;
begin
  select * into rule from app.operation o where o.name = enter.op;
  if rule.name is null then
    perform app.refuse('no_such_operation', 'There is no such operation.');
  end if;
  mutates := rule.mutates;
  if op = 'device-enroll' then
    perform app.need_login();
  else
    me := app.identify();
    if me.status = 'pending' and not rule.pending_ok then
      perform app.deny(me, '');
    end if;
  end if;
  if mutates then
    if claims ->> 'nonce' is null or claims ->> 'device_key' is null then
      perform app.refuse('bad_signature', 'The call came without a signed nonce.');
    end if;
    if random() < 0.02 then
      delete from app.nonce where expires_at < now();
      delete from app.idem where expires_at < now();
      -- A mount that slept for less gets its lease back.
      delete from app.lease where expires_at < now() - interval '72 hours';
    end if;
    insert into app.nonce (key_hash, n, expires_at)
      values (decode(claims ->> 'device_key', 'hex'), decode(claims ->> 'nonce', 'hex'), now() + interval '10 minutes')
      on conflict do nothing returning n into taken;
    if taken is null then
      perform app.refuse('replayed', 'This signed call was made before.', 'Sign the call anew and repeat it.');
    end if;
  end if;
  if me.status = 'active' and not me.role = any (rule.roles) then
    perform app.deny(me, format('call %s', op));
  end if;
  if rule.fresh_totp then
    perform app.need_fresh_totp();
  end if;
  if me.device is null then
    return;
  end if;
  update app.device d set last_seen = now(), login = me.login
    where d.tenant = me.tenant and d.id = me.device
      and (d.last_seen is null or d.last_seen < now() - interval '1 minute' or d.login is distinct from me.login);
  if mutates and args ? 'idem' then
    kept := app.kept_answer(me, op, args);
  end if;
end $$;

-- The answer to the same word before.
create function app.kept_answer(me app.caller, op text, args jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  word text := args ->> 'idem';
  kept app.idem;
begin
  if length(coalesce(word, '')) not between 1 and 64 then
    perform app.bad('idem');
  end if;
  select * into kept from app.idem i
    where i.tenant = me.tenant and i.device = me.device and i.op = kept_answer.op and i.key = word
      and i.expires_at > now();
  if kept.digest <> sha256(convert_to(args::text, 'UTF8')) then
    perform app.refuse('bad_request', 'The word in idem was used for another call before.',
                       'Take a new word for each new call.');
  end if;
  return case when kept.answer ? 'now'
    then kept.answer || jsonb_build_object('now', app.seconds(now())) else kept.answer end;
end $$;

-- One more row of a tenant's chain.
create function app.append_audit(tenant uuid, actor uuid, device bytea, login uuid, op text, digest bytea, result text)
returns void language plpgsql volatile set search_path = '' as $$
declare
  head app.audit_head;
  at   timestamptz := now();
  link bytea;
begin
  tenant := coalesce(tenant, '00000000-0000-0000-0000-000000000000');
  -- Locks the chain until the end of the transaction.
  insert into app.audit_head as h values (append_audit.tenant, 1, '')
    on conflict on constraint audit_head_pkey do update set number = h.number + 1
    returning * into head;
  link := sha256(head.chain || convert_to(concat_ws('|', tenant, head.number, app.micros(at), coalesce(actor::text, '-'),
    coalesce(encode(device, 'hex'), '-'), coalesce(login::text, '-'), op, encode(digest, 'hex'), result), 'UTF8'));
  insert into app.audit values (append_audit.tenant, head.number, at, actor, append_audit.device, append_audit.login,
                                append_audit.op, digest, append_audit.result, link);
  update app.audit_head h set chain = link where h.tenant = append_audit.tenant;
end $$;

create function app.micros(value timestamptz) returns bigint language sql immutable
return (extract(epoch from value) * 1000000)::bigint;

-- Writes down what was done and keeps the answer for whoever asks again. Goes by the claims: the device may just have
-- been revoked, and its login ended. DEFINER.
create function app.finish(op text, args jsonb, answer jsonb, digest bytea) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  claims jsonb := auth.jwt();
  asker  app.device;
begin
  select * into asker from app.device d
    where d.key_hash = decode(claims ->> 'device_key', 'hex') and d.user_id = (claims ->> 'sub')::uuid;
  if asker.id is null then
    perform app.refuse('unknown_device', 'The key that signed this call belongs to no device of this account.');
  end if;
  if args ? 'idem' and op <> 'device-enroll' then
    insert into app.idem values (asker.tenant, asker.id, finish.op, args ->> 'idem', finish.digest, finish.answer,
                                 now() + interval '1 day')
      on conflict on constraint idem_pkey do update
        set digest = excluded.digest, answer = excluded.answer, expires_at = excluded.expires_at
        where app.idem.expires_at <= now();
    if not found then
      -- The same call was done at the same time: undo this one; tried again it finds the answer.
      raise exception using errcode = '40001', message = 'the same call at the same time';
    end if;
  end if;
  perform app.append_audit(asker.tenant, asker.user_id, asker.id, (claims ->> 'session_id')::uuid, finish.op,
                           finish.digest, 'ok');
end $$;

create function api.call(claims jsonb, op text, args jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  digest  bytea := sha256(convert_to(args::text, 'UTF8'));
  entered record;
  answer  jsonb;
begin
  -- What lies in the bucket may be long, and every policy reads the claims: it goes with the arguments.
  perform set_config('request.jwt.claims', (claims - 'stored')::text, true);
  -- Policies make cheap statements look dear; compiling them would take a hundred times as long as they do.
  perform set_config('jit', 'off', true);
  set local role authenticated;
  select * into entered from app.enter(op, args);
  answer := entered.kept;
  if answer is null then
    if op = 'session-commit' then
      args := args || jsonb_build_object('stored', claims -> 'stored');
    end if;
    -- Only names of app.operation get this far.
    execute format('select api.%I($1)', 'op_' || replace(op, '-', '_')) into answer using args;
    if entered.mutates then
      perform app.finish(op, args - 'stored', answer, digest);
    end if;
  end if;
  return answer;
end $$;

-- Where the blobs of the caller's own open session lie; not_open for every other session, so that a commit is refused
-- by the rules of the commit.
create function api.place(claims jsonb, vault text, session integer) returns jsonb
language sql volatile set search_path = '' as $$
  select api.call(claims, 'place', jsonb_build_object('vault', vault, 'session', session))
$$;

-- Writes down a refused call, in a transaction of its own; the claims may be anything. DEFINER.
create function api.note_refusal(claims jsonb, op text, code text, digest text) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
  uuid_form constant text := '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
  actor  uuid := case when claims ->> 'sub' ~ uuid_form then (claims ->> 'sub')::uuid end;
  login  uuid := case when claims ->> 'session_id' ~ uuid_form then (claims ->> 'session_id')::uuid end;
  key    bytea := case when claims ->> 'device_key' ~ '^[0-9a-f]{64}$' then decode(claims ->> 'device_key', 'hex') end;
begin
  perform app.append_audit(
    (select m.tenant from app.member m where m.user_id = actor), actor,
    (select d.id from app.device d where d.key_hash = key and d.user_id = actor), login,
    left(op, 64), case when digest ~ '^[0-9a-f]{64}$' then decode(digest, 'hex') else ''::bytea end, left(code, 64));
end $$;

-- The key behind an id, to verify a signature with; whether its device may still do anything is api.call's to say.
-- DEFINER.
create function api.device_key(device_key text) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  if device_key !~ '^[0-9a-f]{64}$' then
    return null;
  end if;
  return (select encode(d.sign_public, 'hex') from app.device d where d.key_hash = decode(device_key, 'hex'));
end $$;

-- Keys that a proof of a vault's root key is checked against, for callers of that tenant. DEFINER, both.
create function api.root_key(claims jsonb, vault text) returns text
language plpgsql volatile security definer set search_path = '' as $$
declare
  me app.caller;
begin
  perform set_config('request.jwt.claims', (claims - 'stored')::text, true);
  me := app.identify();
  return (select encode(v.root_public, 'hex') from app.vault v
          where v.id = app.id_arg(jsonb_build_object('vault', vault), 'vault', 16) and v.tenant = me.tenant);
end $$;

create function api.device_public(claims jsonb, device text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  me app.caller;
begin
  perform set_config('request.jwt.claims', (claims - 'stored')::text, true);
  me := app.identify();
  return (select jsonb_build_object('sign_public', app.base64(d.sign_public), 'seal_public', app.base64(d.seal_public))
          from app.device d
          where d.id = app.id_arg(jsonb_build_object('device', device), 'device', 16) and d.tenant = me.tenant);
end $$;

grant execute on function app.enter, app.finish, app.micros to authenticated;
grant execute on function api.call, api.place, api.note_refusal, api.device_key, api.root_key, api.device_public
  to backupengine_front;

reset role;
