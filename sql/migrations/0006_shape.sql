-- The parts a specification is made of: that it is JSON of a bearable shape, and its lists and dictionaries of text.
-- `base` stands before every field name: empty for one job, `specifications[3].` for one of many.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- From text, for callers that hold text: the size is judged before anything is parsed, and what the parser says is
-- turned into words about the request. The parser itself stops at the stack's limit, far above the allowed nesting.
create function parse_specification(specification text, base text default '') returns jsonb
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 1048576;
  field constant text := base || 'specification';
  finding text;
  place text;
begin
  if octet_length(specification) > most then
    perform refuse('22023', field, format('%s bytes; at most %s are allowed', octet_length(specification), most),
      'put large inputs with cordon.put_blob and name their digest');
  end if;
  begin
    return specification::jsonb;
  exception
    when statement_too_complex then
      perform refuse('22023', field, 'nested deeper than 64 levels');
    when untranslatable_character then
      perform refuse('22023', field, 'holds \u0000, which no argument, variable or input text can carry');
    when invalid_text_representation or numeric_value_out_of_range then
      get stacked diagnostics finding = message_text, place = pg_exception_detail;
      finding := concat_ws('; ', finding, nullif(place, ''));
      perform refuse('22023', field, 'is no JSON: ' || left(regexp_replace(finding, '[\s[:cntrl:]]+', ' ', 'g'), 200));
  end;
end
$$;

-- A number no 64-bit float can hold. jsonb keeps 1e131071 in a few bytes and writes it with 131072 digits, so a small
-- document of such numbers would cost gigabytes wherever it is read; and no runtime of a job could read them.
create function has_extreme_number(value jsonb) returns boolean
language sql stable strict security definer set search_path = cordon, pg_temp as $$
  select jsonb_path_exists(value, 'strict $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308
    || (@ != 0 && @ < 1e-307 && @ > -1e-307)))')
$$;

-- What must hold before anything else reads the document: an object, not too deep, without extreme numbers, not too
-- large. In this order, because each check relies on the ones before it to be cheap.
create function check_shape(field text, specification jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 1048576;
begin
  if jsonb_typeof(specification) is distinct from 'object' then
    perform refuse('22023', field, 'must be a JSON object', 'for example {"runtime": "bash", "code": "echo hello"}');
  elsif jsonb_path_exists(specification, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")') then
    perform refuse('22023', field, 'nested deeper than 64 levels');
  elsif has_extreme_number(specification) then
    perform refuse('22023', field, 'holds a number that no 64-bit float can hold', 'write it as a string');
  elsif octet_length(specification::text) > most then
    perform refuse('22023', field, format('%s bytes; at most %s are allowed', octet_length(specification::text), most),
      'put large inputs with cordon.put_blob and name their digest');
  end if;
end
$$;

create function check_texts(field text, list jsonb, fewest int) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  most constant int := 1024;
  -- The kernel takes 128 KiB an argument with its NUL.
  longest constant int := 131071;
  i bigint;
  entry jsonb;
begin
  if list is null or jsonb_typeof(list) <> 'array' then
    perform refuse('22023', field, 'must be an array of strings');
  end if;
  if jsonb_array_length(list) not between fewest and most then
    perform refuse('22023', field,
      format('%s entries; %s to %s are allowed', jsonb_array_length(list), fewest, most));
  end if;
  for entry, i in select value, ordinality - 1 from jsonb_array_elements(list) with ordinality loop
    if jsonb_typeof(entry) <> 'string' then
      perform refuse('22023', format('%s[%s]', field, i), shown(entry) || ' is no string');
    elsif octet_length(entry #>> '{}') > longest then
      perform refuse('22023', format('%s[%s]', field, i),
        format('%s bytes; at most %s are allowed', octet_length(entry #>> '{}'), longest));
    end if;
  end loop;
end
$$;

-- An object whose values are strings, with at most so many members.
create function check_dictionary(field text, value jsonb, most int) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  size bigint;
  bad record;
begin
  if jsonb_typeof(value) <> 'object' then
    perform refuse('22023', field, 'must be an object');
  end if;
  select count(*) into size from jsonb_object_keys(value);
  if size > most then
    perform refuse('22023', field, format('%s members; at most %s are allowed', size, most));
  end if;
  select e.key, e.value into bad from jsonb_each(check_dictionary.value) e
  where jsonb_typeof(e.value) <> 'string' order by 1 limit 1;
  if found then
    perform refuse('22023', member(field, bad.key), shown(bad.value) || ' is no string');
  end if;
end
$$;

create function check_env(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  longest constant int := 131071;
  e record;
begin
  perform check_dictionary(field, value, 256);
  for e in select v.key, v.value #>> '{}' as value from jsonb_each(check_env.value) v loop
    if e.key !~ '^[A-Za-z_][A-Za-z0-9_]*$' then
      perform refuse('22023', member(field, e.key), 'is no name of an environment variable',
        'letters, digits and _, not a digit first');
    elsif e.key like 'CORDON\_%' then
      perform refuse('22023', member(field, e.key), 'names that start with CORDON_ are set by the worker');
    elsif octet_length(e.key) + 1 + octet_length(e.value) > longest then
      perform refuse('22023', member(field, e.key), format('longer than the %s bytes a variable may have', longest));
    end if;
  end loop;
end
$$;

create function check_labels(field text, value jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
declare
  l record;
begin
  perform check_dictionary(field, value, 64);
  for l in select v.key, v.value #>> '{}' as value from jsonb_each(check_labels.value) v loop
    if octet_length(l.key) not between 1 and 128 or octet_length(l.value) > 1024 then
      perform refuse('22023', member(field, l.key), 'a label has a name of 1 to 128 bytes and a value of at most 1024');
    end if;
  end loop;
end
$$;

grant execute on function parse_specification(text, text) to cordon_producer;
