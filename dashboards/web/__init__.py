"""The dashboard: a read-only web application over any ledger; the only package that knows Dash."""
