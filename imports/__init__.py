"""Bringing a store's past in: files of other people's making become the envelopes that the front door would write."""
