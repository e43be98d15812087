-- Updates of the Telegram bot by their ids, which Telegram may send again for a day. state goes from received to begun to done; done
-- ones are kept without what was asked. is_interrupted is 1 where a node died after begun: then it is only said so.
CREATE TABLE telegram_updates (
    update_id BIGINT NOT NULL PRIMARY KEY,
    chat_id BIGINT NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    node TEXT NOT NULL,
    is_interrupted BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);
CREATE INDEX telegram_updates_state ON telegram_updates (state, chat_id, update_id);
-- One row: the bot, the node that asks for its updates and does what they say (beat grows while that lives), and where to ask on.
CREATE TABLE telegram_bot (
    id BIGINT NOT NULL PRIMARY KEY,
    bot_id TEXT NOT NULL,
    username TEXT NOT NULL,
    node TEXT NOT NULL,
    beat BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    offset_at BIGINT NOT NULL
);
INSERT INTO telegram_bot (id, bot_id, username, node, beat, next_offset, offset_at) VALUES (1, '', '', '', 0, 0, 0);
-- Codes by which users link their Telegram accounts: one for each user, as its hash, good for one link until expires_at.
CREATE TABLE telegram_link_codes (
    user_id TEXT NOT NULL PRIMARY KEY,
    code_hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    generation BIGINT,
    expires_at BIGINT NOT NULL
);
-- Wrong codes that a Telegram account has sent since a time.
CREATE TABLE telegram_link_attempts (
    telegram_id BIGINT NOT NULL PRIMARY KEY,
    attempts BIGINT NOT NULL,
    since BIGINT NOT NULL
);
-- Telegram accounts of users, with the role of the token that asked for the code, and the generation of the user's tokens then: a
-- logout ends the link.
CREATE TABLE telegram_links (
    telegram_id BIGINT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    generation BIGINT,
    linked_at BIGINT NOT NULL
);
