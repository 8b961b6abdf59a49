// The smallest family of models: an embedding and a head, nothing between. It predicts from one token, like a bigram.
#include <nlohmann/json.hpp>

#include "engine/model/embedding.h"
#include "engine/model/family.h"
#include "engine/model/trunk.h"

namespace neurogen {
namespace {

struct BigramTrunk final : Trunk {
  BigramTrunk(Assembly& assembly, std::int64_t width) : s(assembly), embedding(assembly, width, 0) {}
  void declare_parameters() override { embedding.declare_parameters(); }
  TensorId forward(const Batch& batch, const std::string& prefix, bool) override { return embedding.forward(batch, prefix, false); }
  void backward(TensorId d_features) override { embedding.backward(d_features); }
  TensorId step(const std::string& prefix, std::int64_t) override {
    return embedding.forward(s.read_batch(prefix, s.model.ports.token, false, true), prefix, true);
  }
  Assembly& s;
  Embedding embedding;
};

struct Bigram final : Architecture {
  Bigram(std::string n, std::int64_t v, std::int64_t w) : called(std::move(n)), pieces(v), width(w) {}
  std::string_view family() const override { return "bigram"; }
  const std::string& name() const override { return called; }
  std::int64_t vocabulary() const override { return pieces; }
  std::int64_t features() const override { return width; }
  std::vector<Count> counts() const override { return {{"widths", width}}; }
  std::int64_t weights() const override { return pieces * width; }
  std::string json() const override {
    return nlohmann::json{{"family", "bigram"}, {"name", called}, {"vocabulary", pieces}, {"width", width}}.dump();
  }
  std::unique_ptr<Trunk> trunk(Assembly& assembly) const override { return std::make_unique<BigramTrunk>(assembly, width); }
  ArchitecturePtr in_proportion(std::int64_t units) const override { return std::make_shared<Bigram>(called, pieces, 32 * units); }
  std::string called;
  std::int64_t pieces, width;
};

ArchitecturePtr parse(std::string_view json, const std::string&) {
  const auto a = nlohmann::json::parse(json);
  return std::make_shared<Bigram>(a.at("name"), a.at("vocabulary"), a.at("width"));
}

[[maybe_unused]] const bool added = (add_family({"bigram", parse, {}}), true);  // before main()

}  // namespace
}  // namespace neurogen
