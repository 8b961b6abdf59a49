#include "engine/model/exchange.h"

#include "kernels/all_ranks.h"
#include "kernels/base/step_control.h"
#include "kernels/copy.h"

namespace neurogen {
namespace {

int next_ticket(Assembly& s) { return s.exchanges++ % kAllRanksTickets; }
std::string exchanged(const std::string& name) { return name + ".all_ranks"; }

}  // namespace

Exchange begin_sum(Assembly& s, const std::string& name, const std::vector<TensorId>& tensors) {
  Exchange exchange{exchanged(name), tensors, next_ticket(s)};
  s.graph.operation(exchange.name, {}, tensors, [=](auto& device, const Bindings& at) {
    in_lots<TensorView>(
        exchange.tensors, [&](TensorId id) { return at[id]; },
        [&](const Several<TensorView>& lot) {
          all_ranks_sum(device, {lot, exchange.ticket});
        });
  });
  return exchange;
}

Exchange begin_sum(Assembly& s, const std::string& name, TensorId tensor, std::int64_t first_row, std::int64_t rows) {
  Exchange exchange{exchanged(name), {tensor}, next_ticket(s)};
  const Buffer& whole = s.graph.tensors()[tensor.index];
  const double bytes =
      static_cast<double>(size_of(whole.dtype, whole.shape)) * static_cast<double>(rows) / static_cast<double>(whole.shape[0]);
  s.graph.operation(exchange.name, {}, {tensor},
                    [=, ticket = exchange.ticket](auto& device, const Bindings& at) {
                      all_ranks_sum(device, {{at[tensor].rows(first_row, rows)}, ticket});
                    },
                    {0, bytes});
  return exchange;
}

void end_exchange(Assembly& s, const Exchange& exchange) {
  s.graph.operation(exchange.name + ".wait", {}, exchange.tensors,
                    [ticket = exchange.ticket](auto& device, const Bindings&) { all_ranks_wait(device, ticket); }, {0, 0});
}

void sum_total(Assembly& s, const std::string& name, TensorId total, TensorId host) {
  if (!s.several_ranks()) return;
  const int ticket = next_ticket(s);
  s.graph.operation(exchanged(name), {}, {total, host}, [=](auto& device, const Bindings& at) {
    all_ranks_sum(device, {{at[total]}, ticket});
    all_ranks_wait(device, ticket);
    if (host) copy(device, at[total], at[host]);
  });
}

void share_overflow(Assembly& s, const std::string& name) {
  if (!s.several_ranks()) return;
  const int ticket = next_ticket(s);
  const TensorId control = s.control;
  s.graph.operation(exchanged(name), {}, {control}, [=](auto& device, const Bindings& at) {
    all_ranks_maximum(device, {{make_view(&at[control].template as<StepControl>()->overflow, DType::i32, {1})}, ticket});
    all_ranks_wait(device, ticket);
  });
}

std::vector<TensorId> of_all_ranks(Assembly& s, const std::string& name, const std::vector<TensorId>& tensors) {
  if (!s.several_ranks() || tensors.empty()) return tensors;
  const int ticket = next_ticket(s);
  std::vector<TensorId> all;
  for (const TensorId id : tensors) {
    const Buffer mine = s.graph.tensors()[id.index];
    Shape shape = mine.shape;
    shape[0] *= s.model.options.ranks;
    all.push_back(s.graph.transient(exchanged(mine.name), mine.dtype, shape));
  }
  s.graph.operation(exchanged(name), tensors, all, [=](auto& device, const Bindings& at) {
    AllRanksGather gather{{}, ticket};
    for (std::size_t i = 0; i < tensors.size(); ++i) gather.tensors.add({at[tensors[i]], at[all[i]]});
    all_ranks_gather(device, gather);
    all_ranks_wait(device, ticket);
  });
  return all;
}

}  // namespace neurogen
