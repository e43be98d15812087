-- position_ms is NULL where a position was cleared: the row stays until it expires, so that an older position that comes
-- late is not taken.
CREATE TABLE positions (
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    item_id TEXT NOT NULL,
    position_ms BIGINT,
    duration_ms BIGINT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind, item_id)
);
