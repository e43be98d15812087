-- Role that the owner of a schedule had when it was saved: what it begins on a channel that everybody hears is judged by it at each
-- run. Those from before are nobody's in particular.
ALTER TABLE schedules ADD COLUMN role TEXT NOT NULL DEFAULT 'user';
