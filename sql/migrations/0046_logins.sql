-- Logins to databases that live as long as an attempt. A worker that finds one asks whether its attempt does; the database says so by
-- the fencing token, which is all that a login's name has.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create function token_is_held(worker bigint, token bigint) returns boolean
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(token_is_held.worker);
begin
  return exists (select from lease l where l.token = token_is_held.token);
end
$$;

revoke all on function token_is_held(bigint, bigint) from public;
grant execute on function token_is_held(bigint, bigint) to cordon_worker;

-- A grant of mode tcp may name a credential: a login, which the job gets for itself.
select change_function('check_grant(text, jsonb, boolean)', 'elsif not reads and value ? ''credential'' then',
  'elsif not reads and value ->> ''mode'' <> ''tcp'' and value ? ''credential'' then');
