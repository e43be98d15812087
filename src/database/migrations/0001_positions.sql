CREATE TABLE positions (
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    item_id TEXT NOT NULL,
    position_ms BIGINT NOT NULL,
    duration_ms BIGINT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind, item_id)
);
