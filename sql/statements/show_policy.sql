-- The policy in force.
select digest, document, since, set_by::text as set_by from cordon.show_policy()
