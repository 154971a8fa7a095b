-- Another password and a later end for the login of this session.
select seconds from cordon.renew($1::text)
