-- Every operation by every role, and what api.call asks before any of them. The table is written out, not read from
-- app.operation.
begin;
\ir setup.psql
select no_plan();

-- Called without any argument: `-` is a refusal for the role, `p` for waiting; `a` gets as far as the arguments, `+` is
-- answered. In the order owner, maintainer, writer, reader, pending; then whether it needs a fresh one-time code even
-- so, and whether it uses up a nonce.
create table test.op (name text, roles text, fresh boolean, mutates boolean);
insert into test.op values
  ('device-enroll',     'aaaaa', true,  true),
  ('device-approve',    'a---p', true,  true),
  ('device-list',       '+++++', false, false),
  ('device-rename',     'a---p', false, true),
  ('device-revoke',     'a---p', true,  true),
  ('vault-create',      'a---p', false, true),
  ('vault-list',        '+++++', false, false),
  ('envelope-put',      'a---p', false, true),
  ('envelope-change',   'a---p', false, true),
  ('mount',             'aaaap', false, true),
  ('version',           'aaaap', false, false),
  ('snapshot-list',     'aaaap', false, false),
  ('urls',              'aaaap', false, true),
  ('blob-list',         'aaaap', false, false),
  ('session-list',      'aaaap', false, false),
  ('session-open',      'aaa-p', false, true),
  ('session-urls',      'aaa-p', false, true),
  ('session-heartbeat', 'aaa-p', false, true),
  ('session-commit',    'aaa-p', false, true),
  ('session-abort',     'aaa-p', false, true),
  ('snapshot-trash',    'a---p', true,  true),
  ('snapshot-untrash',  'a---p', true,  true),
  ('snapshot-hold',     'a---p', true,  true),
  ('snapshot-tag',      'a---p', false, true),
  ('retention-set',     'a---p', true,  true),
  ('gc-begin',          'aa--p', false, true),
  ('gc-retire',         'aa--p', false, true),
  ('gc-unretire',       'aaa-p', false, true),
  ('gc-move',           'aa--p', false, true),
  ('gc-purge',          'aa--p', false, true),
  ('schedule-put',      'a---p', false, true),
  ('schedule-list',     'aaaap', false, false),
  ('usage',             '++++p', false, false),
  ('audit-list',        'aaaap', false, false),
  ('events',            'aa-ap', false, false),
  ('place',             'aaa-p', false, false);
select set_eq('select name from test.op', 'select name from app.operation', 'every operation is here');

create function test.letter(who text, op text) returns text language sql as $$
  select case code when 'role_denied' then '-' when 'device_pending' then 'p' when 'bad_request' then 'a' when 'ok' then '+' else code end
  from test.try(who, op) as code $$;
select is((select string_agg(test.letter(who, name), '' order by n)
           from unnest('{owner,maintainer,writer,reader,pending}'::text[]) with ordinality as x(who, n)), roles, name)
  from test.op where name not in ('device-revoke', 'schedule-put');
-- These say who before they say what, by the device that is named: none is here.
select is((select string_agg(test.letter(who, name), '' order by n)
           from unnest('{owner,maintainer,writer,reader,pending}'::text[]) with ordinality as x(who, n)), letters, name)
  from (values ('device-revoke', 'a---p'), ('schedule-put', 'aaaap')) as x(name, letters);
select is(test.try(who, 'schedule-put', jsonb_build_object('vault', test.vault(1), 'device', test.device('owner'), 'idem', 'x',
  'rule_sealed', test.b64('r'), 'next_due', 1)), 'role_denied', 'schedule-put of another by a ' || who)
  from unnest('{maintainer,writer,reader}'::text[]) as who;

-- What is asked first.
create table test.first (what text, who text, extra jsonb, code text);
insert into test.first values
  ('aal1', 'owner', '{"aal": "aal1"}', 'aal2_required'),
  ('aal1 comes before all else', 'revoked', '{"aal": "aal1", "session_id": null}', 'aal2_required'),
  ('a login that ended', 'owner', jsonb_build_object('session_id', gen_random_uuid()), 'session_ended'),
  ('another user''s login', 'owner', jsonb_build_object('session_id', (select login from test.actor where name = 'bob')), 'session_ended');
select is(test.try(who, name, '{}', extra), code, concat_ws(': ', name, what)) from test.op, test.first;
insert into test.first values
  ('no device', 'owner', '{"device_key": null}', 'unknown_device'),
  ('another user''s device', 'owner', jsonb_build_object('device_key', (select encode(sha256(sign), 'hex') from test.actor where name = 'bob')), 'unknown_device'),
  ('a revoked device', 'revoked', '{}', 'device_revoked');
select is(test.try(who, name, '{}', extra), code, concat_ws(': ', name, what)) from test.op, test.first
  where code in ('unknown_device', 'device_revoked') and name <> 'device-enroll';
select is(test.try('owner', 'no-such-thing'), 'no_such_operation', 'an operation that is none');
select is(test.try('owner', 'no-such-thing', '{}', '{"aal": "aal1"}'), 'no_such_operation', 'whoever asks');

