"""All findings side by side: every claim at every scale, every network by every property, and what else does what adversarial training does."""
