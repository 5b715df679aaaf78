-- name: active_version
-- The version that new runs of a workflow take.
SELECT w.active_version_id
FROM workflows w
WHERE w.account_id = $1 AND w.id = $2 AND w.status = 'active' AND w.deleted_at IS NULL;

-- name: version
-- A version with its workflow and account.
SELECT v.account_id, v.workflow_id, w.name AS workflow_name, a.name AS account_name,
    a.time_zone AS account_time_zone, a.currency AS account_currency,
    a.country AS account_country, a.is_test AS account_is_test
FROM workflow_versions v
JOIN workflows w ON w.id = v.workflow_id
JOIN accounts a ON a.id = v.account_id
WHERE v.id = $1;

-- name: version_actions
-- The actions of a version in their order.
SELECT action_id, action_type, action_config, key, position, branch_id, next_action_id,
    is_enabled, on_failure, fallback_action_id
FROM workflow_version_actions
WHERE version_id = $1
ORDER BY branch_id NULLS FIRST, position;
