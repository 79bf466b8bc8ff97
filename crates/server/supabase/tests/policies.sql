-- What stands when a function is wrong, or is called past api.call: rights and policies, table by table, as the role
-- authenticated. Everything that is expected is written out here.
begin;
\ir setup.psql
select no_plan();

-- Rows of both accounts in every table.
do $$
declare
  s bigint;
  one record;
begin
  perform test.push('owner', test.vault(1));
  perform test.push('writer', test.vault(1));
  perform test.push('bob', test.vault(2));
  for one in select * from (values ('owner', 1), ('bob', 2)) as x(who, v) loop
    s := test.call(one.who, 'session-open', jsonb_build_object('vault', test.vault(one.v), 'kind', 'push', 'idem', 'o')) -> 'session';
    perform test.call(one.who, 'session-urls', jsonb_build_object('vault', test.vault(one.v), 'session', s, 'blobs',
      jsonb_build_array(test.blob('pack', 0, 400))));
    perform test.call(one.who, 'mount', jsonb_build_object('vault', test.vault(one.v), 'snapshots', 1));
    perform test.call(one.who, 'schedule-put', jsonb_build_object('vault', test.vault(one.v), 'device', test.device(one.who),
      'rule_sealed', test.b64('r'), 'next_due', 1, 'idem', 's'));
    perform test.call(one.who, 'envelope-put', jsonb_build_object('vault', test.vault(one.v), 'id', '000000000000000' || one.v,
      'epoch', 0, 'kind', 'recovery', 'sealed', test.b64('e'), 'sha256', test.b64(sha256('e')), 'idem', 'e'));
    insert into app.gc_log (tenant, vault, epoch) select tenant, id, 1 from app.vault where encode(id, 'hex') = test.vault(one.v);
    insert into app.moved (tenant, vault, s, number, to_s, to_number)
      select tenant, id, 1, 0, 1, 1 from app.vault where encode(id, 'hex') = test.vault(one.v);
    insert into app.doomed (tenant, vault, s, due_at)
      select tenant, id, 1, now() from app.vault where encode(id, 'hex') = test.vault(one.v);
  end loop;
  perform test.call('owner', 'schedule-put', jsonb_build_object('vault', test.vault(1), 'device', test.device('writer'),
    'rule_sealed', test.b64('r'), 'next_due', 1, 'idem', 'w'));
  perform test.call('owner', 'schedule-put', jsonb_build_object('vault', test.vault(1), 'device', test.device('pending'),
    'rule_sealed', test.b64('r'), 'next_due', 1, 'idem', 'p'));
  perform test.call('owner', 'envelope-put', jsonb_build_object('vault', test.vault(1), 'id', '00000000000000f1',
    'epoch', 0, 'kind', 'passphrase', 'sealed', test.b64('e'), 'sha256', test.b64(sha256('e')), 'idem', 'f'));
end $$;

-- What a statement does for somebody, past api.call: how many rows, or the SQLSTATE. Leaves nothing behind.
create function test.as(who text, statement text, extra jsonb default '{}') returns text language plpgsql as $$
declare
  rows bigint;
begin
  perform set_config('request.jwt.claims', jsonb_strip_nulls(test.claims(who) || extra)::text, true);
  set local role authenticated;
  execute statement;
  get diagnostics rows = row_count;
  raise exception using errcode = 'ZZ000', message = rows;
exception
  when sqlstate 'ZZ000' then return sqlerrm;
  when others then return sqlstate;
end $$;
create function test.tenant(who text) returns uuid language sql as $$
  select m.tenant from app.member m join test.actor a on a.user_id = m.user_id where a.name = who $$;

-- Reading. Own rows all, of others none; nothing at all for whoever lacks one thing.
create table test.readable (name text, key text, rows bigint, pending bigint, writer bigint);
insert into test.readable values
  -- table, whose it is by, rows of the first account, of them seen by a device that waits, by a writer
  ('tenant',     'id',     1, 1, 1),
  ('member',     'tenant', 1, 0, 1),
  ('device',     'tenant', 6, 1, 6),
  ('vault',      'tenant', 1, 1, 1),
  ('access',     'tenant', 5, 0, 5),
  ('envelope',   'tenant', 2, 1, 2),
  ('session',    'tenant', 3, 0, 3),
  ('announced',  'tenant', 1, 0, 1),
  ('snapshot',   'tenant', 2, 0, 2),
  ('moved',      'tenant', 1, 0, 1),
  ('lease',      'tenant', 1, 0, 1),
  ('gc_log',     'tenant', 1, 0, 1),
  ('schedule',   'tenant', 3, 0, 1);
