// The programs plan and neurogen-engine, run as a user runs them: output, logs, refusals and exit status.
#include "tests/tools/command_line.h"

#include <cmath>
#include <csignal>
#include <thread>

namespace neurogen {
namespace {

const std::set<string> kPlanFields = {"budget_bytes",         "device_arena_bytes",
                                      "host_arena_bytes",     "overhead_bytes",
                                      "total_bytes",          "lower_bound_bytes",
                                      "minimum_budget_bytes", "fits",
                                      "tokens_per_step",      "buffers"};

TEST_F(CommandLine, BudgetsMeanSomethingOrAreRefused) {
  for (const auto& [budget, bytes] :
       {std::pair{"3199999999", 3199999999u}, {"3200M", 3200000000u}, {"3200MB", 3200000000u}, {"2.98Gi", 3199750635u}}) {
    const ProgramResult result = run("plan --json " + kBrain + "--budget " + budget);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(json::parse(result.out)["budget_bytes"], bytes);
  }
  EXPECT_EQ(run("plan " + kBrain + "--budget 18446744073709551615").status, 0);
  for (const char* small : {"0", "1", "128M"}) {
    for (const string& program : {"plan " + kBrain, "neurogen-engine " + kTrain}) {
      const ProgramResult page = run(program + "--budget " + small);
      EXPECT_EQ(page.status, 2);
      for (const char* part : {"does not fit into", "\nbudget", "\nneeded", "\nmissing", "alive at the peak",
                               "settings that would fit", "--budget "}) {
        EXPECT_NE(page.err.find(part), string::npos) << page.err << "lacks " << part;
      }
    }
  }
  for (const char* wrong : {"-1", "3.2", "''", "x", "1e9", "18446744073709551616", "20000000T", "3200MM", "' 3200M'", "nan"}) {
    refuses("plan " + kBrain + "--budget=" + wrong, "--budget");
    refuses_training("--steps 1 --budget=" + string(wrong), "--budget");
  }
  refuses("plan " + kBrain + "--budget -1", "--budget");
}

TEST_F(CommandLine, PlanAndEngineAgreeAndTheMinimumRuns) {
  const json plan = json::parse(run("plan --json " + kBrain).out);
  EXPECT_EQ(fields(plan), kPlanFields);
  EXPECT_EQ(fields(plan["buffers"][0]),
            (std::set<string>{"name", "dtype", "shape", "bytes", "arena", "kind", "first_op", "last_op", "offset"}));
  EXPECT_EQ(plan["total_bytes"],
            plan["device_arena_bytes"].get<long>() + plan["host_arena_bytes"].get<long>() + plan["overhead_bytes"].get<long>());
  EXPECT_EQ(plan["tokens_per_step"], 32);
  ASSERT_EQ(train("--steps 2 --log a.jsonl").status, 0);
  EXPECT_EQ(log("a.jsonl")[0]["plan"], plan);
  const long minimum = plan["minimum_budget_bytes"].get<long>();
  EXPECT_EQ(train("--steps 2 --log b.jsonl --budget " + std::to_string(minimum)).status, 0);
  const json refused = json::parse(run("plan --json " + kBrain + "--budget " + std::to_string(minimum - 1)).out);
  EXPECT_EQ(refused["fits"], false);
  EXPECT_EQ(train("--steps 2 --budget " + std::to_string(minimum - 1)).status, 2);
  EXPECT_EQ(log("a.jsonl")[2]["loss"], log("b.jsonl")[2]["loss"]);
}

TEST_F(CommandLine, LogsWhatItPromisesAndRepeatsItself) {
  for (const char* name : {"a.jsonl", "b.jsonl"}) {
    const ProgramResult result = train("--steps 7 --valid valid.bin --eval-every 3 --seed 5 --log " + string(name));
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
  }
  const auto a = log("a.jsonl"), b = log("b.jsonl");
  ASSERT_EQ(a.size(), 2u + 7 + 3 * 3 + 1);
  EXPECT_EQ(fields(a[0]), (std::set<string>{"event", "run", "plan", "device", "arch", "seed"}));
  EXPECT_EQ(fields(a[0]["plan"]), kPlanFields);
  std::vector<std::int64_t> steps, evaluations;
  EXPECT_EQ(a[1]["event"], "program");
  for (std::size_t i = 2; i + 1 < a.size(); ++i) {
    if (a[i]["event"] == "times") continue;
    if (a[i]["event"] == "activity") {
      EXPECT_EQ(a[i], b[i]);
      continue;
    }
    if (a[i]["event"] == "eval") {
      EXPECT_EQ(fields(a[i]), (std::set<string>{"event", "step", "valid_loss", "perplexity", "tokens"}));
      EXPECT_EQ(a[i], b[i]);
      evaluations.push_back(a[i]["step"]);
      continue;
    }
    EXPECT_EQ(fields(a[i]), (std::set<string>{"event", "step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s", "device_ms",
                                              "host_allocations", "driver_allocations", "device_allocations", "synchronizations"}));
    steps.push_back(a[i]["step"]);
    EXPECT_EQ(a[i]["event"], "step");
    EXPECT_EQ(a[i]["tokens"], 32 * steps.back());
    EXPECT_EQ(a[i]["host_allocations"], 0);
    for (const char* field : {"loss", "lr", "grad_norm"}) EXPECT_EQ(a[i][field], b[i][field]);
  }
  EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(evaluations, (std::vector<std::int64_t>{3, 6, 7}));
  EXPECT_EQ(fields(a.back()), (std::set<string>{"event", "steps", "tokens", "tokens_per_s", "loss", "peak_device_bytes",
                                                "overhead_bytes", "budget_bytes"}));
  EXPECT_EQ(a.back()["event"], "summary");
  EXPECT_EQ(a.back()["loss"], a[a.size() - 5]["loss"]);
  // A rate far too high: the run stops with a sentence, and its log up to there is JSON.
  const ProgramResult wild = train(
      "--steps 300 --lr 1000 --table-lr 1000 --decoder-lr 1000 --warmup 0 --eval-every 1 --valid valid.bin --log "
      "w.jsonl");
  EXPECT_TRUE(wild.status == 0 || (wild.status == 1 && wild.err.find("not finite: train with a lower --lr") != string::npos))
      << wild.err;
  EXPECT_GT(log("w.jsonl").size(), 1u);
}

TEST_F(CommandLine, RefusesWrongData) {
  directory_.file("empty.bin", ""), directory_.file("odd.bin", "abc"), directory_.file("text.txt", "some words\n");
  bin("short.bin", std::vector<std::uint16_t>(32, 1)), bin("high.bin", std::vector<std::uint16_t>(100, 300)), bin("one.bin", {1});
  const auto data = [&](const string& arguments, const string& part) {
    refuses("neurogen-engine " + kBrain + "--progress none --steps 2 " + arguments, part);
  };
  data("--data empty.bin", "empty.bin is empty");
  data("--data none.bin", "none.bin does not exist");
  data("--data .", ". is a directory");
  data("--data short.bin", "32 tokens");
  data("--data high.bin", "high.bin has token 300 at position 0");
  data("--data odd.bin", "odd number of bytes");
  data("--data text.txt", "give --tokenizer");
  data("--data text.bin --valid high.bin", "high.bin has token 300");
  data("--data text.bin --valid one.bin", "fewer than two tokens");
  data("--data text.bin --tokenizer text.txt", "not a SentencePiece model");
  data("--data text.bin --init text.bin", "not a safetensors file");
  data("", "no text to train on");
}

TEST_F(CommandLine, RefusesMisuse) {
  refuses_training("--steps 2 --epochs 1", "exclude each other");
  for (const auto& [arguments, part] :
       std::initializer_list<std::pair<string, string>>{{"--progress bar", "--progress is \"bar\""},
                                                        {"--device gpu", "--device is \"gpu\""},
                                                        {"--compute int8", "--compute is \"int8\""},
                                                        {"--batch 0", "--batch is \"0\""},
                                                        {"--batch -3", "--batch"},
                                                        {"--batch x", "--batch is \"x\""},
                                                        {"--seq 0", "--seq is 0"},
                                                        {"--seq 2000000", "--seq is 2000000"},
                                                        {"--lr nan", "--lr is nan"},
                                                        {"--lr -1", "--lr"},
                                                        {"--lr inf", "--lr is inf"},
                                                        {"--lr x", "--lr"},
                                                        {"--synapse-lr -1", "--synapse-lr is -1"},
                                                        {"--table-lr -1", "--table-lr is -1"},
                                                        {"--decoder-lr -1", "--decoder-lr is -1"},
                                                        {"--warmup -1", "--warmup is -1"},
                                                        {"--threads -1", "--threads is -1"},
                                                        {"--decoder-tile 0", "--decoder-tile is 0"},
                                                        {"--decoder-tile 65536", "use 1 to 65535 rows"},
                                                        {"--document-end 300", "--document-end is 300"},
                                                        {"--steps 0", "--steps"},
                                                        {"--steps -1", "--steps"},
                                                        {"--steps 1.5", "--steps"},
                                                        {"--epochs 0", "--epochs"},
                                                        {"--minutes nan", "--minutes"},
                                                        {"--frobnicate", "--frobnicate is not known here"},
                                                        {"--arch none.json", "none.json does not exist"},
                                                        {"-s 3", "-s is not known here"},
                                                        {"--eval-every -1", "--eval-every"},
                                                        {"--eval-every 3", "name one with --valid"},
                                                        {"--warmup -1", "--warmup"}}) {
    // Removes the fixture's option first: giving an option twice is misuse too.
    string base = kTrain;
    const string flag = arguments.substr(0, arguments.find(' ')) + " ";
    if (const auto at = base.find(flag); at != string::npos) base.erase(at, base.find(' ', at + flag.size()) + 1 - at);
    refuses("neurogen-engine " + base + arguments, part);
  }
  refuses_training("--separate-buffers --device cpu", "--separate-buffers is for tools that check a GPU's memory");
  refuses_training("--separate-buffers --checkpoint-dir saved", "leave out --checkpoint-dir");
  EXPECT_FALSE(std::filesystem::exists(directory_.path("saved")));
  refuses("neurogen-engine frobnicate", "frobnicate is not known here");
  refuses("neurogen-engine eval " + kBrain + "--data text.bin", "--init");
  refuses("neurogen-engine generate --arch brain.json", "--init");
}

// In every program. --batch and sizes are strings with their own parsers.
TEST_F(CommandLine, NumbersAreDecimalAndInRange) {
  const string brain = "plan --json --arch brain.json --threads 2 ";
  const auto tokens = [&](const string& arguments) { return json::parse(run(brain + arguments).out)["tokens_per_step"]; };
  EXPECT_EQ(tokens("--batch 010 --seq 016"), 160);
  EXPECT_EQ(tokens("--batch 2 --seq 0000000000000000000000016"), 32);
  train("--steps 02 --seed 010 --log a.jsonl"), train("--steps 2 --seed 10 --log b.jsonl");
  EXPECT_EQ(log("a.jsonl")[0]["seed"], 10);
  EXPECT_EQ(log("a.jsonl").back()["loss"], log("b.jsonl").back()["loss"]);
  for (const char* wrong : {"0x10", "99999999999999999999", "1e3", "7s", "''"}) {
    for (const char* option : {"--steps", "--seed", "--warmup", "--eval-every", "--save-every", "--keep", "--decoder-tile"}) {
      refuses_training(string(option) + " " + wrong, string(option) + ": ");
    }
    refuses("plan --arch brain.json --seq " + string(wrong), "--seq: ");
    refuses("plan --arch brain.json --compare brain.json \"brain.json --seq " + string(wrong) + "\"", "--seq: ");
    refuses("corpus train-tokenizer brain.json --out t.model --vocabulary " + string(wrong), "--vocabulary: ");
    refuses("neurogen-engine generate --init w --tokenizer t --seed " + string(wrong), "--seed: ");
    refuses("neurogen-engine bench --repeats " + string(wrong), "--repeats: ");
    refuses("neurogen-engine diagnose --repeats " + string(wrong), "--repeats: ");
  }
  refuses_training("--seed 99999999999999999999", "use -9223372036854775808 to 9223372036854775807");
  for (const auto& [arguments, limit] :
       std::initializer_list<std::pair<string, string>>{{"--lr 1e10", "--lr is 10000000000: use a rate from 0 to 1000"},
                                                        {"--lr 1e999", "out of range"},
                                                        {"--lr 0x1p4", "not a decimal number"},
                                                        {"--epochs 1e10", "at most 1e9"},
                                                        {"--minutes 1e10", "at most 1e9"},
                                                        {"--budget 99999999999999999999", "at most 18446744073709551615 bytes"}}) {
    refuses_training(arguments, limit);
  }
  refuses("plan --arch brain.json --batch 99999999999999999999", "use a whole number from 1 to 1048576");
  refuses("plan --arch brain.json --threads 9999999999", "use 1 to 1024");
}

TEST_F(CommandLine, DoctorHasALineForEachThingAndItsAdviceHolds) {
  const ProgramResult result = run("neurogen-engine doctor");
  EXPECT_EQ(result.status, 0) << result.out;
  EXPECT_EQ(result.err, "");
  for (const char* part : {"CPU ", "OpenBLAS ", "memory ", "fits ", "libraries ", "GPU "})
    EXPECT_NE(result.out.find(part), string::npos) << result.out;
  std::istringstream lines(result.out);
  int followed = 0;
  for (string line; std::getline(lines, line);) {
    EXPECT_TRUE(line.rfind("\u2713 ", 0) == 0 || line.rfind("! ", 0) == 0) << line;
    const auto at = line.find("--arch ");
    if (at == string::npos || line.find("--device cpu") == string::npos) continue;
    const string settings = line.substr(at, line.find(';') - at);
    EXPECT_EQ(run("plan " + settings).status, 0) << line;
    ++followed;
  }
  EXPECT_EQ(followed, 1) << result.out;
}

TEST_F(CommandLine, NeverOverwritesWhatItReads) {
  const string before = read_file(directory_.path("text.bin"));
  refuses_training("--log ./text.bin", "would overwrite text.bin");
  directory_.file("w.safetensors", "weights");
  refuses_training("--init w.safetensors --export ./w.safetensors", "would overwrite w.safetensors");
  EXPECT_EQ(read_file(directory_.path("text.bin")), before);
}

TEST_F(CommandLine, FindsOutBeforeTrainingThatResultsCannotBeWritten) {
  const string many = "--steps 1000000 ";  // would take minutes
  refuses_training(many + "--log none/log.jsonl", "none/log.jsonl: cannot write the log");
  refuses_training(many + "--log .", ".: cannot write the log");
  refuses_training(many + "--export none/weights.safetensors", "none/weights.safetensors cannot be created", 1);
  refuses_training(many + "--export .", ". is a directory");
  refuses_training(many + "--export /dev/full", "not a regular file");
  refuses_training(many + "--log /dev/full", "/dev/full: cannot write the log: No space left", 1);
  EXPECT_EQ(directory_.files(), 3u);
  for (const string& command : {"plan --json " + kBrain, string("plan --help"), "neurogen-engine " + kTrain + "--steps 1"}) {
    const ProgramResult full = run(command + " >/dev/full");
    EXPECT_EQ(full.status, 1) << command;
    EXPECT_NE(full.err.find("No space left"), string::npos) << command << full.err;
  }
}

TEST_F(CommandLine, AGpuThatIsAskedForAndNotThereIsNoReasonToTakeTheCpu) {
  for (const char* device : {"cuda", "cuda:1"}) {
    const ProgramResult result =
        run_program_in(directory_, "neurogen-engine " + kTrain + "--steps 1 --device " + device, "env CUDA_VISIBLE_DEVICES=");
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find("use --device cpu"), string::npos) << result.err;
  }
}

TEST_F(CommandLine, StopsPolitelyAtASignal) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    directory_.file("go.sh", "echo $$ > pid; exec " + programs_folder() + "/neurogen-engine " + kTrain +
                                 "--steps 100000000 --valid valid.bin --export w.safetensors --log s.jsonl");
    std::thread sender([&, number] {  // after three logged lines
      for (int i = 0; i < 1000; ++i) {
        const string text = read_file(directory_.path("s.jsonl"));
        if (std::count(text.begin(), text.end(), '\n') >= 3) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      kill(std::stoi(read_file(directory_.path("pid"))), number);
    });
    const ProgramResult result = run("corpus --version && timeout 60 sh go.sh");
    sender.join();
    EXPECT_EQ(result.status, 128 + number) << result.err;
    EXPECT_NE(result.out.find("stopped after "), string::npos) << result.out;
    EXPECT_NE(result.out.find("w.safetensors"), string::npos) << result.out;
    const auto lines = log("s.jsonl");
    ASSERT_GE(lines.size(), 4u);
    EXPECT_EQ(lines.back()["event"], "summary");
    EXPECT_EQ(lines[lines.size() - 2]["event"], "step");
    EXPECT_EQ(lines[lines.size() - 2]["step"], lines.back()["steps"]);
    std::filesystem::remove(directory_.path("s.jsonl"));
  }
}

