-- name: courses
-- The courses of an account; see api/lists.py.
SELECT c.id, c.name, c.regrant, c.created_at, c.updated_at
FROM courses c
WHERE c.account_id = $1 AND c.deleted_at IS NULL
-- sort name: lower(c.name) text, c.id uuid
-- sort created_at: c.created_at timestamptz, c.id uuid
;

-- name: course
-- One course.
SELECT c.id, c.name, c.regrant, c.created_at, c.updated_at
FROM courses c
WHERE c.account_id = $1 AND c.id = $2 AND c.deleted_at IS NULL;

-- name: add_course
-- Make a course.
INSERT INTO courses (account_id, id, name, regrant, created_at, updated_at)
VALUES ($1, $2, $4, $5, $3, $3);

-- name: change_course
-- Write a course's fields.
UPDATE courses c SET name = $4, regrant = $5, updated_at = $3
WHERE c.account_id = $1 AND c.id = $2;

-- name: lock_course_out
-- Wait for whoever grants access to a course, and keep others from it until the commit.
SELECT FROM courses c WHERE c.account_id = $1 AND c.id = $2 FOR UPDATE;

-- name: delete_course
-- Delete a course; timers end the access to it at once. Its row stays for what was granted.
WITH deleted AS (
    UPDATE courses c SET deleted_at = (SELECT current_instant())
    WHERE c.account_id = $1 AND c.id = $2
)
INSERT INTO timers (account_id, kind, due_at, payload, dedupe_key)
SELECT g.account_id, 'course.expiry', (SELECT current_instant()),
    jsonb_build_object('grant_id', g.id), g.id::text
FROM course_grants g
WHERE g.account_id = $1 AND g.course_id = $2 AND g.status = 'active'
ORDER BY g.id
ON CONFLICT (account_id, kind, dedupe_key)
    DO UPDATE SET due_at = excluded.due_at, failures = 0;

-- name: lessons
-- The lessons of an account's courses; see api/lists.py.
SELECT l.id, l.course_id, l.name, l.position, l.drip_after_days, l.created_at, l.updated_at
FROM lessons l
JOIN courses c ON c.id = l.course_id AND c.deleted_at IS NULL
WHERE l.account_id = $1 AND l.deleted_at IS NULL
-- filter course_id: l.course_id = :value
-- sort position: l.position integer, l.id uuid
-- sort created_at: l.created_at timestamptz, l.id uuid
;

-- name: lesson
-- One lesson.
SELECT l.id, l.course_id, l.name, l.position, l.drip_after_days, l.created_at, l.updated_at
FROM lessons l
WHERE l.account_id = $1 AND l.id = $2 AND l.deleted_at IS NULL
  AND EXISTS (SELECT FROM courses c WHERE c.id = l.course_id AND c.deleted_at IS NULL);

-- name: add_lesson
-- Make a lesson; timers open it to those who have access already.
WITH made AS (
    INSERT INTO lessons
        (account_id, id, course_id, name, position, drip_after_days, created_at, updated_at)
    VALUES ($1, $2, $4, $5, $6, $7, $3, $3)
)
INSERT INTO timers (account_id, kind, due_at, payload, dedupe_key)
SELECT g.account_id, 'course.drip', $3, jsonb_build_object('grant_id', g.id), g.id::text
FROM course_grants g
WHERE g.account_id = $1 AND g.course_id = $4 AND g.status = 'active'
ORDER BY g.id
ON CONFLICT (account_id, kind, dedupe_key) DO UPDATE SET due_at = excluded.due_at;

-- name: change_lesson
-- Write a lesson's fields; timers look at those who have access anew. What is open stays open.
WITH changed AS (
    UPDATE lessons l SET name = $5, position = $6, drip_after_days = $7, updated_at = $3
    WHERE l.account_id = $1 AND l.id = $2
)
INSERT INTO timers (account_id, kind, due_at, payload, dedupe_key)
SELECT g.account_id, 'course.drip', $3, jsonb_build_object('grant_id', g.id), g.id::text
FROM course_grants g
WHERE g.account_id = $1 AND g.course_id = $4 AND g.status = 'active'
ORDER BY g.id
ON CONFLICT (account_id, kind, dedupe_key) DO UPDATE SET due_at = excluded.due_at;

-- name: delete_lesson
-- Delete a lesson; its row stays for the progress in it.
UPDATE lessons l SET deleted_at = (SELECT current_instant())
WHERE l.account_id = $1 AND l.id = $2;

-- name: grants
-- The grants of a course; see api/lists.py.
SELECT g.id, g.course_id, g.contact_id, g.status, g.access_level, g.drip, g.granted_at,
    g.expires_at, g.ended_at, g.reason, g.step_id
FROM course_grants g
WHERE g.account_id = $1 AND g.course_id = $2
-- filter status: g.status = :value
-- filter contact_id: g.contact_id = :value
-- sort granted_at: g.granted_at timestamptz, g.id uuid
;

-- name: contact_grants
-- The grants of a contact with how far it is; see api/lists.py.
SELECT g.id, g.course_id, c.name AS course_name, g.contact_id, g.status, g.access_level, g.drip,
    g.granted_at, g.expires_at, g.ended_at, g.reason, g.step_id,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'lesson_id', p.lesson_id, 'opened_at', p.opened_at, 'completed_at', p.completed_at
        ) ORDER BY p.opened_at, p.lesson_id), '[]')
        FROM lesson_progress p
        WHERE p.contact_id = g.contact_id AND p.course_id = g.course_id
    ) AS progress
FROM course_grants g
JOIN courses c ON c.id = g.course_id
WHERE g.account_id = $1 AND g.contact_id = $2
-- filter status: g.status = :value
-- sort granted_at: g.granted_at timestamptz, g.id uuid
;

-- name: complete_lesson
-- Say that a contact has completed a lesson that is open to it by an active access; done again, it
-- stays completed since the first time. No row where it is not open. Whoever calls holds the
-- contact's lock. Gives whether that is new and whether all lessons of the course are completed now.
UPDATE lesson_progress p
SET completed_at = coalesce(p.completed_at, $4)
FROM lesson_progress was
WHERE p.account_id = $1 AND p.contact_id = $2 AND p.lesson_id = $3
  AND was.contact_id = p.contact_id AND was.lesson_id = p.lesson_id
  AND EXISTS (
    SELECT FROM course_grants g
    WHERE g.contact_id = p.contact_id AND g.course_id = p.course_id AND g.status = 'active'
      AND (g.expires_at IS NULL OR g.expires_at > $4)
  )
RETURNING p.lesson_id, p.opened_at, p.completed_at, p.course_id,
    was.completed_at IS NULL AS is_new,
    NOT EXISTS (
        SELECT FROM lessons l
        LEFT JOIN lesson_progress o ON o.contact_id = p.contact_id AND o.lesson_id = l.id
        WHERE l.course_id = p.course_id AND l.deleted_at IS NULL AND l.id <> p.lesson_id
          AND o.completed_at IS NULL
    ) AS is_last;
