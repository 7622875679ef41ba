"""The model side: the protocol that agents ask by, and the engines behind it. It knows nothing of zones' levels."""
