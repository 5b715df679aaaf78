-- Views for people who look with SQL. Their columns are part of what Callboard promises; they
-- are written so that a filter on account_id or contact_id reaches the indexes.

CREATE VIEW backlog AS
SELECT w.account_id, a.name AS account, w.family, w.what, w.age, count(*) AS ready,
    count(*) FILTER (WHERE w.is_held) AS held,
    c.instant - min(w.ready_at) AS oldest
FROM (SELECT current_instant() AS instant) c
CROSS JOIN LATERAL (
    SELECT s.account_id, s.family, 'step' AS what, s.ready_at,
        CASE
            WHEN c.instant - s.ready_at < interval '1 second' THEN 'under 1 s'
            WHEN c.instant - s.ready_at < interval '1 minute' THEN 'under 1 min'
            WHEN c.instant - s.ready_at < interval '1 hour' THEN 'under 1 h'
            ELSE '1 h and more'
        END AS age,
        coalesce(s.hold LIKE 'parked%', false) OR l.is_paused
            OR coalesce(l.held_until > c.instant, false) AS is_held
    FROM workflow_action_executions s
    JOIN lanes l ON l.id = s.lane_id
    WHERE s.status = 'pending'
    UNION ALL
    SELECT f.account_id, f.family, 'effect', f.ready_at,
        CASE
            WHEN c.instant - f.ready_at < interval '1 second' THEN 'under 1 s'
            WHEN c.instant - f.ready_at < interval '1 minute' THEN 'under 1 min'
            WHEN c.instant - f.ready_at < interval '1 hour' THEN 'under 1 h'
            ELSE '1 h and more'
        END,
        coalesce(f.hold = 'parked', false) OR l.is_paused
            OR coalesce(l.held_until > c.instant, false)
    FROM effects f
    JOIN lanes l ON l.id = f.lane_id
    WHERE f.status = 'pending'
) w
JOIN accounts a ON a.id = w.account_id
GROUP BY w.account_id, a.name, w.family, w.what, w.age, c.instant;
COMMENT ON VIEW backlog IS
    'Ready work by account, family and age: how many steps and effects, how many of them held, the age of the oldest.';

CREATE VIEW open_steps AS
SELECT s.account_id, s.id AS step_id, s.workflow_execution_id AS execution_id, s.contact_id,
    w.name AS workflow, a.action_type, s.status,
    CASE
        WHEN e.status = 'paused' THEN 'execution paused'
        WHEN s.status = 'scheduled' AND s.phase = 'perform' THEN 'retry ' || s.retry_count || ' after ' || coalesce(s.error_code, 'a failure')
        WHEN s.status = 'scheduled' THEN 'sleeping'
        WHEN s.status = 'waiting' THEN 'waiting for ' || s.waiting_for
        WHEN s.status = 'running' AND s.worker_id IS NOT NULL THEN 'performed alone'
        WHEN s.status = 'running' THEN (
            SELECT string_agg(o.n || ' ' || o.status, ', ' ORDER BY o.status)
            FROM (
                SELECT f.status, count(*) AS n FROM effects f
                WHERE f.step_id = s.id AND f.gates_step GROUP BY f.status
            ) o
        )
        WHEN l.is_paused THEN 'workflow paused'
        WHEN l.held_until > current_instant() THEN l.held_reason
        WHEN s.hold = 'isolated' THEN 'ready, to be claimed alone'
        WHEN EXISTS (SELECT FROM batches_in_hand b WHERE s.id = ANY (b.step_ids)) THEN 'in hand'
        ELSE 'ready'
    END AS reason,
    CASE WHEN s.status = 'pending' THEN l.held_until ELSE s.scheduled_at END AS until,
    coalesce(s.ready_at, s.started_at) AS since
FROM workflow_action_executions s
JOIN workflow_executions e ON e.id = s.workflow_execution_id
JOIN workflow_actions a ON a.id = s.action_id
JOIN workflows w ON w.id = a.workflow_id
JOIN lanes l ON l.id = s.lane_id
WHERE s.status IN ('pending', 'scheduled', 'waiting', 'running');
COMMENT ON VIEW open_steps IS
    'Every step that has not ended: its status, why it stands there, and until when.';

CREATE VIEW held_lanes AS
SELECT l.account_id, l.family, w.name AS workflow, i.name AS integration,
    CASE WHEN l.is_paused THEN 'workflow paused' ELSE l.held_reason END AS reason,
    CASE WHEN l.is_paused THEN NULL ELSE l.held_until END AS until
