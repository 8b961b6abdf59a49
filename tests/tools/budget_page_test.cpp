// budget.md equals the current output of tools/budget-page.sh.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/folders.h"

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
  const std::string source = neurogen::source_folder();
  std::ostringstream page;
  page << std::ifstream(source + "/budget.md").rdbuf();
  EXPECT_EQ(page.str(), output_of(source + "/tools/budget-page.sh " + neurogen::programs_folder()))
      << "the plan has changed: look at the difference, then run tools/budget-page.sh build/bin > budget.md";
}

}  // namespace
