"""What people look at: figures, the report and the web application, drawn from a ledger's read side."""
