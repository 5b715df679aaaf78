-- name: current_instant
-- The clock's instant.
SELECT current_instant();

-- name: advance
-- Move the clock ahead. Leases move along: a jump of the clock is no silence of a worker.
WITH moved AS (
    UPDATE clock SET "offset" = "offset" + $1::interval
)
UPDATE workers
SET heartbeat_at = heartbeat_at + $1::interval, lease_expires_at = lease_expires_at + $1::interval;

-- name: offset
-- How far the clock is ahead of the real time.
SELECT "offset" FROM clock;