-- A fresh one-time code.
create function test.totp(ago integer, method text default 'totp') returns jsonb language sql as $$
  select jsonb_build_object('amr', jsonb_build_array(jsonb_build_object('method', method,
    'timestamp', floor(extract(epoch from now())) - ago))) $$;
select is(test.try('owner', name, '{}', test.totp(600)),
  case when fresh then 'fresh_totp_required' else test.try('owner', name) end, name || ': a code of ten minutes ago') from test.op;
select isnt(test.try('owner', name, '{}', test.totp(590)), 'fresh_totp_required', name || ': a code of just under ten minutes ago') from test.op;
select is(test.try('owner', 'retention-set', '{}', test.totp(0, 'password')), 'fresh_totp_required', 'a password is no code');
select is(test.try('owner', 'retention-set', '{}', '{"amr": null}'), 'fresh_totp_required', 'no word of it');
select is(test.try('owner', 'retention-set', '{}', '{"amr": "totp"}'), 'fresh_totp_required', 'a word that is no list');
select is(test.try('writer', 'retention-set', '{}', test.totp(600)), 'role_denied', 'the role comes first');

select is(test.try('owner', 'device-enroll', '{}', test.totp(600) || '{"aal": "aal1"}'), 'aal2_required', 'the login before all');

-- Nonces.
select is(test.try('owner', name, '{}', '{"nonce": null}'),
  case when mutates then 'bad_signature' else test.try('owner', name) end, name || ': without a nonce') from test.op;
create function test.twice(who text, op text, args jsonb, extra jsonb default '{}') returns text language plpgsql as $$
declare
  once jsonb := jsonb_build_object('nonce', replace(gen_random_uuid()::text, '-', ''));
begin
  perform test.call(who, op, args, once);
  return test.code(who, op, args, once || extra);
end $$;
select is(test.twice('owner', 'gc-begin', jsonb_build_object('vault', test.vault(1))), 'replayed', 'a call that was made before');
select is(test.twice('owner', 'version', jsonb_build_object('vault', test.vault(1))), 'ok', 'reads use up none');
do $$ begin
  perform test.call('owner', 'gc-begin', jsonb_build_object('vault', test.vault(1)), jsonb_build_object('nonce', repeat('ab', 16)));
end $$;
select is(test.code('bob', 'gc-begin', jsonb_build_object('vault', test.vault(2)), jsonb_build_object('nonce', repeat('ab', 16))),
  'ok', 'the nonce of another key is another''s');
select is(test.code('owner', 'gc-begin', jsonb_build_object('vault', test.vault(9)), jsonb_build_object('nonce', repeat('cd', 16))),
  'not_found', 'a call that is refused');
select is(test.code('owner', 'gc-begin', jsonb_build_object('vault', test.vault(1)), jsonb_build_object('nonce', repeat('cd', 16))),
  'ok', 'uses up none');
select is((select max(expires_at - now()) from app.nonce), interval '10 minutes', 'they are kept for ten minutes');

-- The same word again.
create function test.days(n integer, word text) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'trash_days', n, 'idem', word) $$;
select is(test.code('owner', 'retention-set', test.days(50, 'w')), 'ok', 'a word');
do $$ begin perform test.call('owner', 'retention-set', test.days(90, 'x')); end $$;
select is(test.code('owner', 'retention-set', test.days(50, 'w')), 'ok', 'the same call again');
select is((select trash_days from app.vault where encode(id, 'hex') = test.vault(1)), 90, 'does nothing');
select is(test.code('owner', 'retention-set', test.days(60, 'w')), 'bad_request', 'for another call it is refused');
select is(test.code('owner', 'retention-set', test.days(60, '')), 'bad_request', 'no word is none');
select is(test.code('owner', 'retention-set', test.days(60, repeat('w', 65))), 'bad_request', '65 letters are too many');
update app.idem set expires_at = now();
select is(test.code('owner', 'retention-set', test.days(95, 'w')), 'ok', 'after a day it is a new word');
select is((select trash_days from app.vault where encode(id, 'hex') = test.vault(1)), 95, 'and does what it says');

