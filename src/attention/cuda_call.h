// A call's arguments as a GPU's kernels take them.
#pragma once

#include "cuda/launch/backward.h"
#include "cuda/launch/sequences.h"
#include "tilewise/arguments.h"
#include "variant/call.h"

namespace tilewise::attention {

/// Throws Error(invalid_argument) unless all that a pass reads and writes lies on the context's GPU, and lse and d_lse
/// are float32. The context is current.
void expect_on_gpu(const jit::Context& context, const ForwardInputs& inputs);
void expect_on_gpu(const jit::Context& context, const ForwardOutputs& outputs);
void expect_on_gpu(const jit::Context& context, const BackwardInputs& given, const BackwardOutputs& outputs);

/// Queues the writing of -inf to a call's max_score.
void clear_max_scores(const jit::Context& context, const Tensor& max_score, jit::StreamHandle stream);

/// Whether every row of every tensor begins at a multiple of 16 bytes.
bool all_aligned(const ForwardInputs& inputs, const ForwardOutputs& outputs);
bool all_aligned(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs);

/// Whether v is the first columns of k, in the same memory.
bool values_in_keys(const ForwardInputs& inputs);

/// A tensor of a call as kernels see it: [b, h, s, ...], or packed [h, s, ...].
cuda::TensorView view_of(const ConstTensor& tensor, bool is_packed);

/// The most that a call has along each axis.
cuda::ForwardExtent extent_of(const ForwardInputs& inputs, const variant::Call& call);

/// All but what lies in a workspace.
cuda::ForwardArguments forward_arguments(const ForwardInputs& inputs, const ForwardOutputs& outputs,
                                         const variant::Call& call);
cuda::BackwardArguments backward_arguments(const ForwardInputs& inputs, const BackwardInputs& given,
                                           const BackwardOutputs& outputs, const variant::Call& call);

/// Sequences that lie on the GPU. A call's sequences are as long as they can be.
cuda::SequenceColumns sequence_columns(const ForwardInputs& inputs, const variant::Call& call);

}  // namespace tilewise::attention
