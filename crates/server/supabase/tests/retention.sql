-- The trash, holds, labels, how long the trash is kept, schedules.
begin;
\ir setup.psql
select no_plan();

create function test.these(variadic s bigint[]) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'sessions', to_jsonb(s), 'idem', gen_random_uuid()) $$;
create function test.hold(s bigint, hold boolean) returns jsonb language sql as $$
  select test.these(s) || jsonb_build_object('hold', hold) $$;
create function test.days(n integer) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'trash_days', n, 'idem', gen_random_uuid()) $$;
create function test.version(who text default 'owner') returns bigint language sql as $$
  select (test.call(who, 'version', jsonb_build_object('vault', test.vault(1))) -> 'version')::bigint $$;
create function test.listed(trashed boolean) returns text language sql as $$
  select coalesce(string_agg(n ->> 'session' || ':' || (n ->> 'state'), ' ' order by (n ->> 'session')::bigint), '')
  from jsonb_array_elements(test.call('owner', 'snapshot-list',
    jsonb_build_object('vault', test.vault(1), 'limit', 10, 'trashed', trashed)) -> 'snapshots') as n $$;
create function test.due(session bigint) returns interval language sql as $$
  select purge_after - now() from app.snapshot where encode(vault, 'hex') = test.vault(1) and s = session $$;

select is(test.push('owner', test.vault(1)), 1::bigint, 'a snapshot');
select is(test.push('writer', test.vault(1)), 2::bigint, 'a second one');
select is(test.version(), 2::bigint, 'the version counts both');

-- Trash.
select is(test.code('owner', 'snapshot-trash', test.these(1)), 'ok', 'an owner puts one into the trash');
select is(test.listed(false), '2:live', 'it leaves the list');
select is(test.listed(true), '1:trashed', 'it is in the trash');
select is(test.due(1), interval '14 days', 'for 14 days of the server');
select is(test.version(), 3::bigint, 'the version moves with the list');
update app.snapshot set purge_after = purge_after - interval '3 days' where s = 1;
select is(test.code('owner', 'snapshot-trash', test.these(1)), 'ok', 'again is no error');
select is(test.due(1), interval '11 days', 'and begins no new time');
select is(test.version(), 3::bigint, 'nor moves the version');
select is(test.try('owner', 'snapshot-trash', test.these(2, 9)), 'not_found', 'one that is not there');
select is(test.listed(false), '2:live', 'takes nothing with it');
select is(test.code('owner', 'snapshot-trash', test.these(2) || '{"sessions": [1.5]}'), 'bad_request', 'half a session');
select is(test.code('owner', 'snapshot-trash', test.these(2) || '{"sessions": 1}'), 'bad_request', 'no list');
select is(test.code('owner', 'snapshot-trash', test.these(1) || jsonb_build_object('sessions',
  (select jsonb_agg(1) from generate_series(1, 1001)))), 'bad_request', '1001 at once');
select is(test.code('owner', 'snapshot-untrash', test.these(1, 1)), 'ok', 'an owner takes it back');
select is(test.listed(false), '1:live 2:live', 'into the list');
select is(test.due(1), null, 'without a time');
select is(test.version(), 4::bigint, 'and the version moves');
select is(test.code('owner', 'snapshot-untrash', test.these(1)), 'ok', 'again is no error');
select is(test.version(), 4::bigint, 'and moves nothing');
select is(test.code('owner', 'snapshot-untrash', test.these(1, 9)), 'not_found', 'what is not there cannot come back');

-- Holds.
select is(test.code('owner', 'snapshot-hold', test.hold(2, true)), 'ok', 'an owner holds one');
select is((select hold from app.snapshot where s = 2), true, 'it is held');
select is(test.version(), 5::bigint, 'the list says so');
select is(test.code('owner', 'snapshot-hold', test.hold(2, true)), 'ok', 'again is no error');
select is(test.version(), 5::bigint, 'and moves nothing');
select is(test.code('owner', 'snapshot-trash', test.these(1, 2)), 'held', 'what is held does not go into the trash');
select is(test.listed(false), '1:live 2:live', 'nor does what was named with it');
select is(test.code('owner', 'snapshot-hold', test.hold(2, true) || '{"hold": 1}'), 'bad_request', 'hold is yes or no');
select is(test.code('owner', 'snapshot-hold', test.hold(9, true)), 'not_found', 'what is not there is not held');
select is(test.code('owner', 'snapshot-hold', test.hold(2, false)), 'ok', 'and lets it go');
select is((select hold from app.snapshot where s = 2), false, 'it is held no more');

-- Labels.
create function test.label(session bigint, bytes integer) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'session', session, 'idem', gen_random_uuid(),
    'label', test.b64(decode(repeat('61', bytes), 'hex'))) $$;