select set_eq(
  $$select name from test.readable union values ('audit'), ('deployment'), ('operation'), ('nonce'), ('idem'), ('audit_head'), ('doomed')$$,
  $$select tablename::text from pg_tables where schemaname = 'app'$$, 'every table has its place here');

create function test.select_(t text) returns text language sql as $$ select 'select 1 from app.' || t $$;
select is(test.as('owner', test.select_(name)), rows::text, name || ': an owner sees its account''s') from test.readable;
select is(test.as('bob', format('select 1 from app.%I where %I = %L', name, key, test.tenant('owner'))), '0',
  name || ': nobody sees another account''s') from test.readable;
select isnt(test.as('bob', test.select_(name)), '0', name || ': but its own') from test.readable;
select is(test.as('pending', test.select_(name)), pending::text, name || ': a device that waits') from test.readable;
select is(test.as('writer', test.select_(name)), writer::text, name || ': a writer') from test.readable;
select is(test.as('reader', test.select_(name)), case name when 'schedule' then 0 else rows end::text, name || ': a reader') from test.readable;
select is(test.as('maintainer', test.select_(name)), case name when 'schedule' then 0 else rows end::text, name || ': a maintainer') from test.readable;
-- The audit grows with every call: by whose the entries are.
select is(test.as('owner', 'select 1 from app.audit where result = ''ok'''),
  (select count(*)::text from app.audit where tenant = test.tenant('owner')), 'audit: an owner sees its account''s');
select is(test.as('bob', format('select 1 from app.audit where tenant = %L', test.tenant('owner'))), '0', 'audit: nobody sees another account''s');
select is(test.as('writer', 'select 1 from app.audit'),
  (select count(*)::text from app.audit where encode(actor_device, 'hex') = test.device('writer')), 'audit: a writer what it did');
select isnt(test.as('writer', 'select 1 from app.audit'), '0', 'audit: which is something');
select is(test.as('pending', 'select 1 from app.audit'), '0', 'audit: a device that waits');
select is(test.as('pending', 'select 1 from app.deployment'), '1', 'deployment: a device that waits');
select is(test.as('bob', 'select 1 from app.operation where name = ''mount'''), '1', 'operation: everybody');

create table test.lack (what text, who text, extra jsonb);
insert into test.lack values
  ('aal1', 'owner', '{"aal": "aal1"}'),
  ('no aal', 'owner', '{"aal": null}'),
  ('a login that ended', 'owner', jsonb_build_object('session_id', gen_random_uuid())),
  ('another user''s login', 'owner', jsonb_build_object('session_id', (select login from test.actor where name = 'bob'))),
  ('no login', 'owner', '{"session_id": null}'),
  ('no device', 'owner', '{"device_key": null}'),
  ('a device nobody knows', 'owner', jsonb_build_object('device_key', repeat('00', 32))),
  ('another user''s device', 'owner', jsonb_build_object('device_key', (select encode(sha256(sign), 'hex') from test.actor where name = 'bob'))),
  ('a revoked device', 'revoked', '{}');
select is(test.as(who, test.select_(name), extra), '0', name || ': ' || what)
  from (select name from test.readable union values ('audit'), ('deployment'), ('operation')) as t, test.lack;
select is(test.as('owner', test.select_(name)), '42501', name || ': is nobody''s to read')
  from (values ('nonce'), ('idem'), ('audit_head'), ('doomed')) as t(name);

-- A login that was lowered, or is over by its time, is none, whatever its token says.
update auth.sessions set aal = 'aal1' where id = (select login from test.actor where name = 'owner');
select is(test.as('owner', 'select 1 from app.vault'), '0', 'a login that lost its second factor');
update auth.sessions set aal = 'aal2', not_after = now() where id = (select login from test.actor where name = 'owner');
select is(test.as('owner', 'select 1 from app.vault'), '0', 'a login whose time is over');
update auth.sessions set not_after = now() + interval '1 minute' where id = (select login from test.actor where name = 'owner');
select is(test.as('owner', 'select 1 from app.vault'), '1', 'a login that has a minute left');

