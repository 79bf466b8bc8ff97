-- Vaults, envelopes, the list of snapshots, mount, grants to read, lists of blobs.
begin;
\ir setup.psql
select no_plan();
select test.actor('erin', test.user('erin')), test.enroll('erin');

create function test.making(v integer, extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(v), 'root_public', test.b64(sha256('e')), 'certificate', test.b64('cert'),
    'name_sealed', test.b64('name'), 'idem', gen_random_uuid()) || extra $$;
create function test.bytes(n integer) returns text language sql as $$ select test.b64(convert_to(repeat('x', n), 'UTF8')) $$;

-- Vaults.
select is(test.code('erin', 'mount', '{"snapshots": 5}'), 'not_found', 'no vault to mount yet');
select is(test.call('erin', 'vault-list') -> 'vaults', '[]', 'none in the list');
select is(test.try(who, 'vault-create', test.making(v, extra)), code, format('%s makes vault %s with %s: %s', who, v, left(extra::text, 40), code))
  from (values ('erin', 5, '{}'::jsonb, 'ok'), ('erin', 1, '{}', 'already_exists'), ('owner', 1, '{}', 'already_exists'),
    ('erin', 5, '{"vault": "05"}', 'bad_request'), ('erin', 5, '{"root_public": "AAAA"}', 'bad_request'),
    ('erin', 5, '{"certificate": ""}', 'bad_request'), ('erin', 5, jsonb_build_object('certificate', test.bytes(4097)), 'bad_request'),
    ('erin', 5, jsonb_build_object('certificate', test.bytes(4096)), 'ok'), ('erin', 5, '{"name_sealed": null}', 'ok'),
    ('erin', 5, jsonb_build_object('name_sealed', test.bytes(513)), 'bad_request')) as e(who, v, extra, code);
select is(test.call('erin', 'vault-create', test.making(5)) - 'created', jsonb_build_object('vault', test.vault(5),
  'root_public', test.b64(sha256('e')), 'region', 'eu', 'version', 0, 'gc_epoch', 0, 'used', 0, 'quota', null), 'a vault');
