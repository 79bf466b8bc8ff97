-- Grants to read: mount, urls; and lists of what is stored.
--
-- A writer is given roots, packs of its own open session, and packs that hold the metadata of its own snapshots: what
-- a push needs of what was before. Packs of another device's open session are nobody's.

set role backupengine_owner;

-- Numbers of packs as one line: 32 bits of session, 32 of number.
create function app.place(s bigint, number bigint) returns bigint language sql immutable
return ((s - 2147483648) << 32) + number;

-- What of `wanted` is metadata of the caller's own snapshots. Of what a snapshot names only packs of its own session
-- count: else a writer could name any pack of the vault in a commit and be given it to read. What it takes over from
-- earlier snapshots of its own was named by those, also where they are purged by now.
create function app.own_metadata(home app.vault, me app.caller, wanted int8multirange) returns int8multirange
language plpgsql stable set search_path = '' as $$
begin
  return (
    select coalesce(range_agg(run), '{}')
    from app.snapshot n
    cross join lateral (
      select int8range(app.place(n.s, n.meta_packs[i + 1]), app.place(n.s, n.meta_packs[i + 1]) + n.meta_packs[i + 2]) as run
      from generate_series(1, cardinality(n.meta_packs), 3) as i
      where n.meta_packs[i] = n.s) runs
    where n.vault = home.id and n.device = me.device and run && wanted);
end $$;

