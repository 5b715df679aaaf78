-- Functions that must be one round trip, or that must lock before they look.

-- Ring: defer a Procrastinate job unless one with the same queueing lock is queued already.
-- `due` is an instant of our clock; Procrastinate keeps the real time.
CREATE FUNCTION ring(queues text[], task text, queueing_locks text[], args jsonb[], due timestamptz[])
RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    i integer;
    rung integer := 0;
    ahead interval := (SELECT c."offset" FROM clock c);
BEGIN
    FOR i IN 1 .. coalesce(array_length(queues, 1), 0) LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM procrastinate_jobs j
            WHERE j.queueing_lock = queueing_locks[i] AND j.status = 'todo'
        );
        BEGIN
            PERFORM procrastinate_defer_jobs_v1(ARRAY[
                ROW(queues[i], task, 0, NULL, queueing_locks[i], args[i], due[i] - ahead)
            ]::procrastinate_job_to_defer_v1[]);
            rung := rung + 1;
        EXCEPTION WHEN unique_violation THEN
            NULL;  -- somebody else rang at the same moment
        END;
    END LOOP;
    RETURN rung;
END
$$;

-- GCRA (generic cell rate algorithm) and the count of running calls, for several integrations at
-- once. Grants as many calls as the limits allow now, at most `wanted`; where it grants fewer,
-- says why and when to ask again. The rate_limits row is locked first, and each statement of a
-- volatile function looks afresh, so that concurrent claimers add up exactly.
CREATE FUNCTION take_tokens(integration_ids uuid[], wanted integer[], at timestamptz)
RETURNS TABLE (integration_id uuid, granted integer, reason text, next_at timestamptz)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    claim record;
    limits integrations%ROWTYPE;
    arrival timestamptz;
    emission interval;
    running integer;
BEGIN
    FOR claim IN
        SELECT w.id, w.n FROM unnest(integration_ids, wanted) AS w (id, n) ORDER BY w.id
    LOOP
        SELECT * INTO limits FROM integrations i WHERE i.id = claim.id;
        INSERT INTO rate_limits VALUES (claim.id, at) ON CONFLICT DO NOTHING;
        SELECT greatest(r.tat, at) INTO arrival
        FROM rate_limits r WHERE r.integration_id = claim.id FOR UPDATE;

        integration_id := claim.id;
        granted := claim.n;
        reason := NULL;
        next_at := NULL;
        IF limits.max_concurrent IS NOT NULL THEN
            SELECT count(*) INTO running
            FROM effects f
            WHERE f.integration_id = claim.id AND f.status IN ('claimed', 'dispatched');
            IF limits.max_concurrent - running < granted THEN
                granted := greatest(limits.max_concurrent - running, 0);
                reason := 'concurrency_limit';
                next_at := at + interval '1 second';
            END IF;
        END IF;
        IF limits.rate_per_second IS NOT NULL THEN
            emission := make_interval(secs => 1 / limits.rate_per_second);
            -- n calls conform when the arrival time after them is within the burst.
            running := floor(limits.burst
                - extract(epoch FROM arrival - at) / extract(epoch FROM emission) + 1e-6);
            IF running < granted THEN
                granted := greatest(running, 0);
                reason := 'rate_limit';
            END IF;
            arrival := arrival + granted * emission;
            UPDATE rate_limits r SET tat = arrival WHERE r.integration_id = claim.id;
            IF reason = 'rate_limit' THEN
                next_at := greatest(arrival - (limits.burst - 1) * emission, at + interval '1 millisecond');
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Whether the circuit breakers of integrations let calls through: all (closed), one probe
-- (half open), or none; and when to ask again. While a probe is on its way that is soon: it may
-- never go out (cancelled, suppressed, parked, its worker died), and is then followed by another.
-- Locks the rows in the order of their ids.
CREATE FUNCTION ask_breakers(integration_ids uuid[], at timestamptz, probe_seconds double precision)
RETURNS TABLE (integration_id uuid, admits text, next_at timestamptz)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    breaker circuit_breakers%ROWTYPE;
BEGIN
    FOR breaker IN
        SELECT * FROM circuit_breakers b
        WHERE b.integration_id = ANY (integration_ids) AND b.state <> 'closed'
        ORDER BY b.integration_id
        FOR UPDATE
    LOOP
        integration_id := breaker.integration_id;
        IF breaker.state = 'open' AND breaker.open_until > at THEN
            admits := 'none';
            next_at := breaker.open_until;
        ELSIF breaker.state = 'half_open' AND breaker.probe_expires_at > at AND (
            -- None is named: the limits left no call for it.
            breaker.probe_effect_id IS NULL OR EXISTS (
                SELECT FROM effects f
                WHERE f.id = breaker.probe_effect_id AND f.status IN ('claimed', 'dispatched')
            )
        ) THEN
            admits := 'none';
            next_at := least(breaker.probe_expires_at, at + interval '1 second');
        ELSE
            admits := 'probe';
            next_at := at + interval '1 second';
            UPDATE circuit_breakers b
            SET state = 'half_open', open_until = NULL, probe_effect_id = NULL,
                probe_expires_at = at + make_interval(secs => probe_seconds)
            WHERE b.integration_id = breaker.integration_id;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Tell a breaker how calls ended. Gives 'opened' or 'closed' when its state changed by it.
