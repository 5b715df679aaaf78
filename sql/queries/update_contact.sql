-- name: find_email_holders
-- For contacts that are about to take e-mail addresses: whether the contact is itself exempt from
-- uniqueness, and which other contact of its account holds the address, if any.
SELECT w.account_id, w.contact_id, w.email, own.is_duplicate, holder.id AS holder_id
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS w (account_id, contact_id, email)
JOIN contacts own ON own.account_id = w.account_id AND own.id = w.contact_id
LEFT JOIN contacts holder
    ON holder.account_id = w.account_id AND holder.email_normalized = w.email
    AND NOT holder.is_duplicate AND holder.id <> w.contact_id;
