"""The command line behind run.py: set-up with the standard library only, commands, checks."""
