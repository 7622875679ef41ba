"""The language-model engine: every question becomes prompts with bounded, typed answers, checked before they count."""
