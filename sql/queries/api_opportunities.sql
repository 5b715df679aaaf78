-- name: opportunities
-- The opportunities of an account; see api/lists.py.
SELECT o.id, o.contact_id, o.pipeline_id, o.stage_id, o.owner_id, o.name, o.value, o.currency,
    o.account_value, o.account_currency, o.rate_valid_on, o.status, o.stage_entered_at,
    o.created_at, o.updated_at
FROM opportunities o
WHERE o.account_id = $1
-- filter contact_id: o.contact_id = :value
-- filter pipeline_id: o.pipeline_id = :value
-- filter stage_id: o.stage_id = :value
-- filter owner_id: o.owner_id = :value
-- filter status: o.status = :value
-- filter value_from: o.value >= :value
-- filter value_to: o.value <= :value
-- sort created_at: o.created_at timestamptz, o.id uuid
-- sort value: coalesce(o.value, 0) numeric, o.id uuid
-- sort name: lower(o.name) text, o.id uuid
;

-- name: opportunity
-- One opportunity.
SELECT o.id, o.contact_id, o.pipeline_id, o.stage_id, o.owner_id, o.name, o.value, o.currency,
    o.account_value, o.account_currency, o.rate_valid_on, o.status, o.stage_entered_at,
    o.created_at, o.updated_at
FROM opportunities o
WHERE o.account_id = $1 AND o.id = $2;

-- name: add_opportunity
-- Open an opportunity, converted into the account's currency by the latest rates, and begin its
-- history.
WITH made AS (
    INSERT INTO opportunities
        (account_id, id, contact_id, pipeline_id, stage_id, owner_id, name, value, currency,
         account_value, account_currency, rate_valid_on, status, stage_entered_at, created_at,
         updated_at)
    SELECT $1, $2, $4, $5, $6, $7, $8, $9::numeric, $10::text, v.account_value, v.account_currency,
        v.rate_valid_on, $11, $3, $3, $3
    FROM account_worth($1, $9::numeric, $10::text, ($3::timestamptz AT TIME ZONE 'UTC')::date) v
)
INSERT INTO opportunity_stage_history
    (account_id, opportunity_id, to_pipeline_id, to_stage_id, user_id, moved_at)
VALUES ($1, $2, $5, $6, $12, $3);

-- name: change_opportunity
-- Write an opportunity's fields. Being moved begins its time in the stage and is written into the
-- history. Another value is converted by the rates of now. Whoever calls holds the row's lock.
WITH moved AS (
    INSERT INTO opportunity_stage_history
        (account_id, opportunity_id, from_pipeline_id, from_stage_id, to_pipeline_id, to_stage_id,
         user_id, moved_at)
    SELECT o.account_id, o.id, o.pipeline_id, o.stage_id, $5, $6, $12, $3
    FROM opportunities o
    WHERE o.account_id = $1 AND o.id = $2 AND o.stage_id <> $6
)
UPDATE opportunities o
SET contact_id = $4, pipeline_id = $5, stage_id = $6, owner_id = $7, name = $8, value = $9::numeric,
    currency = $10::text, status = $11,
    (account_value, account_currency, rate_valid_on) = (
        SELECT v.account_value, v.account_currency, v.rate_valid_on
        FROM account_worth(o.account_id, $9::numeric, $10::text, ($3::timestamptz AT TIME ZONE 'UTC')::date) v
        WHERE o.value IS DISTINCT FROM $9::numeric OR o.currency IS DISTINCT FROM $10::text
        UNION ALL
        SELECT o.account_value, o.account_currency, o.rate_valid_on
        WHERE o.value IS NOT DISTINCT FROM $9::numeric AND o.currency IS NOT DISTINCT FROM $10::text
    ),
    stage_entered_at = CASE WHEN o.stage_id = $6 THEN o.stage_entered_at ELSE $3::timestamptz END,
    updated_at = $3
WHERE o.account_id = $1 AND o.id = $2;

-- name: first_stage
-- The first stage of a pipeline.
SELECT s.id
FROM pipeline_stages s
WHERE s.account_id = $1 AND s.pipeline_id = $2 AND s.deleted_at IS NULL
ORDER BY s.position
LIMIT 1;

-- name: pipeline_of_stage
-- The pipeline that has a stage.
SELECT s.pipeline_id
FROM pipeline_stages s
WHERE s.account_id = $1 AND s.id = $2 AND s.deleted_at IS NULL;

-- name: delete_opportunity
-- Delete an opportunity with its history.
DELETE FROM opportunities o WHERE o.account_id = $1 AND o.id = $2;

-- name: account_currency
-- The currency of an opportunity that names none.
SELECT a.currency FROM accounts a WHERE a.id = $1;

-- name: history
-- The moves of an opportunity, oldest first.
SELECT h.from_pipeline_id, h.from_stage_id, h.to_pipeline_id, h.to_stage_id, h.step_id, h.user_id,
    h.moved_at
FROM opportunity_stage_history h
WHERE h.account_id = $1 AND h.opportunity_id = $2
ORDER BY h.moved_at, h.id;
