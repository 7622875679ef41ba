"""LangGraph state machines: defining, checking and running them; the built-in ones (explore, act)."""
