// Signals: SIGINT and SIGTERM are noted, so that the step under way is finished; trouble with files is put into words.
#pragma once

namespace neurogen {

// What came before is forgotten. A second signal ends the process at once, unless `all` are wanted.
void catch_signals(bool all = false);
// The signal that came, 0 if none has.
int caught_signal();

// First thing in a program: a mapped file that another cuts short ends it with one sentence and status 1, and a file that
// grows over the system's limit is an error like any other.
void expect_file_trouble();

}  // namespace neurogen
