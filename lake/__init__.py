"""The lake: a shop's raw history as columns in Parquet files, kept up to date, read by whoever asks of the past."""
