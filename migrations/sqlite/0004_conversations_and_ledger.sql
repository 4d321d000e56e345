-- Answers to one message that stand beside each other, conversations that can be shaped, searched and thrown away, turns
-- that can be asked for again, and a ledger that says with which key.

-- The key that asked; null: a session.
ALTER TABLE turns ADD COLUMN api_key_id BLOB;
-- The assistant message that holds the answer; null: the answer is not stored.
ALTER TABLE turns ADD COLUMN reply_id BLOB;
-- Somebody on another instance than its owner's wants it to end.
ALTER TABLE turns ADD COLUMN cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1));
CREATE INDEX turns_to_cancel ON turns (owner) WHERE cancel_requested AND status = 'streaming';
UPDATE turns SET reply_id = newest.id
FROM (SELECT turn_id, max(id) AS id FROM messages WHERE role = 'assistant' GROUP BY turn_id) AS newest
WHERE newest.turn_id = turns.id AND turns.conversation_id IS NOT NULL;

-- What a message follows; null: what was made before it. The conversation's own id: nothing.
ALTER TABLE messages ADD COLUMN parent_id BLOB;
-- Its row in the index of words; null: not looked at yet.
ALTER TABLE messages ADD COLUMN word_row INTEGER;
CREATE UNIQUE INDEX messages_by_word_row ON messages (word_row) WHERE word_row IS NOT NULL;
CREATE INDEX messages_without_words ON messages (id) WHERE word_row IS NULL AND status <> 'streaming';
-- What messages are found by, their owner and their words: without the text, which stands in the message.
CREATE VIRTUAL TABLE message_words USING fts5 (words, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii');
CREATE TRIGGER messages_take_their_words_along AFTER DELETE ON messages WHEN OLD.word_row IS NOT NULL
BEGIN
    DELETE FROM message_words WHERE rowid = OLD.word_row;
END;
CREATE TRIGGER messages_that_change_lose_their_words AFTER UPDATE OF word_row ON messages
WHEN OLD.word_row IS NOT NULL AND NEW.word_row IS NULL
BEGIN
    DELETE FROM message_words WHERE rowid = OLD.word_row;
END;

ALTER TABLE conversations ADD COLUMN system_prompt TEXT;
-- Its title as it is searched: words in lower case, a blank before and after each. Null: not looked at yet.
ALTER TABLE conversations ADD COLUMN title_words TEXT;
-- Thrown away: seen by nobody, and removed step by step.
ALTER TABLE conversations ADD COLUMN deleted_at INTEGER;
CREATE INDEX conversations_by_activity ON conversations (user_id, updated_at DESC, id DESC);
CREATE INDEX conversations_by_age ON conversations (updated_at) WHERE deleted_at IS NULL;
CREATE INDEX conversations_without_title_words ON conversations (id) WHERE title_words IS NULL;
CREATE INDEX deleted_conversations ON conversations (id) WHERE deleted_at IS NOT NULL;

-- Which turn a caller's Idempotency-Key stands for; the key and the request are kept as SHA-256.
CREATE TABLE idempotency_keys (
    user_id    BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key        BLOB    NOT NULL,
    request    BLOB    NOT NULL,
    turn_id    BLOB    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- The ledger by time: of all accounts, and of one, which serves whatever the one by account and id could.
CREATE INDEX turns_by_time ON turns (created_at);
CREATE INDEX turns_by_user_and_time ON turns (user_id, created_at, id);
DROP INDEX turns_by_user;
