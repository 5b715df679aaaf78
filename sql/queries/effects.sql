-- name: lock_ready_effects
-- Lock up to $2 ready effects of family $1, a fair share from each open lane, like claim_steps,
-- but never more than $2: shares are rounded down, what is left is claimed by the next round.
-- Only kinds in $5 (NULL: any): those of a newer version are left to the workers that know them.
WITH busy_lanes AS MATERIALIZED (
    SELECT lane_id FROM lanes_with_effects($1, $3, $4, $5)
),
served_lanes AS MATERIALIZED (
    SELECT l.id
    FROM busy_lanes b
    JOIN open_lanes l ON l.id = b.lane_id
    ORDER BY l.id
    LIMIT $2
)
SELECT r.id, r.lane_id, r.integration_id,
    CASE
        WHEN (SELECT count(*) FROM served_lanes) >= $2 THEN (SELECT max(id) FROM served_lanes)
        WHEN (SELECT count(*) FROM busy_lanes) >= $4 THEN (SELECT max(lane_id) FROM busy_lanes)
        ELSE 0
    END AS next_lane
FROM served_lanes o
CROSS JOIN LATERAL (
    SELECT f.id, f.lane_id, f.integration_id
    FROM effects f
    WHERE f.family = $1 AND f.status = 'pending' AND f.hold IS NULL AND f.lane_id = o.id
      AND ($5::text[] IS NULL OR f.kind = ANY ($5))
    ORDER BY f.priority DESC, f.id
    -- served_lanes has at most $2 rows, so that this is at least 1.
    LIMIT (SELECT $2 / greatest(count(*), 1) FROM served_lanes)
    FOR NO KEY UPDATE SKIP LOCKED
) r;

-- name: effect_lanes_seen
-- How many lanes such a claim looked at, and the last of them.
SELECT count(*) AS visited, coalesce(max(lane_id), 0) AS last_lane
FROM lanes_with_effects($1, $2, $3, $4);

-- name: has_isolated_effect
-- Whether an effect that a dead worker had in hand is ready, of kinds in $2 (NULL: any).
SELECT EXISTS (
    SELECT FROM effects f
    JOIN open_lanes l ON l.id = f.lane_id
    WHERE f.family = $1 AND f.status = 'pending' AND f.hold = 'isolated'
      AND ($2::text[] IS NULL OR f.kind = ANY ($2))
);

-- name: lock_isolated_effect
-- Lock one effect that a dead worker had in hand; it is claimed alone.
SELECT f.id, f.lane_id, f.integration_id
FROM effects f
JOIN open_lanes l ON l.id = f.lane_id
WHERE f.family = $1 AND f.status = 'pending' AND f.hold = 'isolated'
  AND ($2::text[] IS NULL OR f.kind = ANY ($2))
ORDER BY f.id
LIMIT 1
FOR NO KEY UPDATE OF f SKIP LOCKED;

-- name: ask_breakers
-- Which of these integrations' breakers do not let everything through.
SELECT integration_id, admits, next_at FROM ask_breakers($1::uuid[], $2, $3);

-- name: name_probe
-- Say which effect is the probe of a half-open breaker.
UPDATE circuit_breakers SET probe_effect_id = $2 WHERE integration_id = $1 AND state = 'half_open';

-- name: put_off_probe
-- Let the next probe of a half-open breaker be chosen from this instant on: limits left none now.
UPDATE circuit_breakers SET probe_expires_at = $2 WHERE integration_id = $1 AND state = 'half_open';

-- name: lock_lanes
-- Lock lanes in the order of their ids, as everybody does who locks several.
SELECT FROM lanes l WHERE l.id = ANY ($1::bigint[]) ORDER BY l.id FOR NO KEY UPDATE;

-- name: take_tokens
-- Take tokens of integrations' limits for a whole batch.
SELECT integration_id, granted, reason, next_at FROM take_tokens($1::uuid[], $2::integer[], $3);

-- name: claim_effects
-- Claim locked effects: from here on they are in this worker's hand, under a new attempt. None
-- for a worker whose lease has run out: it could not dispatch them, only have them lost.
UPDATE effects f
SET status = 'claimed', worker_id = $2, attempt = f.attempt + 1
WHERE f.id = ANY ($1::uuid[])
  AND EXISTS (SELECT FROM workers k WHERE k.id = $2 AND k.lease_expires_at > $3)
RETURNING f.id, f.account_id, f.kind, f.attempt, f.idempotency_key, f.request, f.contact_id,
    f.integration_id, f.workflow_id, f.channel, f.address, f.retries, f.on_unknown, f.execution_id,
    f.step_id;

