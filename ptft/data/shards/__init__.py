"""Encoded images inside larger files: tar shards, Parquet and Arrow files; found once, read when asked for."""
