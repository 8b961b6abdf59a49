#include "engine/model/exchange.h"

#include <utility>

#include "kernels/all_ranks.h"
#include "kernels/base/step_control.h"
#include "kernels/copy.h"

namespace neurogen {
namespace {

int next_ticket(Assembly& s) { return s.exchanges++ % kAllRanksLastTicket; }
std::string exchanged(const std::string& name) { return name + ".all_ranks"; }

// Adds the beginning of an exchange of what is in `list`: `begin` takes a device and kernels' arguments with a lot of `make(item)`.
template <typename Arguments, typename List, typename Make, typename Begin>
Exchange begin_exchange(Assembly& s, const std::string& name, const List& list, std::vector<TensorId> tensors, Cost cost, Ends ends,
                        Make make, Begin begin) {
  Exchange exchange{name, std::move(tensors), ends == Ends::last ? kAllRanksLastTicket : next_ticket(s)};
  s.graph.operation(
      name, {}, exchange.tensors,
      [=, ticket = exchange.ticket, alone = ends == Ends::at_once](auto& device, const Bindings& at) {
        in_lots<decltype(make(at, list[0]))>(
            list, [&](const auto& item) { return make(at, item); },
            [&](const auto& lot) {
              begin(device, Arguments{lot, ticket, alone});
            });
      },
      cost);
  return exchange;
}

// The same for shares.
template <typename Arguments, typename Begin>
Exchange begin_shares(Assembly& s, const std::string& name, const std::vector<Share>& shares, Ends ends, Begin begin) {
  std::vector<TensorId> tensors;
  double bytes = 0;
  for (const Share& share : shares) {
    const auto all = static_cast<double>(s.graph.tensors()[share.tensor.index].shape[0]);
    bytes += s.graph.bytes(share.tensor) * (share.rows == 0 ? 1 : static_cast<double>(share.rows) / all);
    if (tensors.empty() || tensors.back().index != share.tensor.index) tensors.push_back(share.tensor);
  }
  using Of = typename Arguments::Of;
  return begin_exchange<Arguments>(
      s, name, shares, tensors, {0, bytes}, ends,
      [](const Bindings& at, const Share& x) {
        return Of{x.view(at), x.owner};
      },
      begin);
}

}  // namespace

Exchange begin_sum(Assembly& s, const std::string& name, const std::vector<TensorId>& tensors, Ends ends) {
  return begin_exchange<AllRanksSum>(
      s, exchanged(name), tensors, tensors, {}, ends, [](const Bindings& at, TensorId id) { return at[id]; },
      [](auto& device, const AllRanksSum& sum) { all_ranks_sum(device, sum); });
}

Exchange begin_reduce(Assembly& s, const std::string& name, const std::vector<Share>& shares, Ends ends) {
  return begin_shares<AllRanksReduce>(s, name + ".reduce", shares, ends,
                                      [](auto& device, const AllRanksReduce& sum) { all_ranks_reduce(device, sum); });
}

Exchange begin_broadcast(Assembly& s, const std::string& name, const std::vector<Share>& shares, Ends ends) {
  return begin_shares<AllRanksBroadcast>(s, name + ".broadcast", shares, ends,
                                         [](auto& device, const AllRanksBroadcast& all) { all_ranks_broadcast(device, all); });
}

void end_exchange(Assembly& s, const Exchange& exchange) {
  s.graph.operation(exchange.name + ".wait", {}, exchange.tensors,
                    [ticket = exchange.ticket](auto& device, const Bindings&) { all_ranks_wait(device, ticket); }, {0, 0});
}

void sum_total(Assembly& s, const std::string& name, TensorId total, TensorId host) {
  if (!s.several_ranks()) return;
  const int ticket = next_ticket(s);
  s.graph.operation(exchanged(name), {}, {total, host}, [=](auto& device, const Bindings& at) {
    all_ranks_sum(device, {{at[total]}, ticket, true});
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
