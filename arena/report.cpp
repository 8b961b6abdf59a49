#include "arena/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

namespace neurogen {
namespace {

constexpr ArenaKind kArenas[] = {ArenaKind::device, ArenaKind::host};
constexpr BufferKind kKinds[] = {BufferKind::persistent, BufferKind::loaded, BufferKind::derived, BufferKind::transient};
constexpr std::size_t kNameWidth = 46;
constexpr std::size_t kRefusalLines = 24;  // plus the rest of the same page

const ArenaPlan& part(const Plan& plan, ArenaKind kind) { return kind == ArenaKind::device ? plan.device : plan.host; }

std::string shortened(const std::string& text, std::size_t width) {
  return text.size() <= width ? text : text.substr(0, width - 3) + "...";
}

double percent(Bytes some, Bytes all) { return all == 0 ? 0 : 100.0 * static_cast<double>(some) / static_cast<double>(all); }

struct Line {
  std::string name;
  std::size_t buffers = 0;
  Bytes bytes = 0, at_peak = 0;  // rounded sizes: all buffers, and those alive at the peak

  void add_buffer(const Buffer& buffer, std::int64_t peak_op) {
    const Bytes size = align_up(buffer.bytes);
    ++buffers;
    bytes = add(bytes, size);
    if (buffer.first_op <= peak_op && peak_op <= buffer.last_op) at_peak = add(at_peak, size);
  }
  void add_line(const Line& line) {
    buffers += line.buffers;
    bytes = add(bytes, line.bytes);
    at_peak = add(at_peak, line.at_peak);
  }
  std::string text(Bytes whole) const {
    return fmt::format("{:<{}} {:>7} {:>17} {:>17} {:>6.1f} %\n", shortened(name, kNameWidth), kNameWidth, buffers,
                       with_commas(bytes), with_commas(at_peak), percent(at_peak, whole));
  }
};

// Lines for one buffer kind of one arena: the total, then its families, largest at the peak first. Families below 0.5 % of the
// arena at the peak share a line, and so do those that are not alive at the peak.
std::string class_lines(const Plan& plan, ArenaKind arena, BufferKind kind) {
  const ArenaPlan& whole = part(plan, arena);
  Line all{.name = fmt::format("  {}", name_of(kind))};
  std::map<std::string, Line> families;
  for (const Buffer& buffer : plan.buffers) {
    if (buffer.arena != arena || buffer.kind != kind) continue;
    Line& family = families[family_of(buffer.name)];
    family.name = fmt::format("    {}", family.buffers == 0 ? buffer.name : family_of(buffer.name));
    family.add_buffer(buffer, whole.peak_op);
    all.add_buffer(buffer, whole.peak_op);
  }
  if (all.buffers == 0) return "";
  std::vector<Line> lines;
  for (const auto& [key, line] : families) lines.push_back(line);
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Line& a, const Line& b) { return std::tie(a.at_peak, a.bytes) > std::tie(b.at_peak, b.bytes); });
  std::string text = all.text(whole.lower_bound);
  Line small{.name = "    each less than 0.5 % of the arena"}, absent{.name = "    not alive at the peak"};
  for (const Line& line : lines) {
    if (line.at_peak > 0 && line.at_peak >= whole.bytes / 200) {
      text += line.text(whole.lower_bound);
    } else {
      (line.at_peak > 0 ? small : absent).add_line(line);
    }
  }
  for (const Line* rest : {&small, &absent}) {
    if (rest->buffers > 0) text += rest->text(whole.lower_bound);
  }
  return text;
}

std::string total_line(const std::string& name, Bytes bytes) {
  return fmt::format("{:<{}} {:>25}   {}\n", name, kNameWidth, with_commas(bytes), human(bytes));
}

std::string snapshot_line(const Plan& plan) {
  if (plan.snapshot == Snapshot::none) return "";
  const bool counts = plan.snapshot == Snapshot::in_budget;
  return total_line(counts ? "snapshot (ordinary memory)" : "snapshot (ordinary memory, beside the budget)", plan.snapshot_bytes());
}

std::string totals(const Plan& plan, const ReportFacts& facts) {
  return total_line("overhead (context, libraries, heap)", plan.overhead) +
         total_line("  of that at most for the C++ heap", facts.heap_cap) +
         (facts.nccl > 0 ? total_line("  of that at most for NCCL", facts.nccl) : "") + snapshot_line(plan) +
         total_line("total", plan.total()) + total_line("budget", plan.budget) +
         (plan.fits() ? total_line("left", plan.budget - plan.total()) : total_line("missing", plan.total() - plan.budget)) +
         total_line("smallest budget that runs these settings", facts.minimum_budget);
}

}  // namespace

std::string family_of(const std::string& name) {
  std::string family;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) family += c;
    if (digit && !family.ends_with('#')) family += '#';
  }
  return family;
}

