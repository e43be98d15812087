-- Views of films. ended_at is NULL while one lasts; its time is that of the last report.
CREATE TABLE stream_sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    movie_id TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    duration_seconds BIGINT,
    user_agent TEXT,
    ip_address TEXT
);
CREATE INDEX stream_sessions_by_user ON stream_sessions (user_id, started_at);
-- The positions of films as document 003 has them; they are kept with all others.
CREATE VIEW watch_progress AS
    SELECT user_id || ':' || item_id AS id, user_id, item_id AS movie_id, position_ms / 1000 AS position_seconds,
        updated_at AS last_watched_at
    FROM positions WHERE kind = 'film' AND position_ms IS NOT NULL;