-- One grant each for runs of blobs ([{"kind","session","from","count"}], in order), with the words for the front.
-- Whether the caller may is the callers' matter.
create function app.grants(home app.vault, me app.caller, want jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return (
    with asked as (
      select w.ord, w.kind, w.session as s, w."from" as low, w.count, own.state, own.packs, own.deleted, own.writing
      from rows from (jsonb_to_recordset(want) as (kind text, session bigint, "from" bigint, count bigint))
        with ordinality as w(kind, session, "from", count, ord)
      -- Laterals with a limit: one look-up each by the primary key, whatever the planner believes of the tables.
      left join lateral (
        select x.state, x.packs, x.deleted,
               x.device = me.device and app.state_of(x.state, x.last_seen) = 'open' as writing
        from app.session x where x.vault = home.id and x.s = w.session limit 1) own on true
    ), one as (
      select a.kind, a.s, n as number, m.to_s, m.to_number, row_number() over (order by a.ord, n) - 1 as at,
             case
               when a.writing then
                 case when exists (select from app.announced x where x.tenant = home.tenant and x.vault = home.id
                                   and x.s = a.s and x.kind = a.kind and x.number = n) then 'here' else 'gone' end
               when a.state is distinct from 'committed' then 'gone'
               when a.kind = 'root' then
                 case when exists (select from app.snapshot x where x.vault = home.id and x.s = a.s
                                   and x.state <> 'purged') then 'here' else 'gone' end
               when a.deleted @> n then 'gone'
               when m.to_s is not null then 'moved'
               else 'here'
             end as state
      from asked a
      cross join lateral generate_series(a.low, least(a.low + a.count,
        case when a.kind = 'pack' and a.state = 'committed' then a.packs else 4294967296 end) - 1) as n
      left join lateral (
        select x.to_s, x.to_number from app.moved x
        where a.kind = 'pack' and x.vault = home.id and x.s = a.s and x.number = n limit 1) m on true
    )
    select jsonb_build_object(
      'grants', coalesce(jsonb_agg(
        case o.state
          when 'moved' then jsonb_build_object('kind', o.kind, 'session', o.s, 'number', o.number, 'state', o.state,
                                               'moved', o.to_s, 'moved_number', o.to_number)
          else jsonb_build_object('kind', o.kind, 'session', o.s, 'number', o.number, 'state', o.state, 'url', null)
        end order by o.at), '[]'),
      'presign', coalesce(jsonb_agg(jsonb_build_object(
        'at', '/grants/' || o.at || '/url', 'method', 'GET', 'bucket', home.bucket, 'prefix', home.prefix,
        'key', case o.kind when 'root' then 'r/' || app.hex8(o.s)
                           else 'p/' || app.hex8(o.s) || '/' || app.hex8(o.number) end)
        order by o.at) filter (where o.state = 'here'), '[]'))
    from one o);
end $$;

-- Renews a lease, or makes it (again): a laptop that slept keeps what it mounted. Adds the snapshots opened now.
create function app.renew_lease(home app.vault, me app.caller, lease text, opened bigint[]) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  kept app.lease;
begin
  if lease is not null and lease !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    perform app.bad('lease');
  end if;
  -- Looked at first: which of the policy and the condition below is asked first differs between releases of PostgreSQL 15.
  if exists (select from app.lease l where l.id = lease::uuid and (l.vault <> home.id or l.device <> me.device)) then
    perform app.refuse('not_found', 'This device has no such lease on this vault.', 'Mount again.');
  end if;
  insert into app.lease as l (id, tenant, vault, device, snapshots, expires_at)
    values (coalesce(lease::uuid, gen_random_uuid()), me.tenant, home.id, me.device, opened, now() + interval '1 hour')
    on conflict (id) do update set
      expires_at = excluded.expires_at,
      snapshots = case when l.snapshots @> excluded.snapshots then l.snapshots
                  else (select array_agg(distinct x order by x) from unnest(l.snapshots || excluded.snapshots) x) end
      where l.vault = excluded.vault and l.device = excluded.device
    returning * into kept;
  if kept.id is null then
    perform app.refuse('not_found', 'This device has no such lease on this vault.', 'Mount again.');
  end if;
  return jsonb_build_object('id', kept.id, 'expires', app.seconds(kept.expires_at));
end $$;

create function api.op_urls(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me     app.caller := app.identify();
  asked  jsonb := app.list_arg(args, 'want', 256);
  home   app.vault;
  total  bigint := 0;
  one    jsonb;
  wanted int8multirange;
begin
  for one in select * from jsonb_array_elements(asked) loop
    perform app.word_arg(one, 'kind', '{pack,root}');
    perform app.int_arg(one, 'session', 0, 4294967295);
    perform app.int_arg(one, 'from', 0, case one ->> 'kind' when 'root' then 0 else 4294967295 end);
    total := total + app.int_arg(one, 'count', 1, case one ->> 'kind' when 'root' then 1 else 256 end);
  end loop;
  if total > 256 then
    perform app.bad('want');
  end if;
  home := app.vault_arg(args);
  if me.role = 'writer' then
    select coalesce(range_agg(int8range(app.place(w.session, w."from"), app.place(w.session, w."from") + w.count)), '{}')
      into wanted
      from jsonb_to_recordset(asked) as w(kind text, session bigint, "from" bigint, count bigint)
      left join lateral (
        select s.device = me.device and app.state_of(s.state, s.last_seen) = 'open' as writing
        from app.session s where s.vault = home.id and s.s = w.session limit 1) own on true
      where w.kind = 'pack' and own.writing is not true;
    if not app.own_metadata(home, me, wanted) @> wanted then
      perform app.deny(me, 'read packs of data');
    end if;
  end if;
  if args ->> 'lease' is not null then
    perform app.renew_lease(home, me, args ->> 'lease', coalesce((
      select array_agg(distinct n.s order by n.s)
      from jsonb_to_recordset(asked) as w(kind text, session bigint)
      join app.snapshot n on n.vault = home.id and n.s = w.session and n.state <> 'purged'
      where w.kind = 'root'), '{}'));
  end if;
  return app.grants(home, me, asked) || jsonb_build_object('now', app.seconds(now()));
end $$;

-- Everything a first listing needs.
create function api.op_mount(args jsonb) returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  me     app.caller := app.identify();
  most   integer := least(app.int_arg(args, 'snapshots', 0, 4294967295), 1000);
  home   app.vault;
  newest app.snapshot;
  own    app.access;
  want   jsonb := '[]';
  room   bigint := 64;
  i      integer := 1;
  run    int8multirange;
begin
  if args ->> 'vault' is not null then
    home := app.vault_arg(args);
  else
    if (select count(*) > 1 from app.vault) then
      perform app.bad('vault');
    end if;
    select * into home from app.vault;
    if home.id is null then
      perform app.refuse('not_found', 'This account has no vault yet.', 'Make one first.');
    end if;
  end if;
  select * into newest from app.snapshot n where n.vault = home.id and n.state = 'live' order by n.s desc limit 1;
  if newest.s is not null then
    want := jsonb_build_array(jsonb_build_object('kind', 'root', 'session', newest.s, 'from', 0, 'count', 1));
    -- Where its metadata lies, top levels first; for a writer what its own snapshots hold.
    while i < cardinality(newest.meta_packs) and room > 0 loop
      run := int8multirange(int8range(app.place(newest.meta_packs[i], newest.meta_packs[i + 1]),
        app.place(newest.meta_packs[i], newest.meta_packs[i + 1]) + least(newest.meta_packs[i + 2], room)));
      if me.role <> 'writer' or app.own_metadata(home, me, run) @> run then
        want := want || jsonb_build_object('kind', 'pack', 'session', newest.meta_packs[i],
          'from', newest.meta_packs[i + 1], 'count', least(newest.meta_packs[i + 2], room));
        room := room - least(newest.meta_packs[i + 2], room);
      end if;
      i := i + 3;
    end loop;
  end if;
  select * into own from app.access a where a.vault = home.id and a.device = me.device;
  return app.grants(home, me, want) || jsonb_build_object(
    'vault', (select app.vault_record(home, t) from app.tenant t where t.id = me.tenant),
    'envelopes', (select coalesce(jsonb_agg(jsonb_build_object('id', encode(e.id, 'hex'), 'epoch', e.epoch,
                          'kind', e.kind, 'created', app.seconds(e.created_at), 'sealed', app.base64(e.sealed)) order by e.created_at, e.id), '[]')
                  from app.envelope e where e.vault = home.id),
    'envelope', app.base64(own.envelope), 'certificate', app.base64(own.certificate),
    'role', me.role, 'device', encode(me.device, 'hex'),
    'snapshots', app.snapshot_page(home, 4294967296, most, false),
    'lease', app.renew_lease(home, me, args ->> 'lease',
                             case when newest.s is null then '{}' else array[newest.s] end),
    'now', app.seconds(now()));
end $$;

create function api.op_blob_list(args jsonb) returns jsonb language plpgsql stable set search_path = '' as $$
declare
  me      app.caller := app.identify();
  kind    text := app.word_arg(args, 'kind', '{packs,roots,envelopes}');
  session bigint := case when args ->> 'session' is null then null else app.int_arg(args, 'session', 0, 4294967295) end;
  home    app.vault;
  hidden  jsonb;
begin
  if session is not null and kind <> 'packs' then
    perform app.bad('session');
  end if;
  home := app.vault_arg(args);
  if me.role = 'writer' and (kind = 'envelopes' or (kind = 'packs' and (session is null or not exists (
       select from app.session s where s.vault = home.id and s.s = session and s.device = me.device)))) then
    perform app.deny(me, 'list what others wrote');
  end if;
  select coalesce(jsonb_agg(s.s order by s.s), '[]') into hidden
    from app.session s
    where s.vault = home.id and s.state = 'open' and s.device is distinct from me.device;
  if hidden @> to_jsonb(session) then
    return jsonb_build_object('blobs', '[]'::jsonb);
  end if;
  return jsonb_build_object('blobs', '[]'::jsonb, 'list', jsonb_build_object(
    'at', '/blobs', 'bucket', home.bucket, 'prefix', home.prefix,
    'under', case kind when 'roots' then 'r/' when 'envelopes' then 'k/'
                       else 'p/' || coalesce(app.hex8(session) || '/', '') end,
    'hidden', hidden, 'cursor', args -> 'cursor'));
end $$;

grant execute on function app.place, app.own_metadata, app.grants, app.renew_lease to authenticated;
grant execute on function api.op_urls, api.op_mount, api.op_blob_list to authenticated;

reset role;
