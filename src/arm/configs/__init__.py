"""Runs: functions that return a complete configuration. `arm train tokenizer:micro` calls one."""
