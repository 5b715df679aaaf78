-- name: add_integration
-- An SMTP integration.
INSERT INTO integrations (id, account_id, kind, name, settings)
VALUES ($2, $1, 'smtp', 'Mail', $3);

-- name: add_sender
-- The address that it sends from.
INSERT INTO sender_addresses (account_id, kind, address, integration_id)
VALUES ($1, 'smtp', $3, $2);

-- name: add_template
-- A template of transactional mail with one version.
WITH made AS (
    INSERT INTO message_templates
        (id, account_id, name, purpose, version, created_at, updated_at)
    VALUES ($2, $1, 'Order', 'transactional', 1, now(), now())
)
INSERT INTO message_template_versions (account_id, template_id, version, html, created_at)
VALUES ($1, $2, 1, $3, now());

-- name: recipients
-- Where contacts are written to, and by what name.
SELECT c.email, c.first_name FROM contacts c WHERE c.id = ANY ($1::uuid[]);

-- name: complaints
-- What is not as it should be once mails to so many contacts have gone out.
SELECT
    (SELECT count(*) FROM effects WHERE status = 'succeeded' AND attempt = 1) AS effects,
    (SELECT count(*) FROM effects WHERE status <> 'succeeded') AS others,
    (SELECT count(*) FROM workflow_action_executions WHERE status = 'completed') AS steps;
