-- Settings of a user's channels. Speeds are in hundredths; custom_bands is a JSON array of ten tenths of a dB, NULL where the
-- user has none. revision grows with each change.
CREATE TABLE playback_settings (
    user_id TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    speed_percent BIGINT NOT NULL,
    semitones BIGINT NOT NULL,
    preset TEXT NOT NULL,
    custom_bands TEXT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, channel_id)
);
-- Speeds that users have chosen for single tracks.
CREATE TABLE playback_track_speeds (
    user_id TEXT NOT NULL,
    track_id TEXT NOT NULL,
    speed_percent BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, track_id)
);
