-- name: integrations
-- Sealed secrets of up to $2 rows behind $1, locked: where each stands, and for which place it was
-- sealed. Those of integrations.
SELECT i.id, i.account_id, i.secrets AS sealed
FROM integrations i
WHERE i.id > $1 AND i.secrets <> '{}'
ORDER BY i.id
LIMIT $2
FOR NO KEY UPDATE;

-- name: keep_integrations
-- Put what was sealed anew in place of the old.
UPDATE integrations i SET secrets = i.secrets || $2 WHERE i.id = $1;

-- name: webhook_secrets
-- Those that sign webhooks.
SELECT w.id, w.account_id, jsonb_build_object('sealed', w.sealed) AS sealed
FROM webhook_secrets w
WHERE w.id > $1
ORDER BY w.id
LIMIT $2
FOR NO KEY UPDATE;

-- name: keep_webhook_secrets
-- Put what was sealed anew in place of the old.
UPDATE webhook_secrets w SET sealed = $2::jsonb ->> 'sealed' WHERE w.id = $1;

-- name: link_keys
-- What verifies links that older keys have signed.
SELECT k.id, 'house' AS account_id, jsonb_build_object('sealed', k.sealed) AS sealed
FROM link_keys k
WHERE k.id > $1
ORDER BY k.id
LIMIT $2
FOR NO KEY UPDATE;

-- name: keep_link_keys
-- Put what was sealed anew in place of the old.
UPDATE link_keys k SET sealed = $2::jsonb ->> 'sealed' WHERE k.id = $1;

-- name: workflow_actions
-- Those in the configs of actions; versions hold copies.
SELECT a.id, a.account_id, (
        SELECT jsonb_object_agg(c.key, c.value -> 'sealed')
        FROM jsonb_each(a.action_config) c
        WHERE jsonb_typeof(c.value) = 'object' AND c.value ->> 'sealed' LIKE 'cbs1.%'
    ) AS sealed
FROM workflow_actions a
WHERE a.id > $1 AND a.action_config::text LIKE '%"sealed": "cbs1.%'
ORDER BY a.id
LIMIT $2
FOR NO KEY UPDATE;

-- name: keep_workflow_actions
-- Put what was sealed anew in place of the old.
UPDATE workflow_actions a
SET action_config = a.action_config || (
    SELECT jsonb_object_agg(c.key, jsonb_build_object('sealed', c.value)) FROM jsonb_each($2::jsonb) c
)
WHERE a.id = $1;

-- name: workflow_version_actions
-- Those in versions, whose actions' ids may stand in several.
SELECT a.version_id, a.action_id AS id, a.account_id, (
        SELECT jsonb_object_agg(c.key, c.value -> 'sealed')
        FROM jsonb_each(a.action_config) c
        WHERE jsonb_typeof(c.value) = 'object' AND c.value ->> 'sealed' LIKE 'cbs1.%'
    ) AS sealed
FROM workflow_version_actions a
WHERE a.action_id IN (
    SELECT DISTINCT o.action_id FROM workflow_version_actions o
    WHERE o.action_id > $1 AND o.action_config::text LIKE '%"sealed": "cbs1.%'
    ORDER BY o.action_id
    LIMIT $2
) AND a.action_config::text LIKE '%"sealed": "cbs1.%'
ORDER BY a.action_id, a.version_id
FOR NO KEY UPDATE;

-- name: keep_workflow_version_actions
-- Put what was sealed anew in place of the old: the one change that a version ever sees.
UPDATE workflow_version_actions a
SET action_config = a.action_config || (
    SELECT jsonb_object_agg(c.key, jsonb_build_object('sealed', c.value)) FROM jsonb_each($2::jsonb) c
)
WHERE a.action_id = $1 AND a.version_id = $3;
