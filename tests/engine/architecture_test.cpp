// Architecture files: the presets, the rules, and one sentence for every error.
#include "engine/brain/architecture.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "tests/engine/brains.h"
#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

json tiny() { return json::parse(to_json(read_brain("tiny"))); }

// The sentence of a wrong architecture begins with the file, names the field, and says what to do.
void refuses(const string& text, std::initializer_list<string> parts) {
  EXPECT_ERROR(parse_brain(text, "brain.json"), "brain.json: ", ": use ");
  for (const string& part : parts) EXPECT_ERROR(parse_brain(text, "brain.json"), part);
}
void refuses_change(const std::function<void(json&)>& change, std::initializer_list<string> parts) {
  json a = tiny();
  change(a);
  refuses(a.dump(), parts);
}
// tiny with the value of one field replaced by `value`, valid or not.
string with(const string& module, const string& field, const string& value) {
  json a = tiny();
  (module.empty() ? a : a[module])[field] = "HERE";
  string text = a.dump();
  return text.replace(text.find("\"HERE\""), 6, value);
}

TEST(Architecture, PresetsAreWhatTheyPromise) {
  const BrainShape full = read_brain("full"), small = read_brain("small"), tiny = read_brain("tiny");
  EXPECT_EQ(full.neurons(), 157'696);
  EXPECT_EQ(full.synapses(), 16'318'464);
  EXPECT_EQ(full.vocabulary, 32'000);
  EXPECT_EQ(full.stripe(), 4);
  EXPECT_EQ(full.weights(), 16'318'464 + 32'000 * 8'192);
  EXPECT_EQ(small.neurons(), 39'424);
  EXPECT_EQ(small.modules[kThalamus].block_width(), 16);  // 48 = 3 x 16
  EXPECT_EQ(small.modules[kThalamus].blocks_per_group(), 3);
  EXPECT_EQ(tiny.vocabulary, 4'096);
  EXPECT_EQ(std::tuple(full.pairs, small.pairs, tiny.pairs), std::tuple(65'536, 65'536, 16'384));
  for (const BrainShape& a : {full, small, tiny}) EXPECT_EQ(a.softcap, 30);
  EXPECT_EQ(tiny.modules[kBroca].sources, 512 + 512 + 256 + 128 + 128);  // and the embedding
  EXPECT_EQ(preset_names(), (std::vector<string>{"full", "small", "tiny", "qwen2.5-0.5b", "smollm2-360m", "smollm2-135m", "gpt2",
                                                 "transformer-base", "transformer-small", "transformer-tiny"}));
}

TEST(Architecture, GoesToJsonAndBack) {
  for (const char* preset : {"full", "small", "tiny"}) {
    const BrainShape a = read_brain(preset), b = parse_brain(to_json(a), "again");
    EXPECT_EQ(to_json(a), to_json(b));
    EXPECT_EQ(a.name, b.name);
    for (int m = 0; m < kModules; ++m) EXPECT_EQ(a.modules[m].sources, b.modules[m].sources);
  }
  json plain = tiny();
  plain.erase("pairs"), plain.erase("softcap");
  const BrainShape without = parse_brain(plain.dump(), "plain");
  EXPECT_EQ(std::tuple(without.pairs, without.softcap), std::tuple(0, 0.0));
  for (const double softcap : {1.0, 2.5, 12.345678901234567, 1e6}) {
    plain["softcap"] = softcap;
    EXPECT_EQ(parse_brain(to_json(parse_brain(plain.dump(), "a")), "b").softcap, softcap);
  }
  json odd = tiny();
  odd["name"] = "a \"quoted\" \\ name\n\xC3\xA4";
  const BrainShape a = parse_brain(odd.dump(), "odd");
  EXPECT_EQ(parse_brain(to_json(a), "again").name, "a \"quoted\" \\ name\xC3\xA4");  // control characters are dropped
}

TEST(Architecture, NamesTheFieldThatBreaksARule) {
  const auto set = [](const string& module, const string& field, std::int64_t value) {
    return [=](json& a) { a[module][field] = value; };
  };
  refuses_change(set("broca", "neurons", 2000), {"broca.neurons is 2000", "2 to 5 times broca.outputs (512)"});
  refuses_change(set("broca", "neurons", 512), {"broca.neurons is 512"});       // one role
  refuses_change(set("broca", "neurons", 6 * 512), {"broca.neurons is 3072"});  // six
  refuses_change(set("hippocampus", "neurons", 3 * 256), {"hippocampus.neurons is 768", "4 to 5 times"});
  refuses_change(set("thalamus", "outputs", 100), {"thalamus.outputs is 100", "multiple of 32, such as 96"});
  refuses_change(set("hippocampus", "outputs", 224), {"hippocampus.outputs is 224", "multiple of 64, such as 256"});
  refuses_change(set("wernicke", "fan_in", 40), {"wernicke.fan_in is 40", "multiple of 16, such as 48"});
  refuses_change(set("wernicke", "fan_in", 0), {"wernicke.fan_in is 0"});
  refuses_change(set("wernicke", "fan_in", 1), {"wernicke.fan_in is 1", "such as 16"});
  refuses_change(
      [](json& a) {
        a["wernicke"] = {{"neurons", 1024}, {"outputs", 256}, {"fan_in", 96}};
      },
      {"prefrontal.outputs is 512", "use 256, the width of wernicke"});
  refuses_change(
      [](json& a) {
        a["broca"] = {{"neurons", 1024}, {"outputs", 256}, {"fan_in", 96}};
      },
      {"broca.outputs is 256", "use 512, the width of prefrontal"});
  refuses_change(
      [](json& a) {
        a["basal_ganglia"] = {{"neurons", 4096}, {"outputs", 1024}, {"fan_in", 96}};
      },
      {"prefrontal.outputs is 512", "basal_ganglia.outputs (1024)"});
  refuses_change(
      [](json& a) {
        a["basal_ganglia"] = {{"neurons", 384}, {"outputs", 96}, {"fan_in", 96}};
      },
      {"prefrontal.outputs is 512", "basal_ganglia.outputs (96)"});
  refuses_change([](json& a) { a["vocabulary"] = 1; }, {"vocabulary is 1", "2 to 65,536"});
  refuses_change([](json& a) { a["vocabulary"] = 65537; }, {"vocabulary is 65537"});
  refuses_change([](json& a) { a["embedding"] = 100; }, {"embedding is 100", "multiple of 32, such as 96"});
  refuses_change([](json& a) { a["pairs"] = 250'001; }, {"pairs is 250001", "up to 250,000"});
  refuses_change([](json& a) { a["softcap"] = -30; }, {"softcap is -30", "or 0 for none"});
  refuses_change([](json& a) { a["softcap"] = 0.5; }, {"softcap is 0.5", "from 1 to 1,000,000"});
  refuses_change([](json& a) { a["softcap"] = 1e7; }, {"softcap is 10000000"});
}

TEST(Architecture, NamesTheFieldWhoseValueIsNoWholeNumber) {
  for (const char* value :
       {"1.5", "2048.0", "2e3", "-5", "-0.0", "\"2048\"", "true", "null", "[2048]", "{}", "18446744073709551616"}) {
    refuses(with("broca", "neurons", value), {"broca.neurons is "});
    if (string(value) != "{}") refuses(with("", "vocabulary", value), {"vocabulary is "});
  }
  for (const char* value : {"-5", "0.5", "\"7\"", "18446744073709551616"})
    refuses(with("", "pairs", value), {"pairs is ", "a whole number"});
  refuses(with("", "pairs", "18446744073709551615"), {"pairs is "});
  for (const char* value : {"\"30\"", "true", "null", "[30]"}) refuses(with("", "softcap", value), {"softcap is ", "use a number"});
  refuses(with("broca", "neurons", "1000000000000"), {"broca.neurons is 1000000000000", "1,000,000,000"});
  refuses(with("broca", "outputs", "18446744073709551615"), {"broca.outputs is "});
  refuses(with("broca", "fan_in", "18446744073709551600"), {"broca.fan_in is "});
  refuses(with("", "name", "5"), {"name is 5: use a string"});
}

TEST(Architecture, RefusesUnknownMissingAndDoubledFields) {
  const auto refused = [](const json& a, const string& what) {
    EXPECT_ERROR(parse_brain(a.dump(), "brain.json"), "brain.json: ", what);
  };
  json a = tiny();
  a["cortex"] = a["broca"];
  refused(a, "unknown field: cortex");
  a = tiny(), a["broca"]["neuron"] = 5;
  refused(a, "unknown field: neuron");
  for (int m = 0; m < kModules; ++m) {
    const string module = name_of(static_cast<ModuleIndex>(m));
    a = tiny(), a.erase(module);
    refused(a, module + " is missing: give its neurons, outputs and fan_in");
    for (const char* field : {"neurons", "outputs", "fan_in"}) {
      a = tiny(), a[module].erase(field);
      refused(a, module + "." + field + " is 0");
    }
  }
  a = tiny(), a.erase("vocabulary");
  refused(a, "vocabulary is 0");
  string text = tiny().dump();
  EXPECT_ERROR(parse_brain("{\"vocabulary\": 50," + text.substr(1), "b"), "b: vocabulary is given twice");
  text.replace(text.find("\"fan_in\""), 0, "\"fan_in\":32,");
  EXPECT_ERROR(parse_brain(text, "b"), "fan_in is given twice");
}

TEST(Architecture, RefusesWhatIsNoJson) {
  const string text = tiny().dump();
  const std::vector<string> list = {"",
                                    "hello",
                                    "[]",
                                    "3",
                                    "\"text\"",
                                    "{'name': 1}",
                                    text + "x",
                                    text + text,
                                    "/* remark */" + text,
                                    text + string(1, '\0'),
                                    string(1, '\0') + text,
                                    text.substr(0, text.size() - 1),
                                    string(1 << 20, ' '),
                                    string(100'000, '[')};
  for (const string& wrong : list) {
    EXPECT_ERROR(parse_brain(wrong, "brain.json"), "brain.json: not an architecture: ", ": see schemas/");
  }
  string deep;
  for (int i = 0; i < 10'000; ++i) deep += "{\"broca\":";
  EXPECT_ERROR(parse_brain(deep, "b"), "b: broca.broca is ");
  EXPECT_ERROR(parse_brain(with("", "name", "\"\xFF\""), "b"), "invalid JSON");
  EXPECT_ERROR(parse_brain(with("", "softcap", "1e999"), "b"), "a number has too many digits");
}

TEST(Architecture, RefusesWrongFilesByName) {
  const TemporaryDirectory directory;
  EXPECT_EQ(to_json(read_brain(directory.file("good.json", tiny().dump()))), to_json(read_brain("tiny")));
  EXPECT_ERROR(read_brain(directory.path("none.json")), "none.json does not exist");
  EXPECT_ERROR(read_brain(directory.path("")), "is a directory");
  EXPECT_ERROR(read_brain("/dev/zero"), "/dev/zero is not a regular file");
  EXPECT_ERROR(read_brain(directory.file("empty.json", "")), "empty.json: not an architecture");
  json large = tiny();
  large["name"] = string(50'000'000, 'x');
  EXPECT_ERROR(read_brain(directory.file("large.json", large.dump())), "large.json: not an architecture: it is larger than 1 MiB");
}

}  // namespace
}  // namespace neurogen
