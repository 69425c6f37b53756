"""GPUs by name, and host memory."""

import pytest

from arm.errors import InputError
from arm.plan.hardware import Cluster, HostMemory, gpu_named


def test_gpus():
    assert gpu_named("H100").memory == 80e9
    with pytest.raises(InputError, match="Did you mean 'h100'"):
        gpu_named("h10")


@pytest.mark.parametrize(("count", "mfu"), [(0, 0.4), (1, 0.0), (1, 1.5)])
def test_a_cluster_that_means_nothing(count: int, mfu: float):
    with pytest.raises(ValueError, match="there must be a GPU"):
        Cluster(gpu_named("h100"), count, mfu)


def test_workers_hold_two_batches_each_in_shared_memory():
    host = HostMemory(batch=10.0, workers=3, loading=50.0, checkpoint=5.0)
    assert host.shm == 3 * 2 * 10
    assert host.total == 10 + 60 + 5
    assert HostMemory(batch=10.0, workers=0, loading=50.0).total == 50
