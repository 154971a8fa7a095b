-- Does to what runs of what is revoked what was decided, as far as nobody has it locked.
select recalled, frozen, killed from cordon.enforce_revocations()
