-- Schema auth for a plain PostgreSQL: what Supabase brings along, as far as this product uses it.
--
-- Runs only where schema auth is nobody else's (migrate.rs; this file checks it again). May run twice: roles belong to
-- the whole cluster and may be there already. Names of tables and columns are Supabase's where Supabase has them, and
-- enums are enums here too, so that a migration that works here works there. Tested in tests/server.

do $$
begin
  if exists (select 1 from pg_namespace n where n.nspname = 'auth'
             and coalesce(obj_description(n.oid, 'pg_namespace'), '') not like 'backupengine shim %') then
    raise exception 'schema auth belongs to another system: the shim is not for this database';
  end if;
end $$;

-- Roles. Two databases of one cluster may run this at once: who comes second finds the role there.
do $$
declare
  wanted record;
begin
  for wanted in select * from (values
    ('anon',               'nologin noinherit'),
    ('authenticated',      'nologin noinherit'),
    ('service_role',       'nologin noinherit bypassrls'),
    ('authenticator',      'login noinherit'),
    ('backupengine_auth',  'login noinherit'),
    ('backupengine_owner', 'nologin bypassrls')
  ) as role(name, attributes) loop
    if not exists (select 1 from pg_roles where rolname = wanted.name) then
      begin
        execute format('create role %I %s', wanted.name, wanted.attributes);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
  end loop;

  for wanted in select * from (values ('anon'), ('authenticated'), ('service_role')) as role(name) loop
    if not exists (select 1 from pg_auth_members
                   where roleid = to_regrole(wanted.name) and member = to_regrole('authenticator')) then
      begin
        execute format('grant %I to authenticator', wanted.name);
      exception when unique_violation then
        null;
      end;
    end if;
  end loop;
end $$;

create schema if not exists auth;
-- The mark by which migrate.rs knows the schema as ours.
comment on schema auth is 'backupengine shim 1';
revoke all on schema auth from public;
grant usage on schema auth to anon, authenticated, service_role, backupengine_auth, backupengine_owner;

-- Who asks. nullif matters: after a transaction that set it locally the setting is '' and not null.
create or replace function auth.jwt() returns jsonb language sql stable set search_path = '' as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;
create or replace function auth.uid() returns uuid language sql stable set search_path = '' as $$
  select (auth.jwt() ->> 'sub')::uuid
$$;
create or replace function auth.role() returns text language sql stable set search_path = '' as $$
  select auth.jwt() ->> 'role'
$$;
revoke execute on function auth.jwt(), auth.uid(), auth.role() from public;
grant execute on function auth.jwt(), auth.uid(), auth.role()
  to anon, authenticated, service_role, backupengine_auth, backupengine_owner;

do $$
begin
  if to_regtype('auth.aal_level') is null then
    create type auth.aal_level as enum ('aal1', 'aal2', 'aal3');
  end if;
  if to_regtype('auth.factor_type') is null then
    create type auth.factor_type as enum ('totp');
  end if;
  if to_regtype('auth.factor_status') is null then
    create type auth.factor_status as enum ('unverified', 'verified');
  end if;
  if to_regtype('auth.code_challenge_method') is null then
    create type auth.code_challenge_method as enum ('s256', 'plain');
  end if;
end $$;

create table if not exists auth.users (
  id                 uuid primary key default gen_random_uuid(),
  aud                varchar(255) not null default 'authenticated',
  role               varchar(255) not null default 'authenticated',
  email              varchar(255),
  encrypted_password varchar(255),
  email_confirmed_at timestamptz,
  last_sign_in_at    timestamptz,
  raw_app_meta_data  jsonb not null default '{}',
  raw_user_meta_data jsonb not null default '{}',
  banned_until       timestamptz,
  is_sso_user        boolean not null default false,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  deleted_at         timestamptz,
  check (email = lower(email))
);
create unique index if not exists users_email_partial_key on auth.users (email) where not is_sso_user;

create table if not exists auth.identities (
  id              uuid primary key default gen_random_uuid(),
  provider_id     text not null,
  user_id         uuid not null references auth.users (id) on delete cascade,
  identity_data   jsonb not null,
  provider        text not null,
  last_sign_in_at timestamptz,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  email           text generated always as (lower(identity_data ->> 'email')) stored,
  unique (provider_id, provider)
);
create index if not exists identities_user_id_idx on auth.identities (user_id);

create table if not exists auth.mfa_factors (
  id                 uuid primary key default gen_random_uuid(),
  user_id            uuid not null references auth.users (id) on delete cascade,
  friendly_name      text,
  factor_type        auth.factor_type not null,
  status             auth.factor_status not null,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  -- Sealed by the server: nonce and AES-256-GCM, base64.
  secret             text not null,
  last_challenged_at timestamptz,
  -- Ours: the step of 30 seconds whose code was accepted last. No code at or before it counts again.
  last_step          bigint
);
create index if not exists mfa_factors_user_id_idx on auth.mfa_factors (user_id, created_at);
create unique index if not exists mfa_factors_user_friendly_name_unique
  on auth.mfa_factors (friendly_name, user_id) where trim(both from friendly_name) <> '';

