"""Sources: from what a person names to documents with blocks that can be cited. One reader a kind."""

from karkas.agents.sources.discovery import discover
from karkas.agents.sources.duplicates import near_duplicates
from karkas.agents.sources.found import Found, Limits, Reading
from karkas.agents.sources.reading import excerpt, read

__all__ = ["Found", "Limits", "Reading", "discover", "excerpt", "near_duplicates", "read"]
