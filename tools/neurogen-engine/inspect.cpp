// neurogen-engine inspect: shows what a checkpoint or a file of pretrained weights holds.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/files/checkpoint.h"
#include "engine/files/checkpoint_directory.h"
#include "engine/files/json.h"
#include "engine/model/pretrained.h"
#include "engine/run/settings.h"
#include "engine/run/weights.h"
#include "tools/common/output.h"
#include "tools/neurogen-engine/commands.h"

namespace neurogen {
namespace {

using nlohmann::ordered_json;

// The smallest and the largest number of a tensor; null if it is empty or holds a number that is not finite.
ordered_json range_of(const FileTensor& tensor) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  const bool real = is_floating(tensor.dtype);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    const double value = real ? tensor.real(i) : static_cast<double>(tensor.integer(i));
    if (!std::isfinite(value)) return nullptr;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  return tensor.elements() > 0 ? ordered_json{low, high} : ordered_json(nullptr);
}

constexpr int kLevels = 16;  // of nesting in an architecture

std::string hexadecimal(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

ordered_json describe(const Checkpoint& file, bool verify) {
  const Manifest& m = file.manifest();
  const SavedOptions& o = m.options;
  const bool evaluated = std::isfinite(m.standing.held_out_loss);
  ordered_json all = {
      {"file", file.path()},
      {"format_version", kCheckpointVersion},
      {"architecture", parse_json<ordered_json>(m.architecture, kLevels, file.path())},
      {"steps", m.standing.steps},
      {"schedule_steps", m.standing.schedule_steps},
      {"epoch", m.standing.steps / m.steps_per_epoch},
      {"epoch_step", m.standing.steps % m.steps_per_epoch},
      {"steps_per_epoch", m.steps_per_epoch},
      {"held_out_loss", evaluated ? ordered_json(m.standing.held_out_loss) : ordered_json(nullptr)},
      {"seed", m.seed},
      {"learning_rate", m.rates.learning_rate.value()},
      {"synapse_rate", m.rates.synapse_rate.value()},
      {"table_rate", m.rates.table_rate},
      {"decoder_rate", m.rates.decoder_rate},
      {"warmup", m.rates.warmup},
      {"synapse_decay", o.synapse_decay},
      {"optimizer", name_of(static_cast<Optimizer>(o.optimizer))},
      {"clip", o.clip},
      {"batch", o.batch},
      {"window", o.window},
      {"accumulate", o.accumulate},
      {"document_end", o.document_end},
      {"vocabulary_tile", o.vocabulary_tile},
      {"compute", name_of(o.compute)},
      {"decoder_storage", name_of(o.decoder_storage)},
      {"logits", o.int8_logits ? "int8" : "compute"},
      {"weights", o.narrow_weights ? "16bit" : "fp32"},
      {"moments", o.narrow_moments ? "8bit" : "fp32"},
      {"updates", o.early_updates ? "backward" : "end"},
      {"keep_logits", o.keep_logits},
      {"text_tokens", m.text.tokens},
      {"text_hash", hexadecimal(m.text.hash)},
      {"text_weights", m.text.weights},
      {"tokenizer_hash", m.tokenizer ? ordered_json(hexadecimal(m.tokenizer)) : ordered_json(nullptr)},
      {"tokenizer_bytes", m.tokenizer_model.size()},
      {"image_begin", file.image_begin()},
      {"image_bytes", image_bytes(m.tensors)},
      {"tensors", ordered_json::array()},
  };
  const std::vector<Checkpoint::Fault> faults = verify ? file.faults() : std::vector<Checkpoint::Fault>();
  for (std::size_t i = 0; i < m.tensors.size(); ++i) {
    const Buffer& t = m.tensors[i];
    all["tensors"].push_back({{"name", t.name},
                              {"dtype", name_of(t.dtype)},
                              {"shape", t.shape},
                              {"offset", t.offset},
                              {"end", t.offset + t.bytes},
                              {"checksum", hexadecimal(m.checksums[i])}});
    if (!verify) continue;
    all["tensors"].back()["intact"] = faults[i] != Checkpoint::Fault::damaged;
    all["tensors"].back()["range"] = range_of(file.tensors()[i]);
  }
  return all;
}

void print_facts(const ordered_json& all) {
  for (const auto& [key, value] : all.items()) {
    if (key != "tensors") print_out("{:<16} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
}

void print_table(const ordered_json& all) {
  print_facts(all);
  print_out("\n{:<28}{:<6}{:<18}{:>14}{:>15}  {:<18}\n", "tensor", "type", "shape", "offset", "end", "checksum");
  for (const auto& t : all["tensors"]) {
    print_out("{:<28}{:<6}{:<18}{:>14}{:>15}  {:<18}", t["name"].get<std::string>(), t["dtype"].get<std::string>(),
              t["shape"].dump(), with_commas(t["offset"]), with_commas(t["end"]), t["checksum"].get<std::string>());
    if (t.contains("intact")) print_out("{:<9}", t["intact"] ? "intact" : "DAMAGED");
    const ordered_json range = t.value("range", ordered_json());
    if (range.is_array()) print_out("{:.6g} to {:.6g}", range[0].get<double>(), range[1].get<double>());
    else if (t.contains("range")) print_out("not finite");
    print_out("\n");
  }
}

// Whether a path is of pretrained weights: a GGUF file, or a folder of transformers, not of checkpoints.
bool holds_pretrained(const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown)) return std::filesystem::exists(path + "/config.json", unknown);
  return is_pretrained(path);
}

int inspect_pretrained(const std::string& name, bool as_json) {
  const std::unique_ptr<Pretrained> file = open_pretrained(name);
  ordered_json all = {{"file", file->path()},
                      {"format", file->format()},
                      {"architecture", parse_json<ordered_json>(file->architecture()->json(), kLevels, name)}};
  for (const EncodedTensor& t : file->tensors())
    all["tensors"].push_back({{"name", t.name}, {"dtype", name_of(t.encoding)}, {"shape", t.shape}, {"bytes", t.data.size()}});
  if (as_json) {
    print_out("{}\n", all.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
    return 0;
  }
  print_facts(all);
  print_out("\n{:<36}{:<6}{:<18}{:>14}\n", "tensor", "type", "shape", "bytes");
  for (const auto& t : all["tensors"]) {
    print_out("{:<36}{:<6}{:<18}{:>14}\n", t["name"].get<std::string>(), t["dtype"].get<std::string>(), t["shape"].dump(),
              with_commas(t["bytes"]));
  }
  return 0;
}

int inspect(const std::string& name, bool verify, bool as_json) {
  if (holds_pretrained(name)) {
    if (verify) throw Error("--verify compares checksums, which only checkpoints have: leave it out");
    return inspect_pretrained(name, as_json);
  }
  const Checkpoint file(checkpoint_file(name));
  const ordered_json all = describe(file, verify);
  if (as_json) print_out("{}\n", all.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
  else print_table(all);
  const auto& tensors = all["tensors"];
  const bool intact = std::all_of(tensors.begin(), tensors.end(), [](const auto& t) { return t.value("intact", true); });
  if (!intact) throw Error(file.path() + " is damaged: use the checkpoint before it");
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, int& status) {
  struct Settings {
    std::string file;
    bool verify = false, json = false;
  };
  auto s = std::make_shared<Settings>();
  app.add_option("file", s->file,
                 "a checkpoint, or a directory to take the newest from; or pretrained weights, a folder or a GGUF file")
      ->required();
  app.add_flag("--verify", s->verify, "read everything: compare checksums and show each tensor's range");
  app.add_flag("--json", s->json, "print one JSON object");
  app.callback([s, &status] { status = inspect(s->file, s->verify, s->json); });
}

}  // namespace neurogen
