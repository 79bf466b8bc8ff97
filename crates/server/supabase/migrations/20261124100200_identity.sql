-- Who asks: read from the claims that the front verified, checked against the rows at every call.
--
-- The functions marked DEFINER run as backupengine_owner, past the policies: policies call some of them, and a policy
-- that reads a table under policies would never end. The whole list, also kept in supabase/tests/catalogue.sql:
--   app.my_tenant, app.session_live, app.my_device, app.my_role, app.identify   who asks (here)
--   app.enter, app.finish, api.note_refusal, app.expire_sessions, app.close_session, app.check_region
--   app.enroll, app.approve, app.end_device, app.change_envelopes
--   api.device_key, api.root_key, api.device_public, api.deployment, api.storage_profile
-- Each has an empty search_path and checks for itself what it needs: a caller may come without api.call.

set role backupengine_owner;

-- Refuses: SQLSTATE PTxyz is HTTP status xyz, the message is a code of crates/api/src/code.rs.
create function app.status_of(code text) returns text language sql immutable set search_path = '' as $$
  select case
    when code = any ('{bad_request,label_too_long}') then '400'
    when code = any ('{no_token,bad_token,token_expired,session_ended,bad_signature,clock_skew,replayed,unknown_device}') then '401'
    when code = any ('{aal2_required,fresh_totp_required,device_pending,device_revoked,role_denied,quota_exceeded}') then '403'
    when code = any ('{not_found,unknown_session,no_such_operation}') then '404'
    when code = any ('{already_exists,number_taken,numbers_used_up,not_open,wrong_session,root_not_stored,objects_differ,counters_moved,held,wrong_pack,pack_gone,in_use,envelopes_moved,region_mismatch}') then '409'
    when code = 'too_large' then '413'
    when code = 'too_many_requests' then '429'
    when code = 'unavailable' then '503'
    else '500'
  end
$$;

create function app.refuse(code text, why text, next text default null) returns void
language plpgsql set search_path = '' as $$
begin
  if next is null then
    raise exception using errcode = 'PT' || app.status_of(code), message = code, detail = why;
  end if;
  raise exception using errcode = 'PT' || app.status_of(code), message = code, detail = why, hint = next;
end $$;

-- The tenant of the user who asks. DEFINER.
create function app.my_tenant() returns uuid
language plpgsql stable security definer set search_path = '' as $$
begin
  return (select m.tenant from app.member m where m.user_id = (auth.jwt() ->> 'sub')::uuid);
end $$;

-- Whether the login behind the token has not ended and still stands confirmed by a one-time code: a token outlives
-- both by up to an hour. DEFINER.
create function app.session_live() returns boolean
language plpgsql stable security definer set search_path = '' as $$
declare
  claims jsonb := auth.jwt();
begin
  return exists (select from auth.sessions s
                 where s.id = (claims ->> 'session_id')::uuid and s.user_id = (claims ->> 'sub')::uuid
                   and s.aal::text = 'aal2' and (s.not_after is null or s.not_after > now()));
end $$;

-- The device whose key signed the request, of the user who asks, unless it was revoked. A token alone names none: the
-- front adds device_key, and no user can. DEFINER.
create function app.my_device() returns bytea
language plpgsql stable security definer set search_path = '' as $$
declare
  claims jsonb := auth.jwt();
begin
  return (select d.id from app.device d
          where d.key_hash = decode(claims ->> 'device_key', 'hex') and d.user_id = (claims ->> 'sub')::uuid
            and d.status <> 'revoked');
end $$;

-- The role of that device, once it is active. DEFINER.
create function app.my_role() returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  claims jsonb := auth.jwt();
begin
  return (select d.role from app.device d
          where d.key_hash = decode(claims ->> 'device_key', 'hex') and d.user_id = (claims ->> 'sub')::uuid
            and d.status = 'active');
end $$;

-- Who asks, as far as an operation needs to know.
create type app.caller as (tenant uuid, user_id uuid, login uuid, device bytea, status text, role text);

create function app.need_login() returns void language plpgsql stable set search_path = '' as $$
begin
  if (auth.jwt() ->> 'aal') is distinct from 'aal2' then
    perform app.refuse('aal2_required', 'This login was not confirmed with a one-time code.',
                       'Give the code of your authenticator and try again.');
  end if;
  if not app.session_live() then
    perform app.refuse('session_ended', 'This login has ended.', 'Log in again.');
  end if;
end $$;

-- Refuses whoever is not a device of a live, confirmed login. Pending devices pass: what is open to them is the
-- caller's matter. DEFINER.
create function app.identify() returns app.caller
language plpgsql stable security definer set search_path = '' as $$
declare
  claims jsonb := auth.jwt();
  me     app.caller;
begin
  perform app.need_login();
  me.user_id := (claims ->> 'sub')::uuid;
  me.login := (claims ->> 'session_id')::uuid;
  select d.tenant, d.id, d.status, d.role into me.tenant, me.device, me.status, me.role
    from app.device d
    where d.key_hash = decode(claims ->> 'device_key', 'hex') and d.user_id = me.user_id;
  if not found then
    perform app.refuse('unknown_device', 'The key that signed this call belongs to no device of this account.',
                       'Enrol this device.');
  end if;
  if me.status = 'revoked' then
    perform app.refuse('device_revoked', 'This device was revoked.',
                       'Enrol it anew; its old keys are of no use any more.');
  end if;
  return me;
end $$;

-- A one-time code of the last ten minutes.
create function app.totp_fresh() returns boolean language sql stable set search_path = '' as $$
  select exists (
    select from jsonb_array_elements(case jsonb_typeof(auth.jwt() -> 'amr') when 'array' then auth.jwt() -> 'amr'
                                     else '[]' end) as given
    where given ->> 'method' = 'totp' and jsonb_typeof(given -> 'timestamp') = 'number'
      and (given ->> 'timestamp')::numeric > extract(epoch from now()) - 600)
$$;

create function app.need_fresh_totp() returns void language plpgsql stable set search_path = '' as $$
begin
  if not app.totp_fresh() then
    perform app.refuse('fresh_totp_required', 'This step needs a one-time code of the last ten minutes.',
                       'Give the code of your authenticator and try again.');
  end if;
end $$;

-- Refuses the caller's device for what it is.
create function app.deny(me app.caller, what text) returns void language plpgsql stable set search_path = '' as $$
begin
  if me.status = 'pending' then
    perform app.refuse('device_pending', 'This device waits for approval.',
                       'Approve it on a device of yours that is an owner, or with the recovery code.');
  end if;
  perform app.refuse('role_denied', format('A device that is %s may not %s.',
                                           case me.role when 'owner' then 'an owner' else 'a ' || me.role end, what));
end $$;

grant execute on function app.status_of, app.refuse, app.my_tenant, app.session_live, app.my_device, app.my_role,
  app.need_login, app.identify, app.totp_fresh, app.need_fresh_totp, app.deny to authenticated;

reset role;
