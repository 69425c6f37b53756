"""Reinforcement learning (ARM section 4): GRPO on visual tokens."""
