// These functions replace the C library's and call them.
#include "tests/disk/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <map>
#include <mutex>
#include <optional>

namespace neurogen::disk {
namespace {

struct Recorder {
  std::mutex mutex;
  bool on = false;
  std::string root;  // ends with '/'
  std::vector<DiskCall> calls;
  std::map<std::string, int> names;  // existing files
  std::map<int, int> open;           // file descriptors
  int files = 0;
  Faults faults;
  int counted = 0, refused = 0, interruptible = 0;
};
Recorder& recorder() {
  static Recorder& one = *new Recorder;  // never destroyed: files may be closed until the very end
  return one;
}

// Makes a call's path relative to the root; empty if it is elsewhere.
std::optional<std::string> inside(int directory, const char* path) {
  std::string whole = path;
  if (whole[0] != '/' && directory != AT_FDCWD) {
    char text[4096];
    const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(directory)).c_str(), text, sizeof text);
    whole = std::string(text, size < 0 ? 0 : static_cast<std::size_t>(size)) + '/' + whole;
  }
  while (whole.size() > 1 && whole.ends_with('/')) whole.pop_back();
  const std::string& root = recorder().root;
  if (whole + '/' == root) return "";
  if (!whole.starts_with(root)) return {};
  return whole.substr(root.size());
}

// Whether the test wants this call to fail.
bool fails() {
  Recorder& r = recorder();
  if (r.faults.interrupt && r.interruptible++ % 2 == 0) {
    errno = EINTR;
    return true;
  }
  if (r.counted++ != r.faults.refuse) return false;
  ++r.refused;
  errno = r.faults.error;
  return true;
}

// Locks the recorder if it is on.
struct Recording : std::unique_lock<std::mutex> {
  Recording() : std::unique_lock<std::mutex>(recorder().mutex) {}
  explicit operator bool() const { return recorder().on; }
};

long open_file(int directory, const char* path, int flags, mode_t mode) {
  const Recording on;
  Recorder& r = recorder();
  const std::optional<std::string> name = on ? inside(directory, path) : std::nullopt;
  if (name && fails()) return -1;
  const long descriptor = syscall(SYS_openat, directory, path, flags, mode);
  if (!name || descriptor < 0 || !(flags & O_CREAT)) return descriptor;
  // A file that is truncated counts as a new one: no disk must keep the old bytes.
  if (!r.names.contains(*name) || flags & O_TRUNC) {
    r.names[*name] = r.files++;
    r.calls.push_back({DiskCall::create, *name, "", r.names[*name], 0, ""});
  }
  r.open[static_cast<int>(descriptor)] = r.names[*name];
  return descriptor;
}

mode_t mode_of(int flags, std::va_list arguments) { return flags & O_CREAT ? va_arg(arguments, mode_t) : 0; }

// The number of an open, recorded file.
std::optional<int> file_of(int descriptor) {
  const auto found = recorder().open.find(descriptor);
  if (found == recorder().open.end()) return {};
  return found->second;
}

}  // namespace

void record(const std::string& root) {
  const Recording lock;
  Recorder& r = recorder();
  r.calls.clear(), r.names.clear(), r.open.clear();
  r.files = 0, r.faults = {}, r.root = root + (root.ends_with('/') ? "" : "/"), r.on = true;
}

std::vector<DiskCall> stop() {
  const Recording lock;
  recorder().on = false;
  return std::move(recorder().calls);
}

void note(std::uint64_t number) {
  const Recording lock;
  recorder().calls.push_back({DiskCall::note, "", "", -1, number, ""});
}

void set_faults(const Faults& faults) {
  const Recording lock;
  Recorder& r = recorder();
  r.faults = faults, r.counted = r.refused = r.interruptible = 0;
}

int refused() { return recorder().refused; }

}  // namespace neurogen::disk

using namespace neurogen::disk;
using neurogen::DiskCall;

extern "C" {

int open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return static_cast<int>(open_file(AT_FDCWD, path, flags, mode));
}

