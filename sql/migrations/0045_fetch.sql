-- What a job wants fetched before it runs: a locked list of packages, each file with its digest, by a grant of phase `fetch`. It is
-- fetched with the network and without the job's code, and given to the job, which runs without that grant, as inputs.
--
-- The worker reads the list strictly (`LockedRequirements`); here it is bounded and led to its grant.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

create function check_fetch(field text, wanted jsonb, asked jsonb, document jsonb) returns void
language plpgsql stable security definer set search_path = cordon, pg_temp as $$
begin
  perform check_members(field, wanted, array['grant', 'pip']);
  if jsonb_typeof(wanted -> 'pip') <> 'string' or octet_length(wanted ->> 'pip') > 65536 then
    perform refuse('22023', field || '.pip', 'must be the text of a locked list, name==version --hash=sha256:…, of at most 65536 bytes');
  elsif (wanted ->> 'pip') !~ '--hash=sha256:[0-9a-f]{64}' then
    perform refuse('22023', field || '.pip', 'has no --hash=sha256:', 'pip-compile --generate-hashes writes such a list');
  elsif jsonb_typeof(wanted -> 'grant') <> 'string' or not coalesce(asked -> 'grants' ? (wanted ->> 'grant'), false) then
    perform refuse('22023', field || '.grant', shown(wanted -> 'grant') || ' is not among the grants that this job asks for');
  elsif coalesce(document -> 'grants' -> (wanted ->> 'grant') ->> 'phase', 'run') <> 'fetch' then
    perform refuse('42501', field || '.grant', shown(wanted -> 'grant') || ' is not granted for fetching',
      'a grant of phase fetch is for what is fetched before a job runs');
  end if;
end
$$;

select change_function(c.name, c.before, c.after) from (values
  ('check_specification(text, jsonb, text, jsonb)', '''labels'', ''grants'', ''retry''', '''labels'', ''grants'', ''fetch'', ''retry'''),
  ('check_specification(text, jsonb, text, jsonb)', 'return effective_limits(base, asked -> ''limits'', document);',
        E'if asked ? ''fetch'' then
    perform check_fetch(base || ''fetch'', asked -> ''fetch'', asked, document);
  end if;
  return effective_limits(base, asked -> ''limits'', document);')
) c (name, before, after);
