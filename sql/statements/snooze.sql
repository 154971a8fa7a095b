-- Puts a waiting job off.
select cordon.snooze($1::uuid, $2::timestamptz)