FROM lanes l
LEFT JOIN workflows w ON w.id = l.workflow_id
LEFT JOIN integrations i ON i.id = l.integration_id
WHERE l.is_paused OR l.held_until > current_instant();
COMMENT ON VIEW held_lanes IS 'Lanes that may not run now, why, and until when (NULL: until resumed).';

CREATE VIEW action_log AS
SELECT t.account_id, t.started_at AS at, t.contact_id, s.workflow_execution_id AS execution_id,
    t.step_id, t.attempt, va.action_type, va.action_config, t.outcome AS status,
    extract(epoch FROM t.finished_at - t.started_at) * 1000 AS duration_ms,
    t.error_kind, t.error_code, t.error_message
FROM workflow_action_attempts t
JOIN workflow_action_executions s ON s.id = t.step_id
LEFT JOIN workflow_version_actions va ON va.version_id = t.version_id AND va.action_id = t.action_id;
COMMENT ON VIEW action_log IS
    'Requirement R7.3: one row per attempt with timestamp, contact, type and configuration, duration, status, error.';

CREATE VIEW recent_failures AS
SELECT s.account_id, s.completed_at AS at, w.name AS workflow, a.action_type, s.contact_id,
    s.workflow_execution_id AS execution_id, s.id AS step_id, s.retry_count, s.error_code,
    s.error_message
FROM workflow_action_executions s
JOIN workflow_actions a ON a.id = s.action_id
JOIN workflows w ON w.id = a.workflow_id
WHERE s.status = 'failed' AND s.completed_at > current_instant() - interval '7 days';
COMMENT ON VIEW recent_failures IS 'Steps that failed in the last seven days.';

CREATE VIEW workers_alive AS
SELECT k.id AS worker_id, k.host, k.pid, k.families, k.started_at,
    current_instant() - k.heartbeat_at AS last_heartbeat_ago,
    k.lease_expires_at > current_instant() AS lease_holds,
    (SELECT coalesce(sum(cardinality(b.step_ids)), 0) FROM batches_in_hand b WHERE b.worker_id = k.id) AS steps_in_hand,
    (SELECT count(*) FROM effects f WHERE f.worker_id = k.id AND f.status IN ('claimed', 'dispatched')) AS effects_in_hand
FROM workers k;
COMMENT ON VIEW workers_alive IS 'Worker processes, their last heartbeat, and what they have in hand.';

CREATE VIEW contact_timeline AS
SELECT t.account_id, t.contact_id, t.at, t.what, t.detail, t.reference_id
FROM (
    SELECT s.account_id, s.contact_id, coalesce(s.completed_at, s.started_at, s.ready_at) AS at,
        a.action_type || ' ' || s.status AS what,
        coalesce(s.error_message, s.skip_reason, nullif(s.result_data, '{}')::text) AS detail,
        s.id::text AS reference_id
    FROM workflow_action_executions s
    JOIN workflow_actions a ON a.id = s.action_id
    UNION ALL
    SELECT e.account_id, e.contact_id, e.started_at, 'entered ' || w.name, NULL, e.id::text
    FROM workflow_executions e
    JOIN workflows w ON w.id = e.workflow_id
    UNION ALL
    SELECT e.account_id, e.contact_id, e.completed_at, e.status || ' ' || w.name, e.end_reason, e.id::text
    FROM workflow_executions e
    JOIN workflows w ON w.id = e.workflow_id
    WHERE e.completed_at IS NOT NULL
    UNION ALL
    SELECT v.account_id, v.contact_id, v.occurred_at, 'event ' || v.event_type, v.payload::text, v.id::text
    FROM domain_events v
    UNION ALL
    SELECT f.account_id, f.contact_id, coalesce(f.completed_at, f.dispatched_at, f.created_at),
        f.kind || ' ' || f.status, coalesce(f.error_message, f.error_code), f.id::text
    FROM effects f
    UNION ALL
    SELECT c.account_id, c.contact_id, c.changed_at, 'changed ' || c.field,
        coalesce(c.old_value::text, '–') || ' → ' || coalesce(c.new_value::text, '–'), c.id::text
    FROM contact_field_changes c
    UNION ALL
    SELECT r.account_id, r.contact_id, r.refused_at, 'not enrolled in ' || w.name, r.reason, r.id::text
    FROM enrollment_refusals r
    JOIN workflows w ON w.id = r.workflow_id
) t;
COMMENT ON VIEW contact_timeline IS
    'What happened to a contact, to be asked with WHERE contact_id = … ORDER BY at.';
