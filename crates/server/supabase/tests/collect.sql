-- Giving space back: two counters, retire, un-retire, move, purge, and what keeps a pack from going.
begin;
\ir setup.psql
select no_plan();

create function test.counters(who text default 'maintainer') returns text language sql as $$
  select concat_ws(' ', v -> 'version', v -> 'gc_epoch')
  from test.call(who, 'version', jsonb_build_object('vault', test.vault(1))) as v $$;
create function test.begin_() returns text language sql as $$
  select coalesce(string_agg(n ->> 'session' || ':' || (n ->> 'state'), ' ' order by (n ->> 'session')::bigint), '')
  from jsonb_array_elements(test.call('maintainer', 'gc-begin', jsonb_build_object('vault', test.vault(1))) -> 'snapshots') as n $$;
create function test.run(s bigint, first bigint, many bigint) returns jsonb language sql as $$
  select jsonb_build_object('session', s, 'from', first, 'count', many) $$;
create function test.packs(variadic runs jsonb[]) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'packs', to_jsonb(runs)) $$;
create function test.retire(version bigint, epoch bigint, variadic runs jsonb[]) returns jsonb language sql as $$
  select test.packs(variadic runs) || jsonb_build_object('version', version, 'gc_epoch', epoch, 'idem', gen_random_uuid()) $$;
create function test.bits(num bigint) returns text language sql as $$
  select concat_ws(' ', retired, deleted) from app.session where encode(vault, 'hex') = test.vault(1) and s = num $$;
create function test.purged(variadic runs jsonb[]) returns text language sql as $$
  select coalesce(string_agg(concat_ws('/', r -> 'session', r -> 'from', r -> 'count'), ' '), '')
  from jsonb_array_elements(test.call('maintainer', 'gc-purge', test.packs(variadic runs)) -> 'packs') as r $$;
create function test.later(much interval) returns void language sql as $$
  update app.gc_log set at = at - much;
  update app.moved set moved_at = moved_at - much; $$;
create function test.state(who text, s bigint, number bigint) returns text language sql as $$
  select concat_ws(' ', g ->> 'state', g ->> 'moved', g ->> 'moved_number')
  from test.call(who, 'urls', jsonb_build_object('vault', test.vault(1), 'want', jsonb_build_array(
    jsonb_build_object('kind', 'pack', 'session', s, 'from', number, 'count', 1)))) as a,
    jsonb_array_elements(a -> 'grants') as g $$;
create function test.used() returns text language sql as $$
  select concat_ws(' ', v.used_bytes, t.used_bytes) from app.vault v join app.tenant t on t.id = v.tenant
  where encode(v.id, 'hex') = test.vault(1) $$;
create function test.doomed() returns text language sql as $$
  select coalesce(string_agg(concat_ws('/', s, case when root then 'root' end, packs), ' ' order by s, root, packs), '') from app.doomed $$;

do $$ begin perform test.push('owner', test.vault(1)); end $$;
do $$ begin perform test.push('writer', test.vault(1)); end $$;
update app.deployment set alarm_share = 1;

-- Begin, and the two counters.
select is(test.begin_(), '1:live 2:live', 'a collection begins with all snapshots');
select is(test.counters(), '2 0', 'and where the counters stand');
select is(test.code('maintainer', 'gc-retire', test.retire(1, 0, test.run(1, 0, 1))), 'counters_moved', 'the list moved');
select is(test.code('maintainer', 'gc-retire', test.retire(1, 0, test.run(9, 0, 1))), 'counters_moved', 'which comes before all else');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 1, test.run(1, 0, 1))), 'counters_moved', 'the epoch moved');
select is(test.bits(1), '{} {}', 'a refused retire leaves nothing');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 0, test.run(9, 0, 1))), 'unknown_session', 'no such session');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 0, test.run(1, 1, 2))), 'wrong_pack', 'no such pack');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 0, test.run(1, 4294967294, 2))), 'bad_request', 'beyond all numbers');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 0, test.run(1, 0, 0))), 'bad_request', 'a run of nothing');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 0, test.run(1, 0, 1)) || jsonb_build_object('packs',
  (select jsonb_agg(test.run(1, 0, 1)) from generate_series(1, 4097)))), 'bad_request', '4097 runs');
