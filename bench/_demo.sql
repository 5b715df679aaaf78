-- name: make_account
-- The sample account, which came with its token.
UPDATE accounts SET time_zone = 'America/New_York', is_test = true WHERE name = $1 RETURNING id;

-- name: make_opportunities
-- An open opportunity in the first stage for every contact.
INSERT INTO opportunities (account_id, contact_id, pipeline_id, stage_id, name, value, currency)
SELECT $1, c.id, $2, $3, 'Deal with ' || coalesce(c.last_name, '?'), 1000, 'USD'
FROM contacts c
WHERE c.account_id = $1;

-- name: progress
-- How far the executions of a workflow are, at which action most of those that are under way stand,
-- and what happens next. A step whose effects are put off is as good as asleep.
WITH standing AS (
    SELECT a.action_type, count(*) AS n
    FROM workflow_action_executions s
    JOIN workflow_executions e ON e.id = s.workflow_execution_id AND e.workflow_id = $1
    JOIN workflow_actions a ON a.id = s.action_id
    WHERE s.status IN ('scheduled', 'waiting')
    GROUP BY a.action_type
    ORDER BY n DESC
    LIMIT 1
)
SELECT
    (SELECT count(*) FROM workflow_action_executions WHERE status IN ('completed', 'failed', 'skipped')) AS ended,
    (SELECT count(*) FROM workflow_executions
     WHERE workflow_id = $1 AND status NOT IN ('running', 'paused')) AS over,
    (SELECT count(*) FROM workflow_action_executions WHERE status = 'pending')
        + (SELECT count(*) FROM workflow_action_executions s WHERE s.status = 'running'
           AND NOT EXISTS (SELECT FROM effects f WHERE f.step_id = s.id AND f.status = 'scheduled'))
        + (SELECT count(*) FROM effects WHERE status IN ('pending', 'claimed', 'dispatched'))
        + (SELECT count(*) FROM domain_events WHERE dispatched_at IS NULL) AS busy,
    (SELECT min(at) FROM (
        SELECT min(s.scheduled_at) AS at
        FROM workflow_action_executions s
        JOIN workflow_executions e ON e.id = s.workflow_execution_id AND e.workflow_id = $1
        WHERE s.status IN ('scheduled', 'waiting')
        UNION ALL
        SELECT min(f.scheduled_at) FROM effects f WHERE f.status = 'scheduled'
    ) next) AS next_at,
    (SELECT action_type FROM standing) AS standing_at,
    (SELECT n FROM standing) AS standing;

-- name: ledger
-- What went out, by the action's key and the kind of effect; a text to a landline did so too.
SELECT a.key, f.kind, count(*) AS n
FROM effects f
JOIN workflow_action_executions s ON s.id = f.step_id
JOIN workflow_executions e ON e.id = s.workflow_execution_id AND e.workflow_id = $1
JOIN workflow_actions a ON a.id = s.action_id
WHERE f.status = 'succeeded' OR f.delivery_status = 'undelivered'
GROUP BY 1, 2;

-- name: outcomes
-- How calls ended, by the action's key.
SELECT a.key, s.result_data ->> 'outcome' AS outcome, count(*) AS n
FROM workflow_action_executions s
JOIN workflow_executions e ON e.id = s.workflow_execution_id AND e.workflow_id = $1
JOIN workflow_actions a ON a.id = s.action_id
WHERE s.result_data ? 'outcome'
GROUP BY 1, 2;

-- name: events
-- What was told of contacts, by type.
SELECT event_type, count(*) AS n FROM domain_events GROUP BY event_type;

-- name: reasons
-- Why steps were skipped or failed, by the action's key.
SELECT a.key, s.status, coalesce(s.skip_reason, s.error_code) AS reason, count(*) AS n
FROM workflow_action_executions s
JOIN workflow_actions a ON a.id = s.action_id
WHERE s.status IN ('skipped', 'failed')
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;

-- name: by_type
-- What became of the steps, by action type; times are those of the last attempt.
SELECT a.action_type, count(*) AS steps,
    count(*) FILTER (WHERE s.status = 'failed') AS failed,
    count(*) FILTER (WHERE s.status = 'skipped') AS skipped,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY t.ms) AS p50_ms,
    percentile_disc(0.99) WITHIN GROUP (ORDER BY t.ms) AS p99_ms
FROM workflow_action_executions s
JOIN workflow_actions a ON a.id = s.action_id
LEFT JOIN LATERAL (
    SELECT extract(epoch FROM w.finished_at - w.started_at)::float8 * 1000 AS ms
    FROM workflow_action_attempts w
    WHERE w.step_id = s.id
    ORDER BY w.attempt DESC
    LIMIT 1
) t ON true
GROUP BY a.action_type
ORDER BY a.action_type;

-- name: totals
-- What the account holds at the end, to be compared with what it should hold.
SELECT
    (SELECT count(*) FROM workflow_executions WHERE workflow_id = $1 AND status = 'completed') AS completed,
    (SELECT count(*) FROM workflow_executions WHERE workflow_id = $2 AND status = 'cancelled') AS cancelled,
    (SELECT count(*) FROM workflow_executions WHERE status = 'failed') AS failed,
    (SELECT count(*) FROM notes) AS notes,
    (SELECT count(*) FROM tasks) AS tasks,
    (SELECT count(*) FROM opportunity_stage_history WHERE from_stage_id IS NOT NULL) AS moves,
    (SELECT count(*) FROM opportunities) AS opportunities,
    (SELECT count(*) FROM notifications) AS notifications,
    (SELECT count(*) FROM course_grants WHERE status = 'revoked') AS grants_ended,
    (SELECT count(DISTINCT a.action_type) FROM workflow_action_executions s
     JOIN workflow_actions a ON a.id = s.action_id WHERE s.status = 'completed') AS types,
    (SELECT count(*) FROM campaign_enrollments WHERE status = 'removed') AS removed,
    (SELECT count(*) FROM contacts WHERE custom_fields @> '{"touches": 1}') AS touched,
    (SELECT count(*) FROM contacts WHERE email LIKE 'office@%') AS offices,
    (SELECT count(*) FROM workflow_action_executions
     WHERE (result_data ->> 'timed_out')::boolean) AS timed_out,
    (SELECT max(n) - min(n) FROM (
        SELECT count(c.id) AS n
        FROM team_members m
        JOIN users u ON u.id = m.user_id AND u.is_available
        LEFT JOIN contacts c ON c.owner_id = u.id
        GROUP BY u.id
     ) shares) AS widest_gap;
