-- Tokens of attempts whose grants are not all in force any more.
select t as token from cordon.egress_fallen($1::bigint, $2::text[]::uuid[], $3::bigint[]) t
