"""The way in: to Kafka, or embedded to the raw history first, which feeds the broker."""
