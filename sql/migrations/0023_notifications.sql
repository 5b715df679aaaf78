-- How users want to be told, and the order in which they read what they were told.

CREATE TABLE notification_preferences (
    account_id   uuid NOT NULL,
    user_id      uuid NOT NULL,
    muted        text[] NOT NULL DEFAULT '{}',
    quiet_from   time,
    quiet_until  time,
    time_zone    text,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, user_id),
    CONSTRAINT notification_preferences_are_of_user FOREIGN KEY (account_id, user_id)
        REFERENCES users (account_id, id) ON DELETE CASCADE,
    CONSTRAINT muted_are_channels CHECK (muted <@ ARRAY['in_app', 'email', 'sms']),
    CONSTRAINT quiet_hours_are_whole CHECK (
        (quiet_from IS NULL) = (quiet_until IS NULL)
        AND (quiet_from IS NULL) = (time_zone IS NULL)
        AND quiet_from IS DISTINCT FROM quiet_until OR quiet_from IS NULL
    )
);
COMMENT ON COLUMN notification_preferences.muted IS 'Channels on which the user is told nothing.';
COMMENT ON COLUMN notification_preferences.quiet_from IS
    'Do not disturb from then until quiet_until, on the clock of time_zone: mails and texts wait.';

DROP INDEX notifications_by_user;
CREATE INDEX notifications_in_order_of_creation ON notifications (account_id, user_id, created_at, id);
CREATE INDEX notifications_unread ON notifications (account_id, user_id) WHERE read_at IS NULL;