select is(test.call('maintainer', 'gc-retire', test.retire(2, 0, test.run(1, 0, 1))) - 'now',
  '{"version": 2, "gc_epoch": 1}', 'a maintainer retires a pack');
select is(test.bits(1), '{[0,1)} {}', 'it is marked');
select is(test.state('reader', 1, 0), 'here', 'and still read');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 1, test.run(1, 0, 1))), 'ok', 'again is no error');
select is(test.counters(), '2 1', 'and no new epoch');

-- Open sessions: nobody retires from them, and the epoch counts at commit.
select is(test.call('writer', 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', 'push', 'idem', 'o')) -> 'gc_epoch',
  '1', 'a session opens with the epoch of the day');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 1, test.run(3, 0, 1))), 'wrong_pack', 'an open session is nobody''s to retire');
update app.session set packs = 2 where s = 3;
select is(test.code('maintainer', 'gc-retire', test.retire(2, 1, test.run(3, 0, 1))), 'wrong_pack', 'whatever its row says');
update app.session set packs = 0 where s = 3;
select is(test.code('maintainer', 'gc-retire', test.retire(2, 1, test.run(2, 1, 1))), 'ok', 'something is retired while it writes');
do $$ begin perform test.call('writer', 'session-urls', jsonb_build_object('vault', test.vault(1), 'session', 3, 'blobs',
  jsonb_build_array(test.blob('pack', 0, 400), test.blob('pack', 1, 600), test.blob('root', 0, 100)))); end $$;
select is(test.code('writer', 'session-commit', test.commit('writer', test.vault(1), 3), test.stored()), 'counters_moved',
  'it does not commit before it knows');

-- Un-retire.
select is(test.call('writer', 'gc-unretire', test.packs(test.run(1, 0, 1))) - 'now', '{"version": 2, "gc_epoch": 3}',
  'a writer brings back what another device pushed');
select is(test.bits(1), '{} {}', 'it is marked no more');
select is(test.code('writer', 'gc-unretire', test.packs(test.run(1, 0, 2))), 'ok', 'again is no error');
select is(test.counters(), '2 3', 'and no new epoch');
select is(test.code('writer', 'gc-unretire', test.packs(test.run(9, 0, 1))), 'unknown_session', 'no such session');
select is(test.code('writer', 'gc-unretire', test.packs(test.run(1, 1, 2))), 'wrong_pack', 'no such pack');
select is(test.code('bob', 'gc-unretire', test.packs(test.run(1, 0, 1))), 'not_found', 'nor of another account');
select is((select string_agg(concat_ws(':', epoch, retired, revived), ' ' order by epoch) from app.gc_log),
  '1:[{"from": 0, "count": 1, "session": 1}]:[] 2:[{"from": 1, "count": 1, "session": 2}]:[] 3:[]:[{"from": 0, "count": 1, "session": 1}]',
  'each epoch is in the log');

-- What keeps a retired pack: the time, and sessions that do not know of it.
select is(test.purged(test.run(2, 1, 1), test.run(1, 0, 1)), '', 'nothing goes at once');
do $$ begin perform test.later('71 hours 59 minutes'); end $$;
update app.session set acked_epoch = 3 where s = 3;
select is(test.purged(test.run(2, 1, 1)), '', 'nor a minute before 72 hours');
do $$ begin perform test.later('1 minute'); end $$;
update app.session set acked_epoch = 1 where s = 3;
select is(test.purged(test.run(2, 1, 1)), '', 'nor while an older session does not know');
select is(test.code('writer', 'session-heartbeat', jsonb_build_object('vault', test.vault(1), 'session', 3, 'gc_epoch', 2)), 'ok',
  'it takes the epoch in');
