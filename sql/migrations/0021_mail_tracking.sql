-- Links in mails outlive the keys that signed them, and what became of mails is told with them.

-- What signed links in mails before a rotation of CALLBOARD_SECRET_KEYS: of each key that was taken
-- out of use, what links are verified by, derived from it and sealed by the key in use. So a link
-- that unsubscribes works as long as somebody has the mail (15 U.S.C. 7704(a)(3)(A)(ii) asks for
-- thirty days), and the old key itself can be forgotten. They are the house's, not an account's.
CREATE TABLE link_keys (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    fingerprint  bytea NOT NULL,
    sealed       text NOT NULL,
    retired_at   timestamptz NOT NULL,
    CONSTRAINT link_key_is_kept_once UNIQUE (fingerprint),
    CONSTRAINT link_key_fingerprint_is_sha256 CHECK (octet_length(fingerprint) = 32)
);

-- The timeline of a contact says how far a mail, a text or a call has come.
CREATE OR REPLACE VIEW contact_timeline AS
SELECT t.account_id, t.contact_id, t.at, t.what, t.detail, t.reference_id
FROM (
    SELECT s.account_id, s.contact_id, coalesce(s.completed_at, s.started_at, s.ready_at) AS at,
        a.action_type || ' ' || s.status AS what,
        coalesce(s.error_message, s.skip_reason, nullif(s.result_data, '{}')::text) AS detail,
        s.id::text AS reference_id
    FROM workflow_action_executions s
    JOIN workflow_actions a ON a.id = s.action_id
    UNION ALL
    SELECT e.account_id, e.contact_id, e.started_at, 'entered ' || w.name, NULL, e.id::text
    FROM workflow_executions e
    JOIN workflows w ON w.id = e.workflow_id
    UNION ALL
    SELECT e.account_id, e.contact_id, e.completed_at, e.status || ' ' || w.name, e.end_reason, e.id::text
    FROM workflow_executions e
    JOIN workflows w ON w.id = e.workflow_id
    WHERE e.completed_at IS NOT NULL
    UNION ALL
    SELECT v.account_id, v.contact_id, v.occurred_at, 'event ' || v.event_type, v.payload::text, v.id::text
    FROM domain_events v
    UNION ALL
    SELECT f.account_id, f.contact_id, coalesce(f.completed_at, f.dispatched_at, f.created_at),
        f.kind || ' ' || f.status, coalesce(f.error_message, f.error_code, f.delivery_status), f.id::text
    FROM effects f
    UNION ALL
    SELECT c.account_id, c.contact_id, c.changed_at, 'changed ' || c.field,
        coalesce(c.old_value::text, '–') || ' → ' || coalesce(c.new_value::text, '–'), c.id::text
    FROM contact_field_changes c
    UNION ALL
    SELECT r.account_id, r.contact_id, r.refused_at, 'not enrolled in ' || w.name, r.reason, r.id::text
    FROM enrollment_refusals r
    JOIN workflows w ON w.id = r.workflow_id
) t;

COMMENT ON COLUMN effects.delivery_status IS
    'The furthest that is known of it, such as delivered (mails: sent, delivered, opened, clicked, bounced, complained); the reports stand in effect_reports.';
COMMENT ON COLUMN effect_reports.provider_id IS
    'How the provider calls the attempt; of mails who has reported: smtp, tracking, link, sendgrid, dsn, arf, bounce.';
