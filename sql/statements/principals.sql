-- The principals and what they have used, as JSON texts.
select p::text as principal from cordon.principals() p
