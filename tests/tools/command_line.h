// A folder with a small architecture and token files, and our programs run in it.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/tools/run_program.h"

namespace neurogen {

using nlohmann::json;
using std::string;

class CommandLine : public testing::Test {
 protected:
  CommandLine() {
    directory_.file("brain.json", kTestBrain);
    std::vector<std::uint16_t> ids(1000);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint16_t>(i * i % 7 * 40 + i % 11);
    bin("text.bin", ids);
    bin("valid.bin", {ids.begin(), ids.begin() + 100});
  }
  void bin(const string& name, const std::vector<std::uint16_t>& ids) const {
    directory_.file(name, {reinterpret_cast<const char*>(ids.data()), ids.size() * 2});
  }
  ProgramResult run(const string& command) const { return run_program_in(directory_, command); }
  ProgramResult train(const string& arguments) const { return run("neurogen-engine " + kTrain + arguments); }
  // One line on standard error that names the program.
  void refuses(const string& command, const string& part, int status = 2) const {
    const ProgramResult result = run(command);
    EXPECT_EQ(result.status, status) << command << "\n" << result.err;
    EXPECT_EQ(result.err.rfind(command.substr(0, command.find(' ')) + ": ", 0), 0u) << command << "\n" << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << command << "\n" << result.err;
    EXPECT_NE(result.err.find(part), string::npos) << result.err << "lacks: " << part;
  }
  void refuses_training(const string& arguments, const string& part, int status = 2) const {
    refuses("neurogen-engine " + kTrain + arguments, part, status);
  }
  std::vector<json> log(const string& name) const {
    std::vector<json> lines;
    std::istringstream text(read_file(directory_.path(name)));
    for (string line; std::getline(text, line);) lines.push_back(json::parse(line));
    return lines;
  }
  static std::set<string> fields(const json& object) {
    std::set<string> names;
    for (const auto& [name, value] : object.items()) names.insert(name);
    return names;
  }

  const string kBrain = "--arch brain.json --batch 2 --seq 16 --threads 2 ";
  const string kTrain = kBrain + "--data text.bin --progress none ";
  TemporaryDirectory directory_;
};

}  // namespace neurogen
