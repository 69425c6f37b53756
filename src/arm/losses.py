"""The losses as pure functions of named tensors (ARM sections 1 and 3)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def token_cross_entropy(
    logits: Float[Tensor, "n v"], targets: Int[Tensor, " n"], weights: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Sum of weight * -log p(target); divide by the weights' total (over all ranks) for the mean."""
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum()


def head_cross_entropy(
    head: Callable[[Tensor], Tensor],
    hidden: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"],
    weights: Float[Tensor, " n"],
    chunk: int = 0,
) -> Float[Tensor, ""]:
    """`token_cross_entropy` of head(hidden) in fp32, `chunk` positions at a time (0: all at once).

    A chunk's logits are made again in the backward pass, so of N x V logits only `chunk` x V exist.
    """

    def of(hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return token_cross_entropy(head(hidden).float(), targets, weights)

    if not chunk or len(hidden) <= chunk:
        return of(hidden, targets, weights)
    pieces = zip(hidden.split(chunk), targets.split(chunk), weights.split(chunk), strict=True)
    found = [checkpoint(of, *piece, use_reentrant=False) for piece in pieces]
    return torch.stack([loss for loss in found if isinstance(loss, Tensor)]).sum()


def x1_flow(
    x1_hat: Float[Tensor, "b ..."],
    x1: Float[Tensor, "b ..."],
    t_B: Float[Tensor, " b"],
    velocity_weighting: bool,
) -> Float[Tensor, ""]:
    """Rectified-flow loss of a network that predicts x1.

    With `velocity_weighting` it is exactly the squared error of the velocity (L_pix): the x1 error
    times 1 / (1 - t)^2, with 1 - t kept from 0.05 on so that no weight exceeds 400. Without, the plain x1 error, which does not shrink the share of the noise.
    """
    error = (x1_hat - x1).square().flatten(1).mean(1)
    if velocity_weighting:
        error = error / (1 - t_B).clamp(min=0.05).square()
    return error.mean()


def sigmoid_contrastive(
    image_BD: Float[Tensor, "b d"],
    text_ND: Float[Tensor, "n d"],
    same_BN: Bool[Tensor, "b n"],
    log_scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    counted_BN: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, ""]:
    """SigLIP's pairwise loss (L_sig). Embeddings are normalised here; `same` marks true pairs,
    `counted` the pairs that have a say (None: all). There may be more texts than pictures.
    """
    image_BD, text_ND = F.normalize(image_BD, dim=-1), F.normalize(text_ND, dim=-1)
    logits = image_BD @ text_ND.T * log_scale.exp() + bias
    signs = same_BN.to(logits.dtype) * 2 - 1
    losses = -F.logsigmoid(signs * logits)
    if counted_BN is not None:
        losses = losses * counted_BN
    return losses.sum() / image_BD.shape[0]


def cosine_distance(a: Float[Tensor, "*n d"], b: Float[Tensor, "*n d"]) -> Float[Tensor, ""]:
    """Mean of 1 - cos(a, b) over tokens (L_feat), in [0, 2]."""
    return (1 - F.cosine_similarity(a, b, dim=-1)).mean()


def sign_agreement(
    latent: Float[Tensor, "b n bits"],
    twin: Float[Tensor, "b n bits"],
    shared_BN: Bool[Tensor, "b n"],
) -> Float[Tensor, ""]:
    """Mean -log p(the sign of `latent`) under `twin` over the shared tokens, p = sigmoid(2 twin).

    FSQ quantises by the sign, so at 0 both pictures have the same codes where they look the same.
    """
    signs = torch.where(latent > 0, 1.0, -1.0).to(latent.dtype)
    losses = F.softplus(-2 * twin * signs).mean(-1) * shared_BN
    return losses.sum() / shared_BN.sum().clamp(min=1)


def caption_cross_entropy(
    logits_BTV: Float[Tensor, "b t v"], ids_BT: Int[Tensor, "b t"], mask_BT: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Mean -log p of the masked ids (L_cap); logits at t already predict ids at t."""
    losses = F.cross_entropy(logits_BTV.flatten(0, 1), ids_BT.flatten(), reduction="none")
    mask = mask_BT.flatten().to(losses.dtype)
    return (losses * mask).sum() / torch.clamp(mask.sum(), min=1)
