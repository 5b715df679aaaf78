-- name: give_phones
-- A phone number of its own for every contact of the account.
UPDATE contacts c
SET phone = n.phone, phone_normalized = n.phone
FROM (
    SELECT p.id, '+1415' || (2000000 + row_number() OVER (ORDER BY p.id)) AS phone
    FROM contacts p
    WHERE p.account_id = $1
) n
WHERE c.id = n.id;

-- name: add_integration
-- A Twilio integration with its sealed token.
INSERT INTO integrations (id, account_id, kind, name, settings, secrets)
VALUES ($2, $1, 'twilio', 'Twilio', $3, $4);

-- name: add_sender
-- The number that it sends from.
INSERT INTO sender_addresses (account_id, kind, address, integration_id)
VALUES ($1, 'twilio', $3, $2);

-- name: phones
-- The numbers of contacts.
SELECT c.phone_normalized AS phone FROM contacts c WHERE c.id = ANY ($1::uuid[]);

-- name: complaints
-- What is not as it should be once texts to so many contacts have gone out.
SELECT
    (SELECT count(*) FROM effects WHERE status = 'succeeded' AND attempt = 1) AS effects,
    (SELECT count(*) FROM effects WHERE status <> 'succeeded') AS others,
    (SELECT count(*) FROM workflow_action_executions WHERE status = 'completed') AS steps;
