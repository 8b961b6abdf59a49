#include "tools/common/spelling.h"

#include <algorithm>
#include <array>
#include <utility>

namespace neurogen {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kOtherNames = {{{"architecture", "arch"},
                                                                                       {"window", "seq"},
                                                                                       {"learning_rate", "lr"},
                                                                                       {"synapse_rate", "synapse-lr"},
                                                                                       {"table_rate", "table-lr"},
                                                                                       {"decoder_rate", "decoder-lr"}}};
constexpr std::array<std::string_view, 7> kSampling = {"temperature",        "top_k", "top_p",     "min_p",
                                                       "repetition_penalty", "seed",  "max_tokens"};

}  // namespace

std::string dashed(std::string_view field) {
  std::string name(field);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string option_of(std::string_view field) {
  for (const auto& [name, option] : kOtherNames) {
    if (field == name) return "--" + std::string(option);
  }
  const bool bare = std::find(kSampling.begin(), kSampling.end(), field) != kSampling.end();
  return (bare ? "" : "--") + dashed(field);
}

}  // namespace neurogen
