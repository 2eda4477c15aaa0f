"""Kinds of tensor operations, by the names of PyTorch's own core operators (aten)."""

from __future__ import annotations

# Numbers move and stay what they are: the same operation moves their labels.
MOVING = {
    "clone", "contiguous", "_to_copy", "cat", "stack", "index", "index_select", "gather", "repeat",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "flip", "roll", "rot90", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "native_channel_shuffle", "im2col", "tril", "triu", "lift_fresh_copy", "slice_scatter",
    "select_scatter", "_reshape_copy", "_unsafe_index", "repeat_interleave", "diag_embed",
}  # fmt: skip
# Each result is made of all numbers along some axes.
REDUCING = {
    "sum", "mean", "amax", "amin", "max", "min", "prod", "logsumexp", "var", "std", "var_mean", "std_mean",
    "norm", "linalg_vector_norm", "argmax", "argmin", "any", "all", "median", "cumsum", "cumprod", "_softmax",
    "_log_softmax", "_safe_softmax", "sort", "topk", "kthvalue", "aminmax", "logcumsumexp", "_fft_r2c",
    "_fft_c2c", "_fft_c2r",
}  # fmt: skip
# Each result is made of numbers at neighbouring places, within a channel; how many spatial axes there are.
SPATIAL = {
    name: dims
    for dims in (1, 2, 3)
    for name in (
        f"avg_pool{dims}d", f"max_pool{dims}d", f"max_pool{dims}d_with_indices", f"_adaptive_avg_pool{dims}d",
        f"adaptive_avg_pool{dims}d", f"adaptive_max_pool{dims}d", f"upsample_nearest{dims}d",
        f"_upsample_nearest_exact{dims}d", f"fractional_max_pool{dims}d", f"max_unpool{dims}d",
    )
} | {
    "upsample_linear1d": 1, "upsample_bilinear2d": 2, "_upsample_bilinear2d_aa": 2, "upsample_bicubic2d": 2,
    "_upsample_bicubic2d_aa": 2, "upsample_trilinear3d": 3, "grid_sampler_2d": 2, "grid_sampler_3d": 3,
}  # fmt: skip
CONTRACTING = {"mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv"}
BARE_PRODUCTS = {"convolution", "_convolution", "_trilinear", "_grouped_mm", "_scaled_grouped_mm"}
# Element by element, and neither tagged so by torch nor to be found by trying: random, or of two tensors.
POINTWISE = {"native_dropout", "copy", "rrelu_with_noise", "index_fill", "masked_fill", "rsub"}
# Numbers land on others along one axis, wherever an index sends them.
LANDING = {"scatter", "scatter_add", "scatter_reduce", "index_add", "index_reduce", "index_copy"}
NORMS = {
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "_batch_norm_no_update", "batch_norm",
}  # fmt: skip
# Results that take a shape from their arguments, and no number.
NEUTRAL = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros", "new_ones",
    "new_full", "new_empty", "new_empty_strided", "_local_scalar_dense", "is_nonzero", "equal", "zeros",
    "ones", "full", "empty", "arange", "scalar_tensor", "nonzero", "isnan", "isfinite", "set_", "resize_",
    "as_strided_", "squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "swapdims_", "detach_",
}  # fmt: skip
