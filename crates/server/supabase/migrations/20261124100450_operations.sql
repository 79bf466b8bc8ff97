-- The operations of crates/api/src/operation.rs, and place, which only the front asks for.

set role backupengine_owner;

insert into app.operation (name, mutates, roles, fresh_totp, pending_ok)
select name, kind = 'writes', string_to_array(replace(roles, 'all', 'owner maintainer writer reader'), ' '),
       fresh = 'fresh', pending = 'pending'
from (values
  ('device-enroll',     'writes', 'all',                            'fresh', 'pending'),
  ('device-approve',    'writes', 'all',                            '',      'pending'),
  ('device-list',       'reads',  'all',                            '',      'pending'),
  ('device-rename',     'writes', 'all',                            '',      ''),
  ('device-revoke',     'writes', 'all',                            '',      'pending'),
  ('vault-create',      'writes', 'owner',                          '',      ''),
  ('vault-list',        'reads',  'all',                            '',      'pending'),
  ('envelope-put',      'writes', 'owner',                          '',      ''),
  ('envelope-change',   'writes', 'owner',                          '',      ''),
  ('mount',             'writes', 'all',                            '',      ''),
  ('version',           'reads',  'all',                            '',      ''),
  ('snapshot-list',     'reads',  'all',                            '',      ''),
  ('urls',              'writes', 'all',                            '',      ''),
  ('blob-list',         'reads',  'all',                            '',      ''),
  ('session-list',      'reads',  'all',                            '',      ''),
  ('session-open',      'writes', 'owner maintainer writer',        '',      ''),
  ('session-urls',      'writes', 'owner maintainer writer',        '',      ''),
  ('session-heartbeat', 'writes', 'owner maintainer writer',        '',      ''),
  ('session-commit',    'writes', 'owner maintainer writer',        '',      ''),
  ('session-abort',     'writes', 'owner maintainer writer',        '',      ''),
  ('snapshot-trash',    'writes', 'owner',                          'fresh', ''),
  ('snapshot-untrash',  'writes', 'owner',                          'fresh', ''),
  ('snapshot-hold',     'writes', 'owner',                          'fresh', ''),
  ('snapshot-tag',      'writes', 'owner',                          '',      ''),
  ('retention-set',     'writes', 'owner',                          'fresh', ''),
  ('gc-begin',          'writes', 'owner maintainer',               '',      ''),
  ('gc-retire',         'writes', 'owner maintainer',               '',      ''),
  ('gc-unretire',       'writes', 'owner maintainer writer',        '',      ''),
  ('gc-move',           'writes', 'owner maintainer',               '',      ''),
  ('gc-purge',          'writes', 'owner maintainer',               '',      ''),
  ('schedule-put',      'writes', 'all',                            '',      ''),
  ('schedule-list',     'reads',  'all',                            '',      ''),
  ('usage',             'reads',  'all',                            '',      ''),
  ('audit-list',        'reads',  'all',                            '',      ''),
  ('events',            'reads',  'owner maintainer reader',        '',      ''),
  ('place',             'reads',  'owner maintainer writer',        '',      '')
) as operation(name, kind, roles, fresh, pending);

reset role;
