-- name: count_executions
-- How many executions a filter means. Those that began after $10 (NULL: no matter) are not meant.
SELECT count(*) FROM executions_meant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) e;

-- name: executions
-- The next of them, in the order of their ids.
SELECT e.id
FROM executions_meant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) e
WHERE e.id > $12
ORDER BY e.id
LIMIT $13;
