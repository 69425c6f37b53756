"""What a run costs before it starts: memory of GPU and host, FLOPs, hours, and what fits.

A step's memory and FLOPs are traced: the training code itself runs on fake tensors (`trace.py`). This
replaced formulas that repeated the network's code by hand. Against real steps of the seventeen small runs
in `tests/plan/test_trace.py` the traces are exact in bytes and FLOPs (ratio 1.000; the formulas were
within 15 % and 1 %). Models deeper than four layers are extrapolated from three and four: the peak of
`lm:arm7b_pt`'s 28 layers is exact too, 55.10 GB, and its plan takes 15 seconds of one core.

Traced on the CPU, a plan does not know what CUDA's kernels need for themselves; a reserve stands for it.
"""