select is(test.used(), '2200 2200', 'the bytes count until then');
select is(test.purged(test.run(1, 0, 2), test.run(2, 0, 2)), '2/1/1', 'then it goes, and nothing that was not retired');
select is(test.bits(2), '{[1,2)} {[1,2)}', 'it is marked');
select is(test.state('reader', 2, 1), 'gone', 'no grant any more');
select is(test.doomed(), '2/{[1,2)}', 'its object is the sweep''s');
select cmp_ok((select min(due_at) from app.doomed), '>=', clock_timestamp() + interval '19 minutes', 'when the last grant has died');
select is(test.used(), '1700 1700', 'its share of the bytes is free');
select is(test.purged(test.run(2, 1, 1)), '', 'again does nothing');
select is(test.used(), '1700 1700', 'and frees nothing');
select is(test.code('writer', 'gc-unretire', test.packs(test.run(2, 1, 1))), 'pack_gone', 'what is gone does not come back');
select is(test.code('maintainer', 'gc-retire', test.retire(2, 3, test.run(2, 1, 1))), 'ok', 'nor is it retired again');
select is(test.counters(), '2 3', 'in an epoch of its own');

-- Retired again after it was brought back: only the last time counts.
select is(test.code('maintainer', 'gc-retire', test.retire(2, 3, test.run(1, 0, 1))), 'ok', 'retired a second time');
update app.session set acked_epoch = 4 where s = 3;
select is(test.purged(test.run(1, 0, 1)), '', 'the grace begins anew');
select is(test.code('owner', 'gc-unretire', test.packs(test.run(1, 0, 1))), 'ok', 'an owner brings it back');
do $$ begin perform test.later('73 hours'); end $$;
select is(test.purged(test.run(1, 0, 1)), '', 'what is not retired does not go');

-- A session that is silent for 72 hours waits for nobody.
select is(test.code('maintainer', 'gc-retire', test.retire(2, 5, test.run(1, 1, 1))), 'ok', 'retired');
do $$ begin perform test.later('73 hours'); end $$;
update app.session set last_seen = now() - interval '71 hours' where s = 3;
select is(test.purged(test.run(1, 1, 1)), '', 'a silent session may still come back');
update app.session set last_seen = now() - interval '73 hours' where s = 3;
select is(test.purged(test.run(1, 1, 1)), '1/1/1', 'after 72 hours it is not waited for');
select is((select state from app.session where s = 3), 'expired', 'it has ended');

-- Trash, leases and roots.
select is(test.code('owner', 'snapshot-trash', jsonb_build_object('vault', test.vault(1), 'sessions', '[1, 2]'::jsonb, 'idem', 't')),
  'ok', 'both into the trash');
select is(test.begin_(), '1:trashed 2:trashed', 'a collection treats the trash as live');
update app.snapshot set purge_after = now() + interval '1 second';
select is(test.begin_(), '1:trashed 2:trashed', 'to the last second');
update app.snapshot set purge_after = now();
update app.snapshot set hold = true where s = 2;
do $$ begin perform test.call('reader', 'urls', jsonb_build_object('vault', test.vault(1), 'lease', gen_random_uuid(), 'want',
  jsonb_build_array(jsonb_build_object('kind', 'root', 'session', 1, 'from', 0, 'count', 1)))); end $$;
select is(test.begin_(), '1:pinned 2:trashed', 'what is mounted is pinned, what is held stays');
select is(test.counters(), '4 6', 'the list moved');
select is(test.begin_(), '1:pinned 2:trashed', 'so it stays');
select is(test.counters(), '4 6', 'without moving again');
update app.lease set expires_at = now() - interval '71 hours';
select is(test.begin_(), '1:pinned 2:trashed', 'a mount that sleeps keeps it');
update app.lease set expires_at = now() - interval '73 hours';
select is(test.begin_(), '2:trashed', 'when the lease is over it goes');
select is((select string_agg(s || ':' || state, ' ' order by s) from app.snapshot), '1:purged 2:trashed', 'for ever');
select is(test.doomed(), '1/{[1,2)} 1/root/{} 2/{[1,2)} 3/root/{[0,2)}', 'its root is the sweep''s, as all that was announced by a session that came to nothing');
select is(test.used(), '1100 1100', 'and its bytes are free');
select is(test.code('owner', 'snapshot-untrash', jsonb_build_object('vault', test.vault(1), 'sessions', '[1]'::jsonb, 'idem', 'u')),
  'not_found', 'nobody brings it back');
