-- name: find_templates
-- The newest versions of templates that are not deleted, with their account's postal address; the
-- content of those alone that the caller does not hold yet.
SELECT t.account_id, t.id, t.version, t.purpose, a.postal_address
FROM unnest($1::uuid[], $2::uuid[]) AS w (account_id, id)
JOIN message_templates t ON t.account_id = w.account_id AND t.id = w.id AND t.deleted_at IS NULL
JOIN accounts a ON a.id = t.account_id;

-- name: contents
-- The content of versions of templates.
SELECT v.account_id, v.template_id, v.version, v.html, v.text
FROM unnest($1::uuid[], $2::uuid[], $3::integer[]) AS w (account_id, template_id, version)
JOIN message_template_versions v
  ON v.account_id = w.account_id AND v.template_id = w.template_id AND v.version = w.version;

-- name: standing
-- Whether a mail is still known that a link names, and its address, be it a contact's; no row when
-- the account is gone.
SELECT EXISTS (
        SELECT FROM effects f
        WHERE f.account_id = a.id AND f.id = $2 AND f.kind = 'email.message' AND f.address = $3
    ) AS is_of_mail,
    EXISTS (
        SELECT FROM contacts c WHERE c.account_id = a.id AND c.email_normalized = $3
    ) AS is_known
FROM accounts a
WHERE a.id = $1;
