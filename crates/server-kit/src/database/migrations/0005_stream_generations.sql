CREATE TABLE stream_generations (
    user_id TEXT PRIMARY KEY NOT NULL,
    generation BIGINT NOT NULL
);
