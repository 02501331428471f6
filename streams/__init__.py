"""Kafka: the Faust app and its agents, the publisher (in) and the history sink (out)."""
