-- What the attempts of a job were given, as JSON texts.
select c::text as given from cordon.credentials($1::text::uuid) c
