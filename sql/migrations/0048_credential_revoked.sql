-- A credential is revoked like a tenant or a program: by its name, for every job whose grants name it. What a policy says now counts as
-- little as what the worker's file says: it is what the attempt runs under.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

alter table revocation
  drop constraint revocation_kind_check,
  add constraint revocation_kind_check
    check (kind in ('tenant', 'principal', 'policy', 'code', 'credential', 'worker', 'job'));

-- Whether a job of this specification, under this policy, is given that credential.
create function uses_credential(specification jsonb, policy text, credential text) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
begin
  return jsonb_typeof(specification -> 'grants') = 'array' and exists (
    select from policy p cross join lateral jsonb_each(coalesce(p.document::jsonb -> 'grants', '{}')) g
    where p.digest = uses_credential.policy and specification -> 'grants' ? g.key
      and g.value ->> 'credential' = uses_credential.credential);
end
$$;

select change_function(c.name, c.before, c.after) from (values
  ('revoke(text, text, text, text)', '(''tenant'', ''principal'', ''policy'', ''code'', ''worker'', ''job'')',
        '(''tenant'', ''principal'', ''policy'', ''code'', ''credential'', ''worker'', ''job'')'),
  ('revoke(text, text, text, text)', 'when ''code'' then revoke.target ~',
        'when ''credential'' then revoke.target ~ ''^[0-9a-z_./-]{1,63}$''
    when ''code'' then revoke.target ~'),
  ('revoke(text, text, text, text)', 'use tenant, principal, policy, code, worker or job',
        'use tenant, principal, policy, code, credential, worker or job'),
  ('revoke(text, text, text, text)', '    when ''worker'' then exists (select from worker w where w.name',
        '    when ''credential'' then exists (
      select from policy p cross join lateral jsonb_each(coalesce(p.document::jsonb -> ''grants'', ''{}'')) g
      where g.value ->> ''credential'' = revoke.target)
    when ''worker'' then exists (select from worker w where w.name'),
  ('leases_of(text, text, bigint)', 'when ''code'' then target in',
        'when ''credential'' then uses_credential(j.specification, coalesce(
        (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt), j.policy), target)
      when ''code'' then target in'),
  ('barred_because(text, name, text, uuid, jsonb)', 'or r.kind = ''code'' and',
        'or r.kind = ''credential'' and uses_credential(barred_because.specification, barred_because.policy, r.target)
      or r.kind = ''code'' and')
) c (name, before, after);
