// A machine that loses its power: the states that a disk may hold after any part of the recorded calls. Synced data is there. A
// file that was not synced may have all its bytes, none, zeros, or some blocks; in a directory that was not synced, any of the
// created, changed or removed names may be there.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "tests/disk/disk.h"

namespace neurogen {

class Crash {
 public:
  using Files = std::map<std::string, std::string>;  // name and contents
  // `noted`: the last number that the test noted before the crash.
  using Check = std::function<void(const Files& left, std::uint64_t noted, const std::string& when)>;

  // Visits every outcome at every moment, each only once. In directories it considers only names that end in `ending`.
  static void at_every_moment(const std::vector<DiskCall>& calls, const std::string& ending, const Check& check) {
    Crash crash{ending, check};
    crash.outcomes(0);
    for (std::size_t i = 0; i < calls.size(); ++i) {
      crash.apply(calls[i]);
      crash.outcomes(i + 1);
    }
  }

 private:
  Crash(std::string ending, Check check) : ending_(std::move(ending)), check_(std::move(check)) {}

  struct File {
    std::string now, safe;
    std::size_t changes = 0;  // number of writes
    bool synced = true;
  };
  static constexpr int kWays = 5;        // ways to lose unsynced data
  static constexpr int kDirectory = -1;  // stands for a directory instead of a file's number
  static constexpr std::size_t kMostPending = 12;

  void apply(const DiskCall& call) {
    if (call.file >= static_cast<int>(files_.size())) files_.resize(static_cast<std::size_t>(call.file) + 1);
    File* file = call.file < 0 ? nullptr : &files_[static_cast<std::size_t>(call.file)];
    switch (call.kind) {
      case DiskCall::write:
      case DiskCall::reserve:
        file->now.resize(std::max<std::size_t>(file->now.size(), call.where + call.bytes.size()));
        file->now.replace(call.where, call.bytes.size(), call.bytes);
        file->synced = false, ++file->changes;
        break;
      case DiskCall::sync:
        file->safe = file->now, file->synced = true;
        break;
      case DiskCall::sync_directory:
        for (auto at = pending_.begin(); at != pending_.end();) {
          const bool here = parent(at->path) == call.path;
          if (here) change(safe_, *at);
          at = here ? pending_.erase(at) : at + 1;
        }
        break;
      case DiskCall::note:
        noted_ = call.where;
        break;
      default:
        if (pending_.size() == kMostPending) throw std::length_error("too many names are not synced to try every subset");
        pending_.push_back(call);
    }
  }

  static std::string parent(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == path.npos ? "" : path.substr(0, slash);
  }

  using Names = std::map<std::string, int>;
  static bool reachable(const Names& names, const std::string& directory) {
    return directory.empty() || (names.contains(directory) && reachable(names, parent(directory)));
  }
  static void change(Names& names, const DiskCall& call) {
    if (call.kind == DiskCall::make_directory) names[call.path] = kDirectory;
    if (call.kind == DiskCall::create) names[call.path] = call.file;
    if (call.kind == DiskCall::rename || call.kind == DiskCall::remove) names.erase(call.path);
    if (call.kind == DiskCall::rename) names[call.to] = call.file;
  }

  static std::string left_of(const File& file, int way) {
    constexpr std::size_t kBlock = 4096;
    if (file.synced || way == 0) return file.now;
    if (way == 1) return file.safe;
    std::string left = file.safe;
    left.resize(file.now.size());
    if (way == 2) return left;
    if (way == 3) return file.now.substr(0, file.now.size() / 2);
    for (std::size_t at = 0; at < left.size(); at += 2 * kBlock) left.replace(at, kBlock, file.now, at, kBlock);
    return left;
  }

  void outcomes(std::size_t moment) {
    for (std::size_t subset = 0; subset < std::size_t{1} << pending_.size(); ++subset) {
      Names names = safe_;
      for (std::size_t i = 0; i < pending_.size(); ++i) {
        if (subset >> i & 1) change(names, pending_[i]);
      }
      const Names all = std::exchange(names, {});
      for (const auto& [name, file] : all) {
        if (file != kDirectory && name.ends_with(ending_) && reachable(all, parent(name))) names[name] = file;
      }
      for (int way = 0; way < kWays; ++way) {
        std::set<std::tuple<std::string, int, std::size_t, int>> key;
        for (const auto& [name, file] : names) {
          const File& f = files_[static_cast<std::size_t>(file)];
          key.insert({name, file, f.changes, f.synced ? 0 : way});
        }
        if (!seen_.insert({noted_, key}).second) continue;
        Files left;
        for (const auto& [name, file] : names) left[name] = left_of(files_[static_cast<std::size_t>(file)], way);
        check_(left, noted_,
               "after call " + std::to_string(moment) + ", of the names subset " + std::to_string(subset) +
                   ", unsynced bytes lost in way " + std::to_string(way));
      }
    }
  }

  std::string ending_;
  Check check_;
  std::vector<File> files_;
  Names safe_;
  std::vector<DiskCall> pending_;
  std::uint64_t noted_ = 0;
  std::set<std::pair<std::uint64_t, std::set<std::tuple<std::string, int, std::size_t, int>>>> seen_;
};

}  // namespace neurogen
