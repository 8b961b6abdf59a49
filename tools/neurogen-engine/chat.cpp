// neurogen-engine chat: the user and the model write lines in turn.
//
// If the tokenizer knows the model's chat template, that is how they speak. Otherwise the model has learned to continue text and
// knows no speakers, so a conversation is a text of lines: it reads the user's line (or the lines pasted at once) and writes the
// next one. Its only memory is its state. /save writes the lines, marked "> " (the user's) or "< " (the model's); /load resets the
// state and reads them again. If the model had drawn other pieces for the same letters than the tokenizer chooses, the new state
// differs, and so may the next answer.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <set>

#include "arena/error.h"
#include "engine/data/text.h"
#include "engine/files/atomic_file.h"
#include "engine/run/process.h"
#include "engine/run/speech.h"
#include "tools/common/clock.h"
#include "tools/common/output.h"
#include "tools/common/signals.h"
#include "tools/common/spelling.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/line_input.h"
#include "tools/neurogen-engine/speaking.h"

namespace neurogen {
namespace {

constexpr std::string_view kPerson = "> ", kBrain = "< ";
constexpr std::size_t kLongestAnswer = 1 << 20;  // bytes; reserved before an answer begins
constexpr const char* kHelp =
    "/help             show this help\n"
    "/reset            forget the conversation\n"
    "/params           show the parameters that /set changes, and the speed\n"
    "/set NAME VALUE   change a parameter, such as /set temperature 0.5\n"
    "/save FILE        write the conversation to a new file\n"
    "/load FILE        forget the conversation and read another\n"
    "/quit             leave, like the end of input (Ctrl-D)\n"
    "Any other line is said to the model. Ctrl-C stops its answer.\n";

class Chat {
 public:
  explicit Chat(SpeakingSettings& settings)
      : settings_(settings),
        voice_(settings, true),
        template_(voice_.tokenizer->chat_template()),
        speech_(template_ ? std::vector<std::string>{} : std::vector<std::string>{"\n"}, voice_.speaker->longest_piece()) {
    // A document's end would reset the memory of the conversation, and a line has no other end than its own.
    std::set<TokenId> silent;
    if (!template_) silent.insert(voice_.tokenizer->ends().begin(), voice_.tokenizer->ends().end());
    if (const std::int64_t end = voice_.session->model.options.document_end; end >= 0) silent.insert(static_cast<TokenId>(end));
    if (template_) turn_end_ = voice_.tokenizer->encode_marked(template_->turn_end());
    for (const TokenId id : turn_end_) silent.erase(id);
    for (const TokenId id : silent) voice_.speaker->sampler().silence(id);
  }

  int run() {
    catch_signals(true);
    LineInput input(std::string{kPerson}, {"/help", "/reset", "/params", "/set ", "/save ", "/load ", "/quit"});
    if (input.terminal()) {
      put(template_ ? fmt::format("The chat template is {}. /help shows the commands.\n", template_->name())
                    : "The model has no chat template that is known: it continues lines. /help shows the commands.\n");
    }
    begin();
    for (;;) {
      const std::optional<std::string> line = input.next();
      if (caught_signal() == SIGINT) {  // drops the line, not the conversation
        catch_signals(true);
        if (input.terminal()) put("\n");
      } else if (caught_signal()) {
        return 128 + caught_signal();
      } else if (!line) {
        if (input.terminal()) put("\n");
        return 0;
      } else {
        const bool command = line->starts_with('/');
        if (*line == "/quit") return 0;
        try {
          if (command) obey(*line);
          else if (!line->empty()) answer(*line);
        } catch (const Error& error) {
          if (!command && error.status() != Error::kMisuse) throw;
          print_error("neurogen-engine: {}\n", error.sentence(option_of));
        }
      }
    }
  }

 private:
  void begin() {
    voice_.speaker->reset();
    conversation_.clear();
    messages_ = voice_.opening();
    if (!template_) voice_.speaker->read(std::vector<TokenId>{voice_.tokenizer->line_end()});
  }

  void read_line(std::string_view line) { voice_.speaker->read(voice_.tokenizer->encode(std::string(line) + "\n")); }

  // The parts of the conversation that are read already: up to the end of the assistant's latest words.
  static auto unread(const std::vector<ChatTemplate::Part>& parts) {
    return std::find_if(parts.rbegin(), parts.rend(), [](const auto& part) { return part.special && part.learned; }).base();
  }

