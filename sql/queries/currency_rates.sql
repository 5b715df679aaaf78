-- name: newest_seeded
-- The day of the newest reference rate that is here.
SELECT max(r.valid_on) FROM currency_rates r WHERE r.account_id IS NULL;

-- name: seed
-- Keep reference rates; one that is here stays.
INSERT INTO currency_rates (currency, valid_on, per_euro)
SELECT * FROM unnest($1::text[], $2::date[], $3::numeric[])
ON CONFLICT ON CONSTRAINT currency_rate_is_given_once_a_day DO NOTHING;

-- name: set_rates
-- Set rates of an account; one of the same day is replaced.
INSERT INTO currency_rates (account_id, currency, valid_on, per_euro)
SELECT $1, w.currency, w.valid_on, w.per_euro
FROM unnest($2::text[], $3::date[], $4::numeric[]) AS w (currency, valid_on, per_euro)
ORDER BY w.currency, w.valid_on
ON CONFLICT ON CONSTRAINT currency_rate_is_given_once_a_day
    DO UPDATE SET per_euro = excluded.per_euro;

-- name: rates
-- The rates that an account sees; see api/lists.py.
SELECT r.id, r.currency, r.valid_on, r.per_euro,
    CASE WHEN r.account_id IS NULL THEN 'european_central_bank' ELSE 'account' END AS source
FROM currency_rates r
WHERE (r.account_id = $1 OR r.account_id IS NULL)
-- filter currency: r.currency = :value
-- filter valid_from: r.valid_on >= :value
-- filter valid_to: r.valid_on <= :value
-- sort valid_on: r.valid_on date, r.id uuid
;
