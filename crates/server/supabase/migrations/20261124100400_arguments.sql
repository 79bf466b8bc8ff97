-- Reading arguments and writing answers. The front has checked the types; ranges and lengths are checked here.

set role backupengine_owner;

create function app.bad(field text) returns void language plpgsql immutable set search_path = '' as $$
begin
  perform app.refuse('bad_request', format('The value of %s is missing, malformed or out of range.', field));
end $$;

create function app.int_arg(args jsonb, field text, low bigint, high bigint) returns bigint
language plpgsql immutable set search_path = '' as $$
declare
  value numeric;
begin
  if jsonb_typeof(args -> field) is distinct from 'number' then
    perform app.bad(field);
  end if;
  value := (args ->> field)::numeric;
  if value < low or value > high or value <> trunc(value) then
    perform app.bad(field);
  end if;
  return value;
end $$;

-- Hexadecimal digits of exactly so many bytes.
create function app.id_arg(args jsonb, field text, bytes integer) returns bytea
language plpgsql immutable set search_path = '' as $$
declare
  value text := args ->> field;
begin
  if value is null or length(value) <> 2 * bytes or value !~ '^[0-9a-f]+$' then
    perform app.bad(field);
  end if;
  return decode(value, 'hex');
end $$;

-- Base64 of low to high bytes.
create function app.bytes_arg(args jsonb, field text, low integer, high integer) returns bytea
language plpgsql immutable set search_path = '' as $$
declare
  value text := args ->> field;
  bytes bytea;
begin
  if value is null or length(value) % 4 <> 0 or value !~ '^[A-Za-z0-9+/]*={0,2}$' then
    perform app.bad(field);
  end if;
  bytes := decode(value, 'base64');
  if length(bytes) not between low and high then
    perform app.bad(field);
  end if;
  return bytes;
end $$;

create function app.word_arg(args jsonb, field text, words text[]) returns text
language plpgsql immutable set search_path = '' as $$
begin
  if (args ->> field) is null or not (args ->> field) = any (words) then
    perform app.bad(field);
  end if;
  return args ->> field;
end $$;

create function app.list_arg(args jsonb, field text, most integer) returns jsonb
language plpgsql immutable set search_path = '' as $$
begin
  if jsonb_typeof(args -> field) is distinct from 'array' or jsonb_array_length(args -> field) > most then
    perform app.bad(field);
  end if;
  return args -> field;
end $$;

-- Ids of so many bytes, once each and in order; at most so many.
create function app.ids_arg(args jsonb, field text, bytes integer, most integer) returns bytea[]
language plpgsql immutable set search_path = '' as $$
declare
  one jsonb;
  ids bytea[];
begin
  for one in select value from jsonb_array_elements(app.list_arg(args, field, most)) loop
    ids := ids || app.id_arg(jsonb_build_object(field, one), field, bytes);
  end loop;
  return (select coalesce(array_agg(distinct id order by id), '{}') from unnest(ids) as id);
end $$;

-- Base64 on one line.
create function app.base64(value bytea) returns text language sql immutable
return translate(encode(value, 'base64'), E'\n', '');

create function app.seconds(value timestamptz) returns bigint language sql immutable
return floor(extract(epoch from value))::bigint;

-- A number as names of blobs have it.
create function app.hex8(value bigint) returns text language sql immutable
return lpad(to_hex(value), 8, '0');

-- Runs of packs as the contract has them.
create function app.runs(value int8multirange, session bigint) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('session', session, 'from', lower(r), 'count', upper(r) - lower(r))
                            order by lower(r)), '[]')
  from unnest(value) as r
$$;

-- What lists say of a session: one that was silent for too long is expired, whether or not anybody came by to write it.
create function app.state_of(state text, last_seen timestamptz) returns text language sql stable
return case when state = 'open' and last_seen < now() - interval '72 hours' then 'expired' else state end;

-- The vault an operation names, of the caller's tenant: policies hide every other.
create function app.vault_arg(args jsonb) returns app.vault language plpgsql stable set search_path = '' as $$
declare
  wanted bytea := app.id_arg(args, 'vault', 16);
  found_vault app.vault;
begin
  select * into found_vault from app.vault v where v.id = wanted;
  if found_vault.id is null then
    perform app.refuse('not_found', 'This account has no such vault.');
  end if;
  return found_vault;
end $$;

grant execute on all functions in schema app to authenticated;

reset role;
