-- What the front's sweep is told of objects that may be deleted: which, when, in which order, and to whom.
begin;
\ir setup.psql
select no_plan();

create function test.doom(v integer, num bigint, due interval, root boolean, packs int8multirange default '{}') returns void language sql as $$
  insert into app.doomed (tenant, vault, s, due_at, root, packs)
    select tenant, id, num, clock_timestamp() + due, doom.root, doom.packs from app.vault where encode(id, 'hex') = test.vault(v) $$;
-- As the front, which has no claims of anybody.
create function test.due(most integer default 100, without text[] default '{}') returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  set local session authorization backupengine_front;
  answer := api.sweep_due(most, without);
  set local session authorization default;
  return answer;
end $$;
create function test.shown(most integer default 100, without text[] default '{}') returns text language sql as $$
  select coalesce(string_agg(concat_ws('/', right(d ->> 'vault', 1), d -> 'session', case when (d -> 'root')::boolean then 'root' end, d ->> 'packs'),
                  ' ' order by n), '') from jsonb_array_elements(test.due(most, without)) with ordinality as x(d, n) $$;
create function test.done(v integer, num bigint) returns void language plpgsql as $$
declare
  wanted text := test.vault(v);
  due timestamptz := (select min(due_at) from app.doomed d where d.vault = decode(test.vault(v), 'hex') and d.s = num);
begin
  set local session authorization backupengine_front;
  perform api.sweep_done(wanted, num, due);
  set local session authorization default;
end $$;

select is(test.due(), '[]', 'nothing');
do $$ begin
  perform test.doom(1, 1, '-3 hours', false, '{[0,2),[5,6)}');
  perform test.doom(1, 2, '-2 hours', true);
  perform test.doom(2, 1, '-1 hour', true, '{[3,4)}');
  perform test.doom(1, 3, '1 minute', true, '{[0,1)}');
end $$;
select is(test.shown(), '1/2/root/[] 2/1/root/[[3, 4]] 1/1/[[0, 2], [5, 6]]', 'roots before packs, then by time; what is not due is not told');
select is(test.shown(2), '1/2/root/[] 2/1/root/[[3, 4]]', 'no more than was asked for');
select is(test.shown(100, array[test.vault(1)]), '2/1/root/[[3, 4]]', 'a vault may be left out');
select is(test.due() -> 0 ->> 'prefix', test.vault(1) || '/', 'under which name they lie');
select is(test.due() -> 0 ->> 'bucket', 'bucket', 'and where');

do $$ begin perform test.done(1, 2), test.done(1, 2); end $$;
select is(test.shown(), '2/1/root/[[3, 4]] 1/1/[[0, 2], [5, 6]]', 'what is done is told no more, and again is no error');
do $$ begin perform test.done(1, 3); end $$;
select is((select count(*) from app.doomed where s = 3), 1::bigint, 'what is not due is not done');
-- Due in the same moment.
insert into app.doomed (tenant, vault, s, due_at, root) select tenant, vault, 9, due_at, false from app.doomed where s = 1 and vault = decode(test.vault(1), 'hex');
do $$ begin perform test.done(1, 9); end $$;
select is(test.shown(), '2/1/root/[[3, 4]] 1/1/[[0, 2], [5, 6]]', 'an entry is one session''s');
select is(test.code('owner', op), 'no_such_operation', op || ' is no operation') from unnest('{sweep-due,sweep-done,sweep-later}'::text[]) as op;
select is(test.raw('owner', statement), '42501', statement || ' is no client''s to call') from unnest(array[
  'select api.sweep_due(1, ''{}'')', 'select api.sweep_done('''', 1, now())', 'select api.sweep_later('''', 1, 1)', 'delete from app.doomed',
  format('select app.doom_announced(decode(%L, ''hex''), 1)', test.vault(1))]) as statement;

