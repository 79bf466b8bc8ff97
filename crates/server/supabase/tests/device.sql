-- Enrolment, approval by an owner and by the vault's root key, names, revocation.
begin;
\ir setup.psql
select no_plan();

create function test.enrolment(who text, extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('sign_public', test.b64(sign), 'seal_public', test.b64(seal), 'device', encode(device, 'hex'),
    'region', 'eu', 'idem', 'x') || extra from test.actor where name = who $$;
create function test.shown(who text, device text) returns jsonb language sql as $$
  select d from jsonb_array_elements(test.call(who, 'device-list') -> 'devices') d where d ->> 'device' = test.device(device) $$;

-- The first device makes the account.
select test.actor('carol', test.user('carol'));
select test.actor('carol2', (select user_id from test.actor where name = 'carol'));
select is(test.try('carol', 'device-enroll', test.enrolment('carol') || extra, claims), code, what) from (values
  ('{}'::jsonb, '{"aal": "aal1"}'::jsonb, 'aal2_required', 'enrolment needs aal2'),
  ('{}', jsonb_build_object('session_id', gen_random_uuid()), 'session_ended', 'and a live login'),
  ('{}', '{"nonce": null}', 'bad_signature', 'and a nonce'),
  ('{}', jsonb_build_object('amr', jsonb_build_array(jsonb_build_object('method', 'totp', 'timestamp',
     floor(extract(epoch from now()) - 600)))), 'fresh_totp_required', 'and a fresh one-time code'),
  ('{}', jsonb_build_object('device_key', test.claims('owner') -> 'device_key'), 'bad_signature', 'and its own signature'),
  ('{"region": "us"}', '{}', 'region_mismatch', 'and this region'),
  ('{"device": "00"}', '{}', 'bad_request', 'a short id'),
  ('{"sign_public": "AAAA"}', '{}', 'bad_request', 'a short key'),
  ('{"seal_public": "AAAA"}', '{}', 'bad_request', 'another short key'),
  ('{}', '{}', 'ok', 'all in order')) as e(extra, claims, code, what);
select is(test.enroll('carol') - 'device', '{"status": "active", "role": "owner", "region": "eu"}'::jsonb, 'the first is an owner');
select is(test.enroll('carol') ->> 'status', 'active', 'the same again is answered as before');
select is((select count(*) from app.member join test.actor using (user_id) where name = 'carol'), 1::bigint, 'one account');
select is(test.try('carol', 'device-enroll', test.enrolment('carol', jsonb_build_object('device', test.device('carol2')))),
  'already_exists', 'a key is one device');
select is(test.try('carol2', 'device-enroll', test.enrolment('carol2', jsonb_build_object('device', test.device('carol')))),
  '23505 duplicate key value violates unique constraint "device_pkey"', 'an id is one device''s (the front says already_exists)');
select is(test.enroll('carol2') - 'device', '{"status": "pending", "role": null, "region": "eu"}'::jsonb, 'the second waits');
select is(test.try('bob', 'device-enroll', test.enrolment('carol')), 'bad_signature', 'a key of somebody else');
select is((select count(distinct tenant) from app.member), 3::bigint, 'three accounts');
do $$ begin for i in 1..31 loop
  perform test.actor('c' || i, (select user_id from test.actor where name = 'carol')); perform test.enroll('c' || i);
end loop; end $$;
select test.actor('one-more', (select user_id from test.actor where name = 'carol'));
select is(test.try('one-more', 'device-enroll', test.enrolment('one-more')), 'too_many_requests', 'not without end');

-- Lists.
select is(jsonb_array_length(test.call('reader', 'device-list') -> 'devices'), 6, 'a list has all of the account');
select is(test.call('pending', 'device-list') #>> '{devices,0,device}', test.device('pending'), 'a pending one sees itself');
select is(jsonb_array_length(test.call('pending', 'device-list') -> 'devices'), 1, 'and no other');
select is(test.shown('reader', 'reader') - 'created' - 'last_seen' - 'sign_public' - 'seal_public' - 'device',
  jsonb_build_object('status', 'active', 'role', 'reader', 'name_sealed', null, 'seal_signature', null,
    'certificate', test.b64('cert'), 'current', true), 'what is known of a device');
select is(test.try('reader', 'device-enroll', test.enrolment('reader') || jsonb_build_object('seal_signature', test.b64('short'))),
  'bad_request', 'a signature that is none');
select is(test.code('reader', 'device-enroll', test.enrolment('reader') || jsonb_build_object('seal_signature',
  test.b64(convert_to(repeat('s', 64), 'UTF8')))), 'ok', 'a device says later that its key is its own');
select is(test.shown('owner', 'reader') ->> 'seal_signature', test.b64(convert_to(repeat('s', 64), 'UTF8')), 'which others see');
select is(test.shown('reader', 'owner') ->> 'current', 'false', 'one of them asks');

-- Approval by an owner.
select is(test.try(who, 'device-approve', test.approval(device, test.vault(v), role) || extra), code,
    format('%s approves %s: %s', who, device, code)) from (values
  ('owner', 'pending', 1, 'reader', '{}'::jsonb, 'ok'),
  ('owner', 'pending', 9, 'reader', '{}', 'not_found'),
  ('owner', 'pending', 2, 'reader', '{}', 'not_found'),
  ('owner', 'carol2', 1, 'reader', '{}', 'not_found'),
  ('owner', 'revoked', 1, 'reader', '{}', 'device_revoked'),
  ('owner', 'pending', 1, 'admin', '{}', 'bad_request'),
  ('owner', 'pending', 1, 'reader', '{"certificate": ""}', 'bad_request'),
  ('owner', 'pending', 1, 'reader', jsonb_build_object('certificate', test.b64(convert_to(repeat('x', 4097), 'UTF8'))), 'bad_request'),
  ('owner', 'pending', 1, 'reader', jsonb_build_object('certificate', test.b64(convert_to(repeat('x', 4096), 'UTF8'))), 'ok'),
  ('owner', 'pending', 1, 'reader', jsonb_build_object('envelope', test.b64(convert_to(repeat('x', 65537), 'UTF8'))), 'bad_request'),
  ('owner', 'pending', 1, 'reader', '{"envelope": null}', 'ok'),
  ('owner', 'pending', 1, 'reader', '{"certificate": "AA*="}', 'bad_request'),
  ('bob', 'pending', 1, 'reader', '{}', 'not_found'),
  ('reader', 'pending', 1, 'owner', '{}', 'role_denied'),
  ('reader', 'reader', 1, 'owner', '{}', 'role_denied'),
  ('pending', 'pending', 1, 'owner', '{}', 'device_pending'),
  ('pending', 'pending', 1, 'owner', '{"root_signature": "AAAA"}', 'device_pending')) as e(who, device, v, role, extra, code);

-- By the root key: the front verified it, and says whose it is.
create function test.proof(root text) returns jsonb language sql as $$
  select jsonb_build_object('root_key', encode(sha256(convert_to(root, 'UTF8')), 'hex')) $$;
select is(test.try('pending', 'device-approve', test.approval('pending', test.vault(1), 'owner'), test.proof('b')),
  'device_pending', 'another vault''s key');
select is(test.try('pending', 'device-approve', test.approval('pending', test.vault(2), 'owner'), test.proof('b')),
  'not_found', 'another account''s vault');
select is(test.try('pending', 'device-approve', test.approval('reader', test.vault(1), 'owner'), test.proof('a')),
  'device_pending', 'another device');
select is(test.code('pending', 'device-approve', test.approval('pending', test.vault(1), 'owner'), test.proof('a')
  || '{"amr": []}'), 'ok', 'itself, without any one-time code');
select is(test.shown('owner', 'pending') - 'created' - 'last_seen' - 'sign_public' - 'seal_public' - 'device' - 'name_sealed',
  jsonb_build_object('status', 'active', 'role', 'owner', 'seal_signature', null, 'certificate', test.b64('cert'),
    'current', false), 'it is an owner');
select is(test.call('pending', 'mount', '{"snapshots": 0}') ->> 'envelope', test.b64('keyring'), 'and has its keyring');
select is(test.code('owner', 'device-approve', test.approval('reader', test.vault(1), 'reader')
  || jsonb_build_object('envelope', test.b64('new'))), 'ok', 'an owner seals new keys to a device');
select is(test.call('reader', 'mount', '{"snapshots": 0}') ->> 'envelope', test.b64('new'), 'which reads them');
select is(test.code('owner', 'device-approve', test.approval('reader', test.vault(1), 'reader') || '{"envelope": null}'),
  'ok', 'or a new certificate alone');
select is(test.call('reader', 'mount', '{"snapshots": 0}') ->> 'envelope', test.b64('new'), 'and the keys stay');

-- What the front asks before it verifies.
create function test.front(who text, statement text) returns text language plpgsql as $$
declare
  claims jsonb := test.claims(who);
  answer text;
begin
  set local session authorization backupengine_front;
  execute statement into answer using claims;
  set local session authorization default;
  return answer;
exception when others then return sqlerrm;
end $$;
select is(test.front('pending', format('select api.root_key($1, %L)', test.vault(1))), encode(sha256('a'), 'hex'), 'the root key');
select is(test.front('pending', format('select api.root_key($1, %L)', test.vault(2))), null, 'of one''s own account');
select is(test.front('revoked', format('select api.root_key($1, %L)', test.vault(1))), 'device_revoked', 'not for a revoked one');
select is(test.front('pending', 'select api.root_key($1, ''x'')'), 'bad_request', 'of a vault');
select is(test.front('pending', format('select api.device_public($1, %L)', test.device('pending')))::jsonb, (
  select jsonb_build_object('sign_public', test.b64(sign), 'seal_public', test.b64(seal)) from test.actor where name = 'pending'),
  'a device''s keys');
select is(test.front('bob', format('select api.device_public($1, %L)', test.device('pending'))), null, 'of one''s own account');
select is(test.front('bob', format('select api.device_key(%L)', encode(sha256(sign), 'hex'))), encode(sign, 'hex'), 'a key by its id')
  from test.actor where name = 'revoked';
select is(test.front('bob', format('select api.device_key(%L)', id)), null, 'no key of that id')
  from (values (repeat('0', 64)), (''), ('zz'), (repeat('A', 64))) as e(id);
select is(test.front('bob', 'select api.deployment()')::jsonb, '{"region": "eu", "bucket": "bucket"}'::jsonb, 'the deployment');
select is(test.front('bob', 'select api.storage_profile()')::jsonb, '{"sse": true}'::jsonb, 'what its store honours');

-- Names.
create function test.name(device text, bytes integer) returns jsonb language sql as $$
  select jsonb_build_object('device', test.device(device), 'name_sealed', test.b64(convert_to(repeat('n', bytes), 'UTF8')),
    'idem', gen_random_uuid()) $$;
select is(test.code(who, 'device-rename', test.name(device, bytes)), code, format('%s names %s: %s', who, device, code))
  from (values ('reader', 'reader', 512, 'ok'), ('reader', 'reader', 513, 'bad_request'), ('reader', 'reader', 0, 'bad_request'),
    ('reader', 'writer', 5, 'role_denied'), ('owner', 'writer', 5, 'ok'), ('owner', 'bob', 5, 'not_found')) as e(who, device, bytes, code);
select is(test.shown('owner', 'writer') ->> 'name_sealed', test.b64('nnnnn'), 'the name is kept');

-- Revocation: the very next call is refused, the login is gone, what it wrote is dropped.
create function test.end(device text) returns jsonb language sql as $$
  select jsonb_build_object('device', test.device(device), 'idem', gen_random_uuid()) $$;
select is(test.try(who, 'device-revoke', test.end(device), extra), code, format('%s revokes %s: %s', who, device, code))
  from (values ('writer', 'reader', '{}'::jsonb, 'role_denied'), ('maintainer', 'writer', '{}', 'role_denied'),
    ('owner', 'writer', '{"amr": []}', 'fresh_totp_required'), ('owner', 'bob', '{}', 'not_found'),
    ('writer', 'writer', '{"amr": []}', 'ok'), ('owner', 'owner', '{"amr": []}', 'ok')) as e(who, device, extra, code);
select is(test.try('owner', 'device-revoke', '{"device": "x", "idem": "x"}'), 'bad_request', 'no device');
do $$ begin perform test.call('writer', 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', 'push', 'idem', 's'));
  perform test.call('writer', 'session-urls', jsonb_build_object('vault', test.vault(1), 'session', 1, 'blobs',
    jsonb_build_array(test.blob('pack', 0, 400)))); end $$;
select is((select sum(reserved_bytes) from app.tenant), 400::numeric, 'a push is under way');
select is(test.code('owner', 'device-revoke', test.end('writer')), 'ok', 'an owner revokes it');
select is(test.code('writer', 'usage'), 'session_ended', 'its login is gone');
insert into auth.sessions (id, user_id, aal) select login, user_id, 'aal2' from test.actor where name = 'writer';
select is(test.code('writer', 'usage'), 'device_revoked', 'a new one does not help');
select is(test.code('writer', 'device-revoke', test.end('writer')), 'device_revoked', 'in anything');
select is((select sum(reserved_bytes) from app.tenant), 0::numeric, 'nothing is reserved for it');
select is((select state from app.session), 'expired', 'its session has ended');
select is_empty('select from app.announced', 'and what it announced is forgotten');
select is(test.shown('owner', 'writer') ->> 'status', 'revoked', 'the list says so');
select is(test.code('owner', 'device-revoke', test.end('writer')), 'ok', 'twice is no error');
insert into auth.sessions (id, user_id, aal) select login, user_id, 'aal2' from test.actor where name = 'writer';
select is(test.try('writer', 'device-enroll', test.enrolment('writer')), 'device_revoked', 'its keys are of no use any more');
select is(test.code('carol2', 'device-revoke', test.end('carol2')), 'ok', 'a pending device revokes itself');
insert into auth.sessions (id, user_id, aal) select login, user_id, 'aal2' from test.actor where name = 'carol2';
select is(test.code('carol2', 'vault-list'), 'device_revoked', 'and is gone');
-- Two devices of one login: the login goes on with the other.
update test.actor set login = (select login from test.actor where name = 'c1') where name = 'c2';
select test.call('c1', 'device-list'), test.call('c2', 'device-list');
select is(test.code('carol', 'device-revoke', test.end('c1')), 'ok', 'one of two devices of a login');
select is(test.code('c2', 'device-list'), 'ok', 'the other goes on');

select * from finish();
rollback;
