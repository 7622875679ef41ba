"""The language-model engine: every question becomes prompts with bounded, typed answers, checked before they count."""

from karkas.server.language.engine import VERSION, LanguageEngine

__all__ = ["VERSION", "LanguageEngine"]
