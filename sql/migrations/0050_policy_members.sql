-- Four more members of policy documents:
--
--   "audiences": ["https://index.internal"]
--                            for whom tokens may be made that say who an attempt is; absent or empty is nobody
--   "filesystem": {"inputs": ["text", "blob"], "tmp": "noexec"}
--                            which kinds of inputs a job may name (absent is all there are, empty is none), and whether the kernel
--                            runs programs and maps libraries that lie in /tmp (absent is exec)
--   "retention": {"jobs": "90d", "logs": "30d"}
--                            how long at least the weeks stay that have jobs under this policy (0051); absent is no such bound
--   "credentials": ["index"] of a document that narrows alone: those that stay. In a whole document the grants name them, and a second
--                            list could only disagree. A grant whose credential was taken away is gone: it is for what it is
--                            authorised by, and the broker passes nothing on without.
--
-- Each is judged, narrowed and explained like the others. A whole document that has none of them says what it always said, so none
-- changes its name. The worker keeps audiences (`AttemptTokens`) and inputs (`Materials`), the warden the flags of /tmp.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- A list of different words of one form.
create function check_names(field text, value jsonb, form text, what text) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  w record;
begin
  if jsonb_typeof(value) is distinct from 'array' then
    perform refuse('22023', field, shown(value) || ' is no array of strings');
  elsif jsonb_array_length(value) > 64 then
    perform refuse('22023', field, format('%s entries; at most 64 are allowed', jsonb_array_length(value)));
  end if;
  for w in
    select format('%s[%s]', field, a.number - 1) as path, a.value as given, a.value #>> '{}' as word,
      count(*) over (partition by a.value order by a.number) > 1 as again
    from jsonb_array_elements(check_names.value) with ordinality a (value, number) order by a.number
  loop
    if jsonb_typeof(w.given) <> 'string' then
      perform refuse('22023', w.path, shown(w.given) || ' is no string');
    elsif w.again then
      perform refuse('22023', w.path, shown(w.given) || ' is there twice');
    elsif w.word !~ form then
      perform refuse('22023', w.path, shown(w.given) || ' is ' || what);
    end if;
  end loop;
end
$$;

-- Where inputs may come from; the order of `Jobs.Source.Kind`, which a test compares.
create function input_kinds() returns jsonb
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return '["artifact", "blob", "path", "result", "text"]';
end
$$;

