-- Small values everything else is made of: ids, times as text, sizes and durations as people write them, and the
-- one way to refuse a request.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

-- A UUIDv7 (RFC 9562) for a moment given in microseconds since 1970: 48 bits of milliseconds, the fraction of the
-- millisecond in the 12 bits of rand_a so that ids of one millisecond still sort by time, 62 random bits.
create function uuid7(micros bigint) returns uuid
language sql volatile strict security definer set search_path = cordon, pg_temp as $$
  select encode(
    set_byte(set_byte(
      overlay(uuid_send(gen_random_uuid()) placing substring(int8send(micros / 1000) from 3) from 1 for 6),
      6, 112 | (fraction >> 8)),
      7, fraction & 255),
    'hex')::uuid
  from (select ((micros % 1000) * 4096 / 1000)::int as fraction) f
$$;

create function micros(at timestamptz) returns bigint
language sql stable strict security definer set search_path = cordon, pg_temp as $$
  select (extract(epoch from at) * 1000000)::bigint
$$;

create function uuid7() returns uuid
language sql volatile security definer set search_path = cordon, pg_temp as $$
  select uuid7(micros(clock_timestamp()))
$$;

-- The smallest id of a moment: where a partition by id begins or ends.
create function uuid7_floor(at timestamptz) returns uuid
language sql stable strict security definer set search_path = cordon, pg_temp as $$
  select rpad(encode(substring(int8send(micros(at) / 1000) from 3), 'hex'), 32, '0')::uuid
$$;

-- A moment as records state it, whatever the session's time zone and date style.
create function iso(at timestamptz) returns text
language sql stable strict security definer set search_path = cordon, pg_temp as $$
  select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Refuses a request: the field at fault, what is wrong with it, and the fix where there is one. The whole call
-- fails, so nothing of it is written.
create function refuse(code text, field text, problem text, fix text default null) returns void
language plpgsql volatile security definer set search_path = cordon, pg_temp as $$
begin
  if fix is null then
    raise exception using errcode = code, message = field || ': ' || problem;
  end if;
  raise exception using errcode = code, message = field || ': ' || problem, hint = fix;
end
$$;

-- Caller's text inside a message: quoted, on one line, without control characters, cut.
create function shown(value jsonb) returns text
language sql stable security definer set search_path = cordon, pg_temp as $$
  select case when length(t) > 60 then left(t, 60) || '…' else t end
  from (select coalesce(value::text, 'null') as t) v
$$;

create function shown(value text) returns text
language sql stable security definer set search_path = cordon, pg_temp as $$
  select shown(to_jsonb(left(value, 100)))
$$;

-- The name of a member in a message: `limits.memory`, or `labels["a b"]` where the name is no plain word.
create function member(base text, name text) returns text
language sql stable security definer set search_path = cordon, pg_temp as $$
  select case
    when name ~ '^[A-Za-z0-9_.-]{1,64}$' then base || case when base = '' or base ~ '[.]$' then '' else '.' end || name
    else base || '[' || shown(name) || ']'
  end
$$;

-- Digits and one unit; null unless the whole text is that, is positive and fits a bigint. Swift's ByteCount and
-- TimeSpan read the same spellings.
create function parse_quantity(value text, units text[], factors bigint[]) returns bigint
language plpgsql stable strict security definer set search_path = cordon, pg_temp as $$
declare
  digits text := substring(value from '^[0-9]+');
  unit int := array_position(units, substr(value, coalesce(length(digits), 0) + 1));
  product numeric;
begin
  digits := ltrim(digits, '0');
  -- 19 digits hold every bigint; more cannot fit, and an unbounded number is work for nothing.
  if digits is null or unit is null or length(digits) > 19 or digits = '' then
    return null;
  end if;
  product := digits::numeric * factors[unit];
  return case when product <= 9223372036854775807 then product end;
end
$$;

create function parse_size(value text) returns bigint
language sql stable strict security definer set search_path = cordon, pg_temp as $$
  select parse_quantity(
    value, array['', 'B', 'KiB', 'MiB', 'GiB', 'TiB', 'kB', 'MB', 'GB'],
    array[1, 1, 1024, 1048576, 1073741824, 1099511627776, 1000, 1000000, 1000000000])
$$;

create function parse_duration(value text) returns bigint
language sql stable strict security definer set search_path = cordon, pg_temp as $$
  select parse_quantity(
    value, array['ms', 's', 'm', 'h', 'd'], array[1, 1000, 60000, 3600000, 86400000]::bigint[])
$$;