update app.snapshot set hold = false where s = 2;
select is(test.begin_(), '', 'what is let go goes');

-- Compaction.
create function test.retire_now(variadic runs jsonb[]) returns text language sql as $$
  select test.code('maintainer', 'gc-retire', test.retire((v -> 'version')::bigint, (v -> 'gc_epoch')::bigint, variadic runs))
  from test.call('maintainer', 'version', jsonb_build_object('vault', test.vault(1))) as v $$;
create function test.epoch() returns bigint language sql as $$
  select gc_epoch from app.vault where encode(id, 'hex') = test.vault(1) $$;
create function test.sessions(who text) returns setof jsonb language sql as $$
  select s from jsonb_array_elements(test.call(who, 'session-list', jsonb_build_object('vault', test.vault(1), 'after', 0, 'limit', 1000))
    -> 'sessions') as s $$;
create function test.moved(who text, num bigint) returns text language sql as $$
  select coalesce(string_agg(format('%s>%s/%s@%s%s', m -> 'number', m -> 'to_session', m -> 'to_number', m -> 'gc_epoch',
                                    case when (m -> 'gone')::boolean then '/gone' end), ' ' order by ord), '')
  from test.sessions(who) as s, jsonb_array_elements(s -> 'moved') with ordinality as x(m, ord) where (s -> 'session')::bigint = num $$;
create function test.acked(who text) returns text language sql as $$
  select string_agg(s ->> 'acked', ' ') from test.sessions(who) as s where s ->> 'state' = 'open' $$;
do $$ begin perform test.push('owner', test.vault(1)), test.push('owner', test.vault(1)); end $$;
create function test.compact(kind text default 'compact') returns bigint language plpgsql as $$
declare
  s bigint := test.call('maintainer', 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', kind, 'idem', gen_random_uuid())) -> 'session';
begin
  perform test.call('maintainer', 'session-urls', jsonb_build_object('vault', test.vault(1), 'session', s, 'blobs',
    jsonb_build_array(test.blob('pack', 0, 400), test.blob('pack', 1, 600))));
  perform test.call('maintainer', 'session-commit',
    test.commit('maintainer', test.vault(1), s, '{"root_size": 0, "bytes": 1000, "meta_packs": []}'), test.stored(0));
  return s;
end $$;
create function test.move(epoch bigint, variadic m bigint[]) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(1), 'version', (select snap_version from app.vault where id = decode(test.vault(1), 'hex')),
    'gc_epoch', epoch, 'idem', gen_random_uuid(), 'moves',
    (select jsonb_agg(jsonb_build_object('from_session', m[i], 'from_number', m[i + 1], 'to_session', m[i + 2], 'to_number', m[i + 3]))
     from generate_series(1, cardinality(m), 4) as i)) $$;
select is(test.compact(), 6::bigint, 'a compaction');
select is(test.compact('heal'), 7::bigint, 'and a heal');
select is(test.code('maintainer', 'gc-move', test.move(5, 4, 0, 6, 0)), 'counters_moved', 'the epoch moved');
select is(test.code('maintainer', 'gc-move', test.move(5, 4, 0, 9, 0)), 'counters_moved', 'which comes before all else');
select is(test.code('maintainer', 'gc-move', test.move(6, 4, 0, 5, 0)), 'wrong_pack', 'not into a push');
select is(test.code('maintainer', 'gc-move', test.move(6, 6, 0, 7, 0)), 'wrong_pack', 'not out of a compaction');
select is(test.code('maintainer', 'gc-move', test.move(6, 4, 0, 6, 2)), 'wrong_pack', 'not to a pack that is not there');
select is(test.code('maintainer', 'gc-move', test.move(6, 4, 0, 9, 0)), 'unknown_session', 'nor to a session');
select is(test.code('maintainer', 'gc-move', test.move(6, 4, 0, 6, 0, 4, 0, 6, 1)), 'wrong_pack', 'not to two places');
select is(test.code('maintainer', 'gc-move', test.move(6, 1, 1, 6, 0)), 'pack_gone', 'not what is gone');
select is(test.code('maintainer', 'gc-move', test.move(6, 4, 0, 6, 0) || jsonb_build_object('version',
  (select snap_version - 1 from app.vault where encode(id, 'hex') = test.vault(1)))), 'counters_moved', 'the list moved');
