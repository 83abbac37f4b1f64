"""Training: passes along the stream, students on few rows, unrolled meta-gradients."""
