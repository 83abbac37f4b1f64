"""The memory on disk: plain Parquet and JSON that any program can read (docs/reference/files.md). No JAX."""
