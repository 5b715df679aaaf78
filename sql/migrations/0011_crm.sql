-- What the API's lists and look-ups of CRM data need: indexes in the orders of the lists, and the
-- instant of the last change on everything that can be changed.

-- Pages of contacts: newest first, and by name.
CREATE INDEX contacts_in_order_of_creation ON contacts (account_id, created_at, id)
    WHERE erased_at IS NULL;
CREATE INDEX contacts_in_order_of_name
    ON contacts (account_id, lower(coalesce(last_name, first_name, email, '')), id)
    WHERE erased_at IS NULL;
-- Search by beginnings of names and addresses, and by the last digits of phone numbers. Compared
-- byte by byte, so that a beginning is a range.
CREATE INDEX contacts_by_beginning_of_first_name
    ON contacts (account_id, lower(first_name) text_pattern_ops) WHERE first_name IS NOT NULL;
CREATE INDEX contacts_by_beginning_of_last_name
    ON contacts (account_id, lower(last_name) text_pattern_ops) WHERE last_name IS NOT NULL;
CREATE INDEX contacts_by_beginning_of_email
    ON contacts (account_id, email_normalized text_pattern_ops) WHERE email_normalized IS NOT NULL;
CREATE INDEX contacts_by_end_of_phone
    ON contacts (account_id, reverse(phone_normalized) text_pattern_ops)
    WHERE phone_normalized IS NOT NULL;

-- What can be changed says when it was: by it a client knows whether it has read the latest.
ALTER TABLE accounts ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE users ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE teams ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE tags ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE custom_fields ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE pipelines ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE campaigns ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE tasks ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE notes ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE users ADD COLUMN deactivated_at timestamptz;
COMMENT ON COLUMN users.deactivated_at IS
    'Since when the user may do nothing; what they own stays theirs, and they are given nothing new.';
ALTER TABLE users ADD CONSTRAINT deactivated_user_is_not_available
    CHECK (deactivated_at IS NULL OR NOT is_available);

ALTER TABLE campaigns ADD COLUMN deleted_at timestamptz;
ALTER TABLE campaigns ADD CONSTRAINT deleted_campaign_has_ended
    CHECK (deleted_at IS NULL OR status = 'ended');

-- The orders of lists that grow with the number of contacts.
CREATE INDEX opportunities_in_order_of_creation ON opportunities (account_id, created_at, id);
CREATE INDEX opportunities_by_stage ON opportunities (stage_id);
CREATE INDEX tasks_in_order_of_creation ON tasks (account_id, created_at, id);
CREATE INDEX tasks_in_order_of_due_date
    ON tasks (account_id, coalesce(due_at, 'infinity'::timestamptz), id);
CREATE INDEX notes_in_order_of_creation ON notes (account_id, created_at, id);
CREATE INDEX campaign_enrollments_in_order ON campaign_enrollments (campaign_id, enrolled_at, id);
