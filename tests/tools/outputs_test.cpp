// No output of a program may be one of its inputs or another output, however the paths are spelt.
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;
namespace fs = std::filesystem;

class Outputs : public testing::Test {
 protected:
  Outputs() {
    make_numbered_text(directory_, " has the number ", "\n");
    EXPECT_EQ(run("corpus tokenize text.txt --tokenizer t.model --out text.bin").status, 0);
    EXPECT_EQ(run("corpus split text.txt --train first.txt --valid last.txt").status, 0);
    EXPECT_EQ(run(kTrain + "--checkpoint-dir saved --export w.safetensors --log l.jsonl").status, 0);
    directory_.file("card.json", "{}");
    fs::create_directory(directory_.path("folder"));
    fs::rename(directory_.path("first.txt"), directory_.path("folder/first.txt"));
  }
  ProgramResult run(const string& command) const { return run_program_in(directory_, command); }
  std::map<string, string> files() const {
    std::map<string, string> all;
    for (const auto& entry : fs::recursive_directory_iterator(directory_.path(""))) {
      const string name = entry.path();
      if (entry.is_regular_file() && name.find("/.out") == name.npos && name.find("/.err") == name.npos)
        all[name] = read_file(name);
    }
    return all;
  }
  // Expects one sentence and status 2, and every file unchanged.
  void refuses(const string& command, const string& part = "would overwrite") const {
    SCOPED_TRACE(command);
    const auto before = files();
    const ProgramResult result = run(command);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(part), string::npos) << result.err;
    EXPECT_TRUE(files() == before);
  }

  const string kTrain =
      "neurogen-engine --arch brain.json --batch 2 --seq 16 --threads 1 --data text.bin --progress none --steps 3 ";
  TemporaryDirectory directory_;
};

TEST_F(Outputs, AreNoInputs) {
  // Each command ends with an output option that gets the input named beside it.
  for (const auto& [command, input] : std::initializer_list<std::pair<string, string>>{
           {kTrain + "--log ", "text.bin"},
           {kTrain + "--export ", "text.bin"},
           {kTrain + "--export ", "brain.json"},
           {kTrain + "--log ", "brain.json"},
           {kTrain + "--tokenizer t.model --export ", "t.model"},
           {kTrain + "--valid last.txt --tokenizer t.model --log ", "last.txt"},
           {kTrain + "--init w.safetensors --export ", "w.safetensors"},
           {kTrain + "--data text.bin:2 --export ", "text.bin"},
           {"neurogen-engine export --checkpoint saved --safetensors ", "saved/step-000000003.ngck"},
           {"neurogen-engine export --checkpoint saved/step-000000003.ngck --safetensors ", "saved/step-000000003.ngck"},
           {"neurogen-engine report l.jsonl --out ", "l.jsonl"},
           {"neurogen-engine plan --arch brain.json --device cpu --svg ", "brain.json"},
           {"plan --arch brain.json --device cpu --svg ", "brain.json"},
           {"plan --card card.json --svg ", "card.json"},
           {"corpus tokenize text.txt --tokenizer t.model --out ", "text.txt"},
           {"corpus tokenize text.txt --tokenizer t.model --out ", "t.model"},
           {"corpus train-tokenizer text.txt --vocabulary 300 --out ", "text.txt"},
           {"corpus train-tokenizer folder --vocabulary 300 --out ", "folder/first.txt"},
           {"corpus split text.txt --valid v.txt --train ", "text.txt"},
           {"corpus split text.txt --train v.txt --valid ", "text.txt"}}) {
    // Weights are refused under names other than .safetensors, so only links lead to other files.
    const bool weights = command.ends_with("--export ") || command.ends_with("--safetensors ");
    const string end = weights ? ".safetensors" : "";
    const string link = input + ".link" + end, hard = input + ".hard" + end;
    fs::create_symlink(fs::path(input).filename(), directory_.path(link));
    fs::create_hard_link(directory_.path(input), directory_.path(hard));
    for (const string& spelling :
         weights ? std::vector{link, "./" + link, directory_.path(link), hard}
                 : std::vector{input, "./" + input, "folder/../" + input, directory_.path(input), link, hard}) {
      string once = command;  // an option that the fixture gives too
      if (command.find("text.bin:2") != string::npos) once.erase(once.find("--data text.bin "), 16);
      refuses(once + spelling);
    }
    fs::remove(directory_.path(link)), fs::remove(directory_.path(hard));
  }
  for (const char* part : {"-train.bin", "-valid.bin", ".json"}) {
    fs::create_symlink("text.txt", directory_.path(string("made") + part));
    refuses("corpus make text.txt --tokenizer t.model --out made");
    fs::remove(directory_.path(string("made") + part));
  }
  // A folder is read with all its files: the second time also the outputs of the first.
  ASSERT_EQ(run("corpus make folder --held-out 0.5 --documents line --tokenizer t.model --out folder/made").status, 0);
  refuses("corpus make folder --documents line --tokenizer t.model --out folder/made");
}

