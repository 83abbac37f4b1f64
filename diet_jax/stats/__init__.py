"""Figures and their odds, from scores alone: metrics, order, correction, summaries."""