TEST_F(CommandLine, TrainsEvaluatesAndSpeaks) {
  string text;
  for (int i = 0; i < 200; ++i)
    text += "the " + std::to_string(i) + "th line of the text has the number " + std::to_string(i) + "\n";
  directory_.file("text.txt", text);
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 300 --out t.model").status, 0);
  const string words = "--arch brain.json --batch 4 --seq 32 --data text.txt --tokenizer t.model ";
  const ProgramResult trained = run("neurogen-engine train " + words + "--steps 60 --progress none --export w.safetensors");
  ASSERT_EQ(trained.status, 0) << trained.err;
  const ProgramResult evaluated =
      run("neurogen-engine eval --data text.txt --tokenizer t.model --init w.safetensors --batch 4 --seq 32 --ngrams text.txt");
  EXPECT_EQ(evaluated.status, 0) << evaluated.err;
  for (const char* part : {"tokens predicted", "bits per byte"}) EXPECT_NE(evaluated.out.find(part), string::npos);
  // Each model's figures are consistent: perplexity, perplexity per word, bits per byte, shares of right answers.
  string predicted_tokens = evaluated.out.substr(0, evaluated.out.find(' '));
  std::erase(predicted_tokens, ',');
  const double predicted = std::stod(predicted_tokens), words_there = 200 * 10, bytes = static_cast<double>(text.size());
  for (const char* name : {"test  ", "Kneser-Ney bigram", "Kneser-Ney trigram"}) {
    const auto at = evaluated.out.find(name);
    ASSERT_NE(at, string::npos) << evaluated.out;
    double loss, perplexity, per_word, bits, right, of_five;
    ASSERT_EQ(std::sscanf(evaluated.out.c_str() + at + 24, "%lf %lf %lf %lf %lf %% %lf", &loss, &perplexity, &per_word, &bits,
                          &right, &of_five),
              6);
    EXPECT_NEAR(perplexity, std::exp(loss), 0.01 * perplexity);
    EXPECT_NEAR(std::log(per_word), loss * predicted / words_there, 0.02 * std::log(per_word));
    EXPECT_NEAR(bits, loss * predicted / bytes / std::log(2.0), 0.02 * bits);
    EXPECT_TRUE(0 < right && right < of_five && of_five <= 100) << right << " " << of_five;
  }
  // The plan is exact: its minimum is enough, and one byte less is not.
  const string eval = "neurogen-engine eval --data text.txt --tokenizer t.model --init w.safetensors --batch 4 --seq 32 --budget ";
  string needed = run(eval + "1M").err;
  needed = needed.substr(needed.find("needs ") + 6);
  needed = needed.substr(0, needed.find(" bytes"));
  std::erase(needed, ',');
  EXPECT_EQ(run(eval + needed).status, 0) << needed;
  refuses(eval + std::to_string(std::stol(needed) - 1), "needs");
  const string speak = "neurogen-engine generate --init w.safetensors --tokenizer t.model ";
  const auto say = [&](const string& arguments) {
    const ProgramResult said = run(speak + "--prompt 'the 7' " + arguments);
    EXPECT_EQ(said.status, 0) << said.err;
    EXPECT_NE(said.err.find("tokens/s), allocations meanwhile: 0\n"), string::npos) << said.err;
    return said.out;
  };
  EXPECT_EQ(say("--seed 3").rfind("the 7", 0), 0u);
  EXPECT_EQ(say("--seed 3"), say("--seed 3"));
  EXPECT_NE(say("--seed 3"), say("--seed 4"));
  const string greedy = say("--temperature 0 --seed 3");
  for (const char* same : {"--temperature 0 --seed 4", "--top-k 1", "--top-p 0", "--min-p 1"}) EXPECT_EQ(say(same), greedy) << same;
  EXPECT_NE(say("--temperature 0 --repetition-penalty 1.5"), greedy);
  EXPECT_LT(say("--temperature 0 --max-tokens 5").size(), greedy.size());
  EXPECT_EQ(greedy.rfind(say("--temperature 0 --max-tokens 5").substr(0, 7), 0), 0u);
  // Stops before the text given by --stop; the prompt may come from standard input.
  const string stop = greedy.substr(10, 2);
  EXPECT_EQ(say("--temperature 0 --stop never --stop '" + stop + "'"), greedy.substr(0, greedy.find(stop, 5)) + "\n");
  const ProgramResult piped =
      run("corpus --version >/dev/null; printf 'the 7\\n' | timeout 60 " + programs_folder() + "/" + speak + "--temperature 0");
  EXPECT_EQ(piped.out, greedy) << piped.err;
  // A prompt that ends with "\r\n" gives the same.
  const ProgramResult returned =
      run("corpus --version >/dev/null; printf 'the 7\\r\\n' | timeout 60 " + programs_folder() + "/" + speak + "--temperature 0");
  EXPECT_EQ(returned.out, greedy) << returned.err;
  // A line per token: log-probability, id, text.
  double sum = 0;
  string spoken;
  std::istringstream lines(say("--temperature 0 --max-tokens 12 --logprobs"));
  for (string line; std::getline(lines, line);) {
    double log_probability = 1;
    int token = -1, at = 0;
    ASSERT_EQ(std::sscanf(line.c_str(), "%lf %d  \"%n", &log_probability, &token, &at), 2) << line;
    EXPECT_LE(log_probability, 0);
    EXPECT_LT(token, 300);
    spoken += line.substr(static_cast<std::size_t>(at), line.size() - static_cast<std::size_t>(at) - 1);
    sum += log_probability;
  }
  EXPECT_EQ(greedy.rfind("the 7" + spoken.substr(0, spoken.find("\\x")), 0), 0u) << spoken;
  EXPECT_GT(sum, -12 * 4.0);  // the likeliest of 300 tokens, after some training
  const ProgramResult cut = run(speak + "--prompt the --max-tokens 2000 | head -c 8");
  EXPECT_EQ(cut.err, "");
  EXPECT_EQ(cut.out.size(), 8u);
  const ProgramResult full = run(speak + "--prompt the >/dev/full");
  EXPECT_EQ(full.status, 1);
  EXPECT_NE(full.err.find("standard output: No space left"), string::npos) << full.err;
  for (const auto& [arguments, part] :
       std::initializer_list<std::pair<string, string>>{{"--temperature nan", "temperature is nan: use 0 to 100"},
                                                        {"--temperature -1", "temperature is -1"},
                                                        {"--top-k -1", "top-k is -1"},
                                                        {"--top-p 1.5", "top-p is 1.5: use 0 to 1"},
                                                        {"--min-p nan", "min-p is nan"},
                                                        {"--repetition-penalty 0", "repetition-penalty is 0: use 0.01 to 100"},
                                                        {"--max-tokens 0", "max-tokens is 0"},
                                                        {"--seed -1", "seed is -1"},
                                                        {"--stop ''", "--stop is empty"},
                                                        {"--top-k x", "--top-k"},
                                                        {"--prompt '\xff'", "not UTF-8 text at byte 0"},
                                                        {"--prompt the --budget 1M", "needs"}}) {
    refuses(speak + arguments + " </dev/null", part);
  }
  // Trained with one tokenizer, used with another; a tokenizer larger than the brain's vocabulary.
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 310 --out u.model").status, 0);
  refuses("neurogen-engine generate --init w.safetensors --tokenizer u.model", "another tokenizer");
  refuses("neurogen-engine --arch brain.json --data text.txt --tokenizer u.model --steps 1", "310 pieces");
  refuses("neurogen-engine generate --init w.safetensors --tokenizer t.model --arch tiny", "has shape");
}

}  // namespace
}  // namespace neurogen