  void answer(const std::string& line) {
    if (find_invalid_utf8(line) != std::string::npos) throw Error("this line is not UTF-8 text: type it again");
    if (template_) {
      messages_.push_back({"user", line});
      const std::vector<ChatTemplate::Part> parts = template_->parts(messages_, true);
      voice_.speaker->read(encode_parts(*voice_.tokenizer, {unread(parts), parts.end()}).ids);
    } else {
      read_line(line);
    }
    std::string said;
    said.reserve(kLongestAnswer);
    const std::uint64_t sealed = heap_counters().allocations;
    const Clock::time_point begin = Clock::now();
    bool ended = false;
    for (std::int64_t made = 0; !ended && made < settings_.max_tokens && !caught_signal(); ++made, ++tokens_) {
      const Speaker::Said piece = voice_.speaker->speak();
      const std::string_view text = speech_.add(piece.text);
      // An empty line is not an answer: the model continues with the next one.
      ended = template_ ? voice_.ends(piece.token) : speech_.stopped() && !(said.empty() && text.empty());
      if (said.size() + text.size() > kLongestAnswer / 2) break;  // leaves room for the text held back
      put(text);
      said += text;
    }
    const std::string_view rest = speech_.finish();
    put(rest);
    said += rest;
    seconds_ += seconds_since(begin);
    allocations_ += heap_counters().allocations - sealed;
    if (caught_signal() == SIGINT) catch_signals(true);
    put("\n");
    if (said.find_first_not_of(" \t") == std::string::npos)
      print_error("neurogen-engine: the answer is empty or blank: say something else, or /set temperature higher\n");
    // The end that the model drew is part of the text; an answer that was cut off gets one.
    if (!ended) voice_.speaker->read(template_ ? turn_end_ : std::vector<TokenId>{voice_.tokenizer->line_end()});
    note(kPerson, line);
    note(kBrain, said);
    if (template_) messages_.push_back({"assistant", said});
  }

  // Every line of the text is marked.
  void note(std::string_view mark, std::string_view text) {
    conversation_ += mark;
    for (const char c : text) conversation_.append(1, c).append(c == '\n' ? mark : "");
    conversation_ += '\n';
  }

  void obey(const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string command = line.substr(0, space), rest = space == std::string::npos ? "" : line.substr(space + 1);
    const bool named = !rest.empty();
    if (command == "/help" && !named) put(kHelp);
    else if (command == "/reset" && !named) begin();
    else if (command == "/params" && !named) show_choices();
    else if (command == "/set" && named) set(rest);
    else if (command == "/save" && named) save(rest);
    else if (command == "/load" && named) load(rest);
    else throw Error(line + ": no such command: see /help");
  }

  void show_choices() {
    for (const Choice& choice : choices(settings_))
      put(fmt::format("{:<20}{:<10}{}\n", dashed(choice.name), choice.text(), choice.meaning));
    put(fmt::format("{} tokens answered, {:.1f} tokens/s\n", tokens_, static_cast<double>(tokens_) / std::max(seconds_, 1e-9)));
    put(fmt::format("allocations while answering: {}\n", allocations_));
  }

  void set(const std::string& words) {
    const std::size_t space = words.find(' ');
    const std::string name = words.substr(0, space);
    for (const Choice& choice : choices(settings_)) {
      if (name != dashed(choice.name) || space == std::string::npos) continue;
      choice.set(words.substr(space + 1));
      voice_.speaker->sampler().use(settings_.sampling);
      return;
    }
    throw Error("/set " + words + ": no such parameter and value: see /params");
  }

  void save(const std::string& file) const {
    if (::access(file.c_str(), F_OK) == 0) throw Error(file + " exists: name another file");
    AtomicFile out(file);
    out.write(conversation_);
    out.commit();
    put(fmt::format("saved to {}\n", file));
  }

  void load(const std::string& file) {
    const TextFile text(file);
    std::string_view rest = text.text();
    std::vector<std::string_view> lines;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view line = rest.substr(0, end);
      if (!line.starts_with(kPerson) && !line.starts_with(kBrain)) {
        throw Error(fmt::format("{} line {} begins neither with \"{}\" nor with \"{}\": it is not a saved conversation", file,
                                lines.size() + 1, kPerson, kBrain));
      }
      lines.push_back(line);
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    begin();
    for (const std::string_view line : lines) {
      const std::string_view words = line.substr(kPerson.size());
      const std::string role = line.starts_with(kPerson) ? "user" : "assistant";
      if (!template_) read_line(words);
      else if (!messages_.empty() && messages_.back().role == role) messages_.back().content.append("\n").append(words);
      else messages_.push_back({role, std::string(words)});
      conversation_ += std::string(line) + "\n";
    }
    if (template_) {
      const std::vector<ChatTemplate::Part> parts = template_->parts(messages_, false);
      voice_.speaker->read(encode_parts(*voice_.tokenizer, {parts.begin(), unread(parts)}).ids);
    }
    put(conversation_);
  }

  SpeakingSettings& settings_;
  Voice voice_;
  const std::optional<ChatTemplate>& template_;
  Speech speech_;
  std::vector<Message> messages_;  // of a chat by a template
  std::vector<TokenId> turn_end_;
  std::string conversation_;
  std::uint64_t allocations_ = 0;  // of the answers, like these
  std::int64_t tokens_ = 0;
  double seconds_ = 0;
};

}  // namespace

void add_chat(CLI::App& app, int& status) {
  auto s = std::make_shared<SpeakingSettings>();
  add_speaking_settings(app, *s);
  app.callback([s, &status] { status = Chat(*s).run(); });
}

}  // namespace neurogen
