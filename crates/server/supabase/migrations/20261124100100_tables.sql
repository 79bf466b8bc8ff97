-- Tables (control-plane.md 7): a row per push session and snapshot, none per pack or chunk. The rows of announced
-- blobs live only as long as their session is open.
--
-- Every table of a tenant says whose it is, so that its policies need no other table. Ids are bytes, numbers of
-- sessions and packs are 32 bits without a sign and stand in bigint. Sealed bytes are the devices' matter.

set role backupengine_owner;

-- This deployment: one row, one region, one bucket (app.configure).
create table app.deployment (
  one         boolean primary key default true check (one),
  region      text not null check (region ~ '^[a-z0-9-]{1,32}$'),
  bucket      text not null check (bucket <> ''),
  -- Bytes a new account may take; null for no limit.
  quota_bytes bigint check (quota_bytes >= 0),
  profile     jsonb not null default '{}'
);

create table app.tenant (
  id             uuid primary key default gen_random_uuid(),
  region         text not null,
  plan           text not null default 'standard',
  quota_bytes    bigint check (quota_bytes >= 0),
  used_bytes     bigint not null default 0 check (used_bytes >= 0),
  reserved_bytes bigint not null default 0 check (reserved_bytes >= 0),
  created_at     timestamptz not null default now()
);

-- A user is a member of one tenant. There is no cascade from auth.users: who has a vault is not deleted by accident.
create table app.member (
  tenant  uuid not null references app.tenant,
  user_id uuid not null unique,
  role    text not null check (role in ('owner', 'member')),
  primary key (tenant, user_id)
);

create table app.device (
  tenant      uuid not null,
  id          bytea not null check (length(id) = 16),
  user_id     uuid not null,
  sign_public bytea not null check (length(sign_public) = 32),
  seal_public bytea not null check (length(seal_public) = 32),
  -- By the device over seal_public: other devices verify it, we do not.
  seal_signature bytea check (length(seal_signature) = 64),
  -- SHA-256 of sign_public: how requests name it. Whoever enrols it has proved to hold the key.
  key_hash    bytea not null unique generated always as (sha256(sign_public)) stored,
  status      text not null check (status in ('pending', 'active', 'revoked')),
  role        text check (role in ('owner', 'maintainer', 'writer', 'reader')),
  name_sealed bytea check (length(name_sealed) <= 512),
  created_at  timestamptz not null default now(),
  last_seen   timestamptz,
  -- The login it was seen with last; it ends with the device.
  login       uuid,
  revoked_at  timestamptz,
  primary key (tenant, id),
  foreign key (tenant, user_id) references app.member (tenant, user_id),
  check (status <> 'active' or role is not null),
  check ((status = 'revoked') = (revoked_at is not null))
);
create index device_of_user on app.device (tenant, user_id);

create table app.vault (
  id           bytea primary key check (length(id) = 16),
  tenant       uuid not null references app.tenant,
  bucket       text not null,
  prefix       text not null generated always as (encode(id, 'hex') || '/') stored,
  root_public  bytea not null check (length(root_public) = 32),
  created_at   timestamptz not null default now(),
  -- The number the next session gets; one more than the last when all are used up.
  next_session bigint not null default 1 check (next_session between 1 and 4294967296),
  -- Moves exactly with the list of snapshots.
  snap_version bigint not null default 0,
  -- Moves with what was retired.
  gc_epoch     bigint not null default 0,
  used_bytes   bigint not null default 0 check (used_bytes >= 0),
  features     jsonb not null default '{}',
  trash_days   integer not null default 14 check (trash_days between 14 and 3650),
  -- A shorter time counts from here on only.
  next_trash_days integer check (next_trash_days between 14 and 3650),
  next_trash_from timestamptz,
  lock_days    integer check (lock_days > 0),
  append_only  boolean not null default false,
  unique (id, tenant)
);
create index vault_of_tenant on app.vault (tenant, created_at);

