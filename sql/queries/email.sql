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

-- name: mail
-- The mail that a token names, with whom it was sent to.
SELECT e.id, e.account_id, e.contact_id, e.execution_id, e.address, s.action_id
FROM effects e
LEFT JOIN workflow_action_executions s ON s.id = e.step_id
WHERE e.id = $1 AND e.kind = 'email.message';