int openat(int directory, const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return static_cast<int>(open_file(directory, path, flags, mode));
}

int close(int descriptor) {
  const Recording on;
  if (on) recorder().open.erase(descriptor);
  return static_cast<int>(syscall(SYS_close, descriptor));
}

ssize_t write(int descriptor, const void* data, std::size_t bytes) {
  const Recording on;
  Recorder& r = recorder();
  const std::optional<int> file = on ? file_of(descriptor) : std::nullopt;
  if (!file) return syscall(SYS_write, descriptor, data, bytes);
  if (fails()) return -1;
  if (r.faults.shorten) bytes = std::max<std::size_t>(1, bytes / 3);
  const off_t at = lseek(descriptor, 0, SEEK_CUR);
  const ssize_t written = syscall(SYS_write, descriptor, data, bytes);
  if (written > 0) {
    r.calls.push_back({DiskCall::write,
                       "",
                       "",
                       *file,
                       static_cast<std::uint64_t>(at),
                       {static_cast<const char*>(data), static_cast<std::size_t>(written)}});
  }
  return written;
}

int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
  const Recording on;
  const std::optional<int> file = on ? file_of(descriptor) : std::nullopt;
  if (file && fails()) return -1;
  const long result = syscall(SYS_fallocate, descriptor, mode, offset, bytes);
  if (file && result == 0) {
    recorder().calls.push_back({DiskCall::reserve, "", "", *file, static_cast<std::uint64_t>(offset + bytes), ""});
  }
  return static_cast<int>(result);
}

int fsync(int descriptor) {
  const Recording on;
  const std::optional<int> file = on ? file_of(descriptor) : std::nullopt;
  const std::optional<std::string> directory = on && !file ? inside(descriptor, ".") : std::nullopt;
  if ((file || directory) && fails()) return -1;
  const long result = syscall(SYS_fsync, descriptor);
  if (file && result == 0) recorder().calls.push_back({DiskCall::sync, "", "", *file, 0, ""});
  if (directory && result == 0) {
    std::string name = *directory == "." ? "" : directory->substr(0, directory->size() - 2);
    recorder().calls.push_back({DiskCall::sync_directory, std::move(name), "", -1, 0, ""});
  }
  return static_cast<int>(result);
}

int renameat(int from_directory, const char* from, int to_directory, const char* to) noexcept {
  const Recording on;
  Recorder& r = recorder();
  const std::optional<std::string> name = on ? inside(from_directory, from) : std::nullopt;
  if (name && fails()) return -1;
  const long result = syscall(SYS_renameat, from_directory, from, to_directory, to);
  if (name && result == 0) {
    const std::string target = inside(to_directory, to).value_or("");
    r.calls.push_back({DiskCall::rename, *name, target, r.names[*name], 0, ""});
    r.names[target] = r.names[*name];
    r.names.erase(*name);
  }
  return static_cast<int>(result);
}

int unlinkat(int directory, const char* path, int flags) noexcept {
  const Recording on;
  const std::optional<std::string> name = on ? inside(directory, path) : std::nullopt;
  if (name && !recorder().faults.interrupt && fails()) return -1;
  const long result = syscall(SYS_unlinkat, directory, path, flags);
  if (name && result == 0) {
    recorder().calls.push_back({DiskCall::remove, *name, "", -1, 0, ""});
    recorder().names.erase(*name);
  }
  return static_cast<int>(result);
}

int mkdir(const char* path, mode_t mode) noexcept {
  const Recording on;
  const std::optional<std::string> name = on ? inside(AT_FDCWD, path) : std::nullopt;
  if (name && !recorder().faults.interrupt && fails()) return -1;
  const long result = syscall(SYS_mkdir, path, mode);
  if (name && result == 0) recorder().calls.push_back({DiskCall::make_directory, *name, "", -1, 0, ""});
  return static_cast<int>(result);
}

}  // extern "C"
