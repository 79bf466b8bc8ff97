-- What an account uses, what was done in it, what is new.
begin;
\ir setup.psql
select no_plan();

do $$ begin
  perform test.push('owner', test.vault(1));
  perform test.push('writer', test.vault(1));
  perform test.push('bob', test.vault(2));
  perform test.call('owner', 'snapshot-trash', jsonb_build_object('vault', test.vault(1), 'sessions', '[1]'::jsonb, 'idem', 't'));
end $$;

-- Usage: of the account, not of the deployment.
select is(test.call('writer', 'usage') - 'now', '{"used": 2200, "reserved": 0, "region": "eu", "devices": 4, "snapshots": 1}',
  'what an account uses');
select is(test.call('bob', 'usage') - 'now', '{"used": 1100, "reserved": 0, "region": "eu", "devices": 1, "snapshots": 1}', 'and another');
update app.tenant set quota_bytes = 5000, reserved_bytes = 7;
select is(test.call('reader', 'usage') -> 'quota', '5000', 'its quota');
select is(test.call('reader', 'usage') -> 'reserved', '7', 'what is announced');

-- Audit.
create function test.page(who text, most integer, before bigint default null) returns jsonb language sql as $$
  select test.call(who, 'audit-list', jsonb_build_object('limit', most, 'before', before)) $$;
create function test.numbers(page jsonb) returns text language sql as $$
  select concat_ws(' ', string_agg(e ->> 'number', ' ' order by n), page ->> 'more')
  from jsonb_array_elements(page -> 'entries') with ordinality as x(e, n) $$;
create table test.top as select max(number) as n from app.audit where tenant = (select m.tenant from app.member m
  join test.actor a on a.user_id = m.user_id where a.name = 'owner');
select is(test.numbers(test.page('owner', 2)), concat_ws(' ', n, n - 1, 'true'), 'newest first, as many as asked for') from test.top;
select is(test.numbers(test.page('owner', 2, 3)), '2 1 false', 'then the older ones') from test.top;
select is(jsonb_array_length(test.page('owner', 1000) -> 'entries'), n::integer, 'all of the account, and no other') from test.top;
select is(test.page('owner', 1) #- '{entries,0,at}' #- '{entries,0,chain}' #- '{entries,0,digest}' -> 'entries' -> 0,
  jsonb_build_object('number', n, 'device', test.device('owner'), 'operation', 'snapshot-trash', 'result', 'ok'), 'who did what') from test.top;
select is((select string_agg(distinct e ->> 'device', ' ') from jsonb_array_elements(test.page('writer', 1000) -> 'entries') as e),
  test.device('writer'), 'a writer sees what it did itself');
select is((select string_agg(distinct e ->> 'operation', ' ' order by e ->> 'operation') from jsonb_array_elements(test.page('bob', 1000) -> 'entries') as e),
  'device-enroll session-commit session-open session-urls vault-create', 'another account its own');
select is(test.code('owner', 'audit-list', jsonb_build_object('limit', n)), 'bad_request', 'a page of ' || n) from unnest(array[0, 1001]) as n;
select is(test.code('owner', 'audit-list', '{"limit": 1, "before": -1}'), 'bad_request', 'before all');

-- Events.
create function test.events(who text, vault integer, seconds integer default 0) returns jsonb language sql as $$
  select jsonb_build_object('vault', test.vault(vault), 'version', 0, 'gc_epoch', 0, 'seconds', seconds) $$;
select is(test.call('reader', 'events', test.events('reader', 1)) - 'now', jsonb_build_object('version', 3, 'gc_epoch', 0,
  'revoked', jsonb_build_array(test.device('revoked'))), 'how things stand');
update app.device set revoked_at = revoked_at - interval '1 day' where status = 'revoked';
select is(test.call('reader', 'events', test.events('reader', 1)) -> 'revoked', '[]', 'what was revoked a day ago is old news');
select is(test.code('reader', 'events', test.events('reader', 2)), 'not_found', 'another account''s are nobody''s');
select is(test.code('reader', 'events', test.events('reader', 1, n)), 'bad_request', 'to wait for ' || n) from unnest(array[-1, 51]) as n;

select * from finish();
rollback;
