-- name: add_contact_tags
-- Give contacts tags; returns the pairs that are new.
INSERT INTO contact_tags (account_id, contact_id, tag_id, step_id, added_at)
SELECT w.account_id, w.contact_id, w.tag_id, w.step_id, $5
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
    AS w (account_id, contact_id, tag_id, step_id)
ON CONFLICT (contact_id, tag_id) DO NOTHING
RETURNING contact_id, tag_id;
