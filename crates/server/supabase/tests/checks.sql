-- Who may call what, and in which order it is found out; what stands when api.call is not in between.
begin;
\ir setup.psql
select no_plan();
select test.actor('stranger', (select user_id from test.actor where name = 'owner'));

-- The contract, said once more: o(wner), m(aintainer), w(riter), r(eader); p where pending devices may; f where a
-- one-time code must be fresh. `-` in who: an operation without a device.
create table test.contract (op text, who text, writes boolean);
insert into test.contract values
  ('device-approve', 'op', true), ('device-list', 'omwrp', false), ('device-rename', 'omwr', true),
  ('device-revoke', 'omwrp', true), ('vault-create', 'o', true), ('vault-list', 'omwrp', false),
  ('envelope-put', 'o', true), ('envelope-change', 'o', true), ('mount', 'omwr', true), ('version', 'omwr', false), ('snapshot-list', 'omwr', false),
  ('urls', 'omwr', true), ('blob-list', 'omwr', false), ('session-list', 'omwr', false), ('session-open', 'omw', true),
  ('session-urls', 'omw', true), ('session-heartbeat', 'omw', true), ('session-commit', 'omw', true),
  ('session-abort', 'omw', true), ('snapshot-trash', 'of', true), ('snapshot-untrash', 'of', true),
  ('snapshot-hold', 'of', true), ('snapshot-tag', 'o', true), ('retention-set', 'of', true), ('gc-begin', 'om', true),
  ('gc-retire', 'om', true), ('gc-unretire', 'omw', true), ('gc-move', 'om', true), ('gc-purge', 'om', true),
  ('schedule-put', 'omwr', true), ('schedule-list', 'omwr', false), ('usage', 'omwr', false), ('audit-list', 'omwr', false),
  ('events', 'omr', false), ('place', 'omw', false);
select set_eq($$ select name from app.operation where name <> 'device-enroll' $$, $$ select op from test.contract $$,
  'every operation stands in the contract');
select is_empty($$ select op from test.contract join app.operation on name = op where mutates <> writes $$,
  'what writes uses up a nonce');

-- Arguments that name the caller's own device and a vault of its own where an operation asks for either: whatever is
-- refused now is refused for who asks.
create function test.args(who text) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'device', test.device(who), 'idem', gen_random_uuid()) $$;
create function test.asked(who text, op text, extra jsonb default '{}') returns text language sql as $$
  select test.try(who, op, case when op = 'device-approve' then test.args('pending') else test.args(who) end, extra) $$;

select is(test.asked(a.who, op), 'role_denied', format('a %s may not call %s', a.who, op))
  from test.contract c, unnest(array['owner', 'maintainer', 'writer', 'reader']) as a(who)
  where position(left(a.who, 1) in c.who) = 0;
select isnt(test.asked(a.who, op), 'role_denied', format('a %s may call %s', a.who, op))
  from test.contract c, unnest(array['owner', 'maintainer', 'writer', 'reader']) as a(who)
  where position(left(a.who, 1) in c.who) > 0;
select isnt_empty(format($$ select 1 where test.asked(%L, %L) in ('ok', 'bad_request', 'not_found', 'not_open') $$, a.who, op),
  format('a %s who calls %s fails for the arguments or not at all', a.who, op))
  from test.contract c, unnest(array['owner', 'maintainer', 'writer', 'reader']) as a(who)
  where position(left(a.who, 1) in c.who) > 0;
select is(test.asked('pending', op), 'device_pending', format('a pending device may not call %s', op))
  from test.contract where position('p' in who) = 0 or op = 'device-approve';
select isnt(test.asked('pending', op), 'device_pending', format('a pending device may call %s', op))
  from test.contract where position('p' in who) > 0 and op <> 'device-approve';

-- Each check alone, for every operation.
create function test.old_totp() returns jsonb language sql as $$
  select jsonb_build_object('amr', jsonb_build_array(
    jsonb_build_object('method', 'totp', 'timestamp', floor(extract(epoch from now())) - 601))) $$;
select is(test.asked('owner', op, '{"aal": "aal1"}'), 'aal2_required', format('%s needs aal2', op)) from test.contract;
select is(test.asked('owner', op, '{"aal": null}'), 'aal2_required', format('%s needs a claim of it', op)) from test.contract;
select is(test.asked('owner', op, jsonb_build_object('session_id', gen_random_uuid())), 'session_ended',
  format('%s needs a live login', op)) from test.contract;
