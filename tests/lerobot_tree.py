"""LeRobot's module tree over our network, so that the real `peft` library can put its layers on it.

The tree has LeRobot's names; its linear maps are the network's own modules, so that PEFT's layers, put back into the
network under our names, run in its forward pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pi05.checkpoint.peft.names import HEADS, lerobot_modules
from pi05.model.pi05 import Pi05


class Tree(nn.Module):
    """A module that only holds others."""


class Held(nn.Module):
    """A module that LeRobot has and PEFT leaves alone: norms, embeddings, the convolution."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor.detach().clone()))


def lerobot_tree(model: Pi05) -> Tree:
    """Return the tree: containers, the network's linear maps, everything else as holders of tensors."""
    modules = lerobot_modules(model)
    foreign = modules.layout.to_foreign(dict(model.named_parameters()))
    tree = Tree()
    for name in sorted([*modules.linear, *modules.others], key=lambda name: name.count(".")):
        if name in modules.linear:
            module: nn.Module = model.get_submodule(modules.linear[name])
        elif name in HEADS:
            module = nn.Linear(4, 3, bias=False)
        else:
            own = {key.rpartition(".")[2]: value for key, value in foreign.items() if key.rpartition(".")[0] == name}
            module = Held(own) if own else Tree()
        parent, _, last = name.rpartition(".")
        tree.get_submodule(parent).add_module(last, module)
    return tree


def put_back(model: Pi05, tree: nn.Module) -> None:
    """Give the network the modules that PEFT has put into the tree."""
    for foreign, ours in lerobot_modules(model).linear.items():
        model.set_submodule(ours, tree.get_submodule(foreign))


def with_peft(model: Pi05, **settings: Any) -> Any:
    """Return `model`'s tree with fresh adapters of the real library; the network runs them from now on."""
    import peft

    wrapped = peft.get_peft_model(lerobot_tree(model), peft.LoraConfig(**settings))
    put_back(model, wrapped.base_model.model)
    return wrapped


def load_with_peft(model: Pi05, folder: Path) -> Any:
    """Return `model`'s tree with the adapters of `folder`, loaded as LeRobot loads them."""
    import peft

    config = peft.PeftConfig.from_pretrained(str(folder))
    wrapped = peft.PeftModel.from_pretrained(lerobot_tree(model), str(folder), config=config, is_trainable=True)
    put_back(model, wrapped.base_model.model)
    return wrapped
