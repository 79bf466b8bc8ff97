-- The deployment: one region, one bucket. Every tenant and vault is of it.

set role backupengine_owner;

-- Run at start with the migrator's rights; granted to nobody.
create function app.configure(region text, bucket text, quota bigint, profile jsonb default null) returns void
language plpgsql volatile set search_path = '' as $$
begin
  if exists (select from app.deployment d where d.region <> configure.region) and exists (select from app.tenant) then
    perform app.refuse('region_mismatch', 'This database holds accounts of another region.',
                       'Run a deployment of its own for each region.');
  end if;
  insert into app.deployment as d (region, bucket, quota_bytes, profile)
    values (configure.region, configure.bucket, quota, coalesce(configure.profile, '{}'))
    on conflict on constraint deployment_pkey do update
      set region = excluded.region, bucket = excluded.bucket, quota_bytes = excluded.quota_bytes,
          profile = coalesce(configure.profile, d.profile);
end $$;

-- What the front is told before anybody asks it anything. DEFINER, both.
create function api.deployment() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return (select jsonb_build_object('region', d.region, 'bucket', d.bucket) from app.deployment d);
end $$;

create function api.storage_profile() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  return (select d.profile from app.deployment d);
end $$;

-- A tenant is of the deployment's region, a vault lies in a bucket of its tenant's. DEFINER.
create function app.check_region() returns trigger
language plpgsql volatile security definer set search_path = '' as $$
declare
  here  app.deployment;
  owner app.tenant;
begin
  select * into here from app.deployment;
  if tg_table_name = 'tenant' then
    owner := new;
  else
    select * into owner from app.tenant t where t.id = new.tenant;
  end if;
  if owner.region is distinct from here.region
     or (tg_table_name = 'vault' and (to_jsonb(new) ->> 'bucket') is distinct from here.bucket) then
    perform app.refuse('region_mismatch', 'This account or bucket belongs to another region.',
                       'Use the address of its own region.');
  end if;
  return new;
end $$;

create trigger region_of_tenant before insert or update of region on app.tenant
  for each row execute function app.check_region();
create trigger region_of_vault before insert or update of bucket, tenant on app.vault
  for each row execute function app.check_region();

grant execute on function api.deployment, api.storage_profile to backupengine_front;

reset role;
