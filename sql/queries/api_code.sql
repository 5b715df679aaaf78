-- name: contact_for_script
-- A contact as a script sees it, with what it may know of the account.
SELECT c.id, c.first_name, c.last_name, c.email, c.phone, c.time_zone, c.owner_id, c.custom_fields,
    c.created_at,
    ARRAY(
        SELECT t.name FROM contact_tags n JOIN tags t ON t.id = n.tag_id
        WHERE n.contact_id = c.id ORDER BY lower(t.name)
    ) AS tags,
    (
        SELECT jsonb_build_object('id', u.id, 'name', u.name, 'email', u.email)
        FROM users u WHERE u.account_id = c.account_id AND u.id = c.owner_id
    ) AS owner,
    a.name AS account_name, a.time_zone AS account_time_zone, a.currency AS account_currency,
    a.is_test AS account_is_test
FROM contacts c
JOIN accounts a ON a.id = c.account_id
WHERE c.account_id = $1 AND c.id = $2 AND c.erased_at IS NULL;
