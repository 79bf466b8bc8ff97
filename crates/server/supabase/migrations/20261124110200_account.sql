-- What an account uses, what was done in it, what is new. Tested in supabase/tests/account.sql.

set role backupengine_owner;

-- A device sees what it did itself; owners see all of the account.
create policy own_or_owner_see on app.audit as restrictive for select to public
  using ((select app.my_role()) = 'owner' or actor_device = (select app.my_device()));

create function api.op_usage(args jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'used', t.used_bytes, 'reserved', t.reserved_bytes, 'quota', t.quota_bytes, 'region', t.region,
    'devices', (select count(*) from app.device d where d.tenant = t.id and d.status = 'active'),
    'snapshots', (select count(*) from app.snapshot n where n.tenant = t.id and n.state = 'live'),
    'now', app.seconds(now())))
  from app.tenant t
$$;

create function api.op_audit_list(args jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  me     app.caller := app.identify();
  many   bigint := app.int_arg(args, 'limit', 1, 1000);
  before bigint := case when args ->> 'before' is not null
                     then app.int_arg(args, 'before', 0, 9223372036854775807) end;
  rows   jsonb;
begin
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'number', a.number, 'at', app.seconds(a.at), 'device', encode(a.actor_device, 'hex'), 'operation', a.op,
      'result', a.result, 'digest', encode(a.args_digest, 'hex'), 'chain', encode(a.chain, 'hex')))
      order by a.number desc), '[]')
    into rows
    from (select * from app.audit x
          where x.tenant = me.tenant and (before is null or x.number < before)
          order by x.number desc limit many + 1) as a;
  return jsonb_build_object('more', jsonb_array_length(rows) > many,
                            'entries', case when jsonb_array_length(rows) > many then rows - many::integer else rows end);
end $$;

-- How things stand at this moment: the front asks again until something is new.
create function api.op_events(args jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v app.vault;
begin
  perform app.int_arg(args, 'seconds', 0, 50);
  v := app.vault_arg(args);
  return app.counters(v) || jsonb_build_object('revoked', (
    select coalesce(jsonb_agg(encode(d.id, 'hex') order by d.revoked_at, d.id), '[]')
    from app.device d where d.tenant = v.tenant and d.revoked_at > now() - interval '1 day'));
end $$;

grant execute on function api.op_usage, api.op_audit_list, api.op_events to authenticated;

reset role;
