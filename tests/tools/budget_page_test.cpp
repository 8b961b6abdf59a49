// budget.md is what `plan` prints today.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

namespace {

std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> part;
  while (const std::size_t size = std::fread(part.data(), 1, part.size(), pipe)) text.append(part.data(), size);
  EXPECT_EQ(pclose(pipe), 0) << command;
  return text;
}

TEST(BudgetPage, IsWhatPlanPrints) {
  const std::string root = std::string(NEUROGEN_TESTS) + "/..";
  std::ostringstream page;
  page << std::ifstream(root + "/budget.md").rdbuf();
  EXPECT_EQ(page.str(), output_of(root + "/tools/budget-page.sh " NEUROGEN_BIN))
      << "the plan has changed: look at the difference, then run tools/budget-page.sh build/bin > budget.md";
}

}  // namespace