create table if not exists auth.mfa_challenges (
  id          uuid primary key default gen_random_uuid(),
  factor_id   uuid not null references auth.mfa_factors (id) on delete cascade,
  created_at  timestamptz not null default now(),
  verified_at timestamptz,
  ip_address  inet not null
);
create index if not exists mfa_challenges_factor_id_idx on auth.mfa_challenges (factor_id);

create table if not exists auth.sessions (
  id           uuid primary key default gen_random_uuid(),
  user_id      uuid not null references auth.users (id) on delete cascade,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  factor_id    uuid,
  aal          auth.aal_level not null default 'aal1',
  not_after    timestamptz,
  refreshed_at timestamptz,
  user_agent   text,
  ip           inet
);
create index if not exists sessions_user_id_idx on auth.sessions (user_id);

create table if not exists auth.mfa_amr_claims (
  id                    uuid primary key default gen_random_uuid(),
  session_id            uuid not null references auth.sessions (id) on delete cascade,
  created_at            timestamptz not null default now(),
  updated_at            timestamptz not null default now(),
  authentication_method text not null,
  unique (session_id, authentication_method)
);

create table if not exists auth.refresh_tokens (
  id         bigint generated always as identity primary key,
  -- SHA-256 of the token, hexadecimal: who reads the table can use none.
  token      varchar(255) not null unique,
  -- Ours: with a key of the server it gives the token again, to answer a repeated refresh.
  salt       bytea not null,
  user_id    uuid not null references auth.users (id) on delete cascade,
  session_id uuid not null references auth.sessions (id) on delete cascade,
  revoked    boolean not null default false,
  parent     varchar(255),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists refresh_tokens_session_id_idx on auth.refresh_tokens (session_id, revoked);
create index if not exists refresh_tokens_user_id_idx on auth.refresh_tokens (user_id);

create table if not exists auth.flow_state (
  id                    uuid primary key default gen_random_uuid(),
  user_id               uuid references auth.users (id) on delete cascade,
  -- SHA-256 of the code, hexadecimal; null before the provider has answered and after the code was used.
  auth_code             text unique,
  code_challenge_method auth.code_challenge_method not null,
  code_challenge        text not null,
  provider_type         text not null,
  authentication_method text not null,
  created_at            timestamptz not null default now(),
  updated_at            timestamptz not null default now(),
  auth_code_issued_at   timestamptz,
  -- Ours: SHA-256 of the state (null once it came back) and of the nonce that the provider was sent, and where the
  -- user goes afterwards.
  state                 text unique,
  nonce                 text not null,
  redirect_to           text not null
);
create index if not exists flow_state_created_at_idx on auth.flow_state (created_at);

-- Ours: refused logins and codes per account (a digest of what was tried), whether or not the account exists.
create table if not exists auth.attempts (
  subject      text primary key,
  failures     integer not null default 0,
  since        timestamptz not null default now(),
  locked_until timestamptz
);
create index if not exists attempts_since_idx on auth.attempts (since);

create table if not exists auth.audit_log_entries (
  id         uuid primary key default gen_random_uuid(),
  payload    jsonb not null,
  created_at timestamptz not null default now(),
  ip_address varchar(64) not null default ''
);
create index if not exists audit_log_entries_created_at_idx on auth.audit_log_entries (created_at);

-- Rights: the server's login over identity, nobody else; its audit is insert only.
do $$
declare
  name text;
begin
  foreach name in array array['users', 'identities', 'mfa_factors', 'mfa_challenges', 'sessions', 'mfa_amr_claims',
                              'refresh_tokens', 'flow_state', 'attempts', 'audit_log_entries'] loop
    execute format('revoke all on auth.%I from public', name);
    execute format('alter table auth.%I enable row level security', name);
    execute format('drop policy if exists identity_server on auth.%I', name);
    if name = 'audit_log_entries' then
      execute format('grant insert on auth.%I to backupengine_auth', name);
      execute format('create policy identity_server on auth.%I for insert to backupengine_auth with check (true)', name);
    else
      execute format('grant select, insert, update, delete on auth.%I to backupengine_auth', name);
      execute format('create policy identity_server on auth.%I for all to backupengine_auth using (true) with check (true)', name);
    end if;
  end loop;
end $$;

-- The core's definer functions look for live sessions, end those of a revoked device, and refer to users.
grant select (id, email, created_at), references (id) on auth.users to backupengine_owner;
grant select, delete on auth.sessions to backupengine_owner;
