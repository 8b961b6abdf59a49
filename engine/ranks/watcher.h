// A thread that ends this process when the ranks cannot go on, whatever the other threads do: a rank that has died, that has
// failed, or that does not answer. Of all ranks on a host, one says why in one sentence.
#pragma once
#include <array>
#include <atomic>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/ranks/links.h"

namespace neurogen {

// How sentences begin and end: "PROGRAM: rank 1 was ended by signal 9: ADVICE".
struct Manner {
  std::string program, advice;
  int (*signal)() = [] { return 0; };  // a signal that this process has got and rank 0 should know, 0: none
};

class Watcher {
 public:
  static constexpr int kLost = 7;  // beats, one a second, that a rank may miss

  // The links must outlive it.
  Watcher(const Joined& joined, Manner manner);
  ~Watcher();  // stops watching
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // On rank 0: from now on other ranks may die, since only rank 0 has work left.
  void release() { released_ = true; }
  // On rank 0: ends the others with this exit status, says nothing, and stops watching; waits for those that are children.
  void end_others(int status);
  // On other ranks: makes rank 0 say that this rank has failed, and end all with the status. Does not return.
  [[noreturn]] void fail(std::string_view sentence, int status);
  // On other ranks: waits until rank 0 ends this process, with rank 0's own exit status.
  [[noreturn]] void wait_for_the_end();
  // Whether the caller is the one to say why the run ends. If not, another has said it, and this process is about to end.
  bool may_speak();
  // A signal that another rank has got; 0: none.
  int passed_signal() const { return passed_; }

 private:
  enum class Kind : std::int32_t { beat, failure, end, signal };
  struct Note {
    Kind kind;
    std::int32_t value;  // exit status, or the signal
    std::array<char, 1000> text;
  };
  struct Seen {  // of a link
    Note note;
    std::size_t bytes = 0;  // of the note, so far
    int missed = 0;         // beats
    bool over = false;      // nothing is expected of it any more
  };

  void watch();
  void read_notes(std::size_t i);
  void take(std::size_t i);
  void beat();
  void send(const Link& link, Kind kind, int value = 0, std::string_view text = {});
  void lose(std::size_t i, bool silent);
  [[noreturn]] void die(int status);
  void end_children(int status, int milliseconds);  // tells all others the end, and waits for those that are children

  const Joined& joined_;
  const Manner manner_;
  std::vector<Seen> seen_;
  std::mutex sending_;
  std::atomic<bool> stop_ = false, released_ = false, spoken_ = false;
  std::atomic<int> passed_ = 0;
  bool told_ = false;            // rank 0 knows of the signal
  int failed_ = -1, grace_ = 0;  // the link whose rank has failed, and beats until all end
  Descriptor wake_;
  std::thread thread_;
};

}  // namespace neurogen
