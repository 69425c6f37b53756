"""What a picture model learns from: sources, samples of every task, code shards, packing."""
