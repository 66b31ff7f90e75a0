"""What people look at: numbers, figures and the report, drawn from a ledger's read side."""
