// Every operation of the list on a CPU.
#include <gtest/gtest.h>

#include "tests/kernels/operations/checks.h"
#include "tests/kernels/operations/wrong.h"

namespace neurogen {
namespace {

class Operations : public testing::TestWithParam<const Operation*> {
 protected:
  template <typename Check>
  void expect_no_fault(Check&& check) {
    for (const auto* shapes : {&GetParam()->shapes, &GetParam()->cpu_shapes})
      for (const Shape& shape : *shapes) {
        const Case c = GetParam()->at(shape);
        for (const std::string& fault : faults_of([&] { return check(c); })) ADD_FAILURE() << c.name << ": " << fault;
      }
  }
};

TEST_P(Operations, FollowTheirFormulas) { expect_no_fault(check_formula); }

TEST_P(Operations, HaveTheGradientsOfDifferences) {
  bool any = false, checked = false;
  expect_no_fault([&](const Case& c) {
    any = any || !c.gradients.empty();
    return check_gradients(c, &checked);
  });
  EXPECT_EQ(checked, any) << "all cases are too large";
}

TEST_P(Operations, AreCloseInFloat32) {
  expect_no_fault([](const Case& c) { return check_values(device_of(2), c, DType::f32); });
}

TEST_P(Operations, WriteTheirOutputsAndNothingElse) {
  expect_no_fault([](const Case& c) { return check_writes(device_of(2), c, DType::f32); });
}

TEST_P(Operations, GiveEqualBitsOnAnyNumberOfThreads) {
  expect_no_fault([](const Case& c) { return check_bits({&device_of(1), &device_of(2), &device_of(3)}, c, DType::f32); });
}

INSTANTIATE_TEST_SUITE_P(All, Operations, testing::ValuesIn(operations()), [](const auto& it) { return it.param->name; });

// A check that finds nothing wrong with a wrong operation is no check.
TEST(OperationChecks, FindEveryWrongOperation) {
  for (const Wrong& wrong : wrong_operations()) {
    SCOPED_TRACE(wrong.how);
    const Case c = product_that(wrong.how);
    const auto expect = [&](const char* check, auto&& find) {
      const bool nothing = wrong.how == How::not_at_all;
      if (nothing || wrong.found_by.count(check) > 0) {
        EXPECT_EQ(find().empty(), nothing) << check;
      }
    };
    expect("formula", [&] { return check_formula(c); });
    expect("gradients", [&] { return check_gradients(c); });
    expect("values", [&] { return check_values(device_of(2), c, DType::f32); });
    expect("writes", [&] { return check_writes(device_of(2), c, DType::f32); });
    expect("bits", [&] { return check_bits({&device_of(1), &device_of(2), &device_of(3)}, c, DType::f32); });
  }
}

}  // namespace
}  // namespace neurogen