select is(test.asked('stranger', op), 'unknown_device', format('%s needs a device', op)) from test.contract;
select is(test.asked('owner', op, '{"device_key": null}'), 'unknown_device', format('%s is closed to a mere token', op))
  from test.contract;
select is(test.asked('owner', op, jsonb_build_object('device_key', test.claims('bob') -> 'device_key')), 'unknown_device',
  format('%s is closed to a device of another user', op)) from test.contract;
select is(test.asked('revoked', op), 'device_revoked', format('%s is closed to a revoked device', op)) from test.contract;
select is(test.asked('owner', op, '{"nonce": null}'), 'bad_signature', format('%s needs a nonce', op))
  from test.contract where writes;
select is(test.asked('owner', op, test.old_totp()) = 'fresh_totp_required', position('f' in who) > 0 or op = 'device-approve',
  format('a fresh one-time code for %s', op)) from test.contract;
select is(test.asked('owner', op, '{"amr": [{"method": "password", "timestamp": 99999999999}]}'), 'fresh_totp_required',
  format('no other method stands for it in %s', op)) from test.contract where position('f' in who) > 0;
select is(test.asked('owner', op, e.claims), 'fresh_totp_required', format('%s with %s', op, e.claims))
  from test.contract, (values ('{"amr": null}'::jsonb), ('{"amr": "totp"}'), ('{"amr": []}'),
    ('{"amr": [{"method": "totp"}]}'), ('{"amr": ["totp"]}'), ('{"amr": [{"method": "totp", "timestamp": "x"}]}')) as e(claims)
  where op = 'retention-set';
select is(test.code('owner', 'no-such-thing'), 'no_such_operation', 'an operation that is none');
select is(test.code('owner', 'version; select'), 'no_such_operation', 'nor can one be written in');
select is(test.try('owner', 'version', jsonb_build_object('vault', v)), r, format('the vault %s', v))
  from (values ('', 'bad_request'), ('0', 'bad_request'), (repeat('G', 32), 'bad_request'), (repeat('A', 32), 'bad_request'),
    (repeat('0', 64), 'bad_request'), (test.vault(9), 'not_found'), (test.vault(2), 'not_found')) as e(v, r);
select is(test.code(null, 'version'), 'aal2_required', 'no claims at all');

-- The login itself: only as long as it stands, confirmed.
update auth.sessions set aal = 'aal1' where id = (select login from test.actor where name = 'reader');
select is(test.asked('reader', 'usage'), 'session_ended', 'a login that lost its second factor');
update auth.sessions set aal = 'aal2', not_after = now() - interval '1 second'
  where id = (select login from test.actor where name = 'reader');
select is(test.asked('reader', 'usage'), 'session_ended', 'a login past its time');
update auth.sessions set not_after = now() + interval '1 second'
  where id = (select login from test.actor where name = 'reader');
select is(test.asked('reader', 'usage'), 'ok', 'a login within its time');
select is(test.asked('reader', 'usage', jsonb_build_object('session_id', test.claims('bob') -> 'session_id')),
  'session_ended', 'the login of another user');

-- The order: whatever else is wrong, what comes first is said.
select is(test.try('revoked', 'retention-set', '{}', '{"aal": "aal1", "nonce": "00", "session_id": null}'), 'aal2_required',
  'aal2 before all');
select is(test.try('revoked', 'retention-set', '{}', jsonb_build_object('session_id', gen_random_uuid(), 'nonce', null)),
  'session_ended', 'then the login');
select is(test.try('stranger', 'retention-set', '{}', '{"nonce": null}'), 'unknown_device', 'then the device');
select is(test.try('revoked', 'retention-set', '{}', '{"nonce": null}'), 'device_revoked', 'then revocation');
select is(test.try('pending', 'retention-set', '{}', '{"nonce": null}'), 'device_pending', 'then approval');
select is(test.code('reader', 'mount', '{"snapshots": 1}', '{"nonce": "0a"}'), 'ok', 'a nonce is used up');
select is(test.try('reader', 'retention-set', '{}', '{"nonce": "0a"}'), 'replayed', 'then the nonce');
select is(test.try('reader', 'retention-set', '{}', test.old_totp()), 'role_denied', 'then the role');
select is(test.try('owner', 'retention-set', '{}', test.old_totp()), 'fresh_totp_required', 'then the one-time code');
select is(test.try('owner', 'retention-set', jsonb_build_object('vault', test.vault(9), 'idem', 'x')), 'bad_request',
  'then the arguments');
select is(test.try('owner', 'retention-set', jsonb_build_object('vault', test.vault(9), 'idem', 'x', 'trash_days', 20)),
  'not_found', 'then what is there');

