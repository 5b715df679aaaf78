-- name: tag
-- A tag of the account.
SELECT t.id, t.name FROM tags t WHERE t.account_id = $1 AND t.id = $2;

-- name: count_tagged
-- How many contacts carry a tag and pass the filter.
SELECT count(*)
FROM contact_tags ct
JOIN contacts c ON c.account_id = ct.account_id AND c.id = ct.contact_id
WHERE ct.account_id = $1 AND ct.tag_id = $2 AND c.erased_at IS NULL
  AND ($3::uuid IS NULL OR c.owner_id = $3)
  AND ($4::timestamptz IS NULL OR c.created_at >= $4)
  AND ($5::timestamptz IS NULL OR c.created_at < $5)
  AND ($6::boolean IS NULL OR (c.email_normalized IS NOT NULL) = $6)
  AND ($7::boolean IS NULL OR (c.phone_normalized IS NOT NULL) = $7);

-- name: tagged
-- The next of them, in the order of their ids.
SELECT ct.contact_id
FROM contact_tags ct
JOIN contacts c ON c.account_id = ct.account_id AND c.id = ct.contact_id
WHERE ct.account_id = $1 AND ct.tag_id = $2 AND c.erased_at IS NULL
  AND ($3::uuid IS NULL OR c.owner_id = $3)
  AND ($4::timestamptz IS NULL OR c.created_at >= $4)
  AND ($5::timestamptz IS NULL OR c.created_at < $5)
  AND ($6::boolean IS NULL OR (c.email_normalized IS NOT NULL) = $6)
  AND ($7::boolean IS NULL OR (c.phone_normalized IS NOT NULL) = $7)
  AND ct.contact_id > $8
ORDER BY ct.contact_id
LIMIT $9;
