-- A grant may say that the job is given no more of an answer than its status (`"answer": "status"`): for an endpoint that is written to
-- and could otherwise be read from (NW-33). A document that narrows may say so as well; none can take it back.

set local role cordon_owner;
set local search_path = cordon, pg_temp;

select change_function(c.name, c.before, c.after) from (values
  ('check_grant(text, jsonb, boolean)', 'array[''allow'', ''allow_private'', ''most'']', 'array[''allow'', ''allow_private'', ''answer'', ''most'']'),
  ('check_grant(text, jsonb, boolean)', 'array[''allow'', ''allow_private'', ''credential'',', 'array[''allow'', ''allow_private'', ''answer'', ''credential'','),
  ('check_grant(text, jsonb, boolean)', '  if value ? ''allow'' then', '  if value ? ''answer'' and not narrows and not reads then
    perform refuse(''22023'', field || ''.answer'', format(''means nothing in mode %s, which reads no requests'', value ->> ''mode''));
  elsif value ? ''answer'' and value -> ''answer'' not in (''"whole"'', ''"status"'') then
    perform refuse(''22023'', field || ''.answer'', shown(value -> ''answer'') || '' is unknown; use whole or status'');
  end if;
  if value ? ''allow'' then'),
  ('narrow_grant(jsonb, jsonb)', '(part - ''{allow,allow_private,most,listen,phase}''::text[]) <> (wide - ''{allow,allow_private,most,listen,phase}''::text[])',
    '(part - ''{allow,allow_private,answer,most,listen,phase}''::text[]) <> (wide - ''{allow,allow_private,answer,most,listen,phase}''::text[])'),
  ('narrow_grant(jsonb, jsonb)', '  foreach m in array array[''allow'', ''allow_private''] loop', '  if part ->> ''answer'' = ''status'' then
    result := jsonb_set(result, ''{answer}'', ''"status"'');
  end if;
  foreach m in array array[''allow'', ''allow_private''] loop')
) c (name, before, after);
