-- name: gauges
-- What stands in the database, as (gauge, label, value): counts by partial indexes, and estimates
-- where there may be a million rows.
WITH ready AS (
    SELECT s.family, 'step' AS what, s.ready_at,
        s.hold IS NOT NULL OR l.is_paused OR coalesce(l.held_until > current_instant(), false) AS is_held
    FROM workflow_action_executions s
    JOIN lanes l ON l.id = s.lane_id
    WHERE s.status = 'pending'
    UNION ALL
    SELECT f.family, 'effect', f.ready_at,
        f.hold IS NOT NULL OR l.is_paused OR coalesce(l.held_until > current_instant(), false)
    FROM effects f
    JOIN lanes l ON l.id = f.lane_id
    WHERE f.status = 'pending'
)
SELECT 'ready_' || what || 's' AS gauge, family AS label, count(*) FILTER (WHERE NOT is_held)::float8 AS value
FROM ready GROUP BY what, family
UNION ALL
SELECT 'held_' || what || 's', family, count(*) FILTER (WHERE is_held) FROM ready GROUP BY what, family
UNION ALL
SELECT 'oldest_ready_seconds', family,
    extract(epoch FROM current_instant() - min(ready_at) FILTER (WHERE NOT is_held))
FROM ready GROUP BY family HAVING bool_or(NOT is_held)
UNION ALL
SELECT 'effects_in_flight', f.family, count(*)
FROM effects f WHERE f.status IN ('claimed', 'dispatched') GROUP BY f.family
UNION ALL
SELECT 'sleeping_steps_estimated', '', greatest(c.reltuples, 0)
FROM pg_class c WHERE c.oid = to_regclass('idx_action_executions_scheduled')
UNION ALL
SELECT 'waiting_steps_estimated', '', greatest(c.reltuples, 0)
FROM pg_class c WHERE c.oid = to_regclass('action_executions_waiting')
UNION ALL
SELECT 'held_lanes', CASE WHEN l.is_paused THEN 'paused' ELSE l.held_reason END, count(*)
FROM lanes l WHERE l.is_paused OR l.held_until > current_instant()
GROUP BY 2
UNION ALL
SELECT 'circuit_breakers', b.state, count(*) FROM circuit_breakers b GROUP BY b.state
UNION ALL
SELECT 'tickets', j.queue_name, count(*) FROM procrastinate_jobs j WHERE j.status = 'todo' GROUP BY j.queue_name
UNION ALL
SELECT 'undispatched_events', '', count(*) FROM domain_events v WHERE v.dispatched_at IS NULL
UNION ALL
SELECT 'operations', o.status, count(*) FROM operations o WHERE o.status IN ('queued', 'running') GROUP BY o.status
UNION ALL
SELECT 'workers', '', count(*) FROM workers k WHERE k.lease_expires_at > current_instant();

-- name: applied_migrations
-- The migrations that the database has.
SELECT m.name FROM schema_migrations m;
