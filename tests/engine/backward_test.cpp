// The gradients between modules in the backward pass, as a plan shows them, without a GPU.
#include <gtest/gtest.h>

#include "tests/engine/brains.h"
#include "tests/engine/small_brain.h"

namespace neurogen {
namespace {

TEST(Backward, GradientsOfOutputsAreBf16WhereProductsAre) {
  for (const DType compute : {DType::f32, DType::bf16, DType::f16})
    for (const DType storage : {compute, DType::f32})
      for (const bool keep_logits : {false, true}) {
        StepOptions options;
        options.batch = 2, options.target.gpu = true;
        options.compute = compute, options.decoder_storage = storage, options.schedule.keep_logits = keep_logits;
        const Graph graph = build_training(small_brain(), options).graph;
        const DType type = compute == DType::bf16 ? DType::bf16 : DType::f32;
        int outputs = 0, norms = 0;
        for (const Buffer& b : graph.tensors())
          if (b.name.ends_with(".output") && b.name.find("d_") != std::string::npos) {
            EXPECT_EQ(b.dtype, type) << b.name;
            ++outputs;
          }
        EXPECT_EQ(outputs, kModules);  // broca's comes from the decoder, the embedding has one too
        for (const Operation& o : graph.operations())
          if (o.name.ends_with(".norm") && o.name.find("d_") != std::string::npos) {
            const DType read = graph.tensors()[o.reads[0].index].dtype;
            const bool rounded_once = o.name.ends_with("d_broca.norm") && keep_logits && storage == compute;
            EXPECT_EQ(read, rounded_once ? compute : type) << o.name;
            ++norms;
          }
        EXPECT_EQ(norms, kModules);
      }
}

}  // namespace
}  // namespace neurogen
