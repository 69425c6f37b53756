"""What is said of the machine, and bytes by hand."""

import json

import torch

from arm.bench.rounds import described, free_bytes, peak_bytes_of

CPU = torch.device("cpu")


def test_described_is_json():
    found = json.loads(json.dumps(described(CPU)))
    assert found["device"] and found["cores"] >= 1
    assert found["threads"] == torch.get_num_threads() and found["torch"] == torch.__version__
    assert free_bytes(CPU) > 0


def test_peak_by_hand():
    held = torch.zeros(10, 10)

    def run() -> None:
        a = held + 1  # 400 bytes beside the 400
        b = a + 1  # 400 more
        del a
        c = torch.zeros(50)  # 200 where 400 went
        del b, c

    assert peak_bytes_of(run, lambda: [held], CPU) == 1200
    assert peak_bytes_of(lambda: None, lambda: [held], CPU) == 400
