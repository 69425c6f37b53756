"""Bytes and floats, and batches of the world as pure functions of their arguments.

Labels of patches, on a scene worked out by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from arm.data.captioned import PictureBatch
from arm.data.images import GridWeight, pick_grid, to_bytes, to_float
from arm.world.sampling import held_out_scene
from arm.world.scene import COLORS, PATTERNS, SHAPES, SIZES, Scene, Thing, render
from arm.world.training import ATTRIBUTES, patch_labels, world_batch
from closeness import assert_close_fp32

GRIDS = (GridWeight(3, 3), GridWeight(3, 4, 0.5))


def test_every_byte_comes_back():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    floats = to_float(values)
    assert floats.shape == (1, 3, 16, 16) and floats.dtype == torch.float32
    assert floats.min() == -1 and floats.max() == 1
    assert np.array_equal(to_bytes(floats), values)


def test_channels_by_hand():
    pixels = np.array([[[[0, 51, 255], [255, 255, 0]]]], dtype=np.uint8)  # 1 x 2 pixels
    floats = to_float(pixels)
    assert_close_fp32(floats[0, :, 0], torch.tensor([[-1.0, 1.0], [-0.6, 1.0], [1.0, -1.0]]))
    assert np.array_equal(to_bytes(floats), pixels)


def test_floats_are_clipped_and_rounded():
    floats = (
        torch.tensor([-7.0, -1.001, 1.001, 9.0, 0.0, 0.004]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    )
    # 0 is 127.5, rounded to even; 0.004 is 128.01
    assert to_bytes(floats)[0, 0, :, 0].tolist() == [0, 0, 255, 255, 128, 128]


def batch(**changes: Any) -> Any:
    return world_batch(**{"seed": 3, "step": 5, "batch": 4, "grids": GRIDS, "patch": 16} | changes)


def test_a_batch_is_a_pure_function_of_its_arguments():
    one, two = batch(), batch()
    assert torch.equal(one.images, two.images)
    assert (one.captions, one.details, one.truths) == (two.captions, two.details, two.truths)


@pytest.mark.parametrize("change", [{"seed": 4}, {"step": 6}, {"split": "test"}])
def test_other_arguments_give_another_batch(change: dict[str, Any]):
    assert batch(**change).truths != batch().truths


def test_what_a_batch_holds():
    found = batch(grids=(GridWeight(3, 4),))
    assert found.images.shape == (4, 3, 48, 64)
    assert len(found.captions) == len(found.details) == len(found.truths) == 4
    for image, scene in zip(to_bytes(found.images), found.truths, strict=True):
        assert (scene.height, scene.width) == (48, 64)
        assert np.array_equal(image, render(scene))
        assert not held_out_scene(scene)


def test_scale_draws_the_same_units_larger():
    found = batch(grids=(GridWeight(3, 3),), patch=32, scale=2)
    assert found.images.shape == (4, 3, 96, 96)
    assert all((scene.height, scene.width) == (48, 48) for scene in found.truths)


def test_twins_share_the_patches_that_are_marked():
    plain, found = batch(batch=40), batch(batch=40, twins=True)
    assert plain.twins is None and torch.equal(plain.images, found.images)
    height, width = (side // 16 for side in found.images.shape[2:])
    pairs = zip(to_bytes(found.images), to_bytes(found.twins), found.shared, strict=True)
    equal = []
    for image, other, shared in pairs:
        same = (image == other).reshape(height, 16, width, 16, 3).all((1, 3, 4)).ravel()
        assert same[shared.numpy()].all()
        equal.append(same.all())
    assert np.mean(equal) < 0.5 and found.shared.float().mean() > 0.1


def test_held_out_scenes():
    assert all(held_out_scene(scene) for scene in batch(split="test", batch=12).truths)


def test_singles_and_the_most_things():
    found = batch(singles=0.5, batch=40, max_things=3)
    counts = [len(scene.things) for scene in found.truths]
    assert set(counts[:20]) == {1} and set(counts[20:]) == {1, 2, 3}


def test_grids_are_drawn_by_weight():
    rng = np.random.default_rng(0)
    grids = (GridWeight(3, 3, 3.0), GridWeight(3, 4, 1.0), GridWeight(4, 3, 0.0))
    drawn = [pick_grid(rng, grids) for _ in range(2000)]
    share = sum(grid is grids[0] for grid in drawn) / 2000
    assert abs(share - 0.75) < 0.05  # five standard deviations
    assert grids[2] not in drawn


def test_pairs_of_a_contrastive_batch():
    """A pair that would tell on a held-out combination is left out."""
    from arm.world.scene import Scene, Thing
    from arm.world.training import comparable_pairs

    def alone(color: str, shape: str) -> Scene:
        return Scene((Thing(shape, color, "small", "plain", 20, 20),), "white", 56, 56)

    scenes = (alone("blue", "star"), alone("red", "heart"), alone("blue", "ring"))
    # ("blue", "heart") and ("red", "ring") are held out.
    assert comparable_pairs(scenes, scenes).int().tolist() == [[1, 0, 1], [1, 1, 0], [1, 0, 1]]
    assert comparable_pairs(scenes[:1], scenes).int().tolist() == [[1, 0, 1]]


def batch_of(*scenes: Scene) -> PictureBatch:
    height, width = scenes[0].height, scenes[0].width
    images = torch.zeros(len(scenes), 3, height, width)
    return PictureBatch(images, ("",) * len(scenes), ("",) * len(scenes), scenes)


def test_labels_and_offsets_by_hand():
    star = Thing("star", "teal", "small", "striped", x=12, y=12)
    found = patch_labels(batch_of(Scene((star,), "white", 32, 32)), unit=8)
    assert found.labels.shape == (1, 16, 4) and found.offsets.shape == (1, 16, 2)
    # Centres at 4, 12, 20, 28; the frame with its reach spans 12 +- 9.5, so the first three do.
    covered = (found.labels[0, :, 0] >= 0).view(4, 4).int().tolist()
    assert covered == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    expected = [SHAPES.index("star"), COLORS.index("teal"), SIZES.index("small"), 1]
    assert found.labels[0, 5].tolist() == expected and PATTERNS[1] == "striped"
    assert found.offsets[0, 5].tolist() == [0, 0]
    assert found.offsets[0, 2].tolist() == [-1, 1]  # first row, third column: left and below
    assert found.offsets[0, 15].tolist() == [0, 0]


def test_the_nearest_thing_wins_a_patch():
    left = Thing("ring", "red", "small", "plain", x=12, y=16)
    right = Thing("heart", "blue", "small", "plain", x=27, y=16)
    found = patch_labels(batch_of(Scene((left, right), "white", 32, 40)), unit=8)
    middle = found.labels[0, :, 0].view(4, 5)[1]
    ring, heart = SHAPES.index("ring"), SHAPES.index("heart")
    assert middle.tolist() == [ring, ring, heart, heart, heart]  # both reach 20, the third


def test_unit_follows_the_scale():
    grids = (GridWeight(6, 6),)
    batch = world_batch(0, 0, 4, grids, 16, scale=2)
    found = patch_labels(batch, unit=8)
    assert found.labels.shape == (4, 36, len(ATTRIBUTES))
    for b, scene in enumerate(batch.truths):
        shown = {SHAPES[i] for i in found.labels[b, :, 0].tolist() if i >= 0}
        assert shown == {thing.shape for thing in scene.things}
