"""The memory on disk: plain Parquet and JSON that any program can read (docs/elsewhere.md). No JAX."""
