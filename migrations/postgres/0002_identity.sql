-- Sessions that can be told apart, API keys, invites, generations of signing keys, and an audit trail that says who did
-- what to whom.

ALTER TABLE users ADD COLUMN deleted_at timestamptz;
CREATE INDEX administrators ON users (id) WHERE role = 'admin';
-- Whose conversations may still have to go.
CREATE INDEX deleted_users ON users (id) WHERE deleted_at IS NOT NULL;

ALTER TABLE sessions ADD COLUMN min_epoch bigint NOT NULL DEFAULT 0;
-- Null until a token of it was shown after its last rotation.
ALTER TABLE sessions ADD COLUMN used_at timestamptz;
ALTER TABLE sessions ADD COLUMN device text;
ALTER TABLE sessions ADD COLUMN address text;
-- Where its owner is known from, also after it has ended.
ALTER TABLE sessions ADD COLUMN network text;
CREATE INDEX sessions_not_revoked ON sessions (user_id) WHERE revoked_at IS NULL;
-- Of what ended long ago. A rotation changes neither, so it writes to no index.
CREATE INDEX sessions_by_end ON sessions (coalesce(revoked_at, expires_at));

-- Of a key only its SHA-256 is kept.
CREATE TABLE api_keys (
    id                  uuid        PRIMARY KEY,
    user_id             uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name                text        NOT NULL,
    prefix              text        NOT NULL,
    hash                bytea       NOT NULL UNIQUE,
    scopes              text        NOT NULL,
    requests_per_minute bigint      CHECK (requests_per_minute > 0),
    created_at          timestamptz NOT NULL,
    expires_at          timestamptz,
    used_at             timestamptz,
    revoked_at          timestamptz
);
CREATE INDEX api_keys_by_user ON api_keys (user_id, id);

-- Of a code only its SHA-256 is kept.
CREATE TABLE invites (
    id             uuid        PRIMARY KEY,
    hash           bytea       NOT NULL UNIQUE,
    role           text        NOT NULL CHECK (role IN ('user', 'admin')),
    is_first_admin boolean     NOT NULL DEFAULT false,
    note           text,
    created_by     uuid,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz,
    used_at        timestamptz,
    used_by        uuid,
    revoked_at     timestamptz
);

-- No key is kept: a generation and the master secret give it.
CREATE TABLE signing_keys (
    generation bigint      PRIMARY KEY CHECK (generation > 0),
    algorithm  text        NOT NULL,
    -- Follows from the master secret: tells which one made it.
    kid        text        NOT NULL,
    created_at timestamptz NOT NULL,
    signs_from timestamptz NOT NULL
);

ALTER TABLE audit_log ADD COLUMN actor_id uuid;
ALTER TABLE audit_log ADD COLUMN detail text;
CREATE INDEX audit_log_by_actor ON audit_log (actor_id, id);
CREATE INDEX audit_log_by_event ON audit_log (event, id);
