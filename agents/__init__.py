"""Scout, summarizer, reviewer, executor and critic: functions from typed input to typed output."""
