-- What a policy lets jobs reach. A document's `grants` name destinations: a host, a port, how the broker looks at what goes there
-- (mode), what may be asked, how much, and when. Without one nothing is reachable. A document that narrows names the grants that
-- stay, and may take away routes, addresses and amounts of each; it cannot add, nor lead elsewhere.
--
-- A job asks for grants by their names, and its attempt gets what the policy it runs under says of those: a name that a narrower
-- policy has no more makes the job wait as `held`, like everything that a policy does not allow any more.
--
-- `Broker.Grant` reads the same again, strictly, before anything listens.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- Entries of a list, each of a form.
create function check_forms(field text, value jsonb, form text, what text) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  e record;
begin
  if jsonb_typeof(value) is distinct from 'array' then
    perform refuse('22023', field, shown(value) || ' is no array of strings');
  elsif jsonb_array_length(value) > 64 then
    perform refuse('22023', field, format('%s entries; at most 64 are allowed', jsonb_array_length(value)));
  end if;
  for e in select a.value, a.number from jsonb_array_elements(check_forms.value) with ordinality a (value, number) loop
    if jsonb_typeof(e.value) <> 'string' or (e.value #>> '{}') !~ form or octet_length(e.value #>> '{}') > 1024 then
      perform refuse('22023', format('%s[%s]', field, e.number - 1), shown(e.value) || ' is ' || what);
    end if;
  end loop;
end
$$;

-- Blocks of addresses, with no bit set behind their prefix.
create function check_blocks(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  entry text;
begin
  perform check_forms(field, value, '^[0-9a-f.:]{2,45}/[0-9]{1,3}$', 'no block such as 10.0.0.0/8');
  for entry in select jsonb_array_elements_text(check_blocks.value) loop
    begin
      perform entry::cidr;
    exception when invalid_text_representation then
      perform refuse('22023', field, shown(entry) || ' is no block such as 10.0.0.0/8');
    end;
  end loop;
end
$$;

-- Amounts a grant may be used for, each at most what any policy can allow.
create function check_budget(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  m text;
  amount bigint;
begin
  perform check_members(field, value, '{}', array['connections', 'received', 'requests', 'sent']);
  foreach m in array array['connections', 'received', 'requests', 'sent'] loop
    continue when not value ? m;
    amount := read_limit(field || '.' || m, case when m in ('received', 'sent') then 'size' else 'count' end, value -> m);
    if amount > 1125899906842624 then
      perform refuse('22023', field || '.' || m, shown(value -> m) || ' is more than any policy can allow');
    end if;
  end loop;
end
$$;

-- One grant. `narrows`: of a document that narrows, which says only what is taken away.
create function check_grant(field text, value jsonb, narrows boolean) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  route constant text := '^(?!CONNECT |TRACE )[A-Z]{1,16} (/[A-Za-z0-9._~!$&''()+,;=:@%*-]*)+([?][*])?$';
  reads constant boolean := coalesce(value ->> 'mode', '') in ('http', 'inspect');
  p text;
begin
  if narrows then
    perform check_members(field, value, '{}', array['allow', 'allow_private', 'most']);
  else
    perform check_members(field, value, array['host', 'mode', 'port'],
      array['allow', 'allow_private', 'credential', 'listen', 'most', 'phase']);
    if jsonb_typeof(value -> 'host') <> 'string' or length(value ->> 'host') > 253
      or not ((value ->> 'host') ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$'
        or (value ->> 'host') ~ '^[0-9a-f:]{2,45}$')
      or value ->> 'host' in ('localhost', 'cell')
    then
      perform refuse('22023', field || '.host', shown(value -> 'host')
        || ' is no host: write a name in lower case without wildcards, or an address');
    end if;
    foreach p in array array['port', 'listen'] loop
      continue when not value ? p;
      if jsonb_typeof(value -> p) <> 'number' or (value ->> p)::numeric not between 1 and 65535
        or (value ->> p)::numeric <> trunc((value ->> p)::numeric)
      then
        perform refuse('22023', field || '.' || p, shown(value -> p) || ' is no whole number from 1 to 65535');
      end if;
    end loop;
    if value -> 'mode' not in ('"tcp"', '"opaque"', '"http"', '"inspect"') then
      perform refuse('22023', field || '.mode', shown(value -> 'mode') || ' is unknown; use tcp, opaque, http or inspect');
    elsif value ? 'phase' and value -> 'phase' not in ('"fetch"', '"run"') then
      perform refuse('22023', field || '.phase', shown(value -> 'phase') || ' is unknown; use fetch or run');
    elsif reads and not value ? 'allow' then
      perform refuse('22023', field || '.allow', 'is missing');
    elsif not reads and value ? 'allow' then
      perform refuse('22023', field || '.allow', format('means nothing in mode %s, which reads no requests', value ->> 'mode'));
    elsif not reads and value ? 'credential' then
      perform refuse('22023', field || '.credential', format('cannot be put into mode %s, which reads no requests', value ->> 'mode'));
    elsif value ? 'credential' and (jsonb_typeof(value -> 'credential') <> 'string'
      or (value ->> 'credential') !~ '^[0-9a-z_./-]{1,63}$')
    then
      perform refuse('22023', field || '.credential', shown(value -> 'credential')
        || ' is no name of up to 63 lower-case letters, digits and - _ . /');
    end if;
  end if;
  if value ? 'allow' then
    perform check_forms(field || '.allow', value -> 'allow', route,
      'no route such as GET /simple/*, with ** or ?* only at its end');
  end if;
  if value ? 'allow_private' then perform check_blocks(field || '.allow_private', value -> 'allow_private'); end if;
  if value ? 'most' then perform check_budget(field || '.most', value -> 'most'); end if;
end
$$;

-- All of them: two that lead to one place could not be told apart.
create function check_grants(value jsonb, narrows boolean) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  g record;
begin
  if jsonb_typeof(check_grants.value) is distinct from 'object' then
    perform refuse('22023', 'grants', shown(check_grants.value) || ' is no object');
  elsif (select count(*) from jsonb_object_keys(check_grants.value)) > 16 then
    perform refuse('22023', 'grants', 'has more than 16 entries');
  end if;
  for g in select e.key as name, e.value as what from jsonb_each(check_grants.value) e order by e.key loop
    if g.name !~ '^[0-9a-z-]{1,63}$' then
      perform refuse('22023', member('grants', g.name), 'is no name; write up to 63 lower-case letters, digits and hyphens');
    end if;
    perform check_grant('grants.' || g.name, g.what, narrows);
  end loop;
  if narrows then
    return;
  end if;
  for g in
    select e.key as name from jsonb_each(check_grants.value) e join jsonb_each(check_grants.value) o on o.key < e.key
      and o.value -> 'host' = e.value -> 'host'
      and (o.value -> 'port' = e.value -> 'port' or listen_port(o.value) = listen_port(e.value))
    order by 1
  loop
    perform refuse('22023', 'grants.' || g.name, 'leads where another grant leads; one place has one grant');
  end loop;
end
$$;

-- Where in a cell its listener is.
create function listen_port(what jsonb) returns numeric
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return coalesce((what ->> 'listen')::numeric, case when what ->> 'mode' = 'http' then 80 else (what ->> 'port')::numeric end);
end
$$;

-- What stays of a grant: the routes and blocks that both documents have, and of each amount the smaller. Null where `part` is a whole
-- grant (of `as_part`) that leads elsewhere, or in another way.
create function narrow_grant(wide jsonb, part jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  result jsonb := wide;
  m text;
  kind text;
begin
  if part ? 'host' and (
    (part - '{allow,allow_private,most,listen,phase}'::text[]) <> (wide - '{allow,allow_private,most,listen,phase}'::text[])
    or listen_port(part) <> listen_port(wide) or coalesce(part ->> 'phase', 'run') <> coalesce(wide ->> 'phase', 'run'))
  then
    return null;
  end if;
  foreach m in array array['allow', 'allow_private'] loop
    if part ? m and result ? m then
      result := jsonb_set(result, array[m], common_words(result -> m, part -> m));
    end if;
  end loop;
  foreach m in array array['connections', 'received', 'requests', 'sent'] loop
    continue when not coalesce(part -> 'most' ? m, false);
    kind := case when m in ('received', 'sent') then 'size' else 'count' end;
    -- The broker's own amounts hold where a policy says none, and a smaller one of theirs would be given up by a larger word here.
    if not coalesce(result -> 'most' ? m, false)
      and read_limit(m, kind, part -> 'most' -> m) >= (usual_budget() ->> m)::bigint
    then
      continue;
    end if;
    if not coalesce(result -> 'most' ? m, false)
      or read_limit(m, kind, part -> 'most' -> m) < read_limit(m, kind, result -> 'most' -> m)
    then
      result := jsonb_set(result || jsonb_build_object('most', coalesce(result -> 'most', '{}')), array['most', m], part -> 'most' -> m);
    end if;
  end loop;
  return result;
end
$$;

-- `Broker.Grant.Budget.usual`; a test compares them.
create function usual_budget() returns jsonb
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return '{"sent": 1048576, "received": 268435456, "requests": 1000, "connections": 256}';
end
$$;

create function narrow_grants(wide jsonb, part jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  return coalesce((
    select jsonb_object_agg(n.key, n.value) from (
      select w.key, narrow_grant(w.value, part -> w.key) as value from jsonb_each(wide) w where part ? w.key) n
    where n.value is not null), '{}');
end
$$;

-- As in 0035; what a whole document does not say of a grant is what the broker does without it.
create or replace function as_part(document jsonb) returns jsonb
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return '{"waivers": [], "warm": {}, "outputs": {"on": "memory"}}' || (document - '{defaults,lease}'::text[])
    || jsonb_build_object('grants', coalesce((
      select jsonb_object_agg(g.key, '{"allow_private": []}' || g.value
        || jsonb_build_object('most', usual_budget() || coalesce(g.value -> 'most', '{}')))
      from jsonb_each(coalesce(document -> 'grants', '{}')) g), '{}'));
end
$$;

-- As in 0038, and which grants there are is decided by somebody, too.
create or replace function policy_members(document jsonb) returns table (path text, value jsonb)
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    with recursive m (path, value) as (
      select e.key, e.value from jsonb_each(document) e
      union all
      select m.path || '.' || e.key, e.value from m
      cross join lateral jsonb_each(case when jsonb_typeof(m.value) = 'object' then m.value else '{}' end) e
    )
    select m.path, m.value from m where jsonb_typeof(m.value) <> 'object' or m.value = '{}'
    union all
    select 'grants', (select jsonb_agg(k order by k) from jsonb_object_keys(document -> 'grants') k)
    where jsonb_typeof(document -> 'grants') = 'object' and document -> 'grants' <> '{}';
end
$$;

-- The grants that a specification asks for.
create function check_asked_grants(field text, asked jsonb, document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  offered constant jsonb := coalesce(document -> 'grants', '{}');
  e record;
begin
  if jsonb_typeof(asked) <> 'array' then
    perform refuse('22023', field, 'must be an array');
  elsif jsonb_array_length(asked) > 16 then
    perform refuse('22023', field, 'has more than 16 entries');
  end if;
  for e in
    select a.value, a.number, count(*) over (partition by a.value order by a.number) > 1 as again
    from jsonb_array_elements(asked) with ordinality a (value, number) order by a.number
  loop
    if jsonb_typeof(e.value) <> 'string' then
      perform refuse('22023', format('%s[%s]', field, e.number - 1), shown(e.value) || ' is no string');
    elsif e.again then
      perform refuse('22023', format('%s[%s]', field, e.number - 1), shown(e.value) || ' is there twice');
    elsif not offered ? (e.value #>> '{}') then
      perform refuse('42501', field, shown(e.value) || ' is not granted by policy', case when offered = '{}'
        then 'the policy grants nothing; leave grants out or write []'
        else 'the policy grants ' || (select string_agg(k, ', ' order by k) from jsonb_object_keys(offered) k) end);
    end if;
  end loop;
end
$$;

select change_function(c.name, c.before, c.after) from (values
  ('check_policy(jsonb)', 'array[''outputs'', ''waivers'', ''warm'']', 'array[''grants'', ''outputs'', ''waivers'', ''warm'']'),
  ('check_policy(jsonb)', 'if document ? ''outputs'' then', E'if document ? ''grants'' then
    perform check_grants(document -> ''grants'', false);
  end if;
  if document ? ''outputs'' then'),
  ('check_part(jsonb)', 'array[''ceilings'', ''defaults'', ''outputs'', ''runtimes'', ''waivers'', ''warm'']',
        'array[''ceilings'', ''defaults'', ''grants'', ''outputs'', ''runtimes'', ''waivers'', ''warm'']'),
  ('check_part(jsonb)', 'perform check_policy(whole || (part - ''ceilings'' - ''defaults''))',
        E'if part ? ''grants'' then
    perform check_grants(part -> ''grants'', true);
  end if;
  perform check_policy(whole || (part - ''ceilings'' - ''defaults'' - ''grants''))'),
  ('narrow_policy(jsonb, jsonb)', 'if part ? ''warm'' and warm is not null then',
        E'if part ? ''grants'' and result ? ''grants'' then
    result := jsonb_set(result, ''{grants}'', narrow_grants(result -> ''grants'', part -> ''grants''));
  end if;
  if part ? ''warm'' and warm is not null then'),
  ('held_because(jsonb, jsonb)', 'return reason;', 'if reason is null and jsonb_typeof(specification -> ''grants'') = ''array'' then
    select format(''grants: %s is no longer granted by policy'', shown(g.value)) into reason
    from jsonb_array_elements(specification -> ''grants'') g
    where not coalesce(document -> ''grants'', ''{}'') ? (g.value #>> ''{}'') limit 1;
  end if;
  return reason;'),
  ('request_refusal(jsonb, text, jsonb)', 'when sqlstate = ''42501'' and field = ''runtime'' then ''runtimes''',
        'when sqlstate = ''42501'' and field = ''runtime'' then ''runtimes''
    when sqlstate = ''42501'' and field = ''grants'' then ''grants'''),
  ('check_specification(text, jsonb, text, jsonb)',
        E'    if jsonb_typeof(asked -> ''grants'') <> ''array'' then
      perform refuse(''22023'', base || ''grants'', ''must be an array'');
    elsif jsonb_array_length(asked -> ''grants'') > 0 then
      perform refuse(''42501'', base || ''grants'', shown(asked -> ''grants'' -> 0) || '' is not offered; nothing is yet'',
        ''leave grants out or write []'');
    end if;', '    perform check_asked_grants(base || ''grants'', asked -> ''grants'', document);')
) c (name, before, after);
