-- Makes or replaces a schedule; the document comes as text so that size and syntax are refused in words about it.
select revision, changed from cordon.set_schedule($1::text, cordon.parse_specification($2::text), $3::timestamptz)
