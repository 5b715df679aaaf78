-- name: account
-- What reading addresses and dates needs to know of an account.
SELECT a.country, a.time_zone FROM accounts a WHERE a.id = $1;

-- name: users_of_account
-- Which of these users are of the account.
SELECT u.id FROM users u WHERE u.account_id = $1 AND u.id = ANY ($2::uuid[]);

-- name: add_contacts
-- Make contacts, in the given order; one whose e-mail address is taken is left out.
INSERT INTO contacts
    (id, account_id, first_name, last_name, email, email_normalized, phone, phone_normalized,
     time_zone, owner_id, custom_fields, created_at, updated_at)
SELECT w.id, $1, w.first_name, w.last_name, w.email, w.email_normalized, w.phone,
    w.phone_normalized, w.time_zone, w.owner_id, w.custom_fields, $2, $2
FROM unnest(
        $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::uuid[], $12::jsonb[]
    ) WITH ORDINALITY AS w (
        id, first_name, last_name, email, email_normalized, phone, phone_normalized, time_zone,
        owner_id, custom_fields, ordinality
    )
ORDER BY w.ordinality
ON CONFLICT (account_id, email_normalized)
    WHERE NOT is_duplicate AND email_normalized IS NOT NULL DO NOTHING
RETURNING id;

-- name: contacts_by_email
-- The contacts that own e-mail addresses.
SELECT c.id, c.email_normalized
FROM contacts c
WHERE c.account_id = $1 AND c.email_normalized = ANY ($2::text[]) AND NOT c.is_duplicate;

-- name: contact
-- One contact.
SELECT c.id, c.first_name, c.last_name, c.email, c.phone, c.time_zone, c.owner_id,
    c.custom_fields, c.created_at, c.updated_at
FROM contacts c
WHERE c.account_id = $1 AND c.id = $2 AND c.erased_at IS NULL;

-- name: contacts
-- The contacts of an account; see api/lists.py. A word of `search` is the beginning of a first or
-- last name or of an e-mail address, or the last digits of a phone number: each by its own index.
SELECT c.id, c.first_name, c.last_name, c.email, c.phone, c.time_zone, c.owner_id,
    c.custom_fields, c.created_at, c.updated_at
FROM contacts c
WHERE c.account_id = $1 AND c.erased_at IS NULL
-- filter email: c.email_normalized = :value
-- filter owner_id: c.owner_id = :value
-- filter tag_id: EXISTS (SELECT FROM contact_tags t WHERE t.account_id = c.account_id AND t.contact_id = c.id AND t.tag_id = :value)
-- filter created_from: c.created_at >= :value
-- filter created_before: c.created_at < :value
-- filter custom_field: c.custom_fields @> :value
-- filter word: (lower(c.first_name) ~>=~ :value AND lower(c.first_name) ~<~ (:value || chr(1114111))) OR (lower(c.last_name) ~>=~ :value AND lower(c.last_name) ~<~ (:value || chr(1114111))) OR (c.email_normalized ~>=~ :value AND c.email_normalized ~<~ (:value || chr(1114111)))
-- filter digits: reverse(c.phone_normalized) ~>=~ :value AND reverse(c.phone_normalized) ~<~ (:value || chr(1114111))
-- sort created_at: c.created_at timestamptz, c.id uuid
-- sort name: lower(coalesce(c.last_name, c.first_name, c.email, '')) text, c.id uuid
;

-- name: log_changes
-- Write which fields of a contact a user changed, from what to what.
INSERT INTO contact_field_changes
    (account_id, contact_id, field, old_value, new_value, user_id, changed_at)
SELECT $1, $2, w.field, w.old, w.new, $6, $7
FROM unnest($3::text[], $4::jsonb[], $5::jsonb[]) AS w (field, old, new);

-- name: lock_contact
-- Lock a contact as batches do, before anything of it is changed.
SELECT c.id, c.account_id, c.first_name, c.last_name, c.email, c.email_normalized, c.phone,
    c.phone_normalized, c.time_zone, c.owner_id, c.custom_fields, c.created_at, c.updated_at
FROM contacts c
WHERE c.account_id = $1 AND c.id = $2 AND c.erased_at IS NULL
FOR NO KEY UPDATE;

-- name: timeline
-- What happened to a contact; see api/lists.py.
SELECT t.at, t.what, t.detail, t.reference_id
FROM contact_timeline t
WHERE t.account_id = $1 AND t.contact_id = $2
-- filter at_from: t.at >= :value
-- filter at_before: t.at < :value
-- sort at: coalesce(t.at, 'infinity'::timestamptz) timestamptz, (t.what || ' ' || t.reference_id) text
;
