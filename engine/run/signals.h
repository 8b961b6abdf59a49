// A polite stop: SIGINT and SIGTERM are noted, the step under way is finished.
#pragma once

namespace neurogen {

void catch_signals();
// The signal that came, 0 if none has. A second one ends the process at once.
int caught_signal();

}  // namespace neurogen