-- What a device was given for a vault when it was approved.
create table app.access (
  tenant      uuid not null,
  vault       bytea not null,
  device      bytea not null,
  certificate bytea not null check (length(certificate) between 1 and 4096),
  envelope    bytea check (length(envelope) between 1 and 65536),
  created_at  timestamptz not null default now(),
  primary key (vault, device),
  foreign key (vault, tenant) references app.vault (id, tenant),
  foreign key (tenant, device) references app.device (tenant, id)
);
create index access_of_device on app.access (tenant, device);

-- Key envelopes, opaque. A change is a new row.
create table app.envelope (
  tenant     uuid not null,
  vault      bytea not null,
  id         bytea not null check (length(id) = 8),
  epoch      bigint not null check (epoch between 0 and 4294967295),
  kind       text not null check (kind in ('passphrase', 'recovery')),
  sealed     bytea not null check (length(sealed) between 1 and 65536),
  created_at timestamptz not null default now(),
  primary key (vault, id),
  foreign key (vault, tenant) references app.vault (id, tenant)
);
create index envelope_of_tenant on app.envelope (tenant);

create table app.session (
  tenant      uuid not null,
  vault       bytea not null,
  s           bigint not null check (s between 1 and 4294967295),
  -- Null after a rebuild from the bucket.
  device      bytea,
  kind        text not null check (kind in ('push', 'compact', 'heal')),
  state       text not null default 'open' check (state in ('open', 'committed', 'expired')),
  acked_epoch bigint not null,
  opened_at   timestamptz not null default now(),
  -- Last sign of life; after 72 hours without one the session counts as expired.
  last_seen   timestamptz not null default now(),
  packs       bigint not null default 0 check (packs between 0 and 4294967296),
  bytes       bigint not null default 0 check (bytes >= 0),
  -- Announced bytes, while it is open.
  reserved    bigint not null default 0 check (reserved >= 0),
  -- SHA-256 of the request that committed it.
  committed_by bytea,
  -- Numbers of packs nobody may newly refer to, and of those that are gone.
  retired     int8multirange not null default '{}',
  deleted     int8multirange not null default '{}',
  primary key (vault, s),
  foreign key (vault, tenant) references app.vault (id, tenant),
  foreign key (tenant, device) references app.device (tenant, id)
);
create index session_of_device on app.session (tenant, device);
create index session_open on app.session (vault, last_seen) where state = 'open';

-- Blobs of open sessions: which bytes a number stands for. No foreign key: rows are written only under the lock of
-- their session's row, 256 at once.
create table app.announced (
  tenant uuid not null,
  vault  bytea not null,
  s      bigint not null,
  kind   text not null check (kind in ('pack', 'root')),
  number bigint not null check (number between 0 and 4294967295 and (kind = 'pack' or number = 0)),
  length bigint not null check (length between 1 and 268435456),
  sha256 bytea not null check (length(sha256) = 32),
  primary key (tenant, vault, s, kind, number)
);

create table app.snapshot (
  tenant        uuid not null,
  vault         bytea not null,
  s             bigint not null,
  id            bytea not null check (length(id) = 8),
  -- Device, time and label are null after a rebuild from the bucket: the root says them.
  device        bytea,
  created_secs  bigint,
  created_nanos integer check (created_nanos between 0 and 999999999),
  committed_at  timestamptz not null default now(),
  root_size     bigint not null check (root_size > 0),
  head_len      bigint not null check (head_len between 0 and 4294967295),
  label         bytea check (length(label) <= 1024),
  -- Runs of packs the metadata lies in, top levels first: session, first number, count; session, ...
  meta_packs    bigint[] not null default '{}' check (cardinality(meta_packs) % 3 = 0 and cardinality(meta_packs) <= 192),
  state         text not null default 'live' check (state in ('live', 'trashed', 'pinned', 'purged')),
  hold          boolean not null default false,
  purge_after   timestamptz,
  primary key (vault, s),
  foreign key (vault, s) references app.session (vault, s),
  foreign key (vault, tenant) references app.vault (id, tenant),
  foreign key (tenant, device) references app.device (tenant, id)
);
create index snapshot_of_device on app.snapshot (tenant, device);
create index snapshot_in_trash on app.snapshot (vault, s) where state in ('trashed', 'pinned');

