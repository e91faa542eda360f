"""What is asked beyond the main table."""
