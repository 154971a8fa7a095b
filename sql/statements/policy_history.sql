-- The policies in force, or all that ever were, as JSON texts.
select h::text as entry from cordon.policy_history($1::boolean) h
