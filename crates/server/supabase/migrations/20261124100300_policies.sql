-- Row-level security on every table. api.call has refused before what these would refuse: they are what stands when a
-- function is wrong, or is called past api.call.
--
-- Permissive: rows of the caller's own tenant. Restrictive, on every table: aal2; a live login; a device that was not
-- revoked. Restrictive for writes: an active device whose role fits. Sub-selects, so that each is asked once a
-- statement. DELETE is granted to nobody.

set role backupengine_owner;

do $$
declare
  one text;
begin
  for one in select tablename from pg_tables where schemaname = 'app' loop
    execute format('alter table app.%I enable row level security', one);
    execute format($p$create policy aal2 on app.%I as restrictive for all to public
      using ((select auth.jwt() ->> 'aal') = 'aal2') with check ((select auth.jwt() ->> 'aal') = 'aal2')$p$, one);
    execute format($p$create policy live_login on app.%I as restrictive for all to public
      using ((select app.session_live())) with check ((select app.session_live()))$p$, one);
    execute format($p$create policy known_device on app.%I as restrictive for all to public
      using ((select app.my_device()) is not null) with check ((select app.my_device()) is not null)$p$, one);
    -- Nobody but the definer functions has anything to do with these.
    continue when one in ('nonce', 'idem', 'audit_head');
    execute format('grant select on app.%I to authenticated', one);
    if one in ('deployment', 'operation') then
      execute format('create policy readable on app.%I for select to authenticated using (true)', one);
    else
      execute format('create policy own_tenant on app.%I for all to authenticated
        using (%2$I = (select app.my_tenant())) with check (%2$I = (select app.my_tenant()))',
        one, case one when 'tenant' then 'id' else 'tenant' end);
    end if;
  end loop;
end $$;

-- A device that waits for approval sees itself, which vaults there are, and what a recovery code opens; nothing else.
create policy pending_sees_itself on app.device as restrictive for select to public
  using (id = (select app.my_device()) or (select app.my_role()) is not null);
do $$
declare
  one text;
begin
  foreach one in array array['access', 'envelope', 'session', 'announced', 'snapshot', 'moved', 'lease', 'gc_log',
                             'schedule', 'audit', 'member'] loop
    execute format('create policy active_device on app.%I as restrictive for select to public
      using ((select app.my_role()) is not null%2$s)', one,
      case one when 'envelope' then ' or kind = ''recovery''' else '' end);
  end loop;
end $$;

-- Rights column by column, then who may use them.
grant update (used_bytes, reserved_bytes) on app.tenant to authenticated;
create policy writers on app.tenant as restrictive for update to public
  using ((select app.my_role()) in ('owner', 'writer', 'maintainer'));

grant update (name_sealed) on app.device to authenticated;
create policy itself_or_owner on app.device as restrictive for update to public
  using ((select app.my_role()) = 'owner' or ((select app.my_role()) is not null and id = (select app.my_device())));

grant insert (id, tenant, bucket, root_public) on app.vault to authenticated;
grant update (next_session, snap_version, gc_epoch, used_bytes, trash_days, next_trash_days, next_trash_from)
  on app.vault to authenticated;
create policy owners_make on app.vault as restrictive for insert to public
  with check ((select app.my_role()) = 'owner');
create policy writers on app.vault as restrictive for update to public
  using ((select app.my_role()) in ('owner', 'writer', 'maintainer'));

grant insert (tenant, vault, device, certificate, envelope) on app.access to authenticated;
create policy owners_give on app.access as restrictive for insert to public
  with check ((select app.my_role()) = 'owner');

grant insert (tenant, vault, id, epoch, kind, sealed) on app.envelope to authenticated;
create policy owners_put on app.envelope as restrictive for insert to public
  with check ((select app.my_role()) = 'owner');

grant insert (tenant, vault, s, device, kind, acked_epoch) on app.session to authenticated;
grant update (state, packs, bytes, reserved, last_seen, acked_epoch, committed_by, retired, deleted)
  on app.session to authenticated;
create policy own_by_role on app.session as restrictive for insert to public
  with check (device = (select app.my_device())
              and ((select app.my_role()) = 'owner'
                   or kind = 'push' and (select app.my_role()) = 'writer'
                   or kind <> 'push' and (select app.my_role()) = 'maintainer'));
create policy own_or_collector on app.session as restrictive for update to public
  using (device = (select app.my_device()) and (select app.my_role()) = 'writer'
         or (select app.my_role()) in ('owner', 'maintainer'));

grant insert on app.announced to authenticated;
create policy writers on app.announced as restrictive for insert to public
  with check ((select app.my_role()) in ('owner', 'writer', 'maintainer'));

grant insert (tenant, vault, s, id, device, created_secs, created_nanos, root_size, head_len, label, meta_packs)
  on app.snapshot to authenticated;
grant update (label, state, hold, purge_after) on app.snapshot to authenticated;
create policy own_push on app.snapshot as restrictive for insert to public
  with check (device = (select app.my_device()) and (select app.my_role()) in ('owner', 'writer'));
create policy owners_and_collectors on app.snapshot as restrictive for update to public
  using ((select app.my_role()) in ('owner', 'maintainer'));

grant insert on app.moved to authenticated;
grant update (to_s, to_number) on app.moved to authenticated;
create policy collectors_add on app.moved as restrictive for insert to public
  with check ((select app.my_role()) in ('owner', 'maintainer'));
create policy collectors_change on app.moved as restrictive for update to public
  using ((select app.my_role()) in ('owner', 'maintainer'));

grant insert on app.lease to authenticated;
grant update (expires_at, snapshots) on app.lease to authenticated;
create policy own_made on app.lease as restrictive for insert to public
  with check (device = (select app.my_device()) and (select app.my_role()) is not null);
create policy own_renewed on app.lease as restrictive for update to public
  using (device = (select app.my_device()) and (select app.my_role()) is not null);

grant insert (tenant, vault, epoch, retired, revived) on app.gc_log to authenticated;
create policy writers on app.gc_log as restrictive for insert to public
  with check ((select app.my_role()) in ('owner', 'writer', 'maintainer'));

grant insert on app.schedule to authenticated;
grant update (rule_sealed, next_due) on app.schedule to authenticated;
create policy own_or_owner_put on app.schedule as restrictive for insert to public
  with check ((select app.my_role()) = 'owner' or ((select app.my_role()) is not null and device = (select app.my_device())));
create policy own_or_owner_change on app.schedule as restrictive for update to public
  using ((select app.my_role()) = 'owner' or ((select app.my_role()) is not null and device = (select app.my_device())));
create policy own_or_owner_see on app.schedule as restrictive for select to public
  using ((select app.my_role()) = 'owner' or device = (select app.my_device()));

reset role;
