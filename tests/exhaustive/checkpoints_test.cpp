// Checkpoints under attack, for longer than the other tests can.
#include "tests/hostile/damage.h"
#include "tests/tools/killed_run.h"

namespace neurogen {
namespace {

TEST(Checkpoints, ARunThatIsKilledAtAnyMomentLeavesAWholeOne) { KilledRun().kill_and_check(200, 2); }
TEST(Checkpoints, ARunThatIsKilledWhileItSavesBesideTrainingLeavesAWholeOne) { KilledRun("--snapshot").kill_and_check(200, 4); }

TEST(HostileCheckpoints, EveryWordOfTheManifest) { change_every_word(1); }
TEST(HostileCheckpoints, EveryByteOfTheFile) { flip_every_byte(1); }

}  // namespace
}  // namespace neurogen
