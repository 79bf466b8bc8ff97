-- Sessions of writing: the ledger's rules (crates/model/src/ledger.rs), announced bytes, quota, expiry.
begin;
\ir setup.psql
select no_plan();

create function test.opening(kind text default 'push', extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'kind', kind, 'idem', gen_random_uuid()) || extra $$;
create function test.of(s bigint, extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'session', s) || extra $$;
create function test.puts(s bigint, variadic blobs jsonb[]) returns jsonb language sql as $$
  select test.of(s, jsonb_build_object('blobs', to_jsonb(blobs))) $$;
create view test.account as select t.reserved_bytes as reserved, t.used_bytes as used, t.quota_bytes as quota from app.tenant t
  join app.device d on d.tenant = t.id where encode(d.id, 'hex') = test.device('owner');
create function test.silence(s bigint, hours integer) returns void language sql as $$
  update app.session x set last_seen = now() - make_interval(hours => hours) where x.s = silence.s $$;

-- Numbers.
select is(test.call('writer', 'session-open', test.opening()) - 'now', '{"session": 1, "version": 0, "gc_epoch": 0}', 'the first session is 1');
select is(test.call('owner', 'session-open', test.opening()) - 'now', '{"session": 2, "version": 0, "gc_epoch": 0}', 'the next one 2');
select is(test.code('owner', 'session-abort', test.of(2)), 'ok', 'one that was given up');
select is(test.call('owner', 'session-open', test.opening()) ->> 'session', '3', 'its number is not given again');
select is(test.try(who, 'session-open', test.opening(kind)), code, format('%s opens %s: %s', who, kind, code)) from (values
  ('writer', 'push', 'ok'), ('writer', 'compact', 'role_denied'), ('writer', 'heal', 'role_denied'), ('maintainer', 'push', 'role_denied'),
  ('maintainer', 'compact', 'ok'), ('maintainer', 'heal', 'ok'), ('owner', 'push', 'ok'), ('owner', 'compact', 'ok'), ('owner', 'heal', 'ok'),
  ('reader', 'push', 'role_denied'), ('writer', 'other', 'bad_request')) as e(who, kind, code);
savepoint used_up;
update app.vault set next_session = 4294967295 where id = decode(test.vault(1), 'hex');
select is(test.call('owner', 'session-open', test.opening()) ->> 'session', '4294967295', 'the last number');
select is(test.code('owner', 'session-urls', test.puts(4294967295, test.blob('pack', 4294967295, 1))), 'ok', 'it is one like others');
select is(test.code('owner', 'session-open', test.opening()), 'numbers_used_up', 'after it there is none');
select is(test.code('owner', 'session-open', test.opening()), 'numbers_used_up', 'and stays so');
rollback to used_up;

-- Announced blobs.
create function test.used_up(who text) returns text language sql as $$
  select test.call(who, 'session-list', jsonb_build_object('vault', test.vault(1), 'after', 0, 'limit', 1)) #>> '{sessions,0,packs}' $$;
select is(test.used_up('writer'), '0', 'no number is used up');
savepoint numbers;
select is(test.code('writer', 'session-urls', test.puts(1, test.blob('pack', 3, 1), test.blob('pack', 1, 1))), 'ok', 'two packs');
select is(test.used_up(who), '4', 'numbers that were announced are used up: ' || who) from unnest('{writer,owner,reader}'::text[]) who;
select is(test.code('writer', 'session-urls', test.puts(1, test.blob('pack', 4294967295, 1))), 'ok', 'the last one');
select is(test.used_up('writer'), '4294967295', 'after it there is none');
rollback to numbers;
select is(test.code('writer', 'session-urls', test.puts(1, test.blob('root', 0, 100))), 'ok', 'a root');
select is(test.used_up('writer'), '4294967295', 'with the root all are used up');
rollback to numbers;
select is(test.call('writer', 'session-urls', test.puts(1, test.blob('pack', 10, 400), test.blob('root', 0, 100))) - 'now', jsonb_build_object(
  'grants', '[null, null]'::jsonb, 'presign', jsonb_build_array(
  jsonb_build_object('at', '/grants/0', 'method', 'PUT', 'bucket', 'bucket', 'prefix', test.vault(1) || '/', 'key', 'p/00000001/0000000a',
    'length', 400, 'sha256', test.blob('pack', 10, 400) -> 'sha256', 'md5', null),
  jsonb_build_object('at', '/grants/1', 'method', 'PUT', 'bucket', 'bucket', 'prefix', test.vault(1) || '/', 'key', 'r/00000001',
    'length', 100, 'sha256', test.blob('root', 0, 100) -> 'sha256', 'md5', null))), 'grants for exactly these bytes');
