"""`lawn-tune doctor`: what this machine can do, and what prevents it from training; one file for each kind of check."""
