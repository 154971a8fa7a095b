-- Programs whose attempts fail.
select b::text as breaker from cordon.breakers() b
