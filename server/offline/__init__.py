"""The offline engine: answers typed requests without a language model, by copying, counting and comparing."""

from karkas.server.offline.engine import OfflineEngine

__all__ = ["OfflineEngine"]
