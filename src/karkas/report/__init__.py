"""What the night did: its figures, once, for the terminal, for programs, and as a page."""
