-- Radio stations. url is as it was given, resolved_url what it led to when the station was added: neither is listed twice.
-- The columns that end in _key have the text in lower case, for comparisons. fallback_id is heard while the station is away.
CREATE TABLE radio_streams (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    url TEXT NOT NULL UNIQUE,
    resolved_url TEXT NOT NULL UNIQUE,
    genre TEXT,
    genre_key TEXT,
    country TEXT,
    country_key TEXT,
    codec TEXT NOT NULL,
    bitrate_kbps BIGINT,
    is_hls BIGINT NOT NULL,
    icy_name TEXT,
    fallback_id TEXT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
