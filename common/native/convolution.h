// What the ways to compute a convolution share, and one of them: with square kernel, without bias and groups, where the
// gradient of the weights is one matrix product, of the gradients with what each pixel of the result sees of the input,
// its window.
#pragma once
#include <ATen/ATen.h>

inline at::Tensor channels_last(const at::Tensor &x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

// Whether maps and weights are those that these ways were measured for: float32 on a CPU with AVX2 and without AVX-512.
bool is_measured(const at::Tensor &x, const at::Tensor &weight);

// Whether this is the faster way in float32. (Measured with AVX2, 2 and 64 images: with 64 channels and more as fast as
// oneDNN for windows of 18 MB, 1.2 to 4 times for smaller ones, of kernels of 3x3 or 1x1 with stride.)
bool has_few_windows(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding, int64_t dilation);

at::Tensor windowed_convolution(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding,
                                int64_t dilation);
