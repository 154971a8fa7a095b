-- These logins are gone from their servers.
select cordon.logins_ended($1::bigint, $2::text[]) is null
