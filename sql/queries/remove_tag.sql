-- name: remove_contact_tags
-- Take a tag, found by its name in any case, off each contact; returns the pairs that are gone.
DELETE FROM contact_tags ct
USING unnest($1::uuid[], $2::uuid[], $3::text[]) AS w (account_id, contact_id, tag_name)
JOIN tags t ON t.account_id = w.account_id AND lower(t.name) = lower(w.tag_name)
WHERE ct.account_id = w.account_id AND ct.contact_id = w.contact_id AND ct.tag_id = t.id
RETURNING ct.contact_id, ct.tag_id;
