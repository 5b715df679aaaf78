-- name: look
-- All that decides whether messages may go, for each place in the arrays. Asked after the
-- addresses were locked, in a statement of its own: an opt-out is either committed and seen, or
-- waits for this dispatch.
SELECT w.place, c.id IS NOT NULL AS has_contact, c.erased_at, c.time_zone, c.do_not_disturb,
    i.disabled_at, i.deleted_at, t.is_test, t.time_zone AS account_time_zone,
    w.channel = ANY (t.consent_required_for) AS needs_consent,
    o.opted_out_at, o.reason AS opt_out_reason, o.scope,
    n.is_given AS consent_is_given, n.source AS consent_source, n.at AS consent_at
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[])
    WITH ORDINALITY AS w (account_id, contact_id, channel, address, integration_id, place)
JOIN accounts t ON t.id = w.account_id
LEFT JOIN contacts c ON c.id = w.contact_id AND c.account_id = w.account_id
LEFT JOIN integrations i ON i.id = w.integration_id AND i.account_id = w.account_id
LEFT JOIN LATERAL (
    SELECT x.opted_out_at, x.reason, x.scope
    FROM opt_outs_of(w.account_id, w.channel, w.address) x
    ORDER BY x.scope, x.opted_out_at
    LIMIT 1
) o ON true
LEFT JOIN LATERAL (
    SELECT s.is_given, s.source, s.at
    FROM consents s
    WHERE s.contact_id = w.contact_id AND s.channel = w.channel
    ORDER BY s.at DESC, s.id DESC
    LIMIT 1
) n ON true
ORDER BY w.place;
