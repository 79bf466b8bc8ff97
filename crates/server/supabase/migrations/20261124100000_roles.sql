-- Roles and schemas.
--
-- app holds tables, api what may be called. Neither is exposed through PostgREST: PostgreSQL cannot check a device's
-- signature, so whoever calls must be the front, which did. Everything here belongs to backupengine_owner, who cannot
-- log in. Nothing is granted to anon or to PUBLIC. Tested in supabase/tests.

-- Roles belong to the whole cluster: who comes second finds them there.
do $$
declare
  wanted record;
begin
  for wanted in select * from (values
    ('backupengine_owner', 'nologin bypassrls'),
    ('backupengine_front', 'login noinherit')
  ) as role(name, attributes) loop
    if not exists (select 1 from pg_roles where rolname = wanted.name) then
      begin
        execute format('create role %I %s', wanted.name, wanted.attributes);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
  end loop;
  if not exists (select 1 from pg_auth_members
                 where roleid = 'authenticated'::regrole and member = 'backupengine_front'::regrole) then
    begin
      grant authenticated to backupengine_front;
    exception when unique_violation then
      null;
    end;
  end if;
  -- Without a superuser's rights the migrator has to be a member to hand things over.
  if not (select rolsuper from pg_roles where rolname = current_user)
     and not pg_has_role(current_user, 'backupengine_owner', 'member') then
    execute format('grant backupengine_owner to %I', current_user);
  end if;
end $$;

create schema app authorization backupengine_owner;
create schema api authorization backupengine_owner;
grant usage on schema app, api to authenticated;
grant usage on schema api to backupengine_front;

-- A function is executable by PUBLIC by default. Not ours.
alter default privileges for role backupengine_owner revoke execute on functions from public;

-- What the definer functions read of schema auth. A plain PostgreSQL has granted it before; where the migrator may not
-- grant one of them, a login of a revoked device ends by the revocation alone.
do $$
begin
  execute 'grant usage on schema auth to backupengine_owner';
  execute 'grant execute on function auth.jwt() to backupengine_owner';
  execute 'grant select on auth.sessions to backupengine_owner';
  begin
    execute 'grant delete on auth.sessions to backupengine_owner';
  exception when insufficient_privilege then
    raise notice 'logins of revoked devices cannot be deleted here';
  end;
end $$;