select is(test.code('owner', 'snapshot-tag', test.label(2, 1024)), 'ok', 'a label of 1024 bytes');
select is((select length(label) from app.snapshot where s = 2), 1024, 'is kept');
select is(test.version(), 7::bigint, 'and the list moves');
select is(test.code('owner', 'snapshot-tag', test.label(2, 1025)), 'label_too_long', 'of 1025 not');
select is(test.code('owner', 'snapshot-tag', test.label(9, 3)), 'not_found', 'nor for what is not there');

-- How long the trash is kept.
create function test.kept() returns text language sql as $$
  select concat_ws(' ', trash_days, next_trash_days, next_trash_from - now()) from app.vault where encode(id, 'hex') = test.vault(1) $$;
select is(test.code('owner', 'retention-set', test.days(13)), 'bad_request', '13 days are too few');
select is(test.code('owner', 'retention-set', test.days(3651)), 'bad_request', '3651 too many');
select is(test.code('owner', 'retention-set', test.days(100)), 'ok', 'longer');
select is(test.kept(), '100', 'counts at once');
select is(test.code('owner', 'retention-set', test.days(20)), 'ok', 'shorter');
select is(test.kept(), '100 20 100 days', 'counts when the old time is over');
select is(test.code('owner', 'snapshot-trash', test.these(1)), 'ok', 'what goes into the trash now');
select is(test.due(1), interval '100 days', 'stays for the old time');
select is(test.code('owner', 'retention-set', test.days(30)), 'ok', 'another shorter one');
select is(test.kept(), '100 30 100 days', 'begins anew');
update app.vault set next_trash_from = now() + interval '1 second' where next_trash_from is not null;
select is(test.code('owner', 'snapshot-trash', test.these(2)), 'ok', 'a second before the old time is over');
select is(test.due(2), interval '100 days', 'the old time still counts');
select is(test.code('owner', 'snapshot-untrash', test.these(2)), 'ok', 'back');
update app.vault set next_trash_from = now() where next_trash_from is not null;
select is(test.code('owner', 'snapshot-trash', test.these(2)), 'ok', 'when it is over');
select is(test.due(2), interval '30 days', 'the new time counts');
select is(test.due(1), interval '100 days', 'but not for what was there before');
select is(test.code('owner', 'retention-set', test.days(25)), 'ok', 'shorter still');
select is(test.kept(), '30 25 30 days', 'goes by what counted last');
select is(test.code('owner', 'retention-set', test.days(30)), 'ok', 'the same as now');
select is(test.kept(), '30', 'takes the change back');

-- Schedules.
create function test.plan(who text, due interval, extra jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'device', test.device(who), 'rule_sealed', test.b64('r'),
    'next_due', app.seconds(now() + due), 'idem', gen_random_uuid()) || extra $$;
create function test.plans(who text) returns text language sql as $$
  select string_agg(concat_ws(':', a.name, p ->> 'overdue'), ' ' order by a.name)
  from jsonb_array_elements(test.call(who, 'schedule-list', jsonb_build_object('vault', test.vault(1))) -> 'schedules') as p
  join test.actor a on encode(a.device, 'hex') = p ->> 'device' $$;
select is(test.code('writer', 'schedule-put', test.plan('writer', '-1 hour')), 'ok', 'a writer its own');
select is(test.code('writer', 'schedule-put', test.plan('reader', '1 hour')), 'role_denied', 'not another''s');
select is(test.code('owner', 'schedule-put', test.plan('reader', '1 hour')), 'ok', 'an owner another''s');
select is(test.code('owner', 'schedule-put', test.plan('bob', '1 hour')), 'not_found', 'not of another account');
select is(test.code('owner', 'schedule-put', test.plan('revoked', '1 hour')), 'not_found', 'nor of a revoked device');
select is(test.code('writer', 'schedule-put', test.plan('writer', '1 hour', '{"next_due": -1}')), 'bad_request', 'a time before time');
select is(test.code('writer', 'schedule-put', test.plan('writer', '1 hour',
  jsonb_build_object('rule_sealed', test.b64(decode(repeat('61', 1025), 'hex'))))), 'bad_request', 'a rule of 1025 bytes');
select is(test.plans('owner'), 'reader:false writer:false', 'an owner sees all; a push after the hour is no delay');
select is(test.plans('writer'), 'writer:false', 'a writer its own');
update app.snapshot set committed_at = committed_at - interval '2 hours';
select is(test.plans('writer'), 'writer:true', 'without a push since it is overdue');
select is(test.code('writer', 'schedule-put', test.plan('writer', '2 hours')), 'ok', 'put again');
select is(test.plans('writer'), 'writer:false', 'takes the place of the old one');

select * from finish();
rollback;
