-- Lets a program be tried again at once.
select cordon.reset_breaker($1::text, $2::text)
