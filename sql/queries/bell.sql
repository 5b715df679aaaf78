-- name: ring
-- Defer one job per queueing lock that has none queued.
SELECT ring($1::text[], $2, $3::text[], $4::jsonb[], $5::timestamptz[]);
