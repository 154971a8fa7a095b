-- Whether an attempt of that fencing token is held by any worker.
select cordon.token_is_held($1::bigint, $2::bigint) as held
