-- Lines of an attempt's ledger after a number.
select attempt_number, token, seq, line from cordon.egress($1::text::uuid, $2::bigint, $3::bigint, $4::int)
