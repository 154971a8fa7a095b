-- Takes back a token that nobody has used.
select cordon.withdraw_join_token($1::text) is null as withdrawn
