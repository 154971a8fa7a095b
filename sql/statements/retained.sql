-- Past weeks of each class, what is due, and why it stays.
select pg_catalog.jsonb_build_object('class', class, 'keep_days', extract(epoch from keep) / 86400, 'week', begins::date::text,
  'due', due, 'because', because)::text as week from cordon.retained()
