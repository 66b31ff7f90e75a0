"""How the ledger's tables came about, one revision a file; `lawn_tune.ledger.schema` runs what is missing."""
