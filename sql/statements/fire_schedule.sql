-- Fires a schedule for the turn that was computed with; null when it has passed.
select cordon.fire_schedule($1::text, $2::text, $3::bigint, $4::text[]::timestamptz[], $5::timestamptz, $6::timestamptz,
  $7::timestamptz, $8::timestamptz)::text[] as jobs
