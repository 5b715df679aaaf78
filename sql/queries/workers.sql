-- name: register
-- Add a worker whose lease begins now.
INSERT INTO workers (id, host, pid, families, started_at, heartbeat_at, lease_expires_at)
SELECT $1, $2, $3, $4::text[], c.instant, c.instant, c.instant + $5::interval
FROM (SELECT current_instant() AS instant) c
ON CONFLICT (id) DO NOTHING;

-- name: heartbeat
-- Renew a worker's lease; no row: the worker was declared dead.
UPDATE workers k
SET heartbeat_at = c.instant, lease_expires_at = c.instant + $2::interval
FROM (SELECT current_instant() AS instant) c
WHERE k.id = $1
RETURNING k.id;

-- name: begin_to_leave
-- Say that a worker begins nothing more, for people who look.
UPDATE workers SET stopping_at = current_instant() WHERE id = $1;

-- name: leave
-- Take a worker away that has stopped.
DELETE FROM workers WHERE id = $1;
