-- Answers to one message that stand beside each other, conversations that can be shaped, searched and thrown away, turns
-- that can be asked for again, and a ledger that says with which key.

-- The key that asked; null: a session.
ALTER TABLE turns ADD COLUMN api_key_id uuid;
-- The assistant message that holds the answer; null: the answer is not stored.
ALTER TABLE turns ADD COLUMN reply_id uuid;
-- Somebody on another instance than its owner's wants it to end.
ALTER TABLE turns ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false;
CREATE INDEX turns_to_cancel ON turns (owner) WHERE cancel_requested AND status = 'streaming';
UPDATE turns SET reply_id = newest.id
FROM (SELECT DISTINCT ON (turn_id) turn_id, id FROM messages WHERE role = 'assistant' ORDER BY turn_id, id DESC) AS newest
WHERE newest.turn_id = turns.id AND turns.conversation_id IS NOT NULL;

-- What a message follows; null: what was made before it. The conversation's own id: nothing.
ALTER TABLE messages ADD COLUMN parent_id uuid;
-- What it is found by: its owner and its words. Null: not looked at yet.
ALTER TABLE messages ADD COLUMN words text[];
CREATE INDEX messages_by_word ON messages USING gin (words);
CREATE INDEX messages_without_words ON messages (id) WHERE words IS NULL AND status <> 'streaming';

ALTER TABLE conversations ADD COLUMN system_prompt text;
-- Its title as it is searched: words in lower case, a blank before and after each. Null: not looked at yet.
ALTER TABLE conversations ADD COLUMN title_words text;
-- Thrown away: seen by nobody, and removed step by step.
ALTER TABLE conversations ADD COLUMN deleted_at timestamptz;
CREATE INDEX conversations_by_activity ON conversations (user_id, updated_at DESC, id DESC);
CREATE INDEX conversations_by_age ON conversations (updated_at) WHERE deleted_at IS NULL;
CREATE INDEX conversations_without_title_words ON conversations (id) WHERE title_words IS NULL;
CREATE INDEX deleted_conversations ON conversations (id) WHERE deleted_at IS NOT NULL;

-- Which turn a caller's Idempotency-Key stands for; the key and the request are kept as SHA-256.
CREATE TABLE idempotency_keys (
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key        bytea       NOT NULL,
    request    bytea       NOT NULL,
    turn_id    uuid        NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- The ledger by time: of all accounts, and of one, which serves whatever the one by account and id could.
CREATE INDEX turns_by_time ON turns (created_at);
CREATE INDEX turns_by_user_and_time ON turns (user_id, created_at, id);
DROP INDEX turns_by_user;
