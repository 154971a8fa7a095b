-- Changes when something is revoked or a revocation is lifted.
select cordon.revocation_epoch() as epoch
