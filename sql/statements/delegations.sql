-- Who acts for whom, as JSON texts.
select d::text as delegation from cordon.delegations() d
