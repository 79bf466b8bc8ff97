-- What the front's sweep is told: which objects may be deleted from the bucket by now, and that they are.
--
-- A client has no part in it. What stands in app.doomed was given up for good, or was announced in a session that ended in
-- nothing: nobody gets a grant for it any more, and the last that was given has died when it is due. Tested in
-- supabase/tests/sweep.sql, and with a real bucket in tests/server.

set role backupengine_owner;

-- What is due, a bounded number of entries: roots before packs, so that no root is left whose packs are gone; then by
-- time. `without` are vaults that are left out. Runs of packs are told as lists of the first number and the one after the
-- last. DEFINER: all accounts.
create function api.sweep_due(most integer, without text[]) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
        'vault', encode(d.vault, 'hex'), 'session', d.s, 'due', d.due_at, 'prefix', v.prefix, 'bucket', v.bucket,
        'root', d.root,
        'packs', (select coalesce(jsonb_agg(jsonb_build_array(lower(r), upper(r)) order by r), '[]') from unnest(d.packs) as r))
      order by d.root desc, d.due_at, d.vault, d.s), '[]')
    from (select * from app.doomed x
          where x.due_at <= clock_timestamp() and encode(x.vault, 'hex') <> all (without)
          order by x.root desc, x.due_at, x.vault, x.s limit most) d
    join app.vault v on v.id = d.vault);
end $$;

-- The objects of one entry are gone. Again is no error: two servers may have swept at once. DEFINER.
create function api.sweep_done(vault text, session bigint, due timestamptz) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  delete from app.doomed d
    where d.vault = decode(sweep_done.vault, 'hex') and d.s = session and d.due_at = due and due <= clock_timestamp();
end $$;

grant execute on function api.sweep_due, api.sweep_done to backupengine_front;

reset role;
