-- Least-busy assignment shares the cursor's row (and lock) with round robin, and needs a place
-- of its own in it: if it moved the round robin's place, that one would no longer be fair.

ALTER TABLE assignment_cursors ADD COLUMN last_least_busy_user_id uuid;
COMMENT ON COLUMN assignment_cursors.last_least_busy_user_id IS
    'Who least-busy assignment gave a contact last: equally busy users take turns from there.';
