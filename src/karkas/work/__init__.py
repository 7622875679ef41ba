"""Workers: processes that take up queued runs by themselves, for a night or for good."""
