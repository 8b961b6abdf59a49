// Signals: records SIGINT, SIGTERM and SIGHUP, so that the current step finishes, and turns file signals into error messages.
#pragma once

namespace neurogen {

// Clears any earlier signal. A second SIGINT or SIGTERM ends the process, unless `all`. SIGHUP stays ignored under nohup.
void catch_signals(bool all = false);
// The signal received, 0 if none.
int caught_signal();

// Call first in a program: if another process truncates a mapped file, the program ends with one sentence and status 1; exceeding
// the file size limit becomes an ordinary error.
void expect_file_trouble(const char* program);

// From now on, writing to a pipe without a reader is an ordinary error instead of ending the program.
void outlive_readers();

}  // namespace neurogen
