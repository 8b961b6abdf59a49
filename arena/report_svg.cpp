#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "arena/report.h"

// Operations run from left to right, addresses upwards. Buffers that are always alive are bands at the bottom, over the whole
// width; if they are most of the arena, they get a smaller scale, which leaves room for the transients.
namespace neurogen {
namespace {

constexpr double kLeft = 92, kRight = 1372, kTop = 128, kBottom = 760, kWidth = 1400, kHeight = 900;
constexpr double kFixedShare = 0.3;    // largest share of the picture's height for buffers that are always alive
constexpr std::size_t kFamilies = 10;  // coloured families, the largest transient ones; the others are grey
constexpr double kLetter = 5.7;        // width of a letter in a label
constexpr double kOperationGap = 15;   // least distance between operation names

constexpr const char* kColours[] = {"#8ab6f0", "#f4a988", "#8fd3a5", "#e6a3d1", "#f2d272",
                                    "#b3a4ec", "#7fd1d6", "#f08f95", "#c3d67a", "#d2b48c"};
constexpr const char* kStyle = R"(<style>
text{font:10px ui-sans-serif,system-ui,sans-serif;fill:#222}
.page{fill:#fff}.line{stroke:#888;fill:none}.grid{stroke:#0001;fill:none}
.title{font-size:18px;font-weight:600}.small{fill:#666}
.b{stroke:#fff;stroke-width:.7}.on{fill:#111}
.persistent{fill:#9aa7b8;stroke-width:.35}.derived{fill:#c4ccd6;stroke-width:.35}.rest{fill:#d9d9d9}
.bound{stroke:#c0392b;stroke-dasharray:7 4;fill:none}.peak{stroke:#c0392b;stroke-dasharray:2 3;fill:none}
.alive{stroke:#222;stroke-opacity:.6;stroke-width:1.2;fill:none}.mark{fill:#c0392b;font-weight:600}
@media(prefers-color-scheme:dark){text{fill:#ddd}.on{fill:#111}.page{fill:#14171c}.small{fill:#999}
.grid{stroke:#fff2}.b{stroke:#14171c}
.alive{stroke:#fff}.bound,.peak{stroke:#ff8a7a}.mark{fill:#ff8a7a}}
)";

// Escapes UTF-8 text. XML cannot represent control characters, U+FFFE and U+FFFF: they become U+FFFD.
std::string escaped(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t';
    const std::string_view three = text.substr(at, 3);
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else if (c == '"') out += "&quot;";
    else if (control) out += "\uFFFD";
    else if (three == "\uFFFE" || three == "\uFFFF") out += "\uFFFD", at += 2;
    else out += c;
  }
  return out;
}

// The part of a name that identifies its module: up to the first point, blank or digit.
std::string owner(const std::string& name) { return name.substr(0, name.find_first_of("./ 0123456789")); }

std::string text_at(double x, double y, const char* attributes, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes, escaped(text));
}

std::string line_at(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\"/>\n", style, x1, y1, x2, y2);
}

class Picture {
 public:
  Picture(const Plan& plan, const ReportFacts& facts) : plan_(plan), facts_(facts), arena_(plan.device) {
    fixed_ = arena_.persistent + arena_.derived;
    const double all = static_cast<double>(std::max<Bytes>(arena_.bytes, 1)), share = static_cast<double>(fixed_) / all;
    fixed_height_ = (kBottom - kTop) * (arena_.bytes == fixed_ ? 1 : std::min(share, kFixedShare));
    compressed_ = arena_.bytes != fixed_ && share > kFixedShare;
    choose_colours();
  }

  std::string draw() const {
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" "
        "viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\">\n{2}",
        kWidth, kHeight, kStyle);
    for (std::size_t i = 0; i < families_.size(); ++i) svg += fmt::format(".f{}{{fill:{}}}", i, kColours[i]);
    svg += "</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n";
    svg += header() + ticks();
    for (const Buffer& buffer : plan_.buffers) {
      if (buffer.arena == ArenaKind::device && buffer.bytes != 0) svg += rectangle(buffer);
    }
    return svg + marks() + operations() + "</svg>\n";
  }

 private:
  double x(std::int64_t operation) const {
    const double n = static_cast<double>(std::max<std::size_t>(plan_.operations.size(), 1));
    return kLeft + (kRight - kLeft) * static_cast<double>(operation) / n;
  }
  double y(Bytes address) const {
    if (address <= fixed_) {
      return kBottom - (fixed_ == 0 ? 0 : fixed_height_ * static_cast<double>(address) / static_cast<double>(fixed_));
    }
    return kBottom - fixed_height_ -
           (kBottom - kTop - fixed_height_) * static_cast<double>(address - fixed_) / static_cast<double>(arena_.bytes - fixed_);
  }

  void choose_colours() {
    std::map<std::string, double> weight;  // bytes x operations: area in the picture
    for (const Buffer& buffer : plan_.buffers) {
      if (buffer.arena != ArenaKind::device || buffer.kind != BufferKind::transient) continue;
      weight[owner(buffer.name)] += static_cast<double>(buffer.bytes) * static_cast<double>(buffer.last_op - buffer.first_op + 1);
    }
    for (const auto& [name, bytes] : weight) families_.push_back(name);
    std::stable_sort(families_.begin(), families_.end(),
                     [&](const std::string& a, const std::string& b) { return weight[a] > weight[b]; });
    families_.resize(std::min(families_.size(), kFamilies));
  }

  std::string colour(const Buffer& buffer) const {
    if (buffer.kind != BufferKind::transient) return name_of(buffer.kind);
    const auto found = std::find(families_.begin(), families_.end(), owner(buffer.name));
    return found == families_.end() ? "rest" : fmt::format("f{}", found - families_.begin());
  }

  std::string header() const {
    std::string svg = text_at(kLeft, 34, "class=\"title\"", facts_.title);
    svg += text_at(
        kLeft, 56, "",
        fmt::format("device arena {} = persistent {} + derived {} + transient {} (order \"{}\"); host arena {}; "
                    "overhead {}; total {} of a budget of {}",
                    human(arena_.bytes), human(arena_.persistent), human(arena_.derived), human(arena_.bytes - fixed_),
                    arena_.order, human(plan_.host.bytes), human(plan_.overhead), human(plan_.total()), human(plan_.budget)));
    double at = kLeft;
    const auto entry = [&](const std::string& style, const std::string& name) {
      svg += fmt::format("<rect class=\"{}\" x=\"{:.1f}\" y=\"72\" width=\"12\" height=\"12\" rx=\"2\"/>\n", style, at);
      svg += text_at(at + 17, 82, "", name);
      at += 32 + kLetter * static_cast<double>(name.size());
    };
    entry("persistent", "persistent");
    entry("derived", "derived");
    for (std::size_t i = 0; i < families_.size(); ++i) entry(fmt::format("f{}", i), families_[i]);
    entry("rest", "other transients");
    svg += line_at(at, 78, at + 18, 78, "alive") + text_at(at + 23, 82, "", "bytes alive");
    return svg;
  }

  // Round addresses on the left, about 48 pixels apart; separately above and below a change of scale.
  std::string ticks() const {
    std::string svg;
    const auto scale = [&](Bytes from, Bytes to, double height) {
      const double wanted = static_cast<double>(to - from) * 48 / std::max(height, 1.0);
      Bytes step = 1;
      while (static_cast<double>(step) * 10 < wanted) step *= 10;
      step *= static_cast<double>(step) * 2 >= wanted ? 2 : static_cast<double>(step) * 5 >= wanted ? 5 : 10;
      for (Bytes tick = (from + step - 1) / step * step; tick <= to; tick += step) {
        svg += line_at(kLeft - 5, y(tick), kRight, y(tick), "grid");
        svg += text_at(kLeft - 9, y(tick) + 3.5, "class=\"small\" text-anchor=\"end\"", label(tick, step));
      }
    };
    if (compressed_) {
      scale(0, fixed_, fixed_height_);
      scale(fixed_ + static_cast<Bytes>(static_cast<double>(arena_.bytes - fixed_) * 0.02), arena_.bytes,
            kBottom - kTop - fixed_height_);
      svg += text_at(kLeft - 9, y(fixed_) + 3.5, "class=\"mark\" text-anchor=\"end\"", "scale changes");
    } else {
      scale(0, arena_.bytes, kBottom - kTop);
    }
    return svg + line_at(kLeft, kTop, kLeft, kBottom, "line") + line_at(kLeft, kBottom, kRight, kBottom, "line");
  }

  static std::string label(Bytes tick, Bytes step) {
    return step >= 1'000'000 ? with_commas(tick / 1'000'000) + " MB"
           : step >= 1'000   ? with_commas(tick / 1'000) + " KB"
                             : with_commas(tick) + " B";
  }

  std::string rectangle(const Buffer& buffer) const {
    const double left = x(buffer.first_op), width = std::max(x(buffer.last_op + 1) - left, 1.0);
    const double top = y(buffer.offset + buffer.bytes), height = std::max(y(buffer.offset) - top, 0.6);
    std::string svg = fmt::format(
        "<g><title>{}\n{} bytes ({}), {} {}\n{}, operations {} to {} ({} to {})\naddress {}</title>"
        "<rect class=\"b {}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
        escaped(buffer.name), with_commas(buffer.bytes), human(buffer.bytes), name_of(buffer.dtype), to_string(buffer.shape),
        name_of(buffer.kind), buffer.first_op, buffer.last_op, operation(buffer.first_op), operation(buffer.last_op),
        with_commas(buffer.offset), colour(buffer), left, top, width, height);
    return svg + name_inside(buffer.name, left + width / 2, top + height / 2, width, height) + "</g>\n";
  }

  // The whole name, horizontal or vertical, or the part after its first point, or nothing.
  static std::string name_inside(const std::string& name, double x, double y, double width, double height) {
    const std::size_t point = name.find('.');
    for (const std::string& text : {name, point == std::string::npos ? name : name.substr(point + 1)}) {
      const double length = kLetter * static_cast<double>(text.size()) + 4;
      if (width >= length && height >= 11) return text_at(x, y + 3.5, "class=\"on\" text-anchor=\"middle\"", text);
      if (height >= length && width >= 12) {
        return fmt::format("<text class=\"on\" text-anchor=\"middle\" transform=\"translate({:.1f} {:.1f})rotate(-90)\">{}</text>",
                           x + 3.5, y, escaped(text));
      }
    }
    return "";
  }

  // The bytes alive at each operation, their peak, the lower bound, and the arena's height.
  std::string marks() const {
    std::vector<Bytes> change(plan_.operations.size() + 1);
    for (const Buffer& buffer : plan_.buffers) {
      if (buffer.arena != ArenaKind::device || buffer.kind != BufferKind::transient) continue;
      change[static_cast<std::size_t>(buffer.first_op)] += align_up(buffer.bytes);
      change[static_cast<std::size_t>(buffer.last_op) + 1] -= align_up(buffer.bytes);  // modulo 2^64, like the sum
    }
    std::string path;
    Bytes alive = fixed_;
    for (std::size_t i = 0; i < plan_.operations.size(); ++i) {
      alive += change[i];
      const auto at = static_cast<std::int64_t>(i);
      path += fmt::format("{}{:.1f} {:.1f}H{:.1f}", i == 0 ? "M" : "L", x(at), y(alive), x(at + 1));
    }
    std::string svg = fmt::format("<path class=\"alive\" d=\"{}\"/>\n", path);
    svg += line_at(kLeft, y(arena_.bytes), kRight, y(arena_.bytes), "line");
    svg += line_at(kLeft, y(arena_.lower_bound), kRight, y(arena_.lower_bound), "bound");
    const double peak = (x(arena_.peak_op) + x(arena_.peak_op + 1)) / 2;
    svg += line_at(peak, kTop - 8, peak, kBottom, "peak");
    const bool right = peak > (kLeft + kRight) / 2;
    svg += text_at(peak, kTop - 12, right ? "class=\"mark\" text-anchor=\"end\"" : "class=\"mark\"",
                   fmt::format("peak at {}: lower bound {}, arena {} (+{:.2f} %)", operation(arena_.peak_op),
                               with_commas(arena_.lower_bound), with_commas(arena_.bytes),
                               100.0 * static_cast<double>(arena_.bytes - arena_.lower_bound) /
                                   static_cast<double>(std::max<Bytes>(arena_.lower_bound, 1))));
    return svg;
  }

  std::string operation(std::int64_t index) const {
    return plan_.operations.empty() ? "" : escaped(plan_.operations[static_cast<std::size_t>(index)]);
  }

  std::string operations() const {
    std::string svg;
    double free_from = kLeft;
    for (std::size_t i = 0; i < plan_.operations.size(); ++i) {
      const double at = (x(static_cast<std::int64_t>(i)) + x(static_cast<std::int64_t>(i) + 1)) / 2;
      if (at < free_from) continue;
      free_from = at + kOperationGap;
      svg += line_at(at, kBottom, at, kBottom + 4, "line");
      svg += fmt::format("<text class=\"small\" text-anchor=\"end\" transform=\"translate({:.1f} {:.1f})rotate(-55)\">{}</text>\n",
                         at + 4, kBottom + 12, escaped(plan_.operations[i].substr(0, 28)));
    }
    return svg;
  }

  const Plan& plan_;
  const ReportFacts& facts_;
  const ArenaPlan& arena_;
  Bytes fixed_ = 0;
  double fixed_height_ = 0;
  bool compressed_ = false;
  std::vector<std::string> families_;
};

}  // namespace

std::string plan_svg(const Plan& plan, const ReportFacts& facts) { return Picture(plan, facts).draw(); }

}  // namespace neurogen
