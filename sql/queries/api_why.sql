-- name: step
-- A step with all that says why it is as it is.
SELECT s.id, s.workflow_execution_id AS execution_id, s.status, s.phase, s.hold, s.skip_reason,
    s.error_code, s.error_message, s.scheduled_at, s.waiting_for, s.retry_count, s.completed_at,
    s.event_id, v.action_type, e.status AS execution_status, e.end_reason,
    l.is_paused, l.held_until, l.held_reason, (SELECT current_instant()) AS now
FROM workflow_action_executions s
JOIN workflow_executions e ON e.id = s.workflow_execution_id
JOIN lanes l ON l.id = s.lane_id
LEFT JOIN workflow_version_actions v ON v.version_id = e.version_id AND v.action_id = s.action_id
WHERE s.account_id = $1 AND s.id = $2 AND ($3::uuid IS NULL OR s.workflow_execution_id = $3);

-- name: effects
-- Its effects, with their decision records and what was reported of them.
SELECT f.id, f.kind, f.status, f.hold, f.gates_step, f.attempt, f.error_code, f.error_message,
    f.scheduled_at, f.dispatched_at, f.completed_at, f.decision, f.result,
    f.delivery_status, r.reported_at AS delivery_at, r.detail ->> 'code' AS delivery_code,
    EXISTS (
        SELECT FROM effect_reports m
        WHERE m.effect_id = f.id AND m.status IN ('machine_opened', 'machine_clicked')
    ) AS has_met_machines,
    l.is_paused, l.held_until, l.held_reason
FROM effects f
JOIN lanes l ON l.id = f.lane_id
LEFT JOIN LATERAL (
    SELECT o.reported_at, o.detail
    FROM effect_reports o
    WHERE o.effect_id = f.id AND o.status = f.delivery_status
    ORDER BY o.reported_at
    LIMIT 1
) r ON true
WHERE f.account_id = $1 AND f.step_id = $2
ORDER BY f.id
LIMIT 200;
