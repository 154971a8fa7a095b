-- Takes a job from the dead letters.
select cordon.discard($1::uuid)