select is(test.code('maintainer', 'gc-move', test.move(6, 4, 0, 6, 0) || '{"moves": []}'), 'ok', 'nothing is moved');
select is(test.epoch(), 6::bigint, 'in no epoch of its own');
select is((test.call('maintainer', 'gc-move', test.move(6, 4, 0, 6, 0, 4, 1, 6, 0)) -> 'gc_epoch')::bigint, 7::bigint,
  'two packs into one, and an epoch begins');
select is(test.state('reader', 4, 0), 'moved 6 0', 'a reader is sent on');
select is(test.state('reader', 6, 0), 'here', 'to what is there');
select is(test.retire_now(test.run(6, 0, 1)), 'in_use', 'that is needed now');
select is(test.used(), '5200 5200', 'all of it counts');
select is(test.purged(test.run(4, 0, 1)), '', 'the old object stays for a while');
select is(test.moved('writer', 4), '0>6/0@7 1>6/0@7', 'whoever pushes sees where packs went, and in which epoch');

-- A push that is under way may have taken a frame for stored that was not copied.
select is((test.call('writer', 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', 'push', 'idem', 'w')) - 'now')::text,
  jsonb_build_object('session', 8, 'version', (select snap_version from app.vault where encode(id, 'hex') = test.vault(1)), 'gc_epoch', 7)::text,
  'a session opens with both counters of the day');
update app.session set acked_epoch = 6 where s = 8;
select is(test.acked('reader'), '6', 'and everybody sees what its writer knows of');
do $$ begin perform test.later('72 hours'); end $$;
select is(test.purged(test.run(4, 0, 1)), '', 'a session that was open before keeps the old object');
select is(test.code('writer', 'session-heartbeat', jsonb_build_object('vault', test.vault(1), 'session', 8, 'gc_epoch', 7)), 'ok',
  'until it takes the epoch in');
select is(test.acked('reader'), '7', 'which everybody sees');
select is(test.purged(test.run(4, 0, 1)), '4/0/1', 'then it goes');
select is(test.state('reader', 4, 0), 'moved 6 0', 'the pack does not');
select is(test.bits(4), '{} {}', 'nor is it marked');
select is(test.used(), '4700 4700', 'its bytes are free');
select is(test.purged(test.run(4, 0, 1)), '', 'once');
select is(test.moved('writer', 4), '0>6/0@7/gone 1>6/0@7', 'and everybody sees it');

-- A move is taken back, while that is possible.
select is((test.call('writer', 'gc-unretire', test.packs(test.run(4, 0, 2))) -> 'gc_epoch')::bigint, 8::bigint, 'a writer takes moves back');
select is(test.moved('writer', 4), '0>6/0@7/gone', 'the one whose object is gone stays as it is');
select is(test.state('reader', 4, 1), 'here', 'the other pack is where it was');
select is((select revived from app.gc_log where epoch = 8), '[{"from": 1, "count": 1, "session": 4}]', 'the log says so');
select is((test.call('writer', 'gc-unretire', test.packs(test.run(4, 0, 2))) -> 'gc_epoch')::bigint, 8::bigint, 'again is no epoch');
select is(test.code('bob', 'gc-unretire', test.packs(test.run(4, 0, 2))), 'not_found', 'not by another account');
select is(test.code('maintainer', 'gc-move', test.move(8, 4, 1, 7, 0, 4, 0, 7, 0)), 'in_use',
  'what lies in its copy alone stays there while a push is open');
-- One move on another, without leaving anything behind.
create function test.moved_on(first jsonb, second jsonb) returns text language plpgsql as $$
begin
  perform test.call('maintainer', 'gc-move', first);
  raise exception using errcode = 'ZZ000', message = test.code('maintainer', 'gc-move', second);
exception
  when sqlstate 'ZZ000' then return sqlerrm;
end $$;
select is(test.moved_on(test.move(8, 4, 1, 7, 0), test.move(9, 4, 1, 6, 0)), 'ok', 'what can be brought back moves on');
update app.session set kind = 'heal' where s = 8;
select is(test.try('maintainer', 'gc-move', test.move(8, 4, 0, 7, 0)), 'ok', 'a session that refers to nothing is none');
update app.session set kind = 'push' where s = 8;
do $$ begin perform test.call('writer', 'session-abort', jsonb_build_object('vault', test.vault(1), 'session', 8)); end $$;

select is(test.code('maintainer', 'gc-move', test.move(8, 4, 0, 7, 0, 4, 1, 6, 0)), 'ok', 'moved again');
select is(test.state('reader', 4, 0), 'moved 7 0', 'no chain');
select is(test.moved('writer', 4), '0>7/0@9/gone 1>6/0@9', 'in a new epoch');
select is((select moved_at from app.moved where s = 4 and number = 0), now(), 'and a new time');
do $$ begin perform test.later('73 hours'); end $$;
select is(test.retire_now(test.run(4, 0, 2)), 'ok', 'nobody needs them any more');
do $$ begin perform test.later('73 hours'); end $$;
select is(test.purged(test.run(4, 0, 2)), '4/1/1', 'both go: the object of the other one is gone already');
select is(test.bits(4), '{[0,2)} {[0,2)}', 'both are marked');
select is(test.moved('writer', 4), '', 'and lie nowhere');
select is(test.used(), '4200 4200', 'the bytes of a moved pack are freed once');
select is(test.state('reader', 4, 0), 'gone', 'and are gone');
select is((select count(*) from app.doomed where s = 4 and packs @> 0::bigint), 1::bigint, 'its object was given up once');
select is(test.retire_now(test.run(6, 0, 2), test.run(7, 0, 2)), 'ok', 'the copies may go as well');
select is(test.code('maintainer', 'gc-move', test.move(11, 5, 0, 6, 0)), 'pack_gone', 'nothing moves into what is going');
do $$ begin perform test.later('73 hours'); end $$;
select is(test.purged(test.run(6, 0, 2), test.run(7, 0, 2)), '6/0/2 7/0/2', 'in their time');
select is(test.used(), '2200 2200', 'and free all their bytes');

-- The alarm.
create function test.alarms() returns bigint language sql as $$ select count(*) from app.audit where result = 'alarm' $$;
update app.deployment set alarm_share = 0.25;
select is(test.retire_now(test.run(5, 0, 1)), 'ok', 'a quarter');
select is(test.alarms(), 0::bigint, 'is nothing to write down');
select is(test.retire_now(test.run(1, 0, 1)), 'ok', 'another one');
select is(test.alarms(), 1::bigint, 'makes more than that');
select is((select concat_ws(' ', op, encode(actor_device, 'hex') = test.device('maintainer')) from app.audit where result = 'alarm'),
  'gc-retire t', 'and whose doing it is');

-- Whose vault it is, and not who asks, is what counts.
create function test.watch(who text) returns bigint language plpgsql as $$
declare
  before bigint := test.alarms();
  of_all bytea := decode(test.vault(1), 'hex');
begin
  perform set_config('request.jwt.claims', test.claims(who)::text, true);
  set local role authenticated;
  perform app.watch_retired(of_all);
  reset role;
  return test.alarms() - before;
end $$;
select is(test.watch('maintainer'), 1::bigint, 'it is written down by whoever retires');
select is(test.watch('bob'), 0::bigint, 'not by another account');

-- What is not for clients at all.
select is(test.code('maintainer', 'gc-purge', test.packs(test.run(5, 0, 1)) || '{"packs": 1}'), 'bad_request', 'no list');

select * from finish();
rollback;
