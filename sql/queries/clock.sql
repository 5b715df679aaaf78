-- name: current_instant
-- The clock's instant.
SELECT current_instant();

-- name: advance
-- Move the clock ahead.
UPDATE clock SET "offset" = "offset" + $1::interval;

-- name: offset
-- How far the clock is ahead of the real time.
SELECT "offset" FROM clock;
