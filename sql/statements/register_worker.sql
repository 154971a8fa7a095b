-- A new worker of this role, with the controls it lacks and what it offers.
select cordon.register_worker($1::text, $2::text, $3::text, $4::text[], $5::int, $6::float8, $7::text[], $8::text[])
  as worker
