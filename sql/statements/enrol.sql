-- Uses up the token of this session: a worker's login of this verifier is there then.
select role::text as role, seconds from cordon.enrol($1::text, $2::text)
