#include "tools/neurogen-engine/run_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "arena/error.h"
#include "engine/data/text.h"
#include "engine/files/json.h"
#include "engine/files/log.h"

namespace neurogen {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMost = 4000;  // entries of a list, more than a screen has points
constexpr std::array kColumns = {"step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s", "device_ms", "host_allocations"};

// Keeps every entry; once there are too many, every second, then every fourth, and so on; always the last.
class Thinned {
 public:
  void add(Json entry) {
    if (count_++ % every_ == 0) {
      kept_.push_back(std::move(entry));
      last_ = nullptr;
    } else {
      last_ = std::move(entry);
    }
    if (kept_.size() < kMost) return;
    std::size_t to = 0;
    last_ = kept_.back();  // odd, so the loop drops it
    for (std::size_t from = 0; from < kept_.size(); from += 2) kept_[to++] = std::move(kept_[from]);
    kept_.resize(to);
    every_ *= 2;
  }
  std::vector<Json> entries() const {
    std::vector<Json> all = kept_;
    if (!last_.is_null()) all.push_back(last_);
    return all;
  }
  std::size_t every() const { return every_; }

 private:
  std::vector<Json> kept_;
  Json last_;
  std::size_t count_ = 0, every_ = 1;
};

// Extracts only the named fields and checks their types, so that drawing can rely on them.
Json numbers(const Json& from, std::initializer_list<const char*> fields) {
  Json out;
  for (const char* field : fields) {
    const Json& value = from.at(field);
    if (!value.is_number()) throw Error(fmt::format("\"{}\" is not a number", field));
    out[field] = value;
  }
  return out;
}
Json list_of_numbers(const Json& from) {
  const std::vector<double> values = from.get<std::vector<double>>();
  return values;
}

Json plan_of(const Json& from) {
  Json plan = numbers(from, {"budget_bytes", "device_arena_bytes", "host_arena_bytes", "overhead_bytes", "total_bytes",
                             "lower_bound_bytes", "minimum_budget_bytes", "tokens_per_step"});
  plan["buffers"] = Json::array();
  for (const Json& buffer : from.at("buffers")) {
    Json out;
    for (const char* text : {"name", "dtype", "arena", "kind"}) out[text] = buffer.at(text).get<std::string>();
    out["shape"] = buffer.at("shape").get<std::vector<std::int64_t>>();
    out.update(numbers(buffer, {"bytes", "first_op", "last_op", "offset"}));
    plan["buffers"].push_back(std::move(out));
  }
  return plan;
}

Json activity_of(const Json& event) {
  Json out = numbers(event, {"step", "tokens"});
  out["modules"] = Json::object();
  for (const auto& [name, module] : event.at("modules").items()) {
    Json& to = out["modules"][name] = numbers(module, {"mean", "spread", "dead", "saturated"});
    to["time_constants"] = list_of_numbers(module.at("time_constants"));
    if (to["time_constants"].size() != 5) throw Error("five time constants are needed");
  }
  if (event.contains("gates")) out["gates"] = numbers(event.at("gates"), {"mean", "open", "shut"});
  return out;
}

class Reader {
 public:
  void take(const Json& event) {
    const auto& kind = event.at("event").get_ref<const std::string&>();
    if (kind == "start" || kind == "resume") {
      data_["seed"] = event.at("seed").get<std::int64_t>();
      data_["device"] = event.at("device").get<std::string>();
      data_["arch"] = event.at("arch").at("name").get<std::string>();
      data_["plan"] = plan_of(event.at("plan"));
    } else if (kind == "program") {
      operations_ = event.at("operations").get<std::vector<std::string>>();
    } else if (kind == "step") {
      Json row = Json::array();
      for (const char* column : kColumns) row.push_back(numbers(event, {column})[column]);
      steps_.add(std::move(row));
    } else if (kind == "eval") {
      Json entry = numbers(event, {"step", "valid_loss", "perplexity"});
      if (event.contains("tokens")) entry.update(numbers(event, {"tokens"}));
      evals_.add(std::move(entry));
    } else if (kind == "times") {
      times_ = numbers(event, {"step"});
      times_["ms"] = list_of_numbers(event.at("ms"));
    } else if (kind == "activity") {
      activity_.add(activity_of(event));
    } else if (kind == "sample") {
      Json out = numbers(event, {"step"});
      for (const char* text : {"prompt", "text"}) out[text] = event.at(text).get<std::string>();
      samples_.add(std::move(out));
    } else if (kind == "summary") {
      summary_ = numbers(event, {"steps", "tokens", "tokens_per_s", "loss", "peak_device_bytes", "overhead_bytes", "budget_bytes"});
    }
  }

  bool started() const { return data_.contains("plan"); }

  Json result(const std::string& file) {
    data_["file"] = file;
    data_["operations"] = operations_;
    data_["every"] = steps_.every();
    for (const char* column : kColumns) data_["steps"][column] = Json::array();
    for (const Json& row : steps_.entries()) {
      for (std::size_t c = 0; c < kColumns.size(); ++c) data_["steps"][kColumns[c]].push_back(row[c]);
    }
    data_["evals"] = evals_.entries();
    data_["activity"] = activity_.entries();
    data_["samples"] = samples_.entries();
    data_["times"] = times_;
    data_["summary"] = summary_;
    return std::move(data_);
  }

 private:
  Json data_, times_, summary_;
  std::vector<std::string> operations_;
  Thinned steps_, evals_, activity_, samples_;
};

}  // namespace

nlohmann::ordered_json read_run_log(const std::string& file) {
  const TextFile text(file);
  Reader reader;
  std::string_view rest = text.text();
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    const bool cut = end == std::string_view::npos;
    rest.remove_prefix(cut ? rest.size() : end + 1);
    const auto wrong = [&](const std::string& what) {
      return Error(fmt::format("{} line {}: {}: give the file that train --log wrote", file, number, what));
    };
    const Json event = parse_json<Json>(line, kLogLevels, fmt::format("{} line {}", file, number));
    if (event.is_discarded() && cut) break;
    if (!event.is_object()) throw wrong("not a JSON object");
    try {
      reader.take(event);
    } catch (const nlohmann::json::exception&) {
      throw wrong("a field is missing or of another kind");
    } catch (const Error& error) {
      throw wrong(error.what());
    }
  }
  if (!reader.started()) throw Error(file + " lacks the start of a run: give the file that train --log wrote");
  return reader.result(file);
}

}  // namespace neurogen
