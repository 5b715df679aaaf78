-- name: update_contacts
-- Write contacts' fields; whoever calls holds their locks.
UPDATE contacts c
SET first_name = w.first_name,
    last_name = w.last_name,
    email = w.email,
    email_normalized = w.email_normalized,
    phone = w.phone,
    phone_normalized = w.phone_normalized,
    time_zone = w.time_zone,
    owner_id = w.owner_id,
    custom_fields = w.custom_fields,
    updated_at = $12
FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::uuid[], $11::jsonb[]
    ) AS w (
        account_id, id, first_name, last_name, email, email_normalized,
        phone, phone_normalized, time_zone, owner_id, custom_fields
    )
WHERE c.account_id = w.account_id AND c.id = w.id;
