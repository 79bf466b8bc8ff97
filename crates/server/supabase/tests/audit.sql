-- The audit: a row for each call that changed something and for each refusal, chained; and the deployment's region.
begin;
\ir setup.psql
select no_plan();

create function test.refusal(claims jsonb, op text, code text, digest text) returns void language plpgsql as $$
begin
  set local session authorization backupengine_front;
  perform api.note_refusal(claims, op, code, digest);
  set local session authorization default;
end $$;
create view test.mine as select a.* from app.audit a join app.device d using (tenant)
  where encode(d.id, 'hex') = test.device('owner') order by number;
-- Recomputes every chain from its rows.
create view test.broken as
  with linked as (
    select a.*, coalesce(lag(chain) over (partition by tenant order by number), '') as before,
           row_number() over (partition by tenant order by number) as place from app.audit a)
  select tenant, number from linked
  where place <> number or chain <> sha256(before || convert_to(concat_ws('|', tenant, number,
    (extract(epoch from at) * 1000000)::bigint, coalesce(actor_user::text, '-'), coalesce(encode(actor_device, 'hex'), '-'),
    coalesce(login::text, '-'), op, encode(args_digest, 'hex'), result), 'UTF8'));

select is_empty('select * from test.broken', 'the chains hold');
create table test.before as select count(*) as n from test.mine;
select test.call('reader', 'usage'), test.call('reader', 'device-list');
select is((select count(*) from test.mine), (select n from test.before), 'what reads is not written down');
select test.call('reader', 'mount', '{"snapshots": 3}');
select results_eq($$ select op, result, encode(args_digest, 'hex'), encode(actor_device, 'hex'), actor_user, login from test.mine
    order by number desc limit 1 $$,
  $$ select 'mount', 'ok', encode(sha256('{"snapshots": 3}'), 'hex'), test.device('reader'), user_id, login from test.actor
    where name = 'reader' $$, 'what changes is: who, by which login, what, and a digest of the arguments');
select test.code('reader', 'mount', '{"vault": "x", "snapshots": 1}');
select is((select count(*) from test.mine), (select n + 1 from test.before), 'a refused call leaves the rest to the front');

select test.refusal(test.claims('revoked'), 'mount', 'device_revoked', repeat('ab', 32));
select results_eq($$ select op, result, encode(args_digest, 'hex'), encode(actor_device, 'hex') from test.mine
    order by number desc limit 1 $$,
  $$ select 'mount', 'device_revoked', repeat('ab', 32), test.device('revoked') $$, 'who writes the refusal down');
select lives_ok(format('select test.refusal(%L, %L, %L, %L)', claims, 'unknown', 'bad_token', digest),
  format('a refusal with %s', claims)) from (values
  ('{}'::jsonb, ''), ('{"sub": "x", "session_id": 5, "device_key": []}', 'zz'), ('{"sub": null}', repeat('0', 63)),
  ('{"sub": {"a": 1}}', ''), (jsonb_build_object('sub', gen_random_uuid(), 'device_key', repeat('0', 64)), ''),
  ('[]', ''), ('"x"', '')) as e(claims, digest);
select is((select count(*) from app.audit where tenant = '00000000-0000-0000-0000-000000000000'), 7::bigint,
  'whom nobody knows has a chain of his own');
select lives_ok($$ select test.refusal('{}', repeat('x', 1000), repeat('y', 1000), '') $$, 'long words are cut');
select is((select max(length(op) + length(result)) from app.audit), 128, 'to 64 characters');
select is_empty('select * from test.broken', 'the chains still hold');
select is((select count(*) from app.audit_head h join lateral (select chain, number from app.audit a where a.tenant = h.tenant
  order by number desc limit 1) last on last.chain = h.chain and last.number = h.number),
  (select count(distinct tenant) from app.audit), 'and end where the heads say');
savepoint changed;
update app.audit set result = 'ok' where result = 'device_revoked';
select isnt_empty('select * from test.broken', 'a changed row breaks its chain');
rollback to changed;
delete from app.audit where op = 'vault-create';
select isnt_empty('select * from test.broken', 'a row that is missing as well');
rollback to changed;

-- One region a deployment.
select throws_ok($$ select app.configure('us', 'bucket', null) $$, 'PT409', 'region_mismatch', 'no other region over accounts');
select lives_ok($$ select app.configure('eu', 'bucket', 1000) $$, 'a quota for new accounts');
select is((select profile from app.deployment), '{"sse": true}'::jsonb, 'without a profile the old one stays');
select throws_ok($$ insert into app.tenant (region) values ('us') $$, 'PT409', 'region_mismatch', 'no account of another region');
select throws_ok($$ update app.tenant set region = 'us' $$, 'PT409', 'region_mismatch', 'and none that moves');
select throws_ok($$ update app.vault set bucket = 'other' $$, 'PT409', 'region_mismatch', 'no vault in another bucket');
select test.actor('dave', test.user('dave')), test.enroll('dave');
select is(test.call('dave', 'usage') ->> 'quota', '1000', 'a new account has the quota');

select * from finish();
rollback;
