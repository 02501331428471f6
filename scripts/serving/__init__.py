"""Real servers for tests and trials: what `scripts/servers.py` starts and ends."""
