"""karkas."""
