-- Keeps lines of an attempt's ledger.
select cordon.append_egress($1::bigint, $2::text::uuid, $3::bigint, $4::text[]) as kept
