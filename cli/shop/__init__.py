"""A shop to try: made up by `demo`, or played from a file by `play`."""
