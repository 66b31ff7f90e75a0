"""Who wins, by how much and how sure: results in tables, sentences and formats."""
