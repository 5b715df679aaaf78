-- name: custom_fields_of_accounts
-- All custom fields that the accounts have defined.
SELECT f.account_id, f.key, f.field_type, f.options
FROM custom_fields f
WHERE f.account_id = ANY ($1::uuid[]);
