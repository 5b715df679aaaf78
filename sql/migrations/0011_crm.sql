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
