-- What is written as one SELECT is planned once a session. A function in language SQL that is not inlined, and with an owner's
-- rights none is, is parsed and planned anew in every statement that calls it: an enqueue called a dozen of them. The same
-- text as the result of a function in PL/pgSQL keeps its plan. A column has the name's first meaning in both.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

do $$
declare
  f record;
begin
  for f in
    select p.oid, p.prosrc, p.prorettype = 'void'::regtype as is_void
    from pg_proc p
    where p.pronamespace = 'cordon'::regnamespace and p.proowner = 'cordon_owner'::regrole and not p.proretset
      and p.prolang = (select oid from pg_language where lanname = 'sql') and p.prorettype <> 'record'::regtype
  loop
    execute replace(replace(pg_get_functiondef(f.oid), E'\n LANGUAGE sql\n', E'\n LANGUAGE plpgsql\n'), f.prosrc,
      E'\n#variable_conflict use_column\n' || case
        -- What looks nothing up is no statement at all, but an expression.
        when not f.is_void and f.prosrc !~* '\mfrom\M' then
          format(E'begin\n  return %s;\nend\n', regexp_replace(btrim(f.prosrc, E' \n'), '^select\s+', '', 'i'))
        when f.is_void then format(E'begin\n  %s;\nend\n', btrim(f.prosrc, E' \n'))
        else format(E'begin\n  return (%s);\nend\n', btrim(f.prosrc, E' \n')) end);
  end loop;
end
$$;

-- Once for each job of an enqueue, so without a lookup as well.
create or replace function uuid7(micros bigint) returns uuid
language plpgsql volatile strict security definer set search_path = cordon, pg_temp as $$
declare
  fraction constant int := (micros % 1000) * 4096 / 1000;
begin
  return encode(
    set_byte(set_byte(
      overlay(uuid_send(gen_random_uuid()) placing substring(int8send(micros / 1000) from 3) from 1 for 6),
      6, 112 | (fraction >> 8)),
      7, fraction & 255),
    'hex')::uuid;
end
$$;
