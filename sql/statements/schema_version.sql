-- The newest applied migration, for every role that may call functions.
select cordon.installed_version() as version
