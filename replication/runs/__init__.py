"""From parameters to finished runs on disk."""
