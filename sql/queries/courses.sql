-- name: grant_access
-- Grant each item its course: anew, or, where access is active, longer or as it was, as the course
-- has it. A day is 24 hours; what would end past the year 9998 ends there. Gives for each item, in
-- the given order, the course and the grant, and whether the access that was active was over.
WITH known AS (
    -- Against deletion, which ends what was granted before it and waits for this.
    SELECT c.account_id, c.id, c.name, c.regrant
    FROM courses c
    WHERE c.id = ANY ($4::uuid[]) AND c.deleted_at IS NULL
    ORDER BY c.id
    FOR KEY SHARE
),
wanted AS (
    SELECT w.*, c.name, c.regrant,
        least($9::timestamptz + make_interval(hours => 24 * w.days), '9999-01-01 00:00+00') AS expires_at
    FROM unnest(
            $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::integer[],
            $7::boolean[], $8::uuid[]
        ) WITH ORDINALITY AS w (
            id, account_id, contact_id, course_id, access_level, days, drip, step_id, number
        )
    LEFT JOIN known c ON c.account_id = w.account_id AND c.id = w.course_id
),
written AS (
    INSERT INTO course_grants AS g
        (id, account_id, course_id, contact_id, access_level, drip, granted_at, expires_at, step_id)
    SELECT w.id, w.account_id, w.course_id, w.contact_id, w.access_level, w.drip, $9::timestamptz,
        CASE WHEN w.days IS NOT NULL THEN w.expires_at END, w.step_id
    FROM wanted w
    WHERE w.regrant IS NOT NULL
    ORDER BY w.contact_id, w.course_id
    ON CONFLICT (contact_id, course_id) WHERE status = 'active' DO UPDATE SET
        (access_level, drip, expires_at) = (
            SELECT
                CASE c.regrant WHEN 'extend' THEN excluded.access_level ELSE g.access_level END,
                CASE c.regrant WHEN 'extend' THEN excluded.drip ELSE g.drip END,
                CASE
                    WHEN c.regrant = 'leave' AND g.expires_at > $9 THEN g.expires_at
                    WHEN g.expires_at IS NOT NULL AND excluded.expires_at IS NOT NULL THEN least(
                        greatest(g.expires_at, $9) + (excluded.expires_at - $9),
                        '9999-01-01 00:00+00'
                    )
                END
            FROM courses c
            WHERE c.id = g.course_id
        )
    RETURNING g.id, g.contact_id, g.course_id, g.access_level, g.granted_at, g.expires_at
)
SELECT w.name, w.regrant, g.id, g.id = w.id AS is_new, g.access_level, g.granted_at, g.expires_at,
    -- As it was before this statement; whoever grants holds the contact's lock.
    EXISTS (
        SELECT FROM course_grants o
        WHERE o.id = g.id AND o.status = 'active' AND o.expires_at <= $9
    ) AS was_over
FROM wanted w
LEFT JOIN written g ON g.contact_id = w.contact_id AND g.course_id = w.course_id
ORDER BY w.number;

-- name: open_lessons
-- Open the lessons of these grants that are due and not yet open, before the access ends; all of
-- them where nothing drips. Gives what was opened.
INSERT INTO lesson_progress (account_id, course_id, lesson_id, contact_id, opened_at)
SELECT g.account_id, g.course_id, l.id, g.contact_id, $2::timestamptz
FROM course_grants g
JOIN courses c ON c.id = g.course_id AND c.deleted_at IS NULL
JOIN lessons l
    ON l.account_id = g.account_id AND l.course_id = g.course_id AND l.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT CASE WHEN g.drip THEN g.granted_at + make_interval(hours => 24 * l.drip_after_days)
        ELSE g.granted_at END AS due_at
) d
WHERE g.id = ANY ($1::uuid[]) AND g.status = 'active' AND d.due_at <= $2
  AND (g.expires_at IS NULL OR d.due_at < g.expires_at)
ORDER BY g.contact_id, l.position, l.id
ON CONFLICT (contact_id, lesson_id) DO NOTHING
RETURNING account_id, contact_id, course_id, lesson_id;

-- name: set_timers
-- Set the timers of active grants: for the next lesson that drips, and for the end of the access.
-- Those of deleted courses are left alone: a timer ends the access to them.
WITH active AS (
    SELECT g.id, g.account_id, g.course_id, g.drip, g.granted_at, g.expires_at
    FROM course_grants g
    JOIN courses c ON c.id = g.course_id AND c.deleted_at IS NULL
    WHERE g.id = ANY ($1::uuid[]) AND g.status = 'active'
),
due AS (
    SELECT g.id, g.account_id, 'course.expiry' AS kind, g.expires_at AS due_at
    FROM active g
    WHERE g.expires_at IS NOT NULL
    UNION ALL
    SELECT g.id, g.account_id, 'course.drip',
        min(g.granted_at + make_interval(hours => 24 * l.drip_after_days))
    FROM active g
    JOIN lessons l
        ON l.account_id = g.account_id AND l.course_id = g.course_id AND l.deleted_at IS NULL
    WHERE g.drip
      AND g.granted_at + make_interval(hours => 24 * l.drip_after_days) > $2
    GROUP BY g.id, g.account_id
),
gone AS (
    DELETE FROM timers t
    WHERE t.id IN (
        SELECT o.id FROM timers o
        JOIN active g ON g.account_id = o.account_id AND g.id::text = o.dedupe_key
        WHERE o.kind = 'course.expiry' AND g.expires_at IS NULL
        FOR UPDATE OF o SKIP LOCKED
    )
)
INSERT INTO timers (account_id, kind, due_at, payload, dedupe_key)
SELECT d.account_id, d.kind, d.due_at, jsonb_build_object('grant_id', d.id), d.id::text
FROM due d
ORDER BY d.kind, d.id
ON CONFLICT (account_id, kind, dedupe_key)
    DO UPDATE SET due_at = excluded.due_at, payload = excluded.payload, failures = 0;

