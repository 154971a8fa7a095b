-- The one judge of a specification. Every producer, in whatever language, gets the same answer: a message that names
-- the field and says what would be right. The checks read values and write nothing.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- {"text": …}, {"blob": digest} or {"path": relative path}; exactly one.
create function check_source(field text, source jsonb, tenant text) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  kinds text[];
  word text;
begin
  if jsonb_typeof(source) = 'object' then
    kinds := array(select jsonb_object_keys(source));
  end if;
  if kinds is null or cardinality(kinds) <> 1 or not kinds <@ array['text', 'blob', 'path'] then
    perform refuse('22023', field, 'must be an object with exactly one of text, blob, path');
  end if;
  field := field || '.' || kinds[1];
  if jsonb_typeof(source -> kinds[1]) <> 'string' then
    perform refuse('22023', field, shown(source -> kinds[1]) || ' is no string');
  end if;
  word := source ->> kinds[1];
  if kinds[1] = 'path' then
    if octet_length(word) not between 1 and 4095 or word ~ '(^|/)([.]{0,2})(/|$)' then
      perform refuse('22023', field, shown(word) || ' is no relative path without . and ..',
        'name a file beneath the input root of the workers');
    end if;
  elsif kinds[1] = 'blob' then
    if word !~ '^sha256:[0-9a-f]{64}$' then
      perform refuse('22023', field, shown(word) || ' is no digest; write sha256: and 64 lower-case hex digits');
    elsif not exists (select from blob b where b.tenant = check_source.tenant and b.digest = word) then
      perform refuse('22023', field, word || ' is not stored for this tenant', 'put it first with cordon.put_blob');
    end if;
  end if;
end
$$;

create function check_inputs(field text, value jsonb, tenant text) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 64;
  size bigint;
  i record;
begin
  if jsonb_typeof(value) <> 'object' then
    perform refuse('22023', field, 'must be an object of names and sources');
  end if;
  select count(*) into size from jsonb_object_keys(value);
  if size > most then
    perform refuse('22023', field, format('%s inputs; at most %s are allowed', size, most));
  end if;
  for i in select e.key, e.value from jsonb_each(check_inputs.value) e loop
    if i.key !~ '^[A-Za-z0-9_][A-Za-z0-9._-]*$' or length(i.key) > 255 then
      perform refuse('22023', member(field, i.key), 'is no plain file name',
        'letters, digits, . _ and -, no . or - first, at most 255');
    end if;
    perform check_source(member(field, i.key), i.value, tenant);
  end loop;
end
$$;

-- The program: `argv` for exec, `code` and `args` for the interpreters.
create function check_program(base text, specification jsonb, tenant text) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  code constant jsonb := specification -> 'code';
begin
  if specification ->> 'runtime' = 'exec' then
    perform check_texts(base || 'argv', specification -> 'argv', 1);
    if specification -> 'argv' ->> 0 = '' then
      perform refuse('22023', base || 'argv[0]', 'is empty; name the program');
    elsif code is not null then
      perform refuse('22023', base || 'code', 'is for python3 and bash; exec runs argv');
    elsif coalesce(jsonb_array_length(specification -> 'args'), 0) > 0 then
      perform refuse('22023', base || 'args', 'is for python3 and bash; exec takes all of its command in argv');
    end if;
  elsif coalesce(jsonb_array_length(specification -> 'argv'), 0) > 0 then
    perform refuse('22023', base || 'argv', 'is for exec; give the program in code and its arguments in args');
  elsif code is null then
    perform refuse('22023', base || 'code', 'is missing',
      'give the program as a string, or {"blob": …} or {"path": …}');
  elsif jsonb_typeof(code) = 'object' then
    perform check_source(base || 'code', code, tenant);
  elsif jsonb_typeof(code) <> 'string' then
    perform refuse('22023', base || 'code', 'must be a string or an object with one of text, blob, path');
  end if;
end
$$;

-- Accepts or refuses a specification for a tenant under a policy; returns the limits the job gets.
create function check_specification(base text, specification jsonb, tenant text, document jsonb) returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  members constant text[] := array['runtime', 'argv', 'code', 'args', 'env', 'stdin', 'inputs', 'params', 'limits',
    'labels', 'grants'];
  runtimes constant text[] := array['exec', 'python3', 'bash'];
  asked jsonb;
  stranger text;
  runtime text;
begin
  perform check_shape(base || 'specification', specification);
  select k.name into stranger from jsonb_object_keys(specification) k (name) where k.name <> all (members)
  order by 1 limit 1;
  if found then
    perform refuse('22023', member(base, stranger), 'unknown member',
      'the members are ' || array_to_string(members, ', '));
  end if;
  -- A member that is null was not given; params may be any value.
  select jsonb_object_agg(key, value) into asked from jsonb_each(specification)
  where jsonb_typeof(value) <> 'null';

  runtime := case when jsonb_typeof(asked -> 'runtime') = 'string' then asked ->> 'runtime' end;
  if asked -> 'runtime' is null then
    perform refuse('22023', base || 'runtime', 'is missing; use exec, python3 or bash');
  elsif runtime is null or runtime <> all (runtimes) then
    perform refuse('22023', base || 'runtime', shown(asked -> 'runtime') || ' is unknown; use exec, python3 or bash');
  elsif not document -> 'runtimes' ? runtime then
    perform refuse('42501', base || 'runtime', shown(runtime) || ' is not allowed by policy');
  end if;
  if asked ? 'argv' then perform check_texts(base || 'argv', asked -> 'argv', 0); end if;
  if asked ? 'args' then perform check_texts(base || 'args', asked -> 'args', 0); end if;
  perform check_program(base, asked, tenant);
  if asked ? 'env' then perform check_env(base || 'env', asked -> 'env'); end if;
  if asked ? 'stdin' and jsonb_typeof(asked -> 'stdin') <> 'string' then
    perform refuse('22023', base || 'stdin', shown(asked -> 'stdin') || ' is no string');
  end if;
  if asked ? 'inputs' then perform check_inputs(base || 'inputs', asked -> 'inputs', tenant); end if;
  if asked ? 'labels' then perform check_labels(base || 'labels', asked -> 'labels'); end if;
  if asked ? 'grants' then
    if jsonb_typeof(asked -> 'grants') <> 'array' then
      perform refuse('22023', base || 'grants', 'must be an array');
    elsif jsonb_array_length(asked -> 'grants') > 0 then
      perform refuse('42501', base || 'grants', shown(asked -> 'grants' -> 0) || ' is not offered; nothing is yet',
        'leave grants out or write []');
    end if;
  end if;
  return effective_limits(base, asked -> 'limits', document);
end
$$;
