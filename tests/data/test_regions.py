"""Labels of patches, on a scene worked out by hand."""

import torch

from arm.data.pictures import GridWeight, PictureBatch, world_batch
from arm.data.regions import ATTRIBUTES, regions
from arm.world.scene import COLORS, PATTERNS, SHAPES, SIZES, Scene, Thing


def batch_of(*scenes: Scene) -> PictureBatch:
    height, width = scenes[0].height, scenes[0].width
    images = torch.zeros(len(scenes), 3, height, width)
    return PictureBatch(images, ("",) * len(scenes), ("",) * len(scenes), scenes)


def test_labels_and_offsets_by_hand():
    star = Thing("star", "teal", "small", "striped", x=12, y=12)
    found = regions(batch_of(Scene((star,), "white", 32, 32)), unit=8)
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
    found = regions(batch_of(Scene((left, right), "white", 32, 40)), unit=8)
    middle = found.labels[0, :, 0].view(4, 5)[1]
    ring, heart = SHAPES.index("ring"), SHAPES.index("heart")
    assert middle.tolist() == [ring, ring, heart, heart, heart]  # both reach 20, the third


def test_unit_follows_the_scale():
    grids = (GridWeight(6, 6),)
    batch = world_batch(0, 0, 4, grids, 16, scale=2)
    found = regions(batch, unit=8)
    assert found.labels.shape == (4, 36, len(ATTRIBUTES))
    for b, scene in enumerate(batch.scenes):
        shown = {SHAPES[i] for i in found.labels[b, :, 0].tolist() if i >= 0}
        assert shown == {thing.shape for thing in scene.things}