-- Nonces.
select is(test.code('owner', 'mount', '{"snapshots": 1}', '{"nonce": "0a"}'), 'ok', 'each device has its own');
select is(test.code('reader', 'mount', '{"snapshots": 1}', '{"nonce": "0a"}'), 'replayed', 'one counts once');
select is(test.code('reader', 'mount', '{"vault": "x", "snapshots": 1}', '{"nonce": "0b"}'), 'bad_request', 'a refused call');
select is(test.code('reader', 'mount', '{"snapshots": 1}', '{"nonce": "0b"}'), 'ok', 'leaves its nonce free');
select is(test.code('reader', 'usage', '{}', '{"nonce": "0b"}'), 'ok', 'what only reads uses none up');
update app.nonce set expires_at = now() - interval '1 second';
do $$ begin for i in 1..400 loop perform test.call('reader', 'mount', '{"snapshots": 0}'); end loop; end $$;
select is((select count(*) from app.nonce where expires_at < now()), 0::bigint, 'old nonces are forgotten by and by');

-- The same word again.
select is(test.code('owner', 'vault-create', jsonb_build_object('vault', test.vault(7), 'root_public', test.b64(sha256('c')),
  'certificate', test.b64('c'), 'idem', 'again')), 'ok', 'a vault');
create table test.twice as
  select test.call('owner', 'session-open', jsonb_build_object('vault', test.vault(7), 'kind', 'push', 'idem', 'w')) a,
         null::jsonb b;
update test.twice set b =
  test.call('owner', 'session-open', jsonb_build_object('vault', test.vault(7), 'kind', 'push', 'idem', 'w'));
select is(a, b, 'the same word has the same answer') from test.twice;
select is((select next_session from app.vault where id = decode(test.vault(7), 'hex')), 2::bigint, 'and does nothing again');
select is(test.try('owner', 'session-open', jsonb_build_object('vault', test.vault(7), 'kind', 'heal', 'idem', 'w')),
  'bad_request', 'but it stands for one call only');
select is(test.try('owner', 'session-open', jsonb_build_object('vault', test.vault(7), 'kind', 'push', 'idem', i)),
  r, format('a word of %s characters', length(i)))
  from (values ('', 'bad_request'), (repeat('x', 64), 'ok'), (repeat('x', 65), 'bad_request')) as e(i, r);
select is(test.try('writer', 'session-open', jsonb_build_object('vault', test.vault(7), 'kind', 'push', 'idem', 'w')),
  'ok', 'another device has words of its own');
update app.idem set expires_at = now() where key = 'w';
select is(test.call('owner', 'session-open', jsonb_build_object('vault', test.vault(7), 'kind', 'push', 'idem', 'w')) ->> 'session',
  '2', 'after a day it is a new word');

-- Past api.call. The front itself can do nothing but call.
create function test.front(statement text) returns text language plpgsql as $$
begin
  set local session authorization backupengine_front;
  execute statement;
  raise exception using errcode = 'ZZ000', message = 'ok';
exception when sqlstate 'ZZ000' then return 'ok'; when others then return sqlstate;
end $$;
select is(test.front(s), '42501', s) from (values
  ('select * from app.device'), ('select api.op_device_list(''{}'')'), ('select app.identify()'), ('set role service_role'),
  ('set role backupengine_owner'), ('set role postgres'), ('select * from auth.users'), ('select app.configure(''eu'', ''b'', 1)')) as e(s);
select is(test.raw('owner', 'select api.call(''{}'', ''version'', ''{}'')'), '42501', 'authenticated cannot call as the front');

-- Whoever has a token and no signature sees nothing and does nothing.
create view test.readable as
  select format('select from app.%I', relname) as statement, relname::text as name from pg_class
  where relnamespace = 'app'::regnamespace and relkind = 'r' and has_table_privilege('authenticated', oid, 'select');
select cmp_ok(test.raw('owner', statement)::integer, '>', 0, statement || ' as an owner') from test.readable
  where name in ('tenant', 'member', 'device', 'vault', 'access', 'session', 'lease', 'audit', 'deployment', 'operation');
select is(test.raw('owner', statement, e.claims), '0', format('%s %s', statement, e.what)) from test.readable,
  (values ('at aal1', '{"aal": "aal1"}'::jsonb), ('without a device', '{"device_key": null}'),
    ('after its login ended', jsonb_build_object('session_id', gen_random_uuid()))) as e(what, claims);
