#include "tools/neurogen-engine/follower.h"

#include "engine/run/trainer.h"
#include "tools/neurogen-engine/overhead.h"

namespace neurogen {

void follow(const TrainSettings& settings, Session& session, const Texts& texts, std::int64_t first, Ranks& ranks) {
  Trainer trainer(session.model, session.program, texts.train, settings.rates, static_cast<std::uint64_t>(settings.seed), first,
                  session.rank);
  const Graph::Range train = session.model.programs.train;
  // A GPU's program of exchanges that rank 0 captures for its log, all capture.
  std::vector<double> times(train.end - train.begin);
  if (!settings.log.empty()) {
    const HeapCapLifted capturing;
    session.program.prepare_times(train);
  }
  Orders orders(ranks, session);
  checked_overhead(session);
  orders.compare(first);
  while (const auto order = orders.next()) {
    if (order->timed) session.program.time_next_run(times);
    trainer.run_step(order->steps);
    if (order->compare) orders.compare(trainer.step());
  }
  orders.compare(trainer.step());
  orders.largest(measured_overhead(session));
}

}  // namespace neurogen
