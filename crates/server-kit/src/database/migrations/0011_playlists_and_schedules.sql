-- Playlists of users. items is a JSON array of tracks in their order: id, and title, artist and duration_ms where they are known.
-- revision grows with each change.
CREATE TABLE playlists (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    items TEXT NOT NULL,
    item_count BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX playlists_user ON playlists (user_id, id);
-- Schedules of users. action and target say what begins; rule is JSON. next_run_at is NULL where nothing comes any more; who
-- moves it on from one instant makes that instant's run. revision grows with each change by a user.
CREATE TABLE schedules (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    timezone TEXT NOT NULL,
    rule TEXT NOT NULL,
    misfire_grace_ms BIGINT NOT NULL,
    is_coalesced BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    next_run_at BIGINT,
    triggered_count BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX schedules_user ON schedules (user_id, id);
CREATE INDEX schedules_due ON schedules (next_run_at);
-- Runs: one for each instant of a schedule, whichever node claims it. beat grows while the node that has it lives, attempt with
-- each node that takes it over. instants counts those that it stands for: missed ones, or some that became one.
CREATE TABLE schedule_runs (
    id TEXT NOT NULL PRIMARY KEY,
    schedule_id TEXT NOT NULL,
    fire_at BIGINT NOT NULL,
    cause TEXT NOT NULL,
    state TEXT NOT NULL,
    node TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    instants BIGINT NOT NULL,
    detail TEXT,
    claimed_at BIGINT NOT NULL,
    finished_at BIGINT,
    UNIQUE (schedule_id, fire_at)
);
CREATE INDEX schedule_runs_state ON schedule_runs (state);