-- name: let_go_of_effects
-- Make effects of family $2 ready again that the database says this worker has in hand, other
-- than those in $3, which it has: they have never been on the wire under this attempt.
UPDATE effects f
SET status = 'pending', worker_id = NULL, dispatched_at = NULL
WHERE f.worker_id = $1 AND f.family = $2 AND f.status IN ('claimed', 'dispatched')
  AND f.id <> ALL ($3::uuid[])
RETURNING f.id;

-- name: know_addresses
-- Make the rows that an opt-out and a dispatch both lock.
INSERT INTO channel_addresses (account_id, channel, address)
SELECT DISTINCT w.account_id, w.channel, w.address
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (account_id, channel, address)
ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING;

-- name: lock_addresses
-- Lock the addresses in one order. What stands in them is read by the next statement: this one
-- may still see what was there before it waited.
SELECT
FROM channel_addresses a
WHERE (a.account_id, a.channel, a.address) IN (
    SELECT w.account_id, w.channel, w.address
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w (account_id, channel, address)
)
ORDER BY a.account_id, a.channel, a.address
FOR NO KEY UPDATE;

-- name: lock_executions
-- Lock the executions of effects against pausing, resuming and cancelling, before looking at
-- them: a statement that waits for a resumption would still see what was paused before it.
SELECT
FROM workflow_executions e
WHERE e.id IN (SELECT f.execution_id FROM effects f WHERE f.id = ANY ($1::uuid[]))
ORDER BY e.id
FOR SHARE;