select is((select reserved from test.account), 500::bigint, 'their bytes are reserved');
select is(test.code('writer', 'session-urls', test.puts(1, test.blob('pack', 10, 400))), 'ok', 'the same bytes are signed again');
select is((select reserved from test.account), 500::bigint, 'and counted once');
select is(test.code('writer', 'session-urls', test.puts(1, test.blob('pack', 11, 1), test.blob('pack', 10, 400), test.blob('pack', 12, 1))), 'ok', 'among others too');
select is((select reserved from test.account), 502::bigint, 'which are counted');
select is(test.call('writer', 'session-urls', test.puts(1, test.blob('pack', 10, 400) || jsonb_build_object('md5', test.b64(decode(md5('x'), 'hex')))))
  #>> '{presign,0,md5}', test.b64(decode(md5('x'), 'hex')), 'an MD5 is passed on');
select is(test.try(who, 'session-urls', test.puts(s, variadic blobs)), code, format('%s announces in %s: %s (%s)', who, s, code, what)) from (values
  ('writer', 1, array[test.blob('pack', 10, 401)], 'number_taken', 'another length'),
  ('writer', 1, array[test.blob('pack', 10, 400, 'y')], 'number_taken', 'other bytes'),
  ('writer', 1, array[test.blob('root', 0, 100, 'y')], 'number_taken', 'another root'),
  ('writer', 1, array[test.blob('pack', 20, 5), test.blob('pack', 20, 6)], 'number_taken', 'one number twice'),
  ('writer', 1, array[test.blob('pack', 20, 5), test.blob('pack', 20, 5)], 'ok', 'the same twice'),
  ('writer', 1, array[test.blob('pack', 0, 0)], 'bad_request', 'nothing'),
  ('writer', 1, array[test.blob('pack', 0, 268435456)], 'ok', 'the longest'),
  ('writer', 1, array[test.blob('pack', 0, 268435457)], 'bad_request', 'longer'),
  ('writer', 1, array[test.blob('pack', 4294967296, 1)], 'bad_request', 'a number beyond 32 bits'),
  ('writer', 1, array[test.blob('pack', -1, 1)], 'bad_request', 'a number below 0'),
  ('writer', 1, array[test.blob('root', 1, 1)], 'bad_request', 'a second root'),
  ('writer', 1, array[test.blob('index', 1, 1)], 'bad_request', 'another kind'),
  ('writer', 1, array[test.blob('pack', 0, 1) || '{"sha256": "AAAA"}'], 'bad_request', 'a short hash'),
  ('writer', 1, array[test.blob('pack', 0, 1) || '{"md5": "AAAA"}'], 'bad_request', 'another short hash'),
  ('writer', 1, array[test.blob('pack', 0, 1) || '{"length": 1.5}'], 'bad_request', 'half a byte'),
  ('writer', 1, array[test.blob('pack', 0, 1) - 'kind'], 'bad_request', 'no kind'),
  ('writer', 1, array['{}'::jsonb], 'bad_request', 'no blob'),
  ('writer', 3, array[test.blob('pack', 0, 1)], 'unknown_session', 'another device''s'),
  ('writer', 9, array[test.blob('pack', 0, 1)], 'unknown_session', 'none'),
  ('owner', 2, array[test.blob('pack', 0, 1)], 'not_open', 'one that has ended')) as e(who, s, blobs, code, what);
select is(test.try('writer', 'session-urls', test.of(1, jsonb_build_object('blobs', (select jsonb_agg(test.blob('pack', n, 1)) from generate_series(1000, 999 + c) n)))),
  code, format('%s at once', c)) from (values (256, 'ok'), (257, 'bad_request')) as e(c, code);

-- Quota.
update app.tenant t set quota_bytes = 602 where exists (select from app.device d where d.tenant = t.id and encode(d.id, 'hex') = test.device('owner'));
select is(test.try('owner', 'session-urls', test.puts(3, test.blob('pack', 0, 101))), 'quota_exceeded', 'one byte too many');
select is(test.code('owner', 'session-urls', test.puts(3, test.blob('pack', 0, 100))), 'ok', 'the last byte');
select is(test.try('writer', 'session-urls', test.puts(1, test.blob('pack', 13, 1))), 'quota_exceeded', 'then no more');
select is(test.code('writer', 'session-urls', test.puts(1, test.blob('pack', 10, 400))), 'ok', 'but what is reserved is signed again');
select is(test.code('owner', 'session-abort', test.of(3)), 'ok', 'a session is given up');
select is((select reserved from test.account), 502::bigint, 'and frees its bytes');
select is((select count(*) from app.announced where s = 3), 0::bigint, 'what it announced is forgotten');
select is(test.code('owner', 'session-abort', test.of(3)), 'ok', 'twice is no error');
select is((select reserved from test.account), 502::bigint, 'and frees nothing twice');
select is(test.try('owner', 'session-abort', test.of(1)), 'unknown_session', 'another device''s is not its to give up');
update app.tenant set quota_bytes = null;

-- Commit: session 1 announced packs 10, 11, 12 (400, 1, 1) and a root of 100.
create function test.done(extra jsonb default '{}') returns jsonb language sql as $$
  select test.commit('writer', test.vault(1), 1, '{"packs": 13, "bytes": 501}' || extra) $$;
create function test.found() returns jsonb language sql as $$ select test.stored(100, '[[10, 400], [12, 1]]') $$;
select is(test.try('writer', 'session-commit', test.done(extra), stored), code, format('a commit: %s (%s)', code, what)) from (values
  ('{}'::jsonb, test.found(), 'ok', 'a pack was given up'),
  ('{}', '{}', 'root_not_stored', 'nobody looked'),
  ('{}', test.stored(null, '[[10, 400], [12, 1]]'), 'root_not_stored', 'no root'),
  ('{}', test.stored(99, '[[10, 400], [12, 1]]'), 'root_not_stored', 'a short root'),
  ('{"root_size": 99, "bytes": 500}', test.stored(99, '[[10, 400], [12, 1]]'), 'root_not_stored', 'a root that was not announced'),
  ('{"root_size": 0, "bytes": 401}', test.stored(null, '[[10, 400], [12, 1]]'), 'bad_request', 'no snapshot without a root'),
  ('{}', test.stored(100, '[[10, 400]]'), 'objects_differ', 'a pack is missing'),
  ('{}', test.stored(100, '[[10, 400], [11, 1], [12, 1]]'), 'objects_differ', 'one more than it says'),
  ('{}', test.stored(100, '[[10, 401]]'), 'objects_differ', 'one of another length'),
  ('{}', test.stored(100, '[[9, 401]]'), 'objects_differ', 'one that was not announced'),
  ('{"packs": 12}', test.found(), 'objects_differ', 'a number past the end'),
  ('{"packs": 4294967295}', test.found(), 'ok', 'an end far off'),
  ('{"bytes": 502}', test.found(), 'objects_differ', 'more bytes'),
  ('{"bytes": 500}', test.found(), 'objects_differ', 'fewer bytes'),
  (jsonb_build_object('device', test.device('owner')), test.found(), 'wrong_session', 'another device''s snapshot'),
  (jsonb_build_object('label', test.b64(convert_to(repeat('x', 1025), 'UTF8'))), test.found(), 'label_too_long', 'a long label'),
  (jsonb_build_object('label', test.b64(convert_to(repeat('x', 1024), 'UTF8'))), test.found(), 'ok', 'the longest label'),
  ('{"label": ""}', test.found(), 'ok', 'no label'),
  ('{"session": 9}', test.found(), 'unknown_session', 'no session'),
  ('{"session": 3}', test.found(), 'unknown_session', 'another device''s session'),
  ('{"id": "00"}', test.found(), 'bad_request', 'a short id'),
  ('{"created": {"secs": 1, "nanos": 1000000000}}', test.found(), 'bad_request', 'a second too long'),
  ('{"created": null}', test.found(), 'bad_request', 'no time'),
  ('{"created": {"secs": -9223372036854775808, "nanos": 0}}', test.found(), 'ok', 'long ago'),
  ('{"head_len": -1}', test.found(), 'bad_request', 'a head below nothing'),
  ('{"meta_packs": {}}', test.found(), 'bad_request', 'no list'),
  ('{"meta_packs": [{"session": 1, "from": 0, "count": 0}]}', test.found(), 'bad_request', 'an empty run'),
  ('{"meta_packs": [{"session": 1, "from": 4294967295, "count": 2}]}', test.found(), 'bad_request', 'a run past all numbers'),
  (jsonb_build_object('meta_packs', (select jsonb_agg('{"session": 1, "from": 0, "count": 1}'::jsonb) from generate_series(1, 64))), test.found(), 'ok', '64 runs'),
  (jsonb_build_object('meta_packs', (select jsonb_agg('{"session": 1, "from": 0, "count": 1}'::jsonb) from generate_series(1, 65))), test.found(), 'bad_request', '65 runs'),
  ('{"gc_epoch": 1}', test.found(), 'bad_request', 'an epoch that is not yet'),
  ('{"stored": {"root": 100, "packs": [[10, 400], [12, 1]]}}', '{}', 'root_not_stored', 'the client''s word for what is stored')) as e(extra, stored, code, what);
select is(test.try('owner', 'session-commit', test.commit('owner', test.vault(1), 1), test.found()), 'unknown_session', 'by another device');
select is(test.try('owner', 'session-commit', test.commit('owner', test.vault(1), 2), test.found()), 'not_open', 'of what was given up');
select is(test.call('writer', 'session-commit', test.done(), test.found()) - 'now', '{"version": 1, "gc_epoch": 0}', 'a snapshot begins');
select is((select (reserved, used) from test.account), (0::bigint, 501::bigint), 'its bytes are used, none are reserved');
select is_empty('select from app.announced', 'what was announced is forgotten');
select is(test.call('writer', 'session-commit', test.done(), '{}') - 'now', '{"version": 1, "gc_epoch": 0}', 'word for word the same again');
select is((select used from test.account), 501::bigint, 'counts once');
select is(test.try('writer', 'session-commit', test.done('{"head_len": 41}'), test.found()), 'not_open', 'other words do not');
update app.snapshot set label = 'other';
select is(test.code('writer', 'session-commit', test.done(), '{}'), 'ok', 'a label that changed since does not matter');
select is(test.try('writer', op, test.puts(1, test.blob('pack', 14, 1))), 'not_open', format('after it no %s', op))
  from (values ('session-urls'), ('session-heartbeat'), ('session-abort')) as e(op);
select is(test.call('reader', 'vault-list') #>> '{vaults,0,used}', '501', 'the vault says what it takes');

-- Kinds that make no snapshot.
select is(test.call('maintainer', 'session-open', test.opening('compact')) ->> 'session', '4', 'a compaction');
select is(test.code('maintainer', 'session-urls', test.puts(4, test.blob('pack', 0, 70))), 'ok', 'it announces a pack');
select is(test.try('maintainer', 'session-commit', test.commit('maintainer', test.vault(1), 4, '{"root_size": 100, "bytes": 170}'), test.stored(100, '[[0, 70]]')),
  'ok', 'whatever root it may have');
select is(test.call('maintainer', 'session-commit', test.commit('maintainer', test.vault(1), 4, '{"root_size": 0, "bytes": 70}'), test.stored(null, '[[0, 70]]')) - 'now',
  '{"version": 1, "gc_epoch": 0}', 'the list does not move');
select is((select count(*) from app.snapshot), 1::bigint, 'nor grow');

-- A long session: each pack is looked up by key. Looking through all of them for each takes a quarter of a minute.
select is(test.call('owner', 'session-open', test.opening()) ->> 'session', '5', 'a long session');
select is((select count(*) from generate_series(0, 4095, 256) low where test.code('owner', 'session-urls', test.of(5, jsonb_build_object('blobs',
  (select jsonb_agg(test.blob('pack', n, 10)) from generate_series(low, low + 255) n)))) = 'ok'), 16::bigint, 'announces 4096 packs');
select test.call('owner', 'session-urls', test.puts(5, test.blob('root', 0, 100)));
prepare long_commit as select test.call('owner', 'session-commit', test.commit('owner', test.vault(1), 5, '{"packs": 4096, "bytes": 41060}'),
  test.stored(100, (select jsonb_agg(jsonb_build_array(n, 10)) from generate_series(0, 4095) n)));
savepoint long;
select performs_ok('long_commit', 5000, 'and commits them soon');
rollback to long;
select is(test.code('owner', 'session-abort', test.of(5)), 'ok', 'or gives them up');
delete from app.session where s = 5;
update app.vault set next_session = 5 where id = decode(test.vault(1), 'hex');

-- Epochs.
select is(test.call('writer', 'session-open', test.opening()) ->> 'session', '5', 'a session before packs are retired');
select test.call('writer', 'session-urls', test.puts(5, test.blob('pack', 0, 400), test.blob('pack', 1, 600), test.blob('root', 0, 100)));
update app.vault set gc_epoch = 3 where id = decode(test.vault(1), 'hex');
select is(test.try('writer', 'session-commit', test.commit('writer', test.vault(1), 5), test.stored()), 'counters_moved', 'has to take in what was');
select is(test.try('writer', 'session-commit', test.commit('writer', test.vault(1), 5, '{"gc_epoch": 2}'), test.stored()), 'counters_moved', 'all of it');
select is(test.try('writer', 'session-commit', test.commit('writer', test.vault(1), 5, '{"gc_epoch": 3}'), test.stored()), 'ok', 'then it may commit');
select is(test.try('writer', 'session-heartbeat', test.of(5, '{"gc_epoch": 4}')), 'bad_request', 'nobody knows what is not yet');
select is(test.call('writer', 'session-heartbeat', test.of(5, '{"gc_epoch": 3}')) - 'now', '{"version": 1, "gc_epoch": 3}', 'or says so on the way');
select is(test.call('writer', 'session-heartbeat', test.of(5, '{"gc_epoch": 1}')) ->> 'gc_epoch', '3', 'and does not unlearn it');
select is((select acked_epoch from app.session where s = 5), 3::bigint, 'ever');
select is(test.try('writer', 'session-commit', test.commit('writer', test.vault(1), 5), test.stored()), 'ok', 'to commit without a word');

-- Lists.
create function test.states(who text default 'reader') returns text language sql as $$
  select string_agg((s ->> 'session') || (s ->> 'kind') || ':' || (s ->> 'state'), ' ' order by n)
  from jsonb_array_elements(test.call(who, 'session-list', jsonb_build_object('vault', test.vault(1), 'after', 0, 'limit', 1000)) -> 'sessions') with ordinality x(s, n) $$;
select is(test.states(), '1push:committed 2push:expired 3push:expired 4compact:committed 5push:open', 'all sessions');
update app.session set retired = '{[0,2),[5,6)}', deleted = '{[0,1)}' where s = 1;
select is(test.call('writer', 'session-list', jsonb_build_object('vault', test.vault(1), 'after', 0, 'limit', 1)) , jsonb_build_object('gc_epoch', 3, 'more', true, 'sessions', jsonb_build_array(
  jsonb_build_object('session', 1, 'device', test.device('writer'), 'kind', 'push', 'state', 'committed', 'opened', floor(extract(epoch from now())), 'packs', 13,
    'bytes', 501, 'retired', '[{"session": 1, "from": 0, "count": 2}, {"session": 1, "from": 5, "count": 1}]'::jsonb,
    'deleted', '[{"session": 1, "from": 0, "count": 1}]'::jsonb, 'acked', 0, 'moved', '[]'::jsonb))), 'what is known of one');
select is(test.call('writer', 'session-list', jsonb_build_object('vault', test.vault(1), 'after', 4, 'limit', 1)) #>> '{more}', 'false', 'the last page');
select is(test.call('writer', 'session-list', jsonb_build_object('vault', test.vault(1), 'after', 5, 'limit', 1)) -> 'sessions', '[]', 'and after it');
select is(test.try('writer', 'session-list', jsonb_build_object('vault', test.vault(1)) || args), 'bad_request', args::text)
  from (values ('{"after": 0}'::jsonb), ('{"limit": 5}'), ('{"after": 0, "limit": 1001}'), ('{"after": -1, "limit": 1}')) as e(args);

-- Where an own open session lies, for the front.
create function test.place(who text, v text, s integer) returns text language plpgsql as $$
declare
  claims jsonb := test.claims(who);
  answer jsonb;
begin
  set local session authorization backupengine_front;
  answer := api.place(claims, v, s);
  set local session authorization default;
  return answer;
exception when others then return sqlerrm;
end $$;
select is(test.place('writer', test.vault(1), 5)::jsonb, jsonb_build_object('bucket', 'bucket', 'prefix', test.vault(1) || '/'), 'an own open session');
select is(test.place(who, test.vault(v), s), code, format('the place of %s''s session %s: %s', who, s, code)) from (values ('writer', 1, 1, 'not_open'), ('writer', 1, 3, 'not_open'),
  ('owner', 1, 5, 'not_open'), ('writer', 1, 77, 'not_open'), ('bob', 1, 5, 'not_found'), ('reader', 1, 5, 'role_denied'), ('revoked', 1, 5, 'device_revoked')) as e(who, v, s, code);

-- Silence.
select test.silence(5, 71);
select is(test.states(), '1push:committed 2push:expired 3push:expired 4compact:committed 5push:open', 'after 71 hours a session is open');
select is(test.code('writer', 'session-heartbeat', test.of(5)), 'ok', 'a sign of life');
select is((select last_seen from app.session where s = 5), now(), 'is written down');
select test.silence(5, 71);
select test.call('writer', 'session-urls', test.puts(5, test.blob('pack', 1, 600)));
select is((select last_seen from app.session where s = 5), now(), 'asking for grants is one');
select test.silence(5, 73);
select is(test.states(), '1push:committed 2push:expired 3push:expired 4compact:committed 5push:expired', 'after 73 it counts as expired');
select is(test.try('writer', op, test.puts(5, test.blob('pack', 1, 600))), 'not_open', format('%s is too late', op)) from (values ('session-urls'), ('session-heartbeat')) as e(op);
select is(test.try('writer', 'session-commit', test.commit('writer', test.vault(1), 5), test.stored()), 'not_open', 'so is a commit');
select is((select reserved from test.account), 1100::bigint, 'its bytes are still reserved');
select is(test.call('bob', 'session-open', jsonb_build_object('vault', test.vault(2), 'kind', 'push', 'idem', 'x')) ->> 'session', '1', 'another account opens one');
select is((select reserved from test.account), 1100::bigint, 'which is no matter of it');
select is(test.call('owner', 'session-open', test.opening()) ->> 'session', '6', 'until a device of the vault opens the next');
select is((select reserved from test.account), 0::bigint, 'then they are free');
select is((select state from app.session where s = 5), 'expired', 'it has ended');
select is_empty($$ select from app.announced where s = 5 $$, 'and what it announced is forgotten');

select * from finish();
rollback;
