-- Clips that users had recognised. The names are those of the time of recognition; they, track_id and offset_ms are NULL where
-- nothing was. ids are ordered by time.
CREATE TABLE recognition_history (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    title TEXT,
    artist TEXT,
    track_id TEXT,
    confidence DOUBLE PRECISION NOT NULL,
    offset_ms BIGINT,
    source TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX recognition_history_user ON recognition_history (user_id, id);
