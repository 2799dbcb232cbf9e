-- Who says that it fires: a delivery, or the epilog, which no delivery can claim to be.
ALTER TABLE firing ADD COLUMN origin TEXT NOT NULL DEFAULT 'delivered';