-- Packs whose frames lie elsewhere now. Moving again writes the row anew: no chains.
create table app.moved (
  tenant    uuid not null,
  vault     bytea not null,
  s         bigint not null,
  number    bigint not null,
  to_s      bigint not null,
  to_number bigint not null,
  primary key (vault, s, number),
  foreign key (vault, s) references app.session (vault, s),
  foreign key (vault, to_s) references app.session (vault, s),
  foreign key (vault, tenant) references app.vault (id, tenant)
);
create index moved_to on app.moved (vault, to_s, to_number);
create index moved_of_tenant on app.moved (tenant);

create table app.lease (
  id         uuid primary key default gen_random_uuid(),
  tenant     uuid not null,
  vault      bytea not null,
  device     bytea not null,
  -- Sessions of the snapshots it keeps.
  snapshots  bigint[] not null default '{}',
  expires_at timestamptz not null,
  foreign key (vault, tenant) references app.vault (id, tenant),
  foreign key (tenant, device) references app.device (tenant, id)
);
create index lease_of_vault on app.lease (vault, expires_at);
create index lease_of_device on app.lease (tenant, device);

-- What each epoch retired or brought back: [{"session", "from", "count"}].
create table app.gc_log (
  tenant  uuid not null,
  vault   bytea not null,
  epoch   bigint not null,
  at      timestamptz not null default now(),
  retired jsonb not null default '[]',
  revived jsonb not null default '[]',
  primary key (vault, epoch),
  foreign key (vault, tenant) references app.vault (id, tenant)
);
create index gc_log_of_tenant on app.gc_log (tenant);

create table app.schedule (
  tenant      uuid not null,
  vault       bytea not null,
  device      bytea not null,
  rule_sealed bytea not null check (length(rule_sealed) <= 1024),
  next_due    timestamptz not null,
  primary key (vault, device),
  foreign key (vault, tenant) references app.vault (id, tenant),
  foreign key (tenant, device) references app.device (tenant, id)
);
create index schedule_of_device on app.schedule (tenant, device);

-- Signed requests seen in the last ten minutes, by the key that signed.
create table app.nonce (
  key_hash   bytea not null,
  n          bytea not null,
  expires_at timestamptz not null,
  primary key (key_hash, n)
);
create index nonce_expired on app.nonce (expires_at);

-- Answers kept for a day, so that a call whose answer was lost can be repeated.
create table app.idem (
  tenant     uuid not null,
  device     bytea not null,
  op         text not null,
  key        text not null,
  digest     bytea not null,
  answer     jsonb not null,
  expires_at timestamptz not null,
  primary key (tenant, device, op, key),
  foreign key (tenant, device) references app.device (tenant, id)
);
create index idem_expired on app.idem (expires_at);

-- Insert only. The chain of a tenant runs through its rows by number; rows of nobody's tenant have the nil UUID.
create table app.audit (
  tenant       uuid not null,
  number       bigint not null,
  at           timestamptz not null,
  actor_user   uuid,
  actor_device bytea,
  login        uuid,
  op           text not null,
  args_digest  bytea not null,
  result       text not null,
  chain        bytea not null,
  primary key (tenant, number)
);

-- The end of each chain: its row is the lock that keeps a chain in one line.
create table app.audit_head (
  tenant uuid primary key,
  number bigint not null,
  chain  bytea not null
);

-- The operations: who may call them, and on which terms. Each is the function api.op_<name, underscores for dashes>.
create table app.operation (
  name       text primary key check (name ~ '^[a-z]+(-[a-z]+)*$'),
  -- Uses up a nonce, is written to the audit.
  mutates    boolean not null,
  roles      text[] not null,
  -- Always needs a one-time code of the last ten minutes (others ask for it where it matters).
  fresh_totp boolean not null default false,
  -- Open to devices that wait for approval.
  pending_ok boolean not null default false
);

reset role;

-- As the migrator: its rights over schema auth are what a foreign key takes.
alter table app.member add constraint member_user foreign key (user_id) references auth.users (id);