-- name: revoke_access
-- End each item's active access to its course, take its timers away, and its progress where that
-- is not to be kept. A timer that is just being fired finds the access ended. Gives for each item,
-- in the given order, whether there is such a course, the grant and how many lessons were forgotten.
WITH known AS (
    -- As in grant_access, before any grant or timer: a deletion takes the course first as well.
    SELECT c.account_id, c.id, c.name
    FROM courses c
    WHERE c.id = ANY ($3::uuid[]) AND c.deleted_at IS NULL
    ORDER BY c.id
    FOR KEY SHARE
),
wanted AS (
    SELECT w.*, c.name
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::boolean[], $5::text[]) WITH ORDINALITY
        AS w (account_id, contact_id, course_id, retain_progress, reason, number)
    LEFT JOIN known c ON c.account_id = w.account_id AND c.id = w.course_id
),
ended AS (
    UPDATE course_grants g
    SET status = 'revoked', ended_at = $6::timestamptz, reason = w.reason
    FROM wanted w
    WHERE g.account_id = w.account_id AND g.contact_id = w.contact_id
      AND g.course_id = w.course_id AND w.name IS NOT NULL AND g.status = 'active'
    RETURNING g.id, g.account_id, g.contact_id, g.course_id, w.number, w.retain_progress
),
silenced AS (
    DELETE FROM timers t
    WHERE t.id IN (
        SELECT o.id FROM timers o
        JOIN ended e ON e.account_id = o.account_id AND e.id::text = o.dedupe_key
        WHERE o.kind IN ('course.drip', 'course.expiry')
        FOR UPDATE OF o SKIP LOCKED
    )
),
forgotten AS (
    DELETE FROM lesson_progress p
    USING ended e
    WHERE p.account_id = e.account_id AND p.contact_id = e.contact_id
      AND p.course_id = e.course_id AND NOT e.retain_progress
    RETURNING e.number
)
SELECT w.name, w.name IS NOT NULL AS course_exists, e.id,
    (SELECT count(*) FROM forgotten f WHERE f.number = w.number) AS forgotten
FROM wanted w
LEFT JOIN ended e ON e.number = w.number
ORDER BY w.number;

-- name: hold_grants
-- Lock the active ones of these grants, passing over those that a batch holds, and those whose
-- contact is being erased or whose course is being deleted: what is written of them waits for
-- that, and that for the grants or their timers.
SELECT g.id FROM course_grants g
JOIN contacts c ON c.account_id = g.account_id AND c.id = g.contact_id
JOIN courses k ON k.id = g.course_id
WHERE g.id = ANY ($1::uuid[]) AND g.status = 'active'
ORDER BY g.id
FOR KEY SHARE OF c, k SKIP LOCKED
FOR UPDATE OF g SKIP LOCKED;

-- name: set_again
-- Set a timer again, a second later, for the active ones of these grants that were passed over. A
-- batch that waits for the timer to go moves it then.
INSERT INTO timers (account_id, kind, due_at, payload, dedupe_key)
SELECT g.account_id, $2, $3::timestamptz + interval '1 second',
    jsonb_build_object('grant_id', g.id), g.id::text
FROM course_grants g
WHERE g.id = ANY ($1::uuid[]) AND g.status = 'active'
ON CONFLICT (account_id, kind, dedupe_key) DO NOTHING;

-- name: expire
-- End those of these grants whose time has come, or whose course was deleted, with what was to drip
-- yet. Gives what ended.
WITH ended AS (
    UPDATE course_grants g
    SET (status, ended_at, reason) = (
        SELECT 'expired', g.expires_at, g.reason WHERE g.expires_at <= $2
        UNION ALL
        SELECT 'revoked', $2, 'The course was deleted.' WHERE (g.expires_at <= $2) IS NOT TRUE
    )
    FROM courses c
    WHERE g.id = ANY ($1::uuid[]) AND g.status = 'active' AND c.id = g.course_id
      AND (g.expires_at <= $2 OR c.deleted_at IS NOT NULL)
    RETURNING g.id, g.account_id, g.contact_id, g.course_id, g.status, g.expires_at, g.reason
),
silenced AS (
    DELETE FROM timers t
    WHERE t.id IN (
        SELECT o.id FROM timers o
        JOIN ended e ON e.account_id = o.account_id AND e.id::text = o.dedupe_key
        WHERE o.kind = 'course.drip'
        FOR UPDATE OF o SKIP LOCKED
    )
)
SELECT e.id, e.account_id, e.contact_id, e.course_id, e.status, e.expires_at, e.reason
FROM ended e;