select is(test.raw('revoked', statement), '0', format('%s of a revoked device', statement)) from test.readable;
select is(test.raw('stranger', statement), '0', format('%s of an unknown device', statement)) from test.readable;
select is(test.raw('pending', statement), case name when 'vault' then '2' when 'device' then '1' when 'tenant' then '1'
    when 'deployment' then '1' when 'operation' then (select count(*)::text from app.operation) else '0' end,
  format('%s of a pending device', statement)) from test.readable;
select is(test.raw('owner', format('select api.%s(''{}'')', 'op_' || replace(op, '-', '_')), '{"device_key": null}'),
  'PT401 unknown_device', format('%s without the front', op)) from test.contract
  where op in ('device-list', 'vault-list', 'device-approve', 'device-revoke');
select is(test.raw('owner', 'select app.enroll(''{}'')', '{"aal": "aal1"}'), 'PT403 aal2_required', 'enrolment looks for itself');

-- Tenants are apart, whatever is asked.
select is(test.raw('bob', format('select from app.%I where %I = %L', name,
    case name when 'tenant' then 'id' else 'tenant' end, (select tenant from app.device where encode(id, 'hex') = test.device('owner')))),
  '0', format('nothing of another tenant in %s', name))
  from test.readable where name not in ('deployment', 'operation');
select is(test.try('bob', op, test.args('owner') || jsonb_build_object('kind', case op when 'session-open' then 'push' else 'packs' end,
    'snapshots', 5, 'want', '[]'::jsonb, 'blobs', '[]'::jsonb, 'limit', 5, 'after', 0, 'trashed', false, 'session', 1,
    'sessions', '[1]'::jsonb, 'hold', true, 'label', '', 'trash_days', 20, 'gc_epoch', 0, 'version', 0, 'packs', '[]'::jsonb,
    'moves', '[]'::jsonb, 'rule_sealed', '', 'next_due', 1, 'seconds', 0, 'role', 'owner', 'certificate', 'AAAA',
    'name_sealed', 'AAAA', 'id', repeat('0', 16), 'epoch', 0, 'sealed', 'AAAA', 'sha256', test.b64(sha256('\x000000'))
    ) || case when op = 'envelope-put' then '{"kind": "recovery"}'::jsonb
              when op = 'session-commit' then test.commit('bob', test.vault(1), 1) else '{}' end),
  'not_found', format('%s of another tenant is not found', op))
  from test.contract where op not in ('device-list', 'vault-list', 'vault-create', 'usage', 'audit-list');

-- Writes past the operations: policies and column rights.
select is(test.raw(who, s), r, format('%s: %s', who, s)) from (values
  ('owner', 'delete from app.snapshot', '42501'),
  ('owner', 'truncate app.nonce', '42501'),
  ('owner', 'update app.device set role = ''owner''', '42501'),
  ('owner', 'update app.device set status = ''active''', '42501'),
  ('owner', 'update app.tenant set quota_bytes = null', '42501'),
  ('owner', 'update app.envelope set sealed = ''x''', '42501'),
  ('owner', 'update app.audit set result = ''ok''', '42501'),
  ('owner', 'insert into app.audit select * from app.audit', '42501'),
  ('owner', 'update app.member set role = ''owner''', '42501'),
  ('owner', 'update app.operation set fresh_totp = false', '42501'),
  ('owner', 'update app.deployment set region = ''us''', '42501'),
  ('reader', 'update app.vault set snap_version = 0', '0'),
  ('reader', 'update app.tenant set used_bytes = 0', '0'),
  ('reader', 'update app.session set state = ''expired''', '0'),
  ('reader', 'insert into app.vault (id, tenant, bucket, root_public) select sha256(id), tenant, bucket, root_public from app.vault', '42501'),
  ('writer', 'insert into app.vault (id, tenant, bucket, root_public) select substr(sha256(id), 1, 16), tenant, bucket, root_public from app.vault', '42501'),
  ('owner', 'insert into app.vault (id, tenant, bucket, root_public) select substr(sha256(id), 1, 16), tenant, bucket, root_public from app.vault', '2'),
  ('owner', 'insert into app.vault (id, tenant, bucket, root_public) select substr(sha256(id), 1, 16), gen_random_uuid(), bucket, root_public from app.vault', 'PT409 region_mismatch'),
  ('writer', 'update app.session set state = ''committed''', '0'),
  ('writer', 'update app.device set name_sealed = ''x''', '1'),
  ('writer', 'update app.snapshot set state = ''purged''', '0'),
  ('maintainer', 'insert into app.session (tenant, vault, s, device, kind, acked_epoch) select tenant, vault, 99, device, ''push'', 0 from app.session limit 1', '42501')
) as e(who, s, r);

select * from finish();
rollback;
