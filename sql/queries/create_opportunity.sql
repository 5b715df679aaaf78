-- name: create_opportunities
-- Open an opportunity for each item whose pipeline and stage exist: in the pipeline's first stage
-- unless one is named, owned by the contact's owner, converted into the account's currency by the
-- latest rates. Gives for each item, in the given order, what exists and what was made.
WITH wanted AS (
    SELECT w.*, p.id IS NOT NULL AS pipeline_exists, s.id AS found_stage_id, a.currency AS own
    FROM unnest(
            $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::numeric[],
            $8::text[], $9::uuid[], $10::uuid[]
        ) WITH ORDINALITY AS w (
            id, account_id, contact_id, pipeline_id, stage_id, name, value, currency, owner_id,
            step_id, number
        )
    JOIN accounts a ON a.id = w.account_id
    LEFT JOIN pipelines p
        ON p.account_id = w.account_id AND p.id = w.pipeline_id AND p.deleted_at IS NULL
    LEFT JOIN LATERAL (
        SELECT t.id
        FROM pipeline_stages t
        WHERE t.account_id = w.account_id AND t.pipeline_id = p.id AND t.deleted_at IS NULL
          AND (w.stage_id IS NULL OR t.id = w.stage_id)
        ORDER BY t.position, t.id
        LIMIT 1
    ) s ON true
),
converted AS (
    SELECT w.*, coalesce(w.currency, w.own) AS given, v.account_value, v.account_currency,
        v.rate_valid_on
    FROM wanted w
    CROSS JOIN LATERAL
        account_worth(w.account_id, w.value, coalesce(w.currency, w.own), $12) v
),
made AS (
    INSERT INTO opportunities
        (id, account_id, contact_id, pipeline_id, stage_id, owner_id, name, value, currency,
         account_value, account_currency, rate_valid_on, stage_entered_at, created_at, updated_at)
    SELECT id, account_id, contact_id, pipeline_id, found_stage_id, owner_id, name, value, given,
        account_value, account_currency, rate_valid_on, $11, $11, $11
    FROM converted
    WHERE pipeline_exists AND found_stage_id IS NOT NULL
    RETURNING id, account_id, pipeline_id, stage_id, value, currency, account_value,
        account_currency, rate_valid_on
),
history AS (
    INSERT INTO opportunity_stage_history
        (account_id, opportunity_id, to_pipeline_id, to_stage_id, step_id, moved_at)
    SELECT m.account_id, m.id, m.pipeline_id, m.stage_id, c.step_id, $11
    FROM made m
    JOIN converted c ON c.id = m.id
)
SELECT c.pipeline_exists, m.id, m.stage_id, m.value, m.currency, m.account_value,
    m.account_currency, m.rate_valid_on
FROM converted c
LEFT JOIN made m ON m.id = c.id
ORDER BY c.number;