-- What the store keeps locked.
create function test.later(v integer, num bigint, due interval) returns void language plpgsql as $$
declare
  wanted text := test.vault(v);
  until bigint := extract(epoch from clock_timestamp() + due);
begin
  set local session authorization backupengine_front;
  perform api.sweep_later(wanted, num, until);
  set local session authorization default;
end $$;
create function test.waits(num bigint) returns text language sql as $$
  select string_agg(concat_ws(' ', case when root then 'root' end, packs, round(extract(epoch from due_at - clock_timestamp()) / 3600)), ', ' order by due_at)
  from app.doomed d where d.s = num and d.vault = decode(test.vault(1), 'hex') $$;
do $$ begin
  perform test.doom(1, 7, '-5 hours', true), test.doom(1, 7, '-3 hours', false, '{[0,2)}'), test.doom(1, 7, '9 hours', false, '{[4,5)}');
  perform test.later(1, 7, '10 hours');
end $$;
select is(test.waits(7), '{[4,5)} 9, root {} 10, {[0,2)} 12', 'all that is due of a session waits, in its order');
do $$ begin perform test.later(1, 7, '-1 hour'), test.later(2, 7, '99 hours'); end $$;
select is(test.waits(7), '{[4,5)} 9, root {} 10, {[0,2)} 12', 'never for less, and another vault is another');
do $$ begin perform test.doom(1, 8, '-5 hours', true), test.later(1, 8, '1000000 hours'); end $$;
select ok((select due_at < clock_timestamp() + interval '11 years' from app.doomed where s = 8), 'ten years at most');

-- What was announced by a session that comes to nothing.
create function test.left_(num bigint) returns text language sql as $$
  select concat_ws(' ', case when root then 'root' end, packs, due_at >= clock_timestamp() + interval '19 minutes')
  from app.doomed d where d.s = num and d.vault = decode(test.vault(1), 'hex') $$;
delete from app.doomed;
do $$
declare
  i integer;
begin
  for i in 1..3 loop
    perform test.call('writer', 'session-open', jsonb_build_object('vault', test.vault(1), 'kind', 'push', 'idem', i::text));
  end loop;
  perform test.call('writer', 'session-urls', jsonb_build_object('vault', test.vault(1), 'session', 1, 'blobs',
    jsonb_build_array(test.blob('pack', 0, 4), test.blob('pack', 1, 6), test.blob('pack', 7, 6))));
  perform test.call('writer', 'session-urls', jsonb_build_object('vault', test.vault(1), 'session', 2, 'blobs',
    jsonb_build_array(test.blob('pack', 0, 4), test.blob('root', 0, 6))));
  perform test.call('writer', 'session-abort', jsonb_build_object('vault', test.vault(1), 'session', 1));
  perform test.call('writer', 'session-abort', jsonb_build_object('vault', test.vault(1), 'session', 1));
  perform test.call('writer', 'session-abort', jsonb_build_object('vault', test.vault(1), 'session', 3));
end $$;
select is(test.left_(1), '{[0,2),[7,8)} t', 'given up: all of it, when the last grant has died');
select is(test.left_(3), null, 'nothing was announced there');
select is(test.left_(2), null, 'an open session keeps what it has');
do $$
declare
  of_all bytea := decode(test.vault(1), 'hex');
begin
  perform set_config('request.jwt.claims', test.claims('writer')::text, true);
  set local role authenticated;
  perform app.close_session(of_all, 2);
  reset role;
end $$;
select is((select count(*) from app.announced where s = 2), 2::bigint, 'whoever tries to close it past all operations');
update app.session set last_seen = now() - interval '73 hours' where s = 2;
select is(test.code('maintainer', 'gc-begin', jsonb_build_object('vault', test.vault(1))), 'ok', 'it has been silent for too long');
select is(test.left_(2), 'root {[0,1)} t', 'a root, too');
do $$ begin perform test.push('writer', test.vault(1)); end $$;
select is(test.left_(4), null, 'what was committed stays');

select * from finish();
rollback;
