"""The command `lawn-tune`: one file a sub-command."""
