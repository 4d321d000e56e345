-- Sessions that can be told apart, API keys, invites, generations of signing keys, and an audit trail that says who did
-- what to whom.

ALTER TABLE users ADD COLUMN deleted_at INTEGER;
CREATE INDEX administrators ON users (id) WHERE role = 'admin';
-- Whose conversations may still have to go.
CREATE INDEX deleted_users ON users (id) WHERE deleted_at IS NOT NULL;

ALTER TABLE sessions ADD COLUMN min_epoch INTEGER NOT NULL DEFAULT 0;
-- Null until a token of it was shown after its last rotation.
ALTER TABLE sessions ADD COLUMN used_at INTEGER;
ALTER TABLE sessions ADD COLUMN device TEXT;
ALTER TABLE sessions ADD COLUMN address TEXT;
-- Where its owner is known from, also after it has ended.
ALTER TABLE sessions ADD COLUMN network TEXT;
CREATE INDEX sessions_not_revoked ON sessions (user_id) WHERE revoked_at IS NULL;
-- Of what ended long ago. A rotation changes neither, so it writes to no index.
CREATE INDEX sessions_by_end ON sessions (coalesce(revoked_at, expires_at));

-- Of a key only its SHA-256 is kept.
CREATE TABLE api_keys (
    id                  BLOB    NOT NULL PRIMARY KEY,
    user_id             BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name                TEXT    NOT NULL,
    prefix              TEXT    NOT NULL,
    hash                BLOB    NOT NULL UNIQUE,
    scopes              TEXT    NOT NULL,
    requests_per_minute INTEGER CHECK (requests_per_minute > 0),
    created_at          INTEGER NOT NULL,
    expires_at          INTEGER,
    used_at             INTEGER,
    revoked_at          INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_by_user ON api_keys (user_id, id);

-- Of a code only its SHA-256 is kept.
CREATE TABLE invites (
    id             BLOB    NOT NULL PRIMARY KEY,
    hash           BLOB    NOT NULL UNIQUE,
    role           TEXT    NOT NULL CHECK (role IN ('user', 'admin')),
    is_first_admin INTEGER NOT NULL DEFAULT 0 CHECK (is_first_admin IN (0, 1)),
    note           TEXT,
    created_by     BLOB,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER,
    used_at        INTEGER,
    used_by        BLOB,
    revoked_at     INTEGER
) STRICT, WITHOUT ROWID;

-- No key is kept: a generation and the master secret give it.
CREATE TABLE signing_keys (
    generation INTEGER NOT NULL PRIMARY KEY CHECK (generation > 0),
    algorithm  TEXT    NOT NULL,
    -- Follows from the master secret: tells which one made it.
    kid        TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL
) STRICT;

ALTER TABLE audit_log ADD COLUMN actor_id BLOB;
ALTER TABLE audit_log ADD COLUMN detail TEXT;
CREATE INDEX audit_log_by_actor ON audit_log (actor_id, id);
CREATE INDEX audit_log_by_event ON audit_log (event, id);
