// Files that appear complete or not at all.
#include "engine/files/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using std::string;

TEST(AtomicFile, ReplacesFilesAloneAndWritesThroughLinks) {
  const TemporaryDirectory directory;
  const string path = directory.file("x", "old");
  std::filesystem::create_symlink(path, directory.path("link"));
  {
    AtomicFile file(directory.path("link"));
    file.write("new");
    EXPECT_EQ(read_file(path), "old");
    file.commit();
  }
  EXPECT_EQ(read_file(path), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(directory.path("link")));
  { AtomicFile(path).write("never committed"); }
  EXPECT_EQ(read_file(path), "new");
  EXPECT_EQ(directory.files(), 2u);
  EXPECT_ERROR(AtomicFile("/dev/null"), "/dev/null is not a regular file");
  // Chains of links to a file that does not exist yet are written through; circular links are refused.
  std::filesystem::create_directory(directory.path("folder"));
  std::filesystem::create_symlink("folder/second", directory.path("first"));
  std::filesystem::create_symlink("target", directory.path("folder/second"));
  {
    AtomicFile file(directory.path("first"));
    file.write("through");
    file.commit();
  }
  EXPECT_EQ(read_file(directory.path("folder/target")), "through");
  EXPECT_TRUE(std::filesystem::is_symlink(directory.path("first")));
  EXPECT_TRUE(std::filesystem::is_symlink(directory.path("folder/second")));
  std::filesystem::create_symlink("circle", directory.path("circle"));
  EXPECT_ERROR(AtomicFile(directory.path("circle")), "Too many levels of symbolic links");
  EXPECT_ERROR(AtomicFile(directory.path("")), "is a directory");
}

TEST(AtomicFile, KeepsAFileThatCameMeanwhile) {
  const TemporaryDirectory directory;
  const std::string path = directory.path("model");
  AtomicFile first(path), second(path);  // both find the name free
  first.write("first"), second.write("second");
  EXPECT_TRUE(first.commit(Existing::kept));
  EXPECT_FALSE(second.commit(Existing::kept));
  EXPECT_EQ(read_file(path), "first");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path("")), {}), 1);
}

TEST(AtomicFile, TakesEveryNameThatTheSystemTakes) {
  const TemporaryDirectory directory;
  for (std::size_t length = 245; length <= 255; ++length) {
    const string path = directory.path(string(length, 'n'));
    AtomicFile file(path);
    file.write("whole");
    file.commit();
    EXPECT_EQ(read_file(path), "whole");
  }
  EXPECT_ERROR(AtomicFile(directory.path(string(256, 'n'))), "cannot be created: File name too long");  // not after hours of work
  EXPECT_ERROR(AtomicFile(directory.path(string(5000, 'n'))), "cannot be created: File name too long");
}

// Also of a new file beside one that is replaced.
TEST(AtomicFile, LeavesNothingIfTheProgramIsKilled) {
  const TemporaryDirectory directory;
  if (!directory.has_nameless_files()) GTEST_SKIP() << "the file system has no files without names";
  directory.file("old", "old");
  const pid_t child = fork();
  if (child == 0) {
    AtomicFile file(directory.path("new")), replacing(directory.path("old"));
    for (AtomicFile* written : {&file, &replacing}) written->write("half");
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read_file(directory.path("old")), "old");
  EXPECT_EQ(directory.files(), 1u);
}

// As if it had been created by any other program.
TEST(AtomicFile, HasTheModeOfNewFiles) {
  const TemporaryDirectory directory;
  for (const mode_t mask : {022, 027, 077}) {
    const mode_t before = umask(mask);
    AtomicFile(directory.path("x")).commit();
    umask(before);
    struct stat status {};
    stat(directory.path("x").c_str(), &status);
    EXPECT_EQ(status.st_mode & 0777, 0666 & ~mask);
  }
}

}  // namespace
}  // namespace neurogen
