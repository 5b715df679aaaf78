-- name: contact
-- Whether the account has a contact, erased or not.
SELECT c.erased_at, c.do_not_disturb
FROM contacts c WHERE c.account_id = $1 AND c.id = $2;

-- name: lock_contact
-- Lock a contact that is not erased.
SELECT c.do_not_disturb
FROM contacts c WHERE c.account_id = $1 AND c.id = $2 AND c.erased_at IS NULL
FOR NO KEY UPDATE;

-- name: add_consent
-- Write down that consent was given or withdrawn.
INSERT INTO consents
    (account_id, contact_id, channel, is_given, source, wording, at, recorded_at, recorded_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING id, channel, is_given, source, wording, at, recorded_at, recorded_by;

-- name: consents
-- The consents of a contact, newest first.
SELECT n.id, n.channel, n.is_given, n.source, n.wording, n.at, n.recorded_at, n.recorded_by
FROM consents n
WHERE n.account_id = $1 AND n.contact_id = $2
ORDER BY n.at DESC, n.id DESC;

-- name: set_do_not_disturb
-- The channels on which a contact wants to hear nothing.
UPDATE contacts c SET do_not_disturb = $3, updated_at = $4 WHERE c.account_id = $1 AND c.id = $2;

-- name: consent_rules
-- The channels on which marketing needs consent.
SELECT c.consent_required_for FROM accounts c WHERE c.id = $1;

-- name: lock_consent_rules
-- The same, locked against other changes.
SELECT c.consent_required_for FROM accounts c WHERE c.id = $1 FOR NO KEY UPDATE;

-- name: set_consent_rules
-- Change them.
UPDATE accounts c SET consent_required_for = $2 WHERE c.id = $1;

-- name: workflow_settings
-- The settings of a workflow.
SELECT w.settings FROM workflows w
WHERE w.account_id = $1 AND w.id = $2 AND w.deleted_at IS NULL;

-- name: set_workflow_settings
-- Change them.
UPDATE workflows w SET settings = w.settings || $3, updated_at = $4
WHERE w.account_id = $1 AND w.id = $2;

-- name: addresses_of_contact
-- The addresses of a contact that is not erased, by channel; one row without an address where it has
-- none.
SELECT a.channel, a.address
FROM contacts c
LEFT JOIN LATERAL (
    SELECT 'email' AS channel, c.email_normalized AS address
    UNION ALL
    SELECT x.channel, c.phone_normalized FROM unnest(ARRAY['sms', 'voice']) AS x (channel)
    UNION ALL
    SELECT 'messenger', m.address
    FROM messenger_people m WHERE m.account_id = c.account_id AND m.contact_id = c.id
) a ON a.address IS NOT NULL
WHERE c.account_id = $1 AND c.id = $2 AND c.erased_at IS NULL
ORDER BY a.channel, a.address;

-- name: opt_outs_of_addresses
-- What keeps addresses from being written to.
SELECT w.channel, w.address, o.opted_out_at, o.reason, o.scope
FROM unnest($2::text[], $3::text[]) AS w (channel, address)
CROSS JOIN LATERAL opt_outs_of($1, w.channel, w.address) o
ORDER BY w.channel, w.address, o.opted_out_at;
