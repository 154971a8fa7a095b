-- cancelled, cancelling or finished.
select cordon.cancel($1::uuid) as state
