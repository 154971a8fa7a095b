-- The tokens with whom they made, the newest first, as JSON texts.
select t::text as token from cordon.join_tokens() t
