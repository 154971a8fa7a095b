-- Has a credential taken down that an attempt is about to use; false where it must not.
select cordon.give_credential($1::bigint, $2::text::uuid, $3::bigint, $4::text, $5::text, $6::text, $7::text) as given
