-- What the catalogue says: every table has its policies, nothing is granted that should not be, functions that run past
-- the policies are the named ones. Fails on a table, function or grant that is not accounted for here.
begin;
\ir setup.psql
select no_plan();

create view test.tables as
  select c.oid, c.relname::text as name, c.relrowsecurity as secured, c.relacl, pg_get_userbyid(c.relowner) as owner
  from pg_class c where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p');
create view test.functions as
  select p.oid, n.nspname || '.' || p.proname as name, p.prosecdef as definer, p.proconfig as config, p.proacl as acl,
         p.prosqlbody is not null as parsed, pg_get_userbyid(p.proowner) as owner
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('app', 'api');

-- Tables.
select cmp_ok((select count(*)::integer from test.tables), '>=', 20, 'there are tables to look at');
select is_empty($$ select name from test.tables where not secured $$, 'every table has row-level security');
select is_empty($$ select name, owner from test.tables where owner <> 'backupengine_owner' $$, 'every table is the owner''s');
select is_empty($$
  select t.name, wanted.policy from test.tables t
  cross join (values ('aal2', '(( SELECT (auth.jwt() ->> ''aal''::text)) = ''aal2''::text)'),
                     ('live_login', '( SELECT app.session_live() AS session_live)'),
                     ('known_device', '(( SELECT app.my_device() AS my_device) IS NOT NULL)')) as wanted(policy, says)
  where not exists (
    select from pg_policy p where p.polrelid = t.oid and p.polname = wanted.policy and not p.polpermissive and p.polcmd = '*'
      and p.polroles = '{0}' and pg_get_expr(p.polqual, t.oid) = wanted.says
      and pg_get_expr(p.polwithcheck, t.oid) = wanted.says)
$$, 'every table is closed to aal1, to ended logins, to revoked and unknown devices');
select is_empty($$
  select t.name, p.polname, pg_get_expr(p.polqual, t.oid) from test.tables t join pg_policy p on p.polrelid = t.oid
  where p.polpermissive
    and coalesce(pg_get_expr(p.polqual, t.oid), '')
      !~ '^\((tenant|id) = \( SELECT app\.my_tenant\(\) AS my_tenant\)\)$'
    and not (t.name in ('deployment', 'operation') and p.polcmd = 'r')
$$, 'the only way to a row is through the caller''s own tenant');
select is_empty($$
  select t.name, a.privilege_type, a.grantee::regrole from test.tables t, aclexplode(t.relacl) a
  where a.privilege_type in ('DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER') and a.grantee <> 'backupengine_owner'::regrole
$$, 'nobody may delete');
select is_empty($$
  select t.name, a.privilege_type, a.grantee::regrole from test.tables t, aclexplode(t.relacl) a
  where a.grantee not in ('backupengine_owner'::regrole, 'authenticated'::regrole)
  union all
  select t.name || '.' || c.attname, a.privilege_type, a.grantee::regrole
  from test.tables t join pg_attribute c on c.attrelid = t.oid, aclexplode(c.attacl) a
  where a.grantee not in ('backupengine_owner'::regrole, 'authenticated'::regrole)
$$, 'tables and columns are granted to authenticated alone');
select is_empty($$
  select name, what from test.tables, unnest(array['insert', 'update', 'delete']) what
  where name in ('audit', 'audit_head', 'nonce', 'idem', 'deployment', 'operation', 'member')
    and (has_any_column_privilege('authenticated', oid, 'insert') or has_any_column_privilege('authenticated', oid, 'update'))
$$, 'audit, nonces, answers and settings are written by definer functions only');
select is_empty($$
  select name from test.tables where name in ('audit_head', 'nonce', 'idem')
    and has_any_column_privilege('authenticated', oid, 'select')
$$, 'and some are not even read');

-- Indexes.
select is_empty($$
  select c.conrelid::regclass, c.conname from pg_constraint c
  where c.contype = 'f' and c.connamespace = 'app'::regnamespace and not exists (
    select from pg_index i
    where i.indrelid = c.conrelid and i.indpred is null
      -- Its first column leads an index, or a key that has it follows a vault.
      and (i.indkey[0] = c.conkey[1] or i.indkey[0] = any (c.conkey)))
$$, 'foreign keys are indexed');
select is_empty($$
  select t.name from test.tables t join pg_attribute a on a.attrelid = t.oid and a.attname in ('tenant', 'vault')
  group by t.name, t.oid
  having not exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                     where i.indrelid = t.oid and i.indpred is null and a.attname in ('tenant', 'vault', 'id'))
$$, 'columns that policies go by are indexed');

select col_is_unique('app', 'device', 'key_hash', 'a key is one device''s');

