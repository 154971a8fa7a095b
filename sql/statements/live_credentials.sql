-- What can be used at this moment, as JSON texts.
select c::text as given from cordon.live_credentials($1::int) c
