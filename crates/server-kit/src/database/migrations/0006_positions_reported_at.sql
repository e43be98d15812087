-- When a position was reported, by the server's clock: it expires by that, and is ordered by updated_at, which a player that
-- was offline says. NULL where an older version wrote the row.
ALTER TABLE positions ADD COLUMN reported_at BIGINT;
