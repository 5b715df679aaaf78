-- name: pipelines
-- The pipelines of an account; see api/lists.py.
SELECT p.id, p.name, p.created_at, p.updated_at,
    (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object('id', s.id, 'name', s.name, 'position', s.position)
                ORDER BY s.position
            ),
            '[]'
        )
        FROM pipeline_stages s
        WHERE s.pipeline_id = p.id AND s.deleted_at IS NULL
    ) AS stages
FROM pipelines p
WHERE p.account_id = $1 AND p.deleted_at IS NULL
-- sort name: lower(p.name) text, p.id uuid
-- sort created_at: p.created_at timestamptz, p.id uuid
;

-- name: pipeline
-- One pipeline with its stages in order.
SELECT p.id, p.name, p.created_at, p.updated_at,
    (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object('id', s.id, 'name', s.name, 'position', s.position)
                ORDER BY s.position
            ),
            '[]'
        )
        FROM pipeline_stages s
        WHERE s.pipeline_id = p.id AND s.deleted_at IS NULL
    ) AS stages
FROM pipelines p
WHERE p.account_id = $1 AND p.id = $2 AND p.deleted_at IS NULL;

-- name: add_pipeline
-- Make a pipeline with stages in the given order.
WITH made AS (
    INSERT INTO pipelines (account_id, id, name, created_at, updated_at) VALUES ($1, $2, $4, $3, $3)
)
INSERT INTO pipeline_stages (id, account_id, pipeline_id, name, position)
SELECT w.id, $1, $2, w.name, w.ordinality - 1
FROM unnest($5::uuid[], $6::text[]) WITH ORDINALITY AS w (id, name, ordinality);

-- name: change_pipeline
-- Write a pipeline's name, and make its stages these, in this order: new ones are made, those left
-- out are deleted and stay for the history.
WITH renamed AS (
    UPDATE pipelines p SET name = $4, updated_at = $3 WHERE p.account_id = $1 AND p.id = $2
),
wanted AS (
    SELECT w.id, w.name, w.ordinality - 1 AS position
    FROM unnest($5::uuid[], $6::text[]) WITH ORDINALITY AS w (id, name, ordinality)
),
gone AS (
    UPDATE pipeline_stages s
    SET deleted_at = $3
    WHERE s.account_id = $1 AND s.pipeline_id = $2 AND s.deleted_at IS NULL
        AND s.id <> ALL ($5::uuid[])
),
kept AS (
    UPDATE pipeline_stages s
    SET name = w.name, position = w.position
    FROM wanted w
    WHERE s.account_id = $1 AND s.pipeline_id = $2 AND s.id = w.id
)
INSERT INTO pipeline_stages (id, account_id, pipeline_id, name, position)
SELECT w.id, $1, $2, w.name, w.position
FROM wanted w
WHERE NOT EXISTS (SELECT FROM pipeline_stages s WHERE s.account_id = $1 AND s.id = w.id);

-- name: delete_pipeline
-- Delete a pipeline; its row stays for the history.
UPDATE pipelines p SET deleted_at = (SELECT current_instant())
WHERE p.account_id = $1 AND p.id = $2;

-- name: pipeline_holds_opportunities
-- Whether any opportunity, open or not, stands in a pipeline.
SELECT EXISTS (
    SELECT FROM pipeline_stages s
    JOIN opportunities o ON o.stage_id = s.id
    WHERE s.account_id = $1 AND s.pipeline_id = $2
);

-- name: opportunities_of_stage
-- The opportunities in a stage, open or not, up to a number.
SELECT o.id, o.contact_id
FROM opportunities o
WHERE o.account_id = $1 AND o.stage_id = $2
ORDER BY o.id
LIMIT $3;

-- name: move_opportunities
-- Move opportunities that still stand in a stage to another one and write the history; gives those
-- that were moved.
WITH standing AS MATERIALIZED (
    SELECT o.id, o.contact_id, o.pipeline_id
    FROM opportunities o
    WHERE o.account_id = $1 AND o.id = ANY ($2::uuid[]) AND o.stage_id = $3
    ORDER BY o.id
    FOR NO KEY UPDATE
),
history AS (
    INSERT INTO opportunity_stage_history
        (account_id, opportunity_id, from_pipeline_id, from_stage_id, to_pipeline_id, to_stage_id,
         user_id, moved_at)
    SELECT $1, f.id, f.pipeline_id, $3, f.pipeline_id, $4, $5, $6
    FROM standing f
)
UPDATE opportunities o
SET stage_id = $4, stage_entered_at = $6, updated_at = $6
FROM standing f
WHERE o.account_id = $1 AND o.id = f.id
RETURNING o.id, o.contact_id, o.pipeline_id;
