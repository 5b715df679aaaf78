-- name: rules
-- What reading addresses and dates needs to know of an account.
SELECT a.country, a.time_zone FROM accounts a WHERE a.id = $1;

-- name: users_of_account
-- Which of these users are of the account.
SELECT u.id FROM users u WHERE u.account_id = $1 AND u.id = ANY ($2::uuid[]);

-- name: tag
-- A tag of the account.
SELECT t.id, t.name FROM tags t WHERE t.account_id = $1 AND t.id = $2;

-- name: lock_owners
-- Lock the contacts that own e-mail addresses, in the order of their ids, and read them.
SELECT c.id, c.account_id, c.first_name, c.last_name, c.email, c.email_normalized, c.phone,
    c.phone_normalized, c.time_zone, c.owner_id, c.custom_fields
FROM contacts c
WHERE c.account_id = $1 AND c.email_normalized = ANY ($2::text[]) AND NOT c.is_duplicate
ORDER BY c.id
FOR NO KEY UPDATE;

-- name: add_contact_tags
-- Give contacts a tag; gives those for whom it is new.
INSERT INTO contact_tags (account_id, contact_id, tag_id, added_at)
SELECT $1, w.contact_id, $3, $4
FROM unnest($2::uuid[]) AS w (contact_id)
ORDER BY w.contact_id
ON CONFLICT (contact_id, tag_id) DO NOTHING
RETURNING contact_id;

-- name: contacts_to_export
-- The next contacts of an account that pass a filter, in the order of their ids.
SELECT c.id, c.first_name, c.last_name, c.email, c.phone, c.time_zone, c.owner_id,
    c.custom_fields, c.created_at, c.updated_at
FROM contacts c
WHERE c.account_id = $1 AND c.erased_at IS NULL
  AND ($2::uuid IS NULL OR c.owner_id = $2)
  AND ($3::timestamptz IS NULL OR c.created_at >= $3)
  AND ($4::timestamptz IS NULL OR c.created_at < $4)
  AND ($5::boolean IS NULL OR (c.email_normalized IS NOT NULL) = $5)
  AND ($6::boolean IS NULL OR (c.phone_normalized IS NOT NULL) = $6)
  AND ($7::uuid IS NULL OR EXISTS (
      SELECT FROM contact_tags ct
      WHERE ct.account_id = c.account_id AND ct.contact_id = c.id AND ct.tag_id = $7
  ))
  AND c.id > $8
ORDER BY c.id
LIMIT $9;
