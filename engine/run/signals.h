// Signals: SIGINT, SIGTERM and SIGHUP are noted, so that the step under way is finished; trouble with files is put into words.
#pragma once

namespace neurogen {

// Clears any earlier signal. A second SIGINT or SIGTERM ends the process, unless `all`. SIGHUP stays ignored under nohup.
void catch_signals(bool all = false);
// The signal that came, 0 if none has.
int caught_signal();

// First thing in a program: a mapped file that another process cuts short ends it with one sentence and status 1, and a file that
// grows over the system's limit is an error like any other.
void expect_file_trouble(const char* program);

// From now on, writing to a pipe whose reader has gone is an error like any other instead of the end of the program.
void outlive_readers();

}  // namespace neurogen