create function check_filesystem(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  perform check_members(field, value, '{}', array['inputs', 'tmp']);
  if value ? 'inputs' then
    perform check_words(field || '.inputs', value -> 'inputs', array(select jsonb_array_elements_text(input_kinds())));
  end if;
  if value ? 'tmp' and value -> 'tmp' not in ('"exec"', '"noexec"') then
    perform refuse('22023', field || '.tmp', shown(value -> 'tmp') || ' is unknown; use exec or noexec');
  end if;
end
$$;

-- A day at least, because weeks are what is kept; a hundred years at most, as for `set_retention`.
create function check_retention(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  class text;
begin
  perform check_members(field, value, '{}', array['jobs', 'logs']);
  foreach class in array array['jobs', 'logs'] loop
    continue when not value ? class;
    if read_limit(field || '.' || class, 'duration', value -> class) not between 86400000 and 3155760000000 then
      perform refuse('22023', field || '.' || class, shown(value -> class) || ' is not 1d to 36525d');
    end if;
  end loop;
end
$$;

-- Those of the above that a document has.
create function check_further(document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  if document ? 'audiences' then
    perform check_names('audiences', document -> 'audiences', '^[!-~]{1,255}$',
      'no audience: 1 to 255 printing ASCII characters without spaces');
  end if;
  if document ? 'filesystem' then perform check_filesystem('filesystem', document -> 'filesystem'); end if;
  if document ? 'retention' then perform check_retention('retention', document -> 'retention'); end if;
end
$$;

-- A whole document with less of each, or a longer time.
create function narrow_further(wide jsonb, part jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  result jsonb := wide;
  now_kinds jsonb := coalesce(wide -> 'filesystem' -> 'inputs', input_kinds());
  kinds constant jsonb := common_words(now_kinds, coalesce(part -> 'filesystem' -> 'inputs', now_kinds));
  class text;
begin
  if part ? 'audiences' and wide ? 'audiences' then
    result := jsonb_set(result, '{audiences}', common_words(wide -> 'audiences', part -> 'audiences'));
  end if;
  if kinds <> now_kinds then
    result := result || jsonb_build_object('filesystem', coalesce(result -> 'filesystem', '{}') || jsonb_build_object('inputs', kinds));
  end if;
  if part -> 'filesystem' ->> 'tmp' = 'noexec' and coalesce(wide -> 'filesystem' ->> 'tmp', 'exec') = 'exec' then
    result := result || jsonb_build_object('filesystem', coalesce(result -> 'filesystem', '{}') || '{"tmp": "noexec"}');
  end if;
  foreach class in array array['jobs', 'logs'] loop
    if coalesce(part -> 'retention' ? class, false) and (not coalesce(wide -> 'retention' ? class, false)
      or read_limit(class, 'duration', part -> 'retention' -> class) > read_limit(class, 'duration', wide -> 'retention' -> class))
    then
      result := result || jsonb_build_object('retention',
        coalesce(result -> 'retention', '{}') || jsonb_build_object(class, part -> 'retention' -> class));
    end if;
  end loop;
  if part ? 'credentials' and wide ? 'grants' then
    result := jsonb_set(result, '{grants}', coalesce((
      select jsonb_object_agg(g.key, g.value) from jsonb_each(result -> 'grants') g
      where not g.value ? 'credential' or part -> 'credentials' ? (g.value ->> 'credential')), '{}'));
  end if;
  return result;
end
$$;

-- The inputs that a specification names, and its program where the text of that is not in the specification itself, with the fields
-- they stand in.
create function named_sources(specification jsonb) returns table (field text, kind text)
language plpgsql immutable security definer set search_path = cordon, pg_temp as $$
begin
  return query
    select s.field, k from (
      select 'code' as field, specification -> 'code' as source
      union all
      select 'inputs.' || i.key, i.value
      from jsonb_each(case when jsonb_typeof(specification -> 'inputs') = 'object' then specification -> 'inputs' else '{}' end) i
    ) s cross join lateral jsonb_object_keys(case when jsonb_typeof(s.source) = 'object' then s.source else '{}' end) k
    where s.field <> 'code' or k <> 'text'
    order by s.field;
end
$$;

-- What a specification names that the document's file system does not have; the first of it, and null for nothing.
create function unmounted(specification jsonb, document jsonb) returns table (field text, kind text)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  if coalesce(document -> 'filesystem' ? 'inputs', false) then
    return query
      select s.field, s.kind from named_sources(specification) s
      where not document -> 'filesystem' -> 'inputs' ? s.kind limit 1;
  end if;
end
$$;

create function check_sources(base text, specification jsonb, document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  s record;
begin
  for s in select * from unmounted(specification, document) loop
    perform refuse('42501', base || s.field, format('%s is a kind of input that policy does not allow', s.kind),
      'the policy allows ' || coalesce(nullif((
        select string_agg(k, ', ') from jsonb_array_elements_text(document -> 'filesystem' -> 'inputs') k), ''), 'none'));
  end loop;
end
$$;

select change_function(c.name, c.before, c.after) from (values
  ('check_policy(jsonb)', '''grants'', ''outputs'',', '''audiences'', ''filesystem'', ''grants'', ''outputs'', ''retention'','),
  ('check_policy(jsonb)', 'if document ? ''outputs'' then', E'perform check_further(document);\n  if document ? ''outputs'' then'),
  ('check_part(jsonb)', '''ceilings'', ''defaults'', ''grants'', ''outputs'',',
        '''audiences'', ''ceilings'', ''credentials'', ''defaults'', ''filesystem'', ''grants'', ''outputs'', ''retention'','),
  ('check_part(jsonb)', '- ''ceilings'' - ''defaults'' - ''grants''', '- ''ceilings'' - ''credentials'' - ''defaults'' - ''grants'''),
  ('check_part(jsonb)', 'if part ? ''grants'' then', E'if part ? ''credentials'' then
    perform check_names(''credentials'', part -> ''credentials'', ''^[0-9a-z_./-]{1,63}$'',
      ''no name of up to 63 lower-case letters, digits and - _ . /'');
  end if;
  if part ? ''grants'' then'),
  ('narrow_policy(jsonb, jsonb)', E'  return result;\n', E'  return narrow_further(result, part);\n'),
  ('as_part(jsonb)', '''{"waivers": []', '''{"audiences": [], "waivers": []'),
  ('held_because(jsonb, jsonb)', '  return reason;', '  if reason is null then
    select format(''%s: %s is a kind of input that policy does not allow any more'', u.field, u.kind) into reason
    from unmounted(specification, document) u;
  end if;
  return reason;'),
  ('check_specification(text, jsonb, text, jsonb)', 'return effective_limits(base, asked -> ''limits'', document);',
        E'perform check_sources(base, asked, document);\n  return effective_limits(base, asked -> ''limits'', document);'),
  ('request_refusal(jsonb, text, jsonb)', 'when sqlstate = ''42501'' and field = ''grants'' then ''grants''',
        'when sqlstate = ''42501'' and field = ''grants'' then ''grants''
    when sqlstate = ''42501'' and (field = ''code'' or field like ''inputs.%'') then ''filesystem.inputs''')
) c (name, before, after);

-- As in 0047, and for whom a token of the attempt is meant: the policy that it runs under has to name that, and so has the one that is
-- in force now.
drop function attempt_identity(bigint, uuid, bigint);
create function attempt_identity(worker bigint, job uuid, token bigint, audience text) returns table (
  now_at timestamptz, deadline_at timestamptz, submitter name, policy text, code text, names_audience boolean)
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
#variable_conflict use_column
declare
  me constant worker := own_worker(attempt_identity.worker);
begin
  return query
    select clock_timestamp(), l.deadline_at, j.enqueued_by, p.digest, coalesce(l.attribution ->> 'code', code_digest(j.specification)),
      coalesce(p.document::jsonb -> 'audiences' ? attempt_identity.audience, false)
        and coalesce((policy_for(j.tenant, l.queue)).document::jsonb -> 'audiences' ? attempt_identity.audience, false)
    from lease l cross join lateral (select * from job where job.id = l.job offset 0) j
    join policy p on p.digest = coalesce(
      (select n.policy from narrowed n where n.job = l.job and n.attempt = l.attempt), j.policy)
    where l.job = attempt_identity.job and l.token = attempt_identity.token and l.worker = me.id
      and l.started_at is not null and not l.cancel and not l.frozen;
end
$$;

revoke all on function attempt_identity(bigint, uuid, bigint, text) from public;
grant execute on function attempt_identity(bigint, uuid, bigint, text) to cordon_worker;

select pin_plans('attempt_identity(bigint, uuid, bigint, text)');
