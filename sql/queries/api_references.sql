-- name: missing
-- Which of these rows an account does not have, by kind and id (custom fields: by key).
SELECT w.kind, w.target
FROM unnest($2::text[], $3::text[]) AS w (kind, target)
WHERE NOT CASE w.kind
    WHEN 'user' THEN EXISTS (
        SELECT FROM users u WHERE u.account_id = $1 AND u.id = w.target::uuid)
    WHEN 'team' THEN EXISTS (
        SELECT FROM teams t WHERE t.account_id = $1 AND t.id = w.target::uuid)
    WHEN 'campaign' THEN EXISTS (
        SELECT FROM campaigns c WHERE c.account_id = $1 AND c.id = w.target::uuid AND c.deleted_at IS NULL)
    WHEN 'pipeline' THEN EXISTS (
        SELECT FROM pipelines p WHERE p.account_id = $1 AND p.id = w.target::uuid AND p.deleted_at IS NULL)
    WHEN 'stage' THEN EXISTS (
        SELECT FROM pipeline_stages s
        WHERE s.account_id = $1 AND s.id = w.target::uuid AND s.deleted_at IS NULL)
    WHEN 'template' THEN EXISTS (
        SELECT FROM message_templates t
        WHERE t.account_id = $1 AND t.id = w.target::uuid AND t.deleted_at IS NULL)
    WHEN 'course' THEN EXISTS (
        SELECT FROM courses c WHERE c.account_id = $1 AND c.id = w.target::uuid AND c.deleted_at IS NULL)
    WHEN 'file' THEN EXISTS (
        SELECT FROM files f WHERE f.account_id = $1 AND f.id = w.target::uuid AND f.deleted_at IS NULL)
    WHEN 'integration' THEN EXISTS (
        SELECT FROM integrations i
        WHERE i.account_id = $1 AND i.id = w.target::uuid AND i.deleted_at IS NULL)
    WHEN 'page' THEN EXISTS (
        SELECT FROM integrations i
        WHERE i.account_id = $1 AND i.id = w.target::uuid AND i.kind = 'facebook'
          AND i.deleted_at IS NULL AND i.disabled_at IS NULL)
    WHEN 'custom_field' THEN EXISTS (
        SELECT FROM custom_fields f WHERE f.account_id = $1 AND f.key = w.target)
    ELSE true
END;

-- name: actions_of_types
-- The actions of these types in drafts, in the versions in force, and in older ones that contacts
-- still run.
SELECT w.id AS workflow_id, w.name AS workflow_name, a.id AS action_id, a.key AS action_key,
    a.action_type, a.action_config, NULL::uuid AS version_id
FROM workflow_actions a
JOIN workflows w ON w.id = a.workflow_id AND w.deleted_at IS NULL
WHERE a.account_id = $1 AND a.action_type = ANY ($2::text[]) AND a.deleted_at IS NULL
UNION ALL
SELECT w.id, w.name, v.action_id, v.key, v.action_type, v.action_config, v.version_id
FROM workflows w
JOIN workflow_versions n ON n.workflow_id = w.id
JOIN workflow_version_actions v ON v.version_id = n.id
WHERE w.account_id = $1 AND w.deleted_at IS NULL AND v.action_type = ANY ($2::text[])
  AND (
      n.id = w.active_version_id AND w.status IN ('active', 'paused')
      OR EXISTS (
          SELECT FROM workflow_executions e
          WHERE e.workflow_id = w.id AND e.version_id = n.id AND e.status IN ('running', 'paused')
      )
  );

-- name: steps_not_in_campaign
-- The places in the arrays whose action stands neither in the draft nor in the version in force of
-- the campaign's workflow. A campaign that is not there is another fault.
SELECT w.place
FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS w (campaign_id, step_id, place)
JOIN campaigns c ON c.account_id = $1 AND c.id = w.campaign_id AND c.deleted_at IS NULL
JOIN workflows f ON f.id = c.workflow_id
WHERE NOT EXISTS (
        SELECT FROM workflow_actions a
        WHERE a.workflow_id = f.id AND a.id = w.step_id AND a.deleted_at IS NULL
    )
  AND NOT EXISTS (
        SELECT FROM workflow_version_actions v
        WHERE v.version_id = f.active_version_id AND v.action_id = w.step_id
    )
ORDER BY w.place;

-- name: custom_field_keys
-- The keys of an account's custom fields.
SELECT f.key FROM custom_fields f WHERE f.account_id = $1;

-- name: marketing_without_address
-- Which of these templates are for marketing, while the account has no postal address to carry.
SELECT t.id
FROM message_templates t
JOIN accounts a ON a.id = t.account_id
WHERE t.account_id = $1 AND t.id = ANY ($2::uuid[]) AND t.deleted_at IS NULL
  AND t.purpose = 'marketing' AND a.postal_address !~ '\S';
