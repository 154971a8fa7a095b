-- A second way to keep python3 waiting:
--
--   "warm": {"python3": {"mode": "zygote", "imports": ["json"]}}
--                                          cells are forked from one interpreter and share its memory, and with it the
--                                          layout of their address spaces and their hash seed

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- As in 0015, and that mode.
create or replace function check_policy(document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  limits constant text[] := array(select n.name from limit_names() n);
  l record;
  warm constant jsonb := document -> 'warm' -> 'python3';
begin
  perform check_members('', document, array['ceilings', 'defaults', 'lease', 'runtimes', 'version'],
    array['outputs', 'waivers', 'warm']);
  if document -> 'version' <> '1' then
    perform refuse('22023', 'version', shown(document -> 'version') || ' is not 1');
  end if;
  perform check_words('runtimes', document -> 'runtimes', array['bash', 'exec', 'python3']);
  perform check_members('defaults', document -> 'defaults', limits);
  perform check_members('ceilings', document -> 'ceilings', limits);
  for l in
    select n.name, document -> 'defaults' -> n.name as usual,
      read_policy_limit('ceilings.' || n.name, n.kind, document -> 'ceilings' -> n.name) as most,
      read_policy_limit('defaults.' || n.name, n.kind, document -> 'defaults' -> n.name) as amount
    from limit_names() n
  loop
    if l.amount > l.most then
      perform refuse('22023', 'defaults.' || l.name, format('%s is over the ceiling of %s', shown(l.usual),
        document -> 'ceilings' ->> l.name));
    end if;
  end loop;
  perform check_members('lease', document -> 'lease', array['attempts', 'margin']);
  if read_policy_limit('lease.attempts', 'count', document -> 'lease' -> 'attempts') > 100 then
    perform refuse('22023', 'lease.attempts', shown(document -> 'lease' -> 'attempts') || ' is more than 100');
  end if;
  perform read_policy_limit('lease.margin', 'duration', document -> 'lease' -> 'margin');
  if document ? 'waivers' then
    perform check_words('waivers', document -> 'waivers', waivable_controls());
  end if;
  if document ? 'outputs' then
    perform check_members('outputs', document -> 'outputs', array['on']);
    if document -> 'outputs' -> 'on' not in ('"disk"', '"memory"') then
      perform refuse('22023', 'outputs.on', shown(document -> 'outputs' -> 'on') || ' is unknown; use memory or disk');
    end if;
  end if;
  if document ? 'warm' then
    perform check_members('warm', document -> 'warm', '{}', array['python3']);
  end if;
  if warm is not null then
    perform check_members('warm.python3', warm, array['mode'], array['imports']);
    if warm -> 'mode' not in ('"interpreter"', '"zygote"') then
      perform refuse('22023', 'warm.python3.mode',
        shown(warm -> 'mode') || ' is unknown; use interpreter or zygote');
    elsif warm ? 'imports' then
      perform check_words('warm.python3.imports', warm -> 'imports', null);
    end if;
  end if;
end
$$;
