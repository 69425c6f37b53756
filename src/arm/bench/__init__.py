"""Speed and memory, always as ratios of variants that ran side by side (`arm bench`)."""
