-- Removes the logins of workers and tokens whose time has been over for a day, and names them.
select r as role from cordon.reap_logins() r
