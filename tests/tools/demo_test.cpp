// The demonstration, on a text of its own in place of the Bible.
#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "engine/files/safetensors.h"
#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

namespace fs = std::filesystem;
using std::string;

// 150 lines of ten words, all different, so that 4,096 subwords can be learned from a text of one step.
string many_words() {
  std::mt19937 random(7);
  string text;
  for (int word = 1; word <= 1500; ++word) {
    for (int letters = 4 + static_cast<int>(random() % 4); letters > 0; --letters) text += static_cast<char>('a' + random() % 26);
    text += word % 10 == 0 ? '\n' : ' ';
  }
  return text;
}

// The part of `text` that the group in the pattern matches.
string found(const string& text, const string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? match[1].str() : "nothing matches " + pattern;
}

Bytes parameters_in(const string& file) {
  std::int64_t count = 0;
  const Safetensors weights(file);
  for (const FileTensor& tensor : weights.tensors()) count += is_floating(tensor.dtype) ? tensor.elements() : 0;
  return static_cast<Bytes>(count);
}

TEST(Demo, ComparesABrainAndATransformerByWhatTheProgramsPrinted) {
  const TemporaryDirectory directory;
  for (const char* folder : {"tools", "demo", "build"}) fs::create_directory(directory.path(folder));
  for (const char* script : {"demo.sh", "demo-text.sh", "demo-table.awk"})
    fs::copy_file(source_folder() + "/tools/" + script, directory.path("tools/") + script);
  fs::create_directory_symlink(programs_folder(), directory.path("build/bin"));
  directory.file("demo/bible.txt", many_words());
  const string command = directory.path("tools/demo.sh") + " >" + directory.path("out") + " 2>" + directory.path("err");
  ASSERT_EQ(std::system(command.c_str()), 0) << read_file(directory.path("err"));
  const string out = read_file(directory.path("out"));
  const string table = out.substr(out.find("== side by side"));
  double losses[2];
  for (int i = 0; const string model : {"tiny", "transformer-tiny"}) {
    const string row = "\n" + model + " +";
    EXPECT_EQ(found(table, row + "([0-9,]+)"), with_commas(parameters_in(directory.path("demo/" + model + ".safetensors"))));
    const string loss = found(table, row + R"([0-9,]+ +[0-9.]+ +[0-9.]+ MB +([0-9.]+) +[0-9.]+\n)");
    EXPECT_NE(out.find("held-out loss " + loss + " nats per token"), string::npos) << table;
    EXPECT_NE(out.find("== " + model + " writes\n\nAnd the LORD said unto"), string::npos) << out;
    losses[i++] = std::atof(loss.c_str());
  }
  EXPECT_NE(table.find("\nKneser-Ney bigram "), string::npos) << table;
  EXPECT_NE(table.find("\nKneser-Ney trigram "), string::npos) << table;
  const string best = losses[1] < losses[0] ? "transformer-tiny" : "tiny";
  EXPECT_NE(table.find("\nUse " + best + " for the lowest loss"), string::npos) << table;
}

}  // namespace
}  // namespace neurogen
