-- Logins whose attempt is over and that nobody has said to be gone.
select credential, role_name, place from cordon.logins_left($1::bigint)
