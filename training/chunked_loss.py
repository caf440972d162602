"""Cross-entropy over a large vocabulary whose logits never lie in memory as one matrix."""

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 2**26, "cuda": 2**28}  # of float32 logits at a time; a GPU wants larger products


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Computes the gradients on the way forward: with the logits of a chunk at hand they cost two more products."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, scale_N: Tensor, chunk_rows: int
    ) -> tuple[Tensor, Tensor]:
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        wants_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        nll_N = hidden_ND.new_empty(len(hidden_ND), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden_ND) if wants_grad else None
        grad_weight = torch.zeros_like(weight_VD) if wants_grad else None
        with torch.autocast(device, enabled=False):
            weight = weight_VD.to(dtype)
            for start in range(0, len(hidden_ND), chunk_rows):
                rows = slice(start, start + chunk_rows)
                hidden = hidden_ND[rows].to(dtype)
                logits = (hidden @ weight.T).float()
                log_total = logits.logsumexp(dim=-1, keepdim=True)
                nll_N[rows] = (log_total - logits.gather(1, targets_N[rows, None])).squeeze(1)
                if grad_hidden is None or grad_weight is None:
                    continue
                error = logits.sub_(log_total).exp_()  # softmax, in the memory of the logits
                error.scatter_add_(1, targets_N[rows, None], torch.full_like(log_total, -1.0))
                error = error.mul_(scale_N[rows, None]).to(dtype)
                grad_hidden[rows] = (error @ weight).to(grad_hidden.dtype)
                if dtype == grad_weight.dtype:
                    grad_weight.addmm_(error.T, hidden)
                else:
                    grad_weight += error.T @ hidden
        ctx.gradients = (grad_hidden, grad_weight)
        ctx.mark_non_differentiable(nll_N)
        return (nll_N * scale_N).sum(), nll_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the chunked loss frees its gradients once they are used; run it forward again")
        # In place: the gradient of a large vocabulary is as large as its table, and a copy would double it.
        grad_hidden, grad_weight = (gradient.mul_(grad_outputs[0]) for gradient in ctx.gradients)
        ctx.gradients = None
        return grad_hidden, grad_weight, None, None, None


def chunked_cross_entropy(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, scale_N: Tensor, chunk_bytes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted sum of −log softmax(hidden · weightᵀ)[target], equal to the plain formula.

    Args:
        hidden_ND: N rows of width D.
        weight_VD: the output embedding.
        targets_N: int64 in [0, V).
        scale_N: weight of each row in the sum; no gradient flows to it.
        chunk_bytes: bound on the float32 logits that exist at one time (at least one row); None: as suits the device.

    Returns:
        The scalar sum, and the loss of each row in nats (N,) float32, without gradient.
    """
    chunk_bytes = chunk_bytes or CHUNK_BYTES.get(hidden_ND.device.type, 2**28)
    chunk_rows = max(1, chunk_bytes // (4 * len(weight_VD)))
    return _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, scale_N, chunk_rows)  # type: ignore[no-any-return]
