-- Keeps what attempts have sent and received since their last reports; says what is left to their principals.
select token, egress_left
from cordon.report_egress($1::bigint, $2::text[]::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
