"""The terminal queue: what stands at a gate, and the screen on which a person works through the gates.

Nothing here imports Textual but the modules of the screen itself; the plain commands print the same blocks without it.
"""
