-- Who decided, and until when by a clock that nobody sets back; `seal` shows that the gate wrote it.
ALTER TABLE trust_approval ADD COLUMN boot TEXT NOT NULL DEFAULT '';
ALTER TABLE trust_approval ADD COLUMN up_until_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trust_approval ADD COLUMN decided_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trust_approval ADD COLUMN seal TEXT NOT NULL DEFAULT '';
