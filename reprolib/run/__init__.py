"""Notebooks run headless, and what is made of a run: pages, summaries, where a figure came from."""