-- Half open, only the probe's result counts: late results of older calls say nothing new.
CREATE FUNCTION tell_breaker(integration uuid, succeeded uuid[], failed uuid[], at timestamptz)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    breaker circuit_breakers%ROWTYPE;
    limits integrations%ROWTYPE;
BEGIN
    SELECT * INTO breaker FROM circuit_breakers b WHERE b.integration_id = integration FOR UPDATE;
    IF NOT FOUND THEN
        IF cardinality(failed) = 0 THEN
            RETURN NULL;
        END IF;
        INSERT INTO circuit_breakers (integration_id, account_id, window_began_at)
        SELECT i.id, i.account_id, at FROM integrations i WHERE i.id = integration
        ON CONFLICT DO NOTHING;
        SELECT * INTO breaker FROM circuit_breakers b WHERE b.integration_id = integration FOR UPDATE;
    END IF;
    SELECT * INTO limits FROM integrations i WHERE i.id = integration;

    IF breaker.state = 'half_open' THEN
        IF breaker.probe_effect_id = ANY (succeeded) THEN
            UPDATE circuit_breakers b
            SET state = 'closed', failures = 0, window_began_at = at,
                probe_effect_id = NULL, probe_expires_at = NULL
            WHERE b.integration_id = integration;
            RETURN 'closed';
        ELSIF breaker.probe_effect_id = ANY (failed) THEN
            UPDATE circuit_breakers b
            SET state = 'open', open_until = at + make_interval(secs => limits.breaker_open_seconds),
                probe_effect_id = NULL, probe_expires_at = NULL
            WHERE b.integration_id = integration;
            RETURN 'opened';
        END IF;
        RETURN NULL;
    END IF;
    IF breaker.state = 'open' OR cardinality(failed) = 0 THEN
        RETURN NULL;
    END IF;
    IF breaker.window_began_at + make_interval(secs => limits.breaker_window_seconds) < at THEN
        breaker.failures := 0;
        breaker.window_began_at := at;
    END IF;
    breaker.failures := breaker.failures + cardinality(failed);
    UPDATE circuit_breakers b
    SET failures = breaker.failures,
        window_began_at = breaker.window_began_at,
        state = CASE WHEN breaker.failures >= limits.breaker_failures THEN 'open' ELSE 'closed' END,
        open_until = CASE WHEN breaker.failures >= limits.breaker_failures
            THEN at + make_interval(secs => limits.breaker_open_seconds) END
    WHERE b.integration_id = integration;
    RETURN CASE WHEN breaker.failures >= limits.breaker_failures THEN 'opened' END;
END
$$;

-- Lanes that may run at this instant.
CREATE VIEW open_lanes AS
SELECT l.*
FROM lanes l
WHERE NOT l.is_paused
  AND (l.held_until IS NULL OR l.held_until <= (SELECT current_instant()));

-- The lanes, open or held, in which steps of a family are ready: at most `most`, behind the lane
-- `behind`, in the order of their ids. A loose index scan: one probe of action_executions_ready
-- per lane, however many steps stand in it.
CREATE FUNCTION lanes_with_steps(of_family text, behind bigint, most bigint)
RETURNS TABLE (lane_id bigint)
LANGUAGE sql STABLE ROWS 16
AS $$
    WITH RECURSIVE busy AS (
        (
            SELECT s.lane_id, 1 AS visited
            FROM workflow_action_executions s
            WHERE s.family = of_family AND s.status = 'pending' AND s.hold IS NULL
              AND s.lane_id > behind
            ORDER BY s.lane_id
            LIMIT 1
        )
        UNION ALL
        SELECT following.lane_id, b.visited + 1
        FROM busy b
        CROSS JOIN LATERAL (
            SELECT s.lane_id
            FROM workflow_action_executions s
            WHERE s.family = of_family AND s.status = 'pending' AND s.hold IS NULL
              AND s.lane_id > b.lane_id
            ORDER BY s.lane_id
            LIMIT 1
        ) following
        WHERE b.visited < most
    )
    SELECT b.lane_id FROM busy b
$$;

-- The same for effects of these kinds (NULL: any).
CREATE FUNCTION lanes_with_effects(of_family text, behind bigint, most bigint, kinds text[])
RETURNS TABLE (lane_id bigint)
LANGUAGE sql STABLE ROWS 16
AS $$
    WITH RECURSIVE busy AS (
        (
            SELECT f.lane_id, 1 AS visited
            FROM effects f
            WHERE f.family = of_family AND f.status = 'pending' AND f.hold IS NULL
              AND f.lane_id > behind AND (kinds IS NULL OR f.kind = ANY (kinds))
            ORDER BY f.lane_id
            LIMIT 1
        )
        UNION ALL
        SELECT following.lane_id, b.visited + 1
        FROM busy b
        CROSS JOIN LATERAL (
            SELECT f.lane_id
            FROM effects f
            WHERE f.family = of_family AND f.status = 'pending' AND f.hold IS NULL
              AND f.lane_id > b.lane_id AND (kinds IS NULL OR f.kind = ANY (kinds))
            ORDER BY f.lane_id
            LIMIT 1
        ) following
        WHERE b.visited < most
    )
    SELECT b.lane_id FROM busy b
$$;
