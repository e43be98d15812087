CREATE TABLE track_grants (
    user_id TEXT NOT NULL,
    track_id TEXT NOT NULL,
    is_prefix BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, track_id, is_prefix)
);
