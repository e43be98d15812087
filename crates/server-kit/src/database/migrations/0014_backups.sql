-- Backups. active is 1 while one is under way and NULL afterwards, so that its index lets no two be under way at once; beat grows
-- while the node that makes it lives. uploads is a JSON array of what is being stored in parts: key and id. manifest is that of a
-- verified one. cleanup says what is still to be removed: 0 nothing, 1 its objects, 2 its objects and then this row.
CREATE TABLE backups (
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    cause TEXT NOT NULL,
    components TEXT NOT NULL,
    node TEXT NOT NULL,
    active BIGINT,
    beat BIGINT NOT NULL,
    uploads TEXT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    detail TEXT,
    manifest TEXT,
    cleanup BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE UNIQUE INDEX backups_active ON backups (active);
CREATE INDEX backups_state ON backups (state, created_at);
-- One row, which every transaction that removes verified backups changes first: two of them could else each leave the other's
-- as the last one, and remove both.
CREATE TABLE backup_removals (
    id BIGINT NOT NULL PRIMARY KEY,
    transactions BIGINT NOT NULL
);
INSERT INTO backup_removals (id, transactions) VALUES (1, 0);
