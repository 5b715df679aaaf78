-- name: link_keys
-- What verifies the links of keys that were taken out of use, the latest first.
SELECT k.id, k.sealed FROM link_keys k ORDER BY k.retired_at DESC, k.id;

-- name: keep_link_key
-- Keep one of them, once.
INSERT INTO link_keys (id, fingerprint, sealed, retired_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (fingerprint) DO NOTHING;
