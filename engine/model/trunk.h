// The part of a model between the token ids and the head. A family writes its forward and backward pass by hand.
#pragma once
#include <string>

#include "engine/model/assembly.h"

namespace neurogen {

// Called by build.cpp in the order of the functions here. All but the passes declare tensors, which stay in the order of
// declaration.
class Trunk {
 public:
  virtual ~Trunk() = default;

  virtual void declare_parameters() = 0;
  virtual void declare_fixed() {}    // Assembly::fixed
  virtual void declare_derived() {}  // for training only: tensors computed from parameters and fixed tensors

  // Adds the forward pass and returns the features, [N, F] in the compute type. `training`: backward() follows, and reads what this
  // pass keeps. Names of tensors and operations begin with `prefix`.
  virtual TensorId forward(const Batch& batch, const std::string& prefix, bool training) = 0;
  // Adds the backward pass of the latest forward(): the gradient of every parameter of the trunk (Parameter::gradient).
  virtual void backward(TensorId d_features) = 0;
  // Reads one token (Ports::token) and adds its forward pass, which continues from the state that the one before left
  // (Assembly::state). `ring`: tokens that attention can look back on.
  virtual TensorId step(const std::string& prefix, std::int64_t ring) = 0;
  // Adds the operations that compute the derived tensors, besides the parameters' 16-bit copies.
  virtual void derive() {}
};

}  // namespace neurogen
