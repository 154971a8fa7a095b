-- Revokes a tenant, a principal, a policy, a program, a worker or a job.
select recalled, frozen, killed, is_known from cordon.revoke($1::text, $2::text, $3::text, $4::text)