create function test.opened(who text) returns jsonb language sql as $$
  select test.call(who, 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', 'push', 'idem', 'same')) -> 'session' $$;
select isnt(test.opened('owner'), test.opened('writer'), 'another device''s word is another word');

-- What belongs to one device, or to one vault, is of no use to others.
select is((select test.code('bob', 'device-enroll', jsonb_build_object('sign_public', test.b64(sign), 'seal_public', test.b64(seal),
    'device', encode(device, 'hex'), 'region', 'eu', 'idem', 'x'), jsonb_build_object('device_key', encode(sha256(sign), 'hex')))
  from test.actor where name = 'owner'), 'already_exists', 'a key is one user''s');
create table test.lease as select test.call('reader', 'mount', '{"snapshots": 0}') -> 'lease' ->> 'id' as id;
create function test.renew(who text, vault integer) returns text language sql as $$
  select test.code(who, 'urls', jsonb_build_object('vault', test.vault(vault), 'want', '[]'::jsonb, 'lease', id)) from test.lease $$;
select is(test.renew('reader', 1), 'ok', 'a lease is renewed by its device');
select is(test.renew('owner', 1), 'not_found', 'not by another');
select is(test.raw('owner', format('insert into app.lease (id, tenant, vault, device, snapshots, expires_at)
    select id, tenant, vault, app.my_device(), snapshots, now() from app.lease where id = %L
    on conflict (id) do update set expires_at = excluded.expires_at', (select id from test.lease))),
  '42501', 'nor past the operation: a policy says so');
do $$ begin
  perform test.call('owner', 'vault-create', jsonb_build_object('vault', test.vault(8), 'root_public', test.b64(sha256('h')),
    'certificate', test.b64('c'), 'idem', 'v8'));
end $$;
select is(test.renew('reader', 8), 'not_found', 'nor for another vault');

-- The audit.
create function test.entries() returns bigint language sql as $$ select count(*) from app.audit $$;
create table test.count as select test.entries() as n;
do $$ begin
  perform test.call('writer', 'version', jsonb_build_object('vault', test.vault(1)));
  perform test.call('writer', 'mount', jsonb_build_object('vault', test.vault(1), 'snapshots', 0));
end $$;
select is(test.entries(), n + 1, 'what changes something is written down, what reads is not') from test.count;
select is((select concat_ws(' ', op, result, encode(actor_device, 'hex') = test.device('writer'),
    actor_user = (select user_id from test.actor where name = 'writer'), login = (select login from test.actor where name = 'writer'),
    args_digest = sha256(convert_to(jsonb_build_object('vault', test.vault(1), 'snapshots', 0)::text, 'UTF8')))
  from app.audit order by tenant = '00000000-0000-0000-0000-000000000000', at desc, number desc limit 1), 'mount ok t t t t', 'by whom and with what');
create function test.refuse(claims jsonb) returns void language plpgsql as $$
begin
  set local session authorization backupengine_front;
  perform api.note_refusal(claims, 'mount', 'not_found', repeat('11', 32));
  set local session authorization default;
end $$;
select test.refuse(test.claims('writer')) \g /dev/null
select is((select concat_ws(' ', op, result, encode(actor_device, 'hex') = test.device('writer'), encode(args_digest, 'hex') = repeat('11', 32))
  from app.audit where result <> 'ok' order by number desc limit 1), 'mount not_found t t', 'a refusal is written down');
select test.refuse('{}') \g /dev/null
select is((select concat_ws(' ', number, op, result, actor_user) from app.audit where tenant = '00000000-0000-0000-0000-000000000000'),
  '1 mount not_found', 'also nobody''s');
select test.refuse(test.claims('writer') || jsonb_build_object('sub', (select user_id from test.actor where name = 'bob'))) \g /dev/null
select is((select concat_ws(' ', op, result, actor_device) from app.audit where result <> 'ok' and tenant = (
    select m.tenant from app.member m join test.actor a on a.user_id = m.user_id where a.name = 'bob')), 'mount not_found',
  'with no device that is another''s');
select is((select string_agg(a.number::text, ' ' order by a.number) from app.audit a where tenant = h.tenant),
  (select string_agg(n::text, ' ' order by n) from generate_series(1, h.number) as n), 'without a gap') from app.audit_head h;
-- The chain, made again by its own rule.
select is_empty($$
  select number from (select *, lag(chain, 1, '') over (partition by tenant order by number) as before from app.audit) as a
  where chain <> sha256(before || convert_to(concat_ws('|', tenant, number, (extract(epoch from at) * 1000000)::bigint,
    coalesce(actor_user::text, '-'), coalesce(encode(actor_device, 'hex'), '-'), coalesce(login::text, '-'), op,
    encode(args_digest, 'hex'), result), 'UTF8'))$$, 'every link of every chain holds');

-- What the front may not do by itself.
create function test.front(statement text) returns text language plpgsql as $$
begin
  perform set_config('request.jwt.claims', '', true);
  set local session authorization backupengine_front;
  execute statement;
  raise exception using errcode = 'ZZ000';
exception
  when sqlstate 'ZZ000' then return 'ok';
  when others then return sqlstate;
end $$;
select is(test.front(statement), '42501', statement) from (values
  ('select 1 from app.vault'), ('select 1 from auth.users'), ('select api.op_usage(''{}'')'), ('select app.enroll(''{}'')'),
  ('set local role service_role'), ('set local role backupengine_owner'), ('select app.configure(''us'', ''b'', null)')) as x(statement);
select is(test.front(format('set local role authenticated; select api.call(%L, ''usage'', ''{}'')', test.claims('owner'))), '42501',
  'authenticated may not call: no operation begins a second time');
select matches(test.front(format('set local role authenticated; select api.%I(%L)', 'op_' || replace(name, '-', '_'), '{}')),
  '^PT40[03]$', name || ': past api.call, without a word of who asks') from test.op where name <> 'usage';
select is(test.front('set local role authenticated; select 1 / (api.op_usage(''{}'') is null)::integer'), 'ok',
  'usage: there is nothing to tell');

select * from finish();
rollback;
