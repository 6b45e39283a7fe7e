"""Self-contained pages for people who decide, and the one place where numbers become text."""
