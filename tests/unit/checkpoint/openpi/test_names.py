from __future__ import annotations

import torch

from pi05.checkpoint.openpi.names import EMBEDDING, EXPERT_HEAD, LANGUAGE_HEAD, openpi_layout


def test_every_parameter_once(config, weights):
    layout = openpi_layout(config.depth, config.vision_depth)
    assert sorted(target.name for targets in layout.targets.values() for target in targets) == sorted(weights)


def test_round_trip_is_exact(config, weights):
    layout = openpi_layout(config.depth, config.vision_depth)
    back = layout.to_ours(layout.to_foreign(weights))
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())


def test_only_the_patch_embedding_changes_shape(config, weights):
    layout = openpi_layout(config.depth, config.vision_depth)
    changed = [
        targets[0].name
        for name, targets in layout.targets.items()
        if layout.to_foreign(weights)[name].shape != weights[targets[0].name].shape
    ]
    assert changed == ["vision.patch_embedding.weight"]


def test_patch_embedding_is_a_convolution_kernel(config, weights):
    layout = openpi_layout(config.depth, config.vision_depth)
    tower = "paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings."
    kernel = layout.to_foreign(weights)[tower + "patch_embedding.weight"]
    side = config.patch_size
    assert kernel.shape == (config.vision_width, 3, side, side)
    assert kernel[5, 1, 2, 3] == weights["vision.patch_embedding.weight"][5, (2 * side + 3) * 3 + 1]


def test_dead_and_tied_names(config):
    layout = openpi_layout(config.depth, config.vision_depth)
    assert layout.stand_ins == {LANGUAGE_HEAD: EMBEDDING}
    assert set(layout.dead) == {LANGUAGE_HEAD, EXPERT_HEAD}
    assert set(layout.dead.values()) == {"not used by π₀.₅"}
