#include "tools/neurogen-engine/observer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/files/json.h"
#include "engine/run/process.h"

namespace neurogen {
namespace {

constexpr std::size_t kLine = 1 << 16;  // bytes of a line whose length does not depend on the program
constexpr std::size_t kTimeBytes = 16;  // bytes of one operation's time in a line
constexpr Sampling kSampling = {.temperature = 0.7};

// Appends the text with control characters as blanks, for one line of a terminal.
void append_shown(std::string& line, std::string_view text) {
  for (const char c : text) line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
}

}  // namespace

Observer::Observer(Session& session, const Texts& texts, bool logged)
    : session_(session), tokenizer_(texts.tokenizer.get()), logged_(logged) {
  const Model& model = session.model;
  const auto capturing = session.cpu ? nullptr : std::make_unique<HeapCapLifted>();  // the driver keeps graphs on the heap
  if (logged) {
    const Graph::Range train = model.programs.train;
    times_.resize(train.end - train.begin);
    session.program.prepare_times(train);
    if (!texts.valid.empty()) meter_.emplace(model, session.program, texts.valid.front());
  }
  line_.reserve(kLine + kTimeBytes * times_.size());
  if (texts.valid.empty() || !tokenizer_) return;
  writer_.emplace(model, session.program, texts.valid.front(), kSampling);
  std::size_t longest = 0;
  for (std::int32_t id = 0; id < model.architecture->vocabulary(); ++id) {
    const std::size_t bytes = tokenizer_->piece_bytes(id).size();
    longest = std::max(longest, bytes);
    if (bytes == 0) writer_->silence(id);
  }
  speech_.emplace(std::vector<std::string>(), longest);
}

void Observer::log_program(Log& log, std::int64_t step) const {
  if (!logged_) return;
  nlohmann::ordered_json event = {{"event", "program"}, {"step", step}, {"operations", session_.arena.plan().operations}};
  log.line(event.dump());
}

void Observer::time_next_step() {
  if (logged_) session_.program.time_next_run(times_);
}

void Observer::log_times(Log& log, std::int64_t step) {
  if (!logged_) return;
  line_.clear();
  fmt::format_to(std::back_inserter(line_), "{{\"event\":\"times\",\"step\":{},\"ms\":[", step);
  for (const double& ms : times_) fmt::format_to(std::back_inserter(line_), "{}{:.4g}", &ms == times_.data() ? "" : ",", ms);
  line_ += "]}";
  log.line(line_);
}

void Observer::log_activity(Log& log, std::int64_t step) {
  if (!meter_) return;
  const Activity& activity = meter_->measure();
  line_.clear();
  const auto out = std::back_inserter(line_);
  fmt::format_to(out, "{{\"event\":\"activity\",\"step\":{},\"tokens\":{},\"modules\":{{", step, activity.tokens);
  for (const ModuleActivity& m : activity.modules) {
    fmt::format_to(out, "{}\"{}\":{{\"mean\":{:.6g},\"spread\":{:.6g},\"dead\":{:.6g},\"saturated\":{:.6g},\"time_constants\":",
                   &m == activity.modules.data() ? "" : ",", m.name, m.mean, m.spread, m.dead, m.saturated);
    const auto& t = m.time_constants;
    fmt::format_to(out, "[{:.6g},{:.6g},{:.6g},{:.6g},{:.6g}]}}", t[0], t[1], t[2], t[3], t[4]);
  }
  line_ += '}';
  if (const GateActivity& g = activity.gates; activity.gated)
    fmt::format_to(out, ",\"gates\":{{\"mean\":{:.6g},\"open\":{:.6g},\"shut\":{:.6g}}}", g.mean, g.open, g.shut);
  line_ += '}';
  log.line(line_);
}

template <typename Append>
void Observer::put_text(std::span<const std::int32_t> tokens, Append&& append) {
  for (const std::int32_t token : tokens) append(line_, speech_->add(tokenizer_->piece_bytes(token)));
  append(line_, speech_->finish());
}

std::string_view Observer::sample(Log& log, std::int64_t step) {
  if (!writer_) return {};
  const std::span<const std::int32_t> said = writer_->write();
  line_.clear();
  fmt::format_to(std::back_inserter(line_), "{{\"event\":\"sample\",\"step\":{},\"prompt\":\"", step);
  put_text(writer_->prompt(), append_json_text);
  line_ += "\",\"text\":\"";
  put_text(said, append_json_text);
  line_ += "\"}";
  log.line(line_);
  line_ = "  sample: ";
  put_text(writer_->prompt(), append_shown);
  line_ += " | ";
  put_text(said, append_shown);
  return line_;
}

}  // namespace neurogen
