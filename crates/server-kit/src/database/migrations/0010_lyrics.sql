-- Lyrics of tracks (kind 'track', subject its id) and results of searches (kind 'search', subject artist and song). body is JSON,
-- NULL where there are none; version tells of which object and which sources it is.
CREATE TABLE lyrics_cache (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    version TEXT NOT NULL,
    body TEXT,
    size_bytes BIGINT NOT NULL,
    cached_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
);
CREATE INDEX lyrics_cache_cached ON lyrics_cache (cached_at);
-- Lyrics that a track's owner or an admin has set; they never expire. track_created_at tells whether it is still that track.
CREATE TABLE lyrics_edits (
    track_id TEXT PRIMARY KEY NOT NULL,
    track_created_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    edited_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
