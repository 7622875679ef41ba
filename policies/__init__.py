"""Pure rules, no I/O: zones, levels, actions, gates, permits, provenance, budgets, frames, distillates."""