TEST_F(Outputs, AreNotEachOther) {
  fs::create_symlink("new", directory_.path("link"));  // its target does not exist yet
  for (const string same : {"new", "./new", "link", "folder/../new"}) {
    refuses(kTrain + "--log new --export " + same, "--log and --export write the same file");
    refuses("corpus split text.txt --train new --valid " + same, "--train and --valid write the same file");
  }
  fs::create_symlink("made-train.bin", directory_.path("made-valid.bin"));
  refuses("corpus make text.txt --tokenizer t.model --out made", "write the same file");
  // Files with checkpoints' names in their directory belong to the run.
  for (const char* name : {"saved/step-000000003.ngck", "saved/step-000000009.ngck", "saved/.lock", "saved/saving.part"}) {
    fs::create_symlink(name, directory_.path("to.safetensors"));
    refuses(kTrain + "--resume --checkpoint-dir saved --export to.safetensors", "which is for checkpoints");
    refuses("neurogen-engine export --checkpoint saved --safetensors to.safetensors");
    fs::remove(directory_.path("to.safetensors"));
  }
  EXPECT_EQ(run("neurogen-engine export --checkpoint saved --safetensors saved/w.safetensors").status, 0);
  // Through a link to a file that does not exist yet.
  EXPECT_EQ(run("neurogen-engine export --checkpoint saved --safetensors link").status, 0);
  EXPECT_TRUE(fs::is_symlink(directory_.path("link")));
  EXPECT_EQ(read_file(directory_.path("new")), read_file(directory_.path("w.safetensors")));
}

TEST_F(Outputs, ALogIsNeverCut) {
  const string log = read_file(directory_.path("l.jsonl"));
  directory_.file("notes.txt", "notes");
  refuses(kTrain + "--log notes.txt", "notes.txt already exists and is not a log");
  EXPECT_EQ(run(kTrain + "--checkpoint-dir saved --resume --log l.jsonl").status, 0);
  EXPECT_EQ(read_file(directory_.path("l.jsonl")), log);
  // Any other run keeps the log: one of a mistyped directory, and those that differ in the text or in what changes losses.
  ASSERT_EQ(run("corpus tokenize text.txt text.txt --tokenizer t.model --out twice.bin").status, 0);
  int kept = 0;
  for (const string other : {"", "--seed 5", "--data twice.bin", "--lr 0.001", "--warmup 7", "--tokenizer t.model"}) {
    SCOPED_TRACE(other);
    const string folder = " --checkpoint-dir other" + std::to_string(++kept);
    if (kept > 1) {
      ASSERT_EQ(run(kTrain + other + folder).status, 0);
    }
    const ProgramResult result = run(kTrain + other + folder + " --resume --log l.jsonl");
    EXPECT_EQ(result.status, 0) << result.err;
    const string name = "l.jsonl." + std::to_string(kept);
    EXPECT_NE(result.out.find("l.jsonl was the log of another run: it is kept as " + name), string::npos) << result.out;
    EXPECT_EQ(read_file(directory_.path(name)), log);
    fs::copy_file(directory_.path(name), directory_.path("l.jsonl"), fs::copy_options::overwrite_existing);
  }
  ASSERT_EQ(std::system(("mkfifo " + directory_.path("pipe")).c_str()), 0);
  const ProgramResult pipe = run(kTrain + "--log pipe");
  EXPECT_EQ(pipe.status, 2);
  EXPECT_EQ(pipe.err, "neurogen-engine: pipe is a pipe that nobody reads: start its reader first\n");
}

TEST_F(Outputs, PermissionDeniedIsCalledSo) {
  fs::create_directory(directory_.path("locked"));
  fs::permissions(directory_.path("locked"), fs::perms::none);
  fs::permissions(directory_.path(""), fs::perms::owner_all | fs::perms::others_all);
  fs::create_symlink("../locked/a", directory_.path("folder/link"));
  // Nothing is denied to root.
  const string nobody = geteuid() == 0 ? "setpriv --reuid=65534 --regid=65534 --clear-groups" : "";
  for (const string& command :
       {kTrain + "--checkpoint-dir locked/saved", kTrain + "--export locked/w", kTrain + "--log locked/l",
        kTrain + "--valid locked/a.bin", kTrain + "--init locked/w", string("corpus make locked --tokenizer t.model --out m"),
        string("corpus make folder --tokenizer t.model --out m"), string("corpus split text.txt --train locked/a --valid b"),
        string("plan --arch locked/a.json")}) {
    const ProgramResult result = run_program_in(directory_, command, nobody);
    EXPECT_NE(result.status, 0) << command;
    EXPECT_NE(result.err.find("Permission denied"), string::npos) << command << "\n" << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << command << "\n" << result.err;
  }
  fs::permissions(directory_.path("locked"), fs::perms::owner_all);
}

TEST_F(Outputs, NamesNeedNotBeUtf8) {
  string nameless = kTestBrain;
  nameless.replace(nameless.find("\"name\": \"test\", "), 16, "");
  directory_.file("\xFF\xE2\x80\xA8.json", nameless);  // and a line end for some
  const string names = "--checkpoint-dir 'c\xFF' --export 'w\xFF' --log 'l\xFF' --resume ";
  const ProgramResult trained =
      run("neurogen-engine --arch '\xFF\xE2\x80\xA8.json' --batch 2 --seq 16 --threads 1 "
          "--data text.bin --progress none --steps 3 " +
          names);
  ASSERT_EQ(trained.status, 0) << trained.err;
  std::istringstream log(read_file(directory_.path("l\xFF")));
  for (string line; std::getline(log, line);) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  EXPECT_EQ(run("neurogen-engine report 'l\xFF' --out 'r\xFF'").status, 0);
  EXPECT_EQ(run("neurogen-engine eval --init 'w\xFF' --data text.bin --seq 16").status, 0);
  EXPECT_EQ(run("neurogen-engine inspect 'c\xFF' --json").status, 0);
  EXPECT_EQ(run("neurogen-engine export --checkpoint 'c\xFF' --safetensors 'e\xFF'").status, 0);
  EXPECT_EQ(run("corpus make text.txt --tokenizer t.model --out 'm\xFF'").status, 0);
}

}  // namespace
}  // namespace neurogen