-- Functions.
select is_empty($$ select name, owner from test.functions where owner <> 'backupengine_owner' $$, 'functions are the owner''s');
select set_eq($$ select name from test.functions where definer $$, array[
  'app.my_tenant', 'app.session_live', 'app.my_device', 'app.my_role', 'app.identify',
  'app.enter', 'app.finish', 'api.note_refusal', 'app.expire_sessions', 'app.close_session', 'app.check_region',
  'app.enroll', 'app.approve', 'app.end_device', 'app.change_envelopes',
  'api.device_key', 'api.root_key', 'api.device_public', 'api.deployment', 'api.storage_profile',
  'app.give_up', 'app.watch_retired', 'app.revive', 'app.hold_own', 'api.sweep_due', 'api.sweep_done', 'api.sweep_later'], 'what runs past the policies is the named list');
select is_empty($$
  select name from test.functions where not parsed and not coalesce(config @> array['search_path=""'], false)
$$, 'every function has an empty search path, or was parsed when it was made');
select is_empty($$
  select f.name, coalesce(nullif(a.grantee, 0)::regrole::text, 'public') from test.functions f,
    aclexplode(coalesce(f.acl, acldefault('f', 'backupengine_owner'::regrole))) a
  where a.grantee not in ('backupengine_owner'::regrole, 'authenticated'::regrole, 'backupengine_front'::regrole)
$$, 'no function is executable by anybody else');
select set_eq($$
  select f.name from test.functions f where has_function_privilege('backupengine_front', f.oid, 'execute')
$$, array['api.call', 'api.place', 'api.note_refusal', 'api.device_key', 'api.root_key', 'api.device_public',
          'api.deployment', 'api.storage_profile', 'api.sweep_due', 'api.sweep_done', 'api.sweep_later'], 'the front may call these');
select is_empty($$
  select f.name from test.functions f
  where f.name ~ '^api\.' and f.name !~ '^api\.op_' and has_function_privilege('authenticated', f.oid, 'execute')
$$, 'and authenticated none of them');
select is_empty($$
  select f.name from test.functions f
  where f.name = any (array['app.configure', 'app.append_audit', 'app.kept_answer', 'app.drop_session', 'app.doom_announced'])
    and has_function_privilege('authenticated', f.oid, 'execute')
$$, 'what definer functions are made of is nobody''s to call');
select is_empty($$
  select o.name from app.operation o
  where not exists (select from test.functions f where f.name = 'api.op_' || replace(o.name, '-', '_') and not f.definer
                    and has_function_privilege('authenticated', f.oid, 'execute'))
$$, 'each operation has its function, under the policies');
select is_empty($$
  select f.name from test.functions f
  where f.name like 'api.op\_%'
    and not exists (select from app.operation o where f.name = 'api.op_' || replace(o.name, '-', '_'))
$$, 'and there is no other');

-- Roles and schemas.
select is_empty($$
  select n.nspname, a.privilege_type, a.grantee from pg_namespace n, aclexplode(n.nspacl) a
  where n.nspname in ('app', 'api')
    and a.grantee not in ('backupengine_owner'::regrole, 'authenticated'::regrole, 'backupengine_front'::regrole)
$$, 'schemas are closed to everybody else');
select ok(not has_schema_privilege('backupengine_front', 'app', 'usage'), 'the front has no way into app');
select is((select array_agg(roleid::regrole::text) from pg_auth_members where member = 'backupengine_front'::regrole),
  array['authenticated'], 'the front is a member of authenticated alone');
select is_empty($$
  select rolname from pg_roles where rolname in ('anon', 'authenticated', 'backupengine_front', 'backupengine_auth')
    and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)
$$, 'no role of a client can do more');
select is_empty($$
  select rolname from pg_roles where rolname = 'backupengine_owner' and (rolcanlogin or rolsuper)
$$, 'the owner cannot log in');
select is_empty($$
  select rolname from pg_roles where rolname in ('backupengine_front', 'authenticated') and rolinherit
$$, 'nothing is inherited');

-- Codes: as crates/api/src/code.rs has them.
select is_empty($$
  select code, status, app.status_of(code) from (values
    ('no_token', '401'), ('bad_token', '401'), ('token_expired', '401'), ('session_ended', '401'),
    ('aal2_required', '403'), ('fresh_totp_required', '403'), ('bad_signature', '401'), ('clock_skew', '401'),
    ('replayed', '401'), ('unknown_device', '401'), ('device_pending', '403'), ('device_revoked', '403'),
    ('role_denied', '403'), ('not_found', '404'), ('already_exists', '409'), ('number_taken', '409'),
    ('numbers_used_up', '409'), ('unknown_session', '404'), ('not_open', '409'), ('wrong_session', '409'),
    ('root_not_stored', '409'), ('objects_differ', '409'), ('label_too_long', '400'), ('counters_moved', '409'), ('held', '409'),
    ('wrong_pack', '409'), ('pack_gone', '409'), ('in_use', '409'), ('envelopes_moved', '409'),
    ('quota_exceeded', '403'), ('region_mismatch', '409'), ('bad_request', '400'), ('too_large', '413'),
    ('no_such_operation', '404'), ('too_many_requests', '429'), ('unavailable', '503'), ('internal', '500')
  ) as known(code, status) where app.status_of(code) <> status
$$, 'codes have the status of the contract');

select * from finish();
rollback;
