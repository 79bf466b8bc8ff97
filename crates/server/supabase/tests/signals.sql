-- A commit that holds what was before it; the alarm of a mass retire, as owners see it.
begin;
\ir setup.psql
select no_plan();

create function test.opened(who text) returns bigint language sql as $$
  select (test.call(who, 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', 'push', 'idem', gen_random_uuid())) -> 'session')::bigint $$;
-- Opens a session and stores what a commit needs.
create function test.ready(who text) returns bigint language plpgsql as $$
declare
  s bigint := test.opened(who);
begin
  perform test.call(who, 'session-urls', jsonb_build_object('vault', test.vault(1), 'session', s, 'blobs',
    jsonb_build_array(test.blob('pack', 0, 400), test.blob('pack', 1, 600), test.blob('root', 0, 100))));
  return s;
end $$;
create function test.held() returns text language sql as $$
  select coalesce(string_agg(s::text, ' ' order by s), '') from app.snapshot where hold $$;
create function test.holding(who text, hold text) returns text language plpgsql as $$
declare
  s bigint := test.ready(who);
begin
  return test.code(who, 'session-commit', test.commit(who, test.vault(1), s, ('{"hold": ' || hold || '}')::jsonb), test.stored());
end $$;

-- 1 is the owner's, 2 and 3 the writer's; 4 is bob's in a vault of his own.
do $$ begin
  perform test.push('owner', test.vault(1));
  perform test.push('writer', test.vault(1));
  perform test.push('writer', test.vault(1));
  perform test.push('bob', test.vault(2));
  perform test.call('owner', 'snapshot-trash', jsonb_build_object('vault', test.vault(1), 'sessions', '[3]'::jsonb, 'idem', 't'));
end $$;
select is(test.holding('writer', '2'), 'ok', 'a writer commits and holds');
select is(test.held(), '2', 'what it made before');
select is(test.call('reader', 'version', jsonb_build_object('vault', test.vault(1))) ->> 'version', '5', 'the version moves once');
select is(test.code('owner', 'snapshot-trash', jsonb_build_object('vault', test.vault(1), 'sessions', '[2]'::jsonb, 'idem', 'u')), 'held',
  'not even an owner removes it then');
select is(test.holding('writer', '3'), 'ok', 'one in the trash');
select is(test.held(), '2 3', 'as well');
select is(test.holding('writer', '1'), 'ok', 'one of another device');
select is(test.holding('writer', '99'), 'ok', 'or none at all');
select is(test.held(), '2 3', 'is no error and changes nothing');
select is(test.holding('writer', hold), 'bad_request', 'but it is a number: ' || hold) from unnest(array['0', '-1', '"x"', '4294967296', '1.5']) as hold;
update app.snapshot set hold = false;
update app.snapshot set state = 'purged' where s = 3;
select is(test.holding('writer', '3'), 'ok', 'one that is gone');
select is(test.held(), '', 'stays gone');

-- Neither without the other.
create function test.refused() returns text language plpgsql as $$
declare
  s bigint := test.ready('writer');
begin
  return test.code('writer', 'session-commit', test.commit('writer', test.vault(1), s, '{"hold": 2, "bytes": 7}'), test.stored());
end $$;
select is(test.refused(), 'objects_differ', 'a commit that is refused');
select is(test.held(), '', 'holds nothing');

-- Past api.call.
select is(test.raw('reader', format($$select app.hold_own('\x%s', 2)$$, test.vault(1))), 'PT403 role_denied', 'a reader holds nothing');
select is(test.raw('pending', format($$select app.hold_own('\x%s', 2)$$, test.vault(1))), 'PT403 device_pending', 'nor a device that waits');
do $$ begin perform set_config('request.jwt.claims', test.claims('bob')::text, true); perform app.hold_own(decode(test.vault(1), 'hex'), 2); end $$;
select is(test.held(), '', 'nor anybody in another account');
select is(test.raw('writer', 'update app.snapshot set hold = false'), '0', 'and no writer lets go');

-- The alarm.
create function test.alarm(who text) returns jsonb language sql as $$ select test.call(who, 'usage') -> 'alarm' $$;
create function test.retire(variadic s bigint[]) returns text language plpgsql as $$
declare
  at jsonb := test.call('maintainer', 'version', jsonb_build_object('vault', test.vault(1)));
begin
  return test.code('maintainer', 'gc-retire', jsonb_build_object('vault', test.vault(1), 'version', at -> 'version', 'gc_epoch', at -> 'gc_epoch',
    'idem', gen_random_uuid(), 'packs', (select jsonb_agg(jsonb_build_object('session', x, 'from', 0, 'count', 2)) from unnest(s) as x)));
end $$;
update app.vault set used_bytes = 4400 where encode(id, 'hex') = test.vault(1);
select is(test.retire(1), 'ok', 'a quarter');
select is(test.alarm('owner'), null, 'is none');
select is(test.retire(2), 'ok', 'half');
select is(test.alarm('owner') - 'at', jsonb_build_object('retired', 2200, 'of', 4400, 'device', test.device('maintainer')),
  'is one, and owners see whose doing it is');
select is((test.alarm('owner') -> 'at')::bigint, app.seconds(now()), 'and when');
select is(test.alarm('maintainer') ->> 'retired', '2200', 'whoever did it sees it');
select is(test.alarm('writer'), null, 'others do not');
select is(test.alarm('bob'), null, 'nor another account');
select is(test.code('writer', 'gc-unretire', jsonb_build_object('vault', test.vault(1),
  'packs', '[{"session": 1, "from": 0, "count": 2}]'::jsonb)), 'ok', 'brought back');
select is(test.alarm('owner'), null, 'it stands no more');

select * from finish();
rollback;