-- name: dispatch_effects
-- Decide, just before the wire, what goes out: only what is still claimed under this attempt by
-- a worker whose lease holds, of a workflow that is not paused and an execution that is running,
-- and as the verdict of its kind's check says ($5 to $9: status, code, message, instant and
-- decision; NULL where the kind has none, which then goes to no address that has opted out).
-- Being put off spends no attempt. Gives each effect's new status; what gives no row was taken
-- away or cancelled meanwhile.
WITH mine AS (
    SELECT f.id, f.step_id, f.gates_step, f.account_id, f.channel, f.address, f.lane_id,
        f.execution_id, f.hold, w.verdict, w.code, w.message, w.until, w.decision
    FROM effects f
    JOIN unnest(
        $1::uuid[], $2::integer[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
        $9::jsonb[]
    ) AS w (id, attempt, verdict, code, message, until, decision)
        ON w.id = f.id AND w.attempt = f.attempt
    WHERE f.status = 'claimed' AND f.worker_id = $3
      AND EXISTS (SELECT FROM workers k WHERE k.id = $3 AND k.lease_expires_at > $4)
    ORDER BY f.id
    FOR NO KEY UPDATE OF f
),
decided AS (
    SELECT m.id, m.step_id, m.gates_step, m.message, m.until, m.decision,
        CASE
            -- Dispatched before the cancellation, it would go out once more: a retry.
            WHEN e.status = 'cancelled' THEN 'cancelled'
            WHEN m.verdict IN ('suppressed', 'failed') THEN m.verdict
            WHEN m.verdict IS NULL AND m.address IS NOT NULL AND EXISTS (
                SELECT FROM opt_outs_of(m.account_id, m.channel, m.address)
            ) THEN 'suppressed'
            WHEN l.is_paused OR e.status = 'paused' THEN 'pending'
            ELSE coalesce(m.verdict, 'dispatched')
        END AS status,
        coalesce(m.code, 'opted_out') AS code,
        -- What is to go out alone still is when it comes back.
        CASE WHEN e.status = 'paused' THEN 'parked' ELSE m.hold END AS hold
    FROM mine m
    JOIN lanes l ON l.id = m.lane_id
    LEFT JOIN workflow_executions e ON e.id = m.execution_id
)
UPDATE effects f
SET status = d.status,
    hold = d.hold,
    worker_id = CASE WHEN d.status = 'dispatched' THEN f.worker_id END,
    attempt = CASE WHEN d.status = 'scheduled' THEN f.attempt - 1 ELSE f.attempt END,
    scheduled_at = CASE WHEN d.status = 'scheduled' THEN d.until ELSE f.scheduled_at END,
    dispatched_at = CASE WHEN d.status = 'dispatched' THEN $4::timestamptz ELSE f.dispatched_at END,
    completed_at = CASE WHEN d.status IN ('suppressed', 'failed', 'cancelled') THEN $4::timestamptz END,
    error_code = CASE
        WHEN d.status IN ('suppressed', 'failed', 'scheduled') THEN d.code
        WHEN d.status = 'cancelled' THEN 'cancelled'
    END,
    error_message = CASE WHEN d.status = 'failed' THEN d.message END,
    decision = coalesce(d.decision, f.decision)
FROM decided d
WHERE f.id = d.id
RETURNING f.id, f.status, d.step_id, d.gates_step;

-- name: record_effects
-- Record results, fenced by attempt and worker: a result of an attempt that was taken away
-- meanwhile gives no row and changes nothing. An unknown outcome of which the provider has reported
-- meanwhile is none.
WITH results AS (
    SELECT *
    FROM unnest(
        $1::uuid[], $2::integer[], $3::text[], $4::jsonb[], $5::text[], $6::text[],
        $7::timestamptz[], $8::jsonb[]
    ) AS r (id, attempt, status, result, error_code, error_message, scheduled_at, retries)
),
mine AS (
    -- The row as it stands once the lock is had, with what a report wrote while it was waited for.
    SELECT f.id, f.provider_id, f.delivery_status, f.delivery_failure,
        r.status = 'unknown' AND f.provider_id IS NOT NULL AS is_settled
    FROM effects f
    JOIN results r ON r.id = f.id AND r.attempt = f.attempt
    WHERE f.status = 'dispatched' AND f.worker_id = $9
    ORDER BY f.id
    FOR NO KEY UPDATE OF f
)
UPDATE effects f
SET status = CASE WHEN m.is_settled THEN 'succeeded' ELSE r.status END,
    -- The contact was erased while this was on the wire: see contact_erasure.
    result = CASE WHEN f.request ? 'erased' THEN NULL
        WHEN m.is_settled
        THEN jsonb_build_object(
            'sid', m.provider_id, 'status', m.delivery_status, 'is_settled_by_callback', true)
        ELSE r.result END,
    error_code = CASE WHEN NOT m.is_settled THEN r.error_code END,
    error_message = CASE WHEN NOT m.is_settled THEN r.error_message END,
    provider_id = coalesce(r.result ->> 'sid', m.provider_id),
    delivery_status = coalesce(m.delivery_status, r.result ->> 'delivery'),
    scheduled_at = r.scheduled_at,
    retries = r.retries,
    worker_id = NULL,
    hold = NULL,
    completed_at = CASE WHEN r.status <> 'scheduled' THEN $10::timestamptz END
FROM results r
JOIN mine m ON m.id = r.id
WHERE f.id = r.id
RETURNING f.id, f.step_id, f.gates_step, f.status, f.retries, m.delivery_failure;

-- name: log_effect_attempts
-- One row per attempt of an effect; a late result stands beside what was said of its attempt. The
-- same result recorded again, since nobody heard of its commit, is no late one.
INSERT INTO effect_attempts
    (effect_id, attempt, account_id, worker_id, started_at, finished_at, outcome, is_late,
     error_kind, error_code, error_message, result)
SELECT r.effect_id, r.attempt, r.account_id, r.worker_id, r.started_at, r.finished_at, r.outcome,
    r.is_late, r.error_kind, r.error_code,
    CASE WHEN f.request ? 'erased' THEN NULL ELSE r.error_message END,
    CASE WHEN f.request ? 'erased' THEN NULL ELSE r.result END
FROM unnest(
    $1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::timestamptz[],
    $7::text[], $8::boolean[], $9::text[], $10::text[], $11::text[], $12::jsonb[]
) AS r (effect_id, attempt, account_id, worker_id, started_at, finished_at, outcome, is_late,
    error_kind, error_code, error_message, result)
LEFT JOIN effects f ON f.id = r.effect_id
WHERE NOT EXISTS (
    SELECT FROM effect_attempts a
    WHERE a.effect_id = r.effect_id AND a.attempt = r.attempt AND NOT a.is_late
      AND r.is_late AND a.worker_id = r.worker_id AND a.started_at = r.started_at
)
ON CONFLICT (effect_id, attempt, is_late) DO NOTHING;

-- name: lock_steps
-- Lock the steps whose effects have ended, before looking whether all have: two recorders that
-- each end one of two effects would otherwise both see the other's as open.
SELECT s.id
FROM workflow_action_executions s
WHERE s.id = ANY ($1::uuid[])
ORDER BY s.id
FOR NO KEY UPDATE;

-- name: settle_steps
-- Make steps ready for settling whose gating effects have all ended; gives their families.
UPDATE workflow_action_executions s
SET status = 'pending', ready_at = $2
WHERE s.id = ANY ($1::uuid[]) AND s.status = 'running' AND s.phase = 'settle' AND s.worker_id IS NULL
  AND NOT EXISTS (
    SELECT FROM effects f
    WHERE f.step_id = s.id AND f.gates_step
      AND f.status IN ('pending', 'scheduled', 'claimed', 'dispatched')
  )
RETURNING s.family;

-- name: half_open
-- Which of these integrations' breakers wait for the result of a probe.
SELECT b.integration_id
FROM circuit_breakers b
WHERE b.integration_id = ANY ($1::uuid[]) AND b.state = 'half_open';

-- name: tell_breaker
-- Tell the breaker of an integration how calls ended.
SELECT tell_breaker($1, $2::uuid[], $3::uuid[], $4);

-- name: hold_or_release_lanes
-- Hold the lanes of integrations $2, whose breakers have opened, until those let a probe through
-- (a hold for another reason stays if it is longer); open the lanes of $3, whose breakers have
-- closed, and of all of $1 those that were held for want of a free call. Gives what was done.
WITH due AS (
    SELECT l.id, b.open_until
    FROM lanes l
    LEFT JOIN circuit_breakers b
        ON b.integration_id = l.integration_id AND b.integration_id = ANY ($2::uuid[])
    WHERE l.integration_id = ANY ($1::uuid[])
      AND CASE
            WHEN b.integration_id IS NOT NULL
            THEN l.held_until IS NULL OR l.held_until < b.open_until OR l.held_reason <> 'rate_limit'
            ELSE l.held_reason = 'concurrency_limit'
                OR l.held_reason = 'breaker_open' AND l.integration_id = ANY ($3::uuid[])
          END
    ORDER BY l.id
    FOR NO KEY UPDATE OF l
)
UPDATE lanes l
SET held_until = due.open_until,
    held_reason = CASE WHEN due.open_until IS NOT NULL THEN 'breaker_open' END
FROM due
WHERE l.id = due.id
RETURNING l.family, l.held_until;

-- name: breaker_event
-- Tell the account that a breaker has opened or closed.
INSERT INTO domain_events (account_id, event_type, payload, occurred_at, dispatched_at)
SELECT i.account_id, $2, jsonb_build_object('integration_id', i.id, 'name', i.name), $3, $3
FROM integrations i
WHERE i.id = $1;

-- name: opt_out
-- Lock addresses, in one order, and mark them; gives those of which that is new, or stops more.
INSERT INTO channel_addresses (account_id, channel, address, opted_out_at, reason, scope)
SELECT DISTINCT $1::uuid, $2::text, w.address, $4::timestamptz, $5::text, $6::text
FROM unnest($3::text[]) AS w (address)
ORDER BY w.address
ON CONFLICT (account_id, channel, address)
    DO UPDATE SET opted_out_at = $4, reason = $5, scope = $6
    WHERE channel_addresses.opted_out_at IS NULL
       OR (channel_addresses.scope = 'marketing' AND $6::text = 'all')
RETURNING address;

-- name: opt_in
-- Unmark the address; where $4 is given, only one that was marked for that reason.
UPDATE channel_addresses SET opted_out_at = NULL, reason = NULL, scope = 'all'
WHERE account_id = $1 AND channel = $2 AND address = $3 AND ($4::text IS NULL OR reason = $4);

-- name: opt_in_erased
-- Forget the hash of an address whose owner was erased and says that they may be written to.
DELETE FROM erased_addresses e
WHERE e.account_id = $1 AND e.channel = $2
  AND e.address_hash = address_hash((SELECT c.address_salt FROM accounts c WHERE c.id = $1), $2, $3)
  AND ($4::text IS NULL OR e.reason = $4);

-- name: suppress_effects
-- Suppress what is addressed there and not yet dispatched; the second statement of the race.
-- An opt-out of scope marketing leaves alone what says that it is something else.
UPDATE effects f
SET status = 'suppressed', error_code = 'opted_out', completed_at = $4, worker_id = NULL,
    decision = jsonb_build_object(
        'verdict', 'suppressed', 'reason', 'opted_out', 'at', to_json($4::timestamptz),
        'channel', f.channel, 'checks', jsonb_build_array(jsonb_build_object(
            'check', 'opt_out', 'passed', false, 'opted_out_at', to_json($4::timestamptz),
            'because', $5::text, 'scope', $6::text
        ))
    )
WHERE f.id IN (
    SELECT o.id
    FROM effects o
    WHERE o.account_id = $1 AND o.channel = $2 AND o.address = ANY ($3::text[])
      AND o.status IN ('pending', 'scheduled', 'claimed')
      AND ($6::text = 'all' OR coalesce(o.request #>> '{permission,purpose}', 'marketing') = 'marketing')
    ORDER BY o.id
    FOR NO KEY UPDATE
) AND f.status IN ('pending', 'scheduled', 'claimed')
RETURNING f.step_id, f.gates_step;
