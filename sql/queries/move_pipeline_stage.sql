-- name: choose_opportunities
-- For each item, in the given order: whether its target exists, and which opportunity of its
-- contact it speaks of.
SELECT
    p.id IS NOT NULL AS pipeline_exists,
    s.id IS NOT NULL AS stage_exists,
    chosen.id AS opportunity_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[]) WITH ORDINALITY
    AS w (account_id, contact_id, pipeline_id, stage_id, selector, opportunity_id, number)
LEFT JOIN pipelines p
    ON p.account_id = w.account_id AND p.id = w.pipeline_id AND p.deleted_at IS NULL
LEFT JOIN pipeline_stages s
    ON s.account_id = w.account_id AND s.pipeline_id = p.id AND s.id = w.stage_id
    AND s.deleted_at IS NULL
LEFT JOIN LATERAL (
    SELECT o.id
    FROM opportunities o
    WHERE o.account_id = w.account_id AND o.contact_id = w.contact_id
        AND CASE w.selector
            WHEN 'specific' THEN o.id = w.opportunity_id
            ELSE o.status = 'open'
        END
    ORDER BY
        o.pipeline_id = w.pipeline_id DESC,
        CASE WHEN w.selector = 'first' THEN o.created_at END,
        CASE WHEN w.selector = 'first' THEN o.id END,
        o.created_at DESC,
        o.id DESC
    LIMIT 1
) chosen ON true
ORDER BY w.number;

-- name: move
-- Move opportunities that stand elsewhere and write the history; returns whence they came.
WITH wanted AS (
    SELECT *
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[])
        AS w (account_id, opportunity_id, pipeline_id, stage_id, step_id)
),
-- Locked first, so that what is read as the old stage is what is overwritten.
standing AS MATERIALIZED (
    SELECT o.id, o.pipeline_id, o.stage_id
    FROM opportunities o
    WHERE (o.account_id, o.id) IN (SELECT w.account_id, w.opportunity_id FROM wanted w)
    ORDER BY o.id
    FOR NO KEY UPDATE OF o
),
moved AS (
    UPDATE opportunities o
    SET pipeline_id = w.pipeline_id, stage_id = w.stage_id, stage_entered_at = $6, updated_at = $6
    FROM wanted w
    JOIN standing f ON f.id = w.opportunity_id
    WHERE o.account_id = w.account_id AND o.id = w.opportunity_id AND f.stage_id <> w.stage_id
    RETURNING
        o.account_id, o.id, f.pipeline_id AS from_pipeline_id, f.stage_id AS from_stage_id,
        w.pipeline_id AS to_pipeline_id, w.stage_id AS to_stage_id, w.step_id
),
history AS (
    INSERT INTO opportunity_stage_history (
        account_id, opportunity_id, from_pipeline_id, from_stage_id,
        to_pipeline_id, to_stage_id, step_id, moved_at
    )
    SELECT account_id, id, from_pipeline_id, from_stage_id, to_pipeline_id, to_stage_id, step_id, $6
    FROM moved
)
SELECT id, from_pipeline_id, from_stage_id FROM moved;