select is(test.call('erin', 'device-list') #> '{devices,0}' ->> 'name_sealed', test.b64('name'), 'its device has a name');
select is(test.call('erin', 'device-list') #> '{devices,0}' ->> 'certificate', test.b64('cert'), 'and a certificate');
select is(test.call('pending', 'vault-list') #>> '{vaults,0,root_public}', test.b64(sha256('a')), 'a pending device learns which');
select is(jsonb_array_length(test.call('pending', 'vault-list') -> 'vaults'), 1, 'of its own account');
select is(test.code('erin', 'vault-create', test.making(6)), 'ok', 'a second one');
select is(test.code('erin', 'mount', '{"snapshots": 5}'), 'bad_request', 'then which has to be said');
select is(test.call('erin', 'mount', jsonb_build_object('snapshots', 5, 'vault', test.vault(6))) #>> '{vault,vault}', test.vault(6),
  'and is mounted');

-- Envelopes.
create function test.envelope(id text, bytes bytea, extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'id', id, 'epoch', 1, 'kind', 'recovery', 'sealed', test.b64(bytes),
    'sha256', test.b64(sha256(bytes)), 'idem', gen_random_uuid()) || extra $$;
select is(test.call('owner', 'envelope-put', test.envelope('00000000000000aa', 'sealed')), jsonb_build_object('presign', jsonb_build_array(
  jsonb_build_object('at', '', 'method', 'PUT', 'bucket', 'bucket', 'prefix', test.vault(1) || '/', 'key', 'k/00000000000000aa',
    'length', 6, 'sha256', test.b64(sha256('sealed')), 'md5', test.b64(decode(md5('sealed'), 'hex'))))), 'a grant for its copy');
select is(test.try('owner', 'envelope-put', test.envelope(id, bytes::bytea, extra), claims), code, format('an envelope %s %s: %s', id, extra, code))
  from (values ('00000000000000aa', 'sealed', '{}'::jsonb, '{}'::jsonb, 'ok'),
    ('00000000000000aa', 'sealex', '{}', '{}', 'already_exists'),
    ('00000000000000aa', 'sealed', '{"epoch": 2}', '{}', 'already_exists'),
    ('00000000000000aa', 'sealed', '{"kind": "passphrase"}', '{}', 'already_exists'),
    ('00000000000000ab', 'sealed', '{"kind": "other"}', '{}', 'bad_request'),
    ('00000000000000ab', 'sealed', '{"epoch": -1}', '{}', 'bad_request'),
    ('00000000000000ab', 'sealed', '{"epoch": 1.5}', '{}', 'bad_request'),
    ('00000000000000ab', 'sealed', '{"epoch": 4294967295}', '{}', 'ok'),
    ('00000000000000ab', 'sealed', '{"epoch": 18446744073709551615}', '{}', 'bad_request'),
    ('aa', 'sealed', '{}', '{}', 'bad_request'), ('00000000000000AA', 'sealed', '{}', '{}', 'bad_request'),
    ('00000000000000ab', 'sealed', jsonb_build_object('sha256', test.b64(sha256('other'))), '{}', 'bad_request'),
    ('00000000000000ab', '', '{}', '{}', 'bad_request'),
    ('00000000000000ab', repeat('x', 65536), '{}', '{}', 'ok'), ('00000000000000ab', repeat('x', 65537), '{}', '{}', 'bad_request'),
    ('00000000000000ab', 'sealed', '{}', '{"amr": []}', 'ok')) as e(id, bytes, extra, claims, code);
update app.envelope set created_at = now() - interval '11 minutes';
select is(test.try('owner', 'envelope-put', test.envelope('00000000000000ab', 'x'), '{"amr": []}'), 'fresh_totp_required',
  'later on it takes a fresh one-time code');
select is(test.code('owner', 'envelope-put', test.envelope('00000000000000ab', 'x')), 'ok', 'with one it is added');

-- Changing them, all at once.
create function test.adding(id text, bytes bytea) returns jsonb language sql as $$
  select jsonb_build_object('id', id, 'epoch', 2, 'kind', 'recovery', 'sealed', test.b64(bytes), 'sha256', test.b64(sha256(bytes))) $$;
create function test.changing(extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'expected', '["00000000000000aa", "00000000000000ab"]'::jsonb,
    'keep', '["00000000000000ab"]'::jsonb, 'add', jsonb_build_array(test.adding('00000000000000ac', 'new')),
    'devices', '[]'::jsonb, 'commit', false, 'idem', gen_random_uuid()) || extra $$;
create function test.counting() returns text language sql as $$
  select string_agg(right(encode(id, 'hex'), 2) || '/' || epoch, ' ' order by id) from app.envelope
  where encode(vault, 'hex') = test.vault(1) $$;
create function test.given(who text, bytes bytea) returns jsonb language sql as $$
  select jsonb_build_object('device', test.device(who), 'sealed', test.b64(bytes)) $$;
select is(test.call('owner', 'envelope-change', test.changing()) -> 'presign', jsonb_build_array(jsonb_build_object('at', '/grants/0',
  'method', 'PUT', 'bucket', 'bucket', 'prefix', test.vault(1) || '/', 'key', 'k/00000000000000ac', 'length', 3,
  'sha256', test.b64(sha256('new')), 'md5', test.b64(decode(md5('new'), 'hex')))), 'first a grant for the copy');
select is(test.counting(), 'aa/1 ab/1', 'and nothing is changed');
select is(test.try('owner', 'envelope-change', test.changing(extra)), code, format('a change with %s: %s', left(extra::text, 60), code))
  from (values ('{"expected": ["00000000000000aa"]}'::jsonb, 'bad_request'),
    ('{"expected": ["00000000000000aa"], "keep": []}', 'envelopes_moved'),
    ('{"expected": ["00000000000000aa", "00000000000000ab", "00000000000000af"]}', 'envelopes_moved'),
    ('{"keep": [], "add": []}', 'bad_request'), ('{"keep": ["00000000000000af"]}', 'bad_request'),
    ('{"commit": null}', 'bad_request'), ('{"add": [{"id": "00"}]}', 'bad_request'), ('{"devices": [{}]}', 'bad_request'),
    (jsonb_build_object('add', jsonb_build_array(test.adding('00000000000000ac', 'x') || '{"kind": "device"}')), 'bad_request'),
    (jsonb_build_object('add', jsonb_build_array(test.adding('00000000000000ac', 'x') || jsonb_build_object('sha256', test.b64(sha256('y'))))), 'bad_request'),
    (jsonb_build_object('devices', jsonb_build_array(test.given('bob', 'k'))), 'not_found'),
    (jsonb_build_object('devices', jsonb_build_array(test.given('revoked', 'k'))), 'device_revoked')) as e(extra, code);
select is(test.counting(), 'aa/1 ab/1', 'what was refused changed nothing');
select is(test.code('owner', 'envelope-change', test.changing(
  jsonb_build_object('commit', true, 'devices', jsonb_build_array(test.given('reader', 'new keys'))))), 'ok', 'then it is committed');
select is(test.counting(), 'ab/1 ac/2', 'and one goes, one stays, one comes');
select is(test.call('reader', 'mount', '{"snapshots": 0}') ->> 'envelope', test.b64('new keys'), 'a device is given the new keys');
select is(test.call('writer', 'mount', '{"snapshots": 0}') ->> 'envelope', test.b64('keyring'), 'another what it had');
select is(test.try('owner', 'envelope-change', test.changing('{"commit": true}')), 'ok', 'the same again is no other change');
select is(test.try('owner', 'envelope-change', test.changing(jsonb_build_object('commit', true,
  'add', jsonb_build_array(test.adding('00000000000000ad', 'other'))))), 'envelopes_moved', 'of two at once the second is refused');
select is(test.counting(), 'ab/1 ac/2', 'and changes nothing');
update app.vault set created_at = now() - interval '11 minutes';
select is(test.try('owner', 'envelope-change', test.changing('{"commit": true}'), '{"amr": []}'), 'fresh_totp_required',
  'later on it takes a fresh one-time code');
update app.vault set created_at = now();

-- Snapshots 1 to 4: 1 and 3 by the writer, 2 and 4 by the owner; 5 is being written by the writer, 6 by the owner.
select test.push(case when n % 2 = 1 then 'writer' else 'owner' end, test.vault(1)) from generate_series(1, 4) n;
create function test.opening(who text) returns void language plpgsql as $$
declare
  s bigint := test.call(who, 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', 'push', 'idem', who)) -> 'session';
begin
  perform test.call(who, 'session-urls', jsonb_build_object('vault', test.vault(1), 'session', s, 'blobs',
    jsonb_build_array(test.blob('pack', 3, 400), test.blob('root', 0, 100))));
end $$;
select test.opening('writer'), test.opening('owner');

-- The list.
create function test.listed(args jsonb) returns text language sql as $$
  select string_agg(n ->> 'session', ' ') || case when (page ->> 'more')::boolean then ' ...' else '' end
  from (select test.call('reader', 'snapshot-list', jsonb_build_object('vault', test.vault(1), 'trashed', false) || args) as page) p,
    jsonb_array_elements(page -> 'snapshots') n group by page $$;
select is(test.listed('{"limit": 10}'), '4 3 2 1', 'newest first');
select is(test.listed('{"limit": 3}'), '4 3 2 ...', 'a page');
select is(test.listed('{"limit": 3, "before": 2}'), '1', 'and the next');
select is(test.listed('{"limit": 4}'), '4 3 2 1', 'a page that is just full');
select is(test.call('reader', 'snapshot-list', jsonb_build_object('vault', test.vault(1), 'trashed', false, 'limit', 1)), jsonb_build_object(
  'version', 4, 'more', true, 'snapshots', jsonb_build_array(jsonb_build_object('session', 4, 'id', '0000000000000004',
    'device', test.device('owner'), 'created', jsonb_build_object('secs', 1700000000, 'nanos', 5),
    'committed', floor(extract(epoch from now())), 'root_size', 100, 'head_len', 40, 'label', test.b64('label'), 'state', 'live',
    'hold', false, 'purge_after', null))), 'what is known of a snapshot');
select is(test.try('reader', 'snapshot-list', jsonb_build_object('vault', test.vault(1), 'trashed', false) || extra), 'bad_request', extra::text)
  from (values ('{}'::jsonb), ('{"limit": 0}'), ('{"limit": 1001}'), ('{"limit": "1"}'), ('{"limit": 1, "before": -1}'),
    ('{"limit": 1, "trashed": null}')) as e(extra);

-- Mount.
create function test.granted(answer jsonb) returns text language sql as $$
  select coalesce(string_agg(left(g ->> 'kind', 1) || (g ->> 'session') || '/' || (g ->> 'number') || ':' || (g ->> 'state')
    || coalesce('>' || (g ->> 'moved') || '/' || (g ->> 'moved_number'), ''), ' ' order by n), '')
  from jsonb_array_elements(answer -> 'grants') with ordinality as g(g, n) $$;
create function test.signed(answer jsonb) returns text language sql as $$
  select coalesce(string_agg((p ->> 'at') || '=' || (p ->> 'method') || ':' || (p ->> 'key'), ' ' order by n), '')
  from jsonb_array_elements(answer -> 'presign') with ordinality as p(p, n)
  where p ->> 'bucket' = 'bucket' and p ->> 'prefix' = test.vault(1) || '/' $$;
select is(test.granted(test.call('reader', 'mount', '{"snapshots": 2}')), 'r4/0:here p4/1:here', 'the newest root and its metadata');
select is(test.signed(test.call('reader', 'mount', '{"snapshots": 2}')),
  '/grants/0/url=GET:r/00000004 /grants/1/url=GET:p/00000004/00000001', 'each with its grant');
select is(test.granted(test.call('writer', 'mount', '{"snapshots": 2}')), 'r4/0:here', 'a writer gets no other''s packs');
select is(jsonb_array_length(test.call('reader', 'mount', '{"snapshots": 2}') #> '{snapshots,snapshots}'), 2, 'as many records as asked for');
select is(test.call('reader', 'mount', '{"snapshots": 2}') #>> '{snapshots,more}', 'true', 'and whether there are more');
select is(jsonb_array_length(test.call('reader', 'mount', '{"snapshots": 0}') #> '{snapshots,snapshots}'), 0, 'or none');
select is(jsonb_array_length(test.call('reader', 'mount', '{"snapshots": 4294967295}') #> '{snapshots,snapshots}'), 4, 'or all');
select is((select string_agg(e ->> 'id', ' ') from jsonb_array_elements(test.call('reader', 'mount', '{"snapshots": 0}') -> 'envelopes') e),
  '00000000000000ab 00000000000000ac', 'the envelopes');
select is(test.call('reader', 'mount', '{"snapshots": 0}') - array['vault', 'envelopes', 'snapshots', 'lease', 'grants', 'presign'],
  jsonb_build_object('envelope', test.b64('new keys'), 'certificate', test.b64('cert'), 'role', 'reader', 'device', test.device('reader'),
    'now', floor(extract(epoch from now()))), 'and what the device was given');
update app.snapshot set meta_packs = '{3,0,2,1,1,1,4,0,4294967000}' where s = 4;
select is(test.granted(test.call('reader', 'mount', '{"snapshots": 2}')), 'r4/0:here p3/0:here p3/1:here p1/1:here p4/0:here p4/1:here',
  'in their order, cut at the end of a session');
update app.session set packs = 1000 where s = 4;
select is(jsonb_array_length(test.call('reader', 'mount', '{"snapshots": 2}') -> 'grants'), 65, 'at most 64');
update app.session set packs = 2 where s = 4;
update app.snapshot set meta_packs = '{4,1,1}' where s = 4;

-- Leases.
create table test.lease as select test.call('reader', 'mount', '{"snapshots": 0}') #>> '{lease,id}' as id;
select is((select snapshots from app.lease where id::text = (select id from test.lease)), array[4::bigint], 'a lease on what is mounted');
update app.lease set expires_at = now() - interval '1 minute';
create function test.urls(want text, extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'want', coalesce((
    select jsonb_agg(jsonb_build_object('kind', case left(w, 1) when 'r' then 'root' else 'pack' end, 'session', split_part(substr(w, 2), '/', 1)::bigint,
      'from', split_part(w, '/', 2)::bigint, 'count', split_part(w, '/', 3)::bigint) order by n)
    from regexp_split_to_table(want, ' +') with ordinality as x(w, n)), '[]')) || extra $$;
select test.call('reader', 'urls', test.urls('r2/0/1 r4/0/1', jsonb_build_object('lease', id))) from test.lease;
select is((select (snapshots, expires_at) from app.lease where id::text = (select id from test.lease)),
  (array[2, 4]::bigint[], now() + interval '1 hour'), 'is renewed by asking for more, and keeps that too');
select is((select test.call('reader', 'mount', jsonb_build_object('snapshots', 0, 'lease', id)) #>> '{lease,id}' from test.lease),
  (select id from test.lease), 'and by mounting again');
select is(test.try('reader', 'urls', test.urls('r2/0/1', '{"lease": "x"}')), 'bad_request', 'a lease that is none');
select is(test.try('reader', 'urls', test.urls('r2/0/1', '{"lease": "00000000-0000-0000-0000-000000000001"}')), 'ok', 'one that was forgotten');
select isnt((select test.try('owner', 'urls', test.urls('r2/0/1', jsonb_build_object('lease', id))) from test.lease), 'ok', 'another device''s');
select isnt((select test.try('bob', 'mount', jsonb_build_object('snapshots', 0, 'lease', id)) from test.lease), 'ok', 'another account''s');

-- Grants.
select is(test.granted(test.call(who, 'urls', test.urls(want))), answer, format('%s asks for %s', who, want)) from (values
  ('reader', 'r1/0/1 p1/0/1', 'r1/0:here p1/0:here'),
  ('reader', 'p2/0/256', 'p2/0:here p2/1:here'),
  ('reader', 'p2/1/5 p1/0/1', 'p2/1:here p1/0:here'),
  ('reader', 'p2/2/5', ''),
  ('reader', 'p4/0/1 p4/0/1', 'p4/0:here p4/0:here'),
  ('reader', 'r9/0/1 p9/0/2', 'r9/0:gone p9/0:gone p9/1:gone'),
  ('reader', 'r0/0/1', 'r0/0:gone'),
  ('reader', 'p4294967295/4294967295/3', 'p4294967295/4294967295:gone'),
  ('reader', 'r5/0/1 p5/3/1', 'r5/0:gone p5/3:gone'),
  ('owner', 'r5/0/1 p5/3/1', 'r5/0:gone p5/3:gone'),
  ('owner', 'r6/0/1 p6/2/2', 'r6/0:here p6/2:gone p6/3:here'),
  ('maintainer', 'r2/0/1 p2/0/1', 'r2/0:here p2/0:here'),
  ('writer', 'r1/0/1 r2/0/1 r3/0/1', 'r1/0:here r2/0:here r3/0:here'),
  ('writer', 'p1/1/1 p3/1/1 p5/3/1', 'p1/1:here p3/1:here p5/3:here')) as e(who, want, answer);
select is(test.signed(test.call('owner', 'urls', test.urls('p9/0/1 p6/3/1'))), '/grants/1/url=GET:p/00000006/00000003', 'what is here is signed, nothing else');
select is(test.try('writer', 'urls', test.urls(want)), 'role_denied', format('a writer asks for %s', want)) from (values
  ('p1/0/1'), ('p1/0/2'), ('p1/1/2'), ('p2/1/1'), ('p4/1/1'), ('p6/3/1'), ('p9/0/1'), ('r1/0/1 p1/1/1 p2/0/1')) as e(want);
-- What a writer names as metadata of its own snapshot, but lies in another session, is not given to it.
update app.snapshot set meta_packs = '{3,1,1,1,0,2,2,0,2,4,1,1}' where s = 3;
select is(test.try('writer', 'urls', test.urls(want)), 'role_denied', format('naming %s in a commit does not help', want)) from (values
  ('p1/0/1'), ('p2/0/1'), ('p4/1/1')) as e(want);
select is(test.granted(test.call('writer', 'urls', test.urls('p3/1/1 p1/1/1'))), 'p3/1:here p1/1:here', 'what each of its own snapshots holds is');
update app.snapshot set state = 'trashed' where s = 4;
select is(test.granted(test.call('writer', 'mount', '{"snapshots": 2}')), 'r3/0:here p3/1:here', 'nor by mount');
update app.snapshot set state = 'live' where s = 4;
update app.snapshot set meta_packs = '{3,1,1}' where s = 3;
select is(test.try('reader', 'urls', test.urls('r1/0/1') || jsonb_build_object('want', want)), 'bad_request', want::text) from (values
  ('{}'::jsonb), ('[{}]'), ('[{"kind": "root", "session": 1, "from": 1, "count": 1}]'), ('[{"kind": "root", "session": 1, "from": 0, "count": 2}]'),
  ('[{"kind": "index", "session": 1, "from": 0, "count": 1}]'), ('[{"kind": "pack", "session": 1, "from": 0, "count": 0}]'),
  ('[{"kind": "pack", "session": 1, "from": 0, "count": 257}]'), ('[{"kind": "pack", "session": -1, "from": 0, "count": 1}]'),
  ('[{"kind": "pack", "session": 4294967296, "from": 0, "count": 1}]'),
  ('[{"kind": "pack", "session": 1, "from": 0, "count": 200}, {"kind": "pack", "session": 1, "from": 0, "count": 57}]')) as e(want);
select is(test.call('reader', 'urls', test.urls('r1/0/1') || '{"want": []}') -> 'grants', '[]', 'nothing wanted, nothing granted');
update app.session set deleted = '{[0,1)}' where s = 2;
insert into app.moved (tenant, vault, s, number, to_s, to_number) select tenant, vault, 2, 1, 3, 0 from app.session where s = 2;
select is(test.granted(test.call('reader', 'urls', test.urls('p2/0/2'))), 'p2/0:gone p2/1:moved>3/0', 'gone and moved');
update app.snapshot set state = 'trashed' where s = 4;
select is(test.granted(test.call('reader', 'urls', test.urls('r4/0/1 p4/0/1'))), 'r4/0:here p4/0:here', 'what is in the trash is still there');
select is(test.granted(test.call('reader', 'mount', '{"snapshots": 2}')), 'r3/0:here p3/1:here', 'but it is not the newest');
update app.snapshot set state = 'purged', purge_after = null where s = 4;
select is(test.granted(test.call('reader', 'urls', test.urls('r4/0/1'))), 'r4/0:gone', 'what was purged is not');
select is(test.listed('{"limit": 9, "trashed": true}'), null, 'nor in any list');

-- Lists of blobs: the front lists, leaving out what others are writing.
create function test.blobs(who text, args jsonb) returns jsonb language sql as $$
  select test.call(who, 'blob-list', jsonb_build_object('vault', test.vault(1)) || args) $$;
select is(test.blobs('reader', '{"kind": "packs"}'), jsonb_build_object('blobs', '[]'::jsonb, 'list', jsonb_build_object('at', '/blobs', 'bucket', 'bucket',
  'prefix', test.vault(1) || '/', 'under', 'p/', 'hidden', '[5, 6]'::jsonb, 'cursor', null)), 'all packs');
select is((test.blobs('reader', '{"kind": "roots", "cursor": "r/00000001"}') -> 'list') - array['at', 'bucket', 'prefix'],
  '{"under": "r/", "hidden": [5, 6], "cursor": "r/00000001"}', 'roots, going on');
select is((test.blobs('owner', '{"kind": "envelopes"}') -> 'list') - array['at', 'bucket', 'prefix'], '{"under": "k/", "hidden": [5], "cursor": null}', 'envelopes');
select is(test.blobs('owner', '{"kind": "packs", "session": 6}') #>> '{list,under}', 'p/00000006/', 'its own session');
select is(test.blobs('owner', '{"kind": "packs", "session": 5}'), '{"blobs": []}', 'nothing of what another is writing');
select is(test.blobs('writer', '{"kind": "packs", "session": 5}') #>> '{list,under}', 'p/00000005/', 'a writer sees its own');
select is(test.blobs('writer', '{"kind": "packs", "session": 1}') #>> '{list,under}', 'p/00000001/', 'from before as well');
select is(test.blobs('writer', '{"kind": "roots"}') #>> '{list,under}', 'r/', 'and roots');
select is(test.try('writer', 'blob-list', jsonb_build_object('vault', test.vault(1)) || args), 'role_denied', format('not %s', args))
  from (values ('{"kind": "packs"}'::jsonb), ('{"kind": "packs", "session": 2}'), ('{"kind": "packs", "session": 77}'), ('{"kind": "envelopes"}')) as e(args);
select is(test.try('reader', 'blob-list', jsonb_build_object('vault', test.vault(1)) || args), 'bad_request', args::text)
  from (values ('{}'::jsonb), ('{"kind": "all"}'), ('{"kind": "roots", "session": 1}'), ('{"kind": "packs", "session": -1}')) as e(args);
select is(test.call('reader', 'version', jsonb_build_object('vault', test.vault(1))) - 'now', '{"version": 4, "gc_epoch": 0}', 'the counters');

select * from finish();
rollback;
