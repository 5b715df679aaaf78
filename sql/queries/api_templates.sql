-- name: templates
-- The templates of an account, without their content; see api/lists.py.
SELECT t.id, t.name, t.purpose, t.version, t.created_at, t.updated_at
FROM message_templates t
WHERE t.account_id = $1 AND t.deleted_at IS NULL
-- filter purpose: t.purpose = :value
-- sort name: lower(t.name) text, t.id uuid
-- sort created_at: t.created_at timestamptz, t.id uuid
;

-- name: template
-- One template, with the content of its newest version.
SELECT t.id, t.name, t.purpose, t.version, v.html, v.text, t.created_at, t.updated_at
FROM message_templates t
JOIN message_template_versions v ON v.template_id = t.id AND v.version = t.version
WHERE t.account_id = $1 AND t.id = $2 AND t.deleted_at IS NULL;

-- name: add_template
-- Make a template with its first version.
WITH made AS (
    INSERT INTO message_templates (account_id, id, name, purpose, version, created_at, updated_at)
    VALUES ($1, $2, $4, $5, 1, $3, $3)
    RETURNING account_id, id, version, created_at
)
INSERT INTO message_template_versions
    (account_id, template_id, version, html, text, created_at, created_by)
SELECT made.account_id, made.id, made.version, $6, $7::text, made.created_at, $8 FROM made;

-- name: change_template
-- Write a template's fields; other content than the newest version's becomes a version of its own.
WITH newest AS (
    SELECT t.version, (v.html, v.text) IS DISTINCT FROM ($6, $7::text) AS is_other
    FROM message_templates t
    JOIN message_template_versions v ON v.template_id = t.id AND v.version = t.version
    WHERE t.account_id = $1 AND t.id = $2
), added AS (
    INSERT INTO message_template_versions
        (account_id, template_id, version, html, text, created_at, created_by)
    SELECT $1, $2, n.version + 1, $6, $7::text, $3, $8 FROM newest n WHERE n.is_other
)
UPDATE message_templates t
SET name = $4, purpose = $5, updated_at = $3, version = n.version + n.is_other::integer
FROM newest n
WHERE t.account_id = $1 AND t.id = $2;

-- name: delete_template
-- Delete a template; its versions stay as what was sent by them.
UPDATE message_templates t
SET deleted_at = (SELECT current_instant())
WHERE t.account_id = $1 AND t.id = $2;

-- name: template_versions
-- The versions of a template; see api/lists.py.
SELECT v.version, v.created_at, v.created_by
FROM message_template_versions v
WHERE v.account_id = $1 AND v.template_id = $2
-- sort version: v.version integer, v.version integer
;

-- name: template_version
-- One version of a template, with its content.
SELECT v.version, v.html, v.text, v.created_at, v.created_by
FROM message_template_versions v
WHERE v.account_id = $1 AND v.template_id = $2 AND v.version = $3;