-- Writing: who may, in order owner, maintainer, writer, reader, pending. A number is rows, 42501 a refusal.
create table test.writes (what text, expected text, statement text);
insert into test.writes values
  ('tenant: count bytes',   '1 1 1 0 0', 'update app.tenant set used_bytes = 1 where true'),
  ('device: name itself',   '1 1 1 1 0', 'update app.device set name_sealed = ''x'' where id = (select app.my_device())'),
  ('device: name another',  '6 1 1 1 0', 'update app.device set name_sealed = ''x'' where true'),
  ('vault: make',           '1 42501 42501 42501 42501', format('insert into app.vault (id, tenant, bucket, root_public)
     values (decode(%L, ''hex''), %L, ''bucket'', sha256(''x''))', test.vault(9), test.tenant('owner'))),
  ('vault: count',          '1 1 1 0 0', 'update app.vault set snap_version = 9 where true'),
  ('access: give',          '1 42501 42501 42501 42501', format('insert into app.access (tenant, vault, device, certificate)
     values (%L, decode(%L, ''hex''), decode(%L, ''hex''), ''c'')', test.tenant('owner'), test.vault(1), test.device('pending'))),
  ('envelope: put',         '1 42501 42501 42501 42501', format('insert into app.envelope (tenant, vault, id, epoch, kind, sealed)
     values (%L, decode(%L, ''hex''), ''12345678'', 0, ''recovery'', ''x'')', test.tenant('owner'), test.vault(1))),
  ('session: push',         '1 42501 1 42501 42501', format('insert into app.session (tenant, vault, s, device, kind, acked_epoch)
     select %L, decode(%L, ''hex''), 9, app.my_device(), ''push'', 0', test.tenant('owner'), test.vault(1))),
  ('session: compact',      '1 1 42501 42501 42501', format('insert into app.session (tenant, vault, s, device, kind, acked_epoch)
     select %L, decode(%L, ''hex''), 9, app.my_device(), ''compact'', 0', test.tenant('owner'), test.vault(1))),
  ('session: for another',  '42501 42501 42501 42501 42501', format('insert into app.session (tenant, vault, s, device, kind, acked_epoch)
     select %L, decode(%L, ''hex''), 9, decode(%L, ''hex''), k, 0 from unnest(''{push,compact}''::text[]) as k',
     test.tenant('owner'), test.vault(1), test.device('revoked'))),
  ('session: change',       '3 3 1 0 0', 'update app.session set last_seen = now() where true'),
  ('announced: add',        '1 1 1 42501 42501', format('insert into app.announced (tenant, vault, s, kind, number, length, sha256)
     values (%L, decode(%L, ''hex''), 3, ''pack'', 9, 1, sha256(''x''))', test.tenant('owner'), test.vault(1))),
  ('snapshot: commit',      '1 42501 1 42501 42501', format('insert into app.snapshot (tenant, vault, s, id, device, root_size, head_len)
     select %L, decode(%L, ''hex''), 3, ''12345678'', app.my_device(), 1, 1', test.tenant('owner'), test.vault(1))),
  ('snapshot: for another', '42501 42501 42501 42501 42501', format('insert into app.snapshot (tenant, vault, s, id, device, root_size, head_len)
     select %L, decode(%L, ''hex''), 3, ''12345678'', decode(%L, ''hex''), 1, 1', test.tenant('owner'), test.vault(1), test.device('revoked'))),
  ('snapshot: change',      '2 2 0 0 0', 'update app.snapshot set state = ''trashed'' where true'),
  ('moved: add',            '1 1 42501 42501 42501', format('insert into app.moved (tenant, vault, s, number, to_s, to_number)
     values (%L, decode(%L, ''hex''), 1, 1, 2, 0)', test.tenant('owner'), test.vault(1))),
  ('moved: change',         '1 1 0 0 0', 'update app.moved set to_number = 0 where true'),
  ('lease: make',           '1 1 1 1 42501', format('insert into app.lease (tenant, vault, device, expires_at)
     select %L, decode(%L, ''hex''), app.my_device(), now()', test.tenant('owner'), test.vault(1))),
  ('lease: for another',    '42501 42501 42501 42501 42501', format('insert into app.lease (tenant, vault, device, expires_at)
     select %L, decode(%L, ''hex''), decode(%L, ''hex''), now()', test.tenant('owner'), test.vault(1), test.device('revoked'))),
  ('lease: renew',          '1 0 0 0 0', 'update app.lease set expires_at = now() where true'),
  ('gc_log: add',           '1 1 1 42501 42501', format('insert into app.gc_log (tenant, vault, epoch) values (%L, decode(%L, ''hex''), 7)',
     test.tenant('owner'), test.vault(1))),
  ('schedule: put its own', '1 1 1 1 42501', format('insert into app.schedule (tenant, vault, device, rule_sealed, next_due)
     select %L, decode(%L, ''hex''), app.my_device(), ''r'', now() on conflict (vault, device) do update set next_due = now()',
     test.tenant('owner'), test.vault(1))),
  ('schedule: for another', '1 42501 42501 42501 42501', format('insert into app.schedule (tenant, vault, device, rule_sealed, next_due)
     values (%L, decode(%L, ''hex''), decode(%L, ''hex''), ''r'', now())', test.tenant('owner'), test.vault(1), test.device('revoked'))),
  ('schedule: change',      '3 0 1 0 0', 'update app.schedule set next_due = now() where true');
select is((select string_agg(test.as(who, statement), ' ' order by n)
           from unnest('{owner,maintainer,writer,reader,pending}'::text[]) with ordinality as x(who, n)), expected, what)
  from test.writes;
-- Whoever lacks one thing writes nothing, and nobody writes into another account.
select ok(test.as(who, statement, extra) in ('0', '42501'), concat_ws(': ', test.writes.what, test.lack.what)) from test.writes, test.lack;
select ok(test.as('bob', statement) in ('0', '42501'), what || ': into another account')
  from test.writes where statement like 'insert%';
select is(test.as('bob', replace(replace(statement, 'where true', format('where %I = %L', case when what like 'tenant:%' then 'id' else 'tenant' end,
  test.tenant('owner'))), 'select app.my_device()', 'select ' || quote_literal(decode(test.device('owner'), 'hex')) || '::bytea')), '0', what || ': of another account')
  from test.writes where statement like 'update%';
-- Nor moves a row of its own into one.
select is(test.as('owner', statement), '42501', statement) from (values
  (format('insert into app.access (tenant, vault, device, certificate) values (%L, decode(%L, ''hex''), decode(%L, ''hex''), ''c'')',
    test.tenant('bob'), test.vault(2), test.device('owner'))),
  (format('insert into app.lease (tenant, vault, device, expires_at) values (%L, decode(%L, ''hex''), app.my_device(), now())',
    test.tenant('bob'), test.vault(2)))) as x(statement);

-- Definer functions look for themselves, whoever calls them.
select is(test.as(who, 'select 1 where app.my_role() is not null', extra), rows, 'a role: ' || what) from (values
  ('an owner', 'owner', '{}'::jsonb, '1'), ('a device that waits', 'pending', '{}', '0'), ('a revoked device', 'revoked', '{}', '0'),
  ('another user''s device', 'owner', jsonb_build_object('device_key', (select encode(sha256(sign), 'hex') from test.actor where name = 'bob')), '0')
) as x(what, who, extra, rows);
create function test.old() returns jsonb language sql as $$
  select jsonb_build_object('amr', jsonb_build_array(jsonb_build_object('method', 'totp', 'timestamp', floor(extract(epoch from now())) - 601))) $$;
select is(test.as('owner', 'select app.enroll(''{}'')'), 'PT400', 'enrolment reads what is asked for');
select is(test.as('owner', 'select app.enroll(''{}'')', test.old()), 'PT403', 'after it has looked for a fresh one-time code');
create function test.definer(what text, arguments text) returns text language sql as $$
  select format('select app.%s(decode(%L, ''hex''), 1, %s)', what, test.vault(1), arguments) $$;
select is(test.as(who, test.definer('revive', '''{}''')), code, 'bring packs back past api.call: ' || who)
  from (values ('owner', '1'), ('maintainer', '1'), ('writer', '1'), ('reader', 'PT403'), ('pending', 'PT403'),
    ('revoked', 'PT403'), ('bob', 'PT404')) as x(who, code);
select is(test.as('bob', format('select app.revive(decode(%L, ''hex''), 2, ''{}'')', test.vault(1))), 'PT404',
  'bring packs of another account back');
select is(test.as('writer', format('select app.revive(decode(%L, ''hex''), 3, ''{}'')', test.vault(1))), 'PT409',
  'bring packs of an open session back');
update app.session set deleted = '{[1,2)}' where encode(vault, 'hex') = test.vault(1) and s = 1;
update app.snapshot set state = 'purged' where encode(vault, 'hex') = test.vault(1) and s = 1;
select is(test.as(who, test.definer('give_up', '''{[1,2)}'', true')), code, 'give up what is gone: ' || who)
  from (values ('owner', '1'), ('maintainer', '1'), ('writer', 'PT403'), ('reader', 'PT403'), ('pending', 'PT403'),
    ('revoked', 'PT403'), ('bob', 'PT403')) as x(who, code);
select is(test.as('owner', test.definer('give_up', '''{[0,2)}'', true')), 'PT403', 'nobody gives up a pack that is there');
select is(test.as('owner', replace(test.definer('give_up', '''{}'', true'), ', 1,', ', 2,')), 'PT403',
  'nor the root of a snapshot that is there');
-- What is silent ends, what has ended is forgotten: by its own account.
insert into app.announced (tenant, vault, s, kind, number, length, sha256)
  select tenant, vault, s, 'pack', 0, 1, sha256('x') from app.session where encode(vault, 'hex') = test.vault(1) and s = 2;
update app.session set last_seen = now() - interval '73 hours' where encode(vault, 'hex') = test.vault(1) and s = 3;
create function test.tidied(who text) returns text language plpgsql as $$
declare
  one bytea := decode(test.vault(1), 'hex');
begin
  perform set_config('request.jwt.claims', test.claims(who)::text, true);
  set local role authenticated;
  perform app.expire_sessions(one), app.close_session(one, 2);
  reset role;
  return (select state from app.session where vault = one and s = 3) || ' ' || (select count(*) from app.announced where vault = one and s = 2);
end $$;
select is(test.tidied('bob'), 'open 1', 'not by another account');
select is(test.tidied('reader'), 'expired 0', 'by anybody of its own');

-- Rights: what clients may do to which columns, and nothing else.
select set_eq($$
  select table_name || ' ' || lower(privilege_type) || ' ' || string_agg(column_name, ' ' order by column_name)
  from information_schema.column_privileges
  where table_schema = 'app' and grantee = 'authenticated' and privilege_type <> 'SELECT'
    and not (privilege_type = 'INSERT' and table_name in ('announced', 'moved', 'lease', 'schedule'))
  group by table_name, privilege_type$$, array[
  'tenant update reserved_bytes used_bytes',
  'device update name_sealed',
  'vault insert bucket id root_public tenant',
  'vault update gc_epoch next_session next_trash_days next_trash_from snap_version trash_days used_bytes',
  'access insert certificate device envelope tenant vault',
  'envelope insert epoch id kind sealed tenant vault',
  'session insert acked_epoch device kind s tenant vault',
  'session update acked_epoch bytes committed_by deleted last_seen packs reserved retired state',
  'snapshot insert created_nanos created_secs device head_len id label meta_packs root_size s tenant vault',
  'snapshot update hold label purge_after state',
  'moved update epoch given_up moved_at to_number to_s',
  'lease update expires_at snapshots',
  'gc_log insert epoch retired revived tenant vault',
  'schedule update next_due rule_sealed'], 'what clients may write, column by column');
select set_eq($$
  select table_name || ' ' || string_agg(lower(privilege_type), ' ' order by privilege_type)
  from information_schema.table_privileges
  where table_schema in ('app', 'api') and grantee = 'authenticated' group by table_name$$,
  (select array_agg(name || case when name in ('announced', 'moved', 'lease', 'schedule') then ' insert select' else ' select' end)
   from (select name from test.readable union values ('audit'), ('deployment'), ('operation')) as t),
  'what clients may do to whole tables');
select is_empty($$
  select table_name, grantee, privilege_type from information_schema.table_privileges
  where table_schema in ('app', 'api') and grantee not in ('authenticated', 'backupengine_owner')$$, 'nobody else has any right to a table');
select is_empty($$
  select table_name, grantee, privilege_type from information_schema.column_privileges
  where table_schema in ('app', 'api') and grantee not in ('authenticated', 'backupengine_owner')$$, 'nor to a column');

select * from finish();
rollback;