std::string plan_table(const Plan& plan, const ReportFacts& facts) {
  std::string text = facts.title + "\n\n";
  for (const ArenaKind arena : kArenas) {
    const ArenaPlan& whole = part(plan, arena);
    if (whole.bytes == 0) continue;
    text += fmt::format("{:<{}} {:>7} {:>17} {:>17} {:>8}\n", fmt::format("{} arena", name_of(arena)), kNameWidth, "buffers",
                        "bytes", "at the peak", "share");
    for (const BufferKind kind : kKinds) text += class_lines(plan, arena, kind);
    const std::string peak = plan.operations.empty() ? "" : plan.operations[static_cast<std::size_t>(whole.peak_op)];
    text += fmt::format(
        "  {} placed by order \"{}\", {:.2f} % above the lower bound {}\n"
        "  peak at operation {} of {}: {}\n\n",
        with_commas(whole.bytes), whole.order, percent(whole.bytes - whole.lower_bound, whole.lower_bound),
        with_commas(whole.lower_bound), whole.peak_op + 1, plan.operations.size(), peak);
  }
  text += total_line("device arena", plan.device.bytes) + total_line("host arena", plan.host.bytes) + totals(plan, facts);
  return text + total_line("lower bound of any placement", plan.lower_bound());
}

std::string plan_summary(const Plan& plan, const ReportFacts& facts) {
  const auto classes = [](const ArenaPlan& arena) {
    return total_line("  persistent: parameters and optimizer state", arena.persistent) +
           (arena.loaded > 0 ? total_line("  loaded: frozen weights", arena.loaded) : "") +
           total_line("  derived: copies and workspaces", arena.derived) +
           total_line("  transient: activations and gradients", arena.bytes - arena.persistent - arena.derived - arena.loaded);
  };
  return facts.title + "\n\n" + total_line("device arena", plan.device.bytes) + classes(plan.device) +
         total_line("host arena", plan.host.bytes) + totals(plan, facts);
}

std::string plan_json(const Plan& plan, const ReportFacts& facts) {
  nlohmann::ordered_json json = {{"budget_bytes", plan.budget},
                                 {"device_arena_bytes", plan.device.bytes},
                                 {"host_arena_bytes", plan.host.bytes},
                                 {"overhead_bytes", plan.overhead},
                                 {"total_bytes", plan.total()},
                                 {"lower_bound_bytes", plan.lower_bound()},
                                 {"minimum_budget_bytes", facts.minimum_budget},
                                 {"fits", plan.fits()},
                                 {"tokens_per_step", facts.tokens_per_step}};
  if (facts.nccl > 0) json["nccl_bytes"] = facts.nccl;
  if (plan.snapshot != Snapshot::none) {
    json["snapshot"] = {{"bytes", plan.snapshot_bytes()}, {"in_budget", plan.snapshot == Snapshot::in_budget}};
  }
  json["buffers"] = nlohmann::ordered_json::array();
  for (const Buffer& buffer : plan.buffers) {
    json["buffers"].push_back({{"name", buffer.name},
                               {"dtype", name_of(buffer.dtype)},
                               {"shape", buffer.shape},
                               {"bytes", buffer.bytes},
                               {"arena", name_of(buffer.arena)},
                               {"kind", name_of(buffer.kind)},
                               {"first_op", buffer.first_op},
                               {"last_op", buffer.last_op},
                               {"offset", buffer.offset}});
  }
  return json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);  // ASCII, which every reader accepts
}

std::string refusal_table(const Plan& plan) {
  std::string text = total_line("budget", plan.budget) + total_line("needed", plan.total()) +
                     total_line("missing", plan.fits() ? 0 : plan.total() - plan.budget);
  std::vector<std::size_t> alive;
  for (const ArenaKind arena : kArenas) {
    for (const std::size_t i : plan.alive(arena, part(plan, arena).peak_op)) alive.push_back(i);
  }
  std::stable_sort(alive.begin(), alive.end(),
                   [&](std::size_t a, std::size_t b) { return plan.buffers[a].bytes > plan.buffers[b].bytes; });
  text += "\nalive at the peak, largest first\n";
  Bytes rest = 0;
  for (std::size_t i = 0; i < alive.size(); ++i) {
    const Buffer& buffer = plan.buffers[alive[i]];
    if (i >= kRefusalLines) {
      rest = add(rest, align_up(buffer.bytes));
      continue;
    }
    text += fmt::format("  {:<{}} {:>25}   {:<10} {} {}\n", shortened(buffer.name, kNameWidth - 2), kNameWidth - 2,
                        with_commas(buffer.bytes), name_of(buffer.kind), name_of(buffer.dtype), to_string(buffer.shape));
  }
  if (alive.size() > kRefusalLines) text += total_line(fmt::format("  and {} smaller", alive.size() - kRefusalLines), rest);
  return text + total_line("overhead (context, libraries, heap)", plan.overhead) + snapshot_line(plan);
}

}  // namespace neurogen
