// Every operation of the list on a GPU, in each of its types.
#include <set>

#include "tests/kernels/gpu.h"
#include "tests/kernels/operations/checks.h"
#include "tests/kernels/operations/wrong.h"

namespace neurogen {
namespace {

// Limits the shared memory per block during its lifetime.
struct SharedMemory {
  explicit SharedMemory(Bytes bytes) { gpu().limit_shared_memory(bytes); }
  ~SharedMemory() { gpu().limit_shared_memory(UINT64_MAX); }
};

class CudaOperations : public CudaTest, public testing::WithParamInterface<const Operation*> {
 protected:
  // `check(case, type)` for all shapes and types; types in which every operand is stored as in an earlier one add nothing.
  template <typename Check>
  void expect_no_fault(Check&& check) {
    for (const auto* shapes : {&GetParam()->shapes, &GetParam()->gpu_shapes})
      for (const Shape& shape : *shapes) {
        const Case c = GetParam()->at(shape);
        std::set<std::vector<DType>> done;
        for (const DType type : GetParam()->types) {
          std::vector<DType> stored;
          for (const Operand& operand : c.operands) stored.push_back(type_of(operand.stored, type));
          if (!done.insert(stored).second || (type == DType::bf16 && gpu().capability() < GetParam()->bf16_capability)) continue;
          for (const std::string& fault : faults_of([&] { return check(c, type); }))
            ADD_FAILURE() << c.name << " in " << name_of(type) << ": " << fault;
        }
      }
  }
};

TEST_P(CudaOperations, EqualTheCpuInFloat64) {
  for (const Bytes most : GetParam()->shared_memory) {
    const SharedMemory limit(most);
    SCOPED_TRACE(most);
    expect_no_fault([](const Case& c, DType type) { return check_values(gpu(), c, type); });
  }
}

TEST_P(CudaOperations, WriteTheirOutputsAndNothingElse) {
  expect_no_fault([](const Case& c, DType type) { return check_writes(gpu(), c, type); });
}

TEST_P(CudaOperations, GiveEqualBitsAgain) {
  expect_no_fault([](const Case& c, DType type) { return check_bits({&gpu(), &gpu()}, c, type); });
}

INSTANTIATE_TEST_SUITE_P(All, CudaOperations, testing::ValuesIn(operations()), [](const auto& it) { return it.param->name; });

using CudaOperationChecks = CudaTest;
TEST_F(CudaOperationChecks, FindEveryWrongOperation) {
  for (const Wrong& wrong : wrong_operations()) {
    SCOPED_TRACE(wrong.how);
    const Case c = product_that(wrong.how);
    const auto expect = [&](const char* check, auto&& find) {
      const bool nothing = wrong.how == How::not_at_all;
      if (nothing || wrong.found_by.count(check) > 0) {
        EXPECT_EQ(find().empty(), nothing) << check;
      }
    };
    expect("values", [&] { return check_values(gpu(), c, DType::bf16); });
    expect("writes", [&] { return check_writes(gpu(), c, DType::bf16); });
    expect("bits", [&] { return check_bits({&gpu(), &gpu()}, c, DType::bf16); });
  }
}

}  // namespace
}  // namespace neurogen
