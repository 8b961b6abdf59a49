#include "engine/run/session.h"

#include <algorithm>

#include "arena/error.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

[[maybe_unused]] constexpr int kMostCopiers = 12;  // enough to saturate a bus of 50 GB/s (docs/history.md)

Arena take(Plan plan, const Checkpoint* from) {
  const FileRange front = from ? from->image(plan) : FileRange{};
  return Arena(std::move(plan), front);
}

#ifdef NEUROGEN_CUDA
// NCCL takes its memory before the arena does.
std::unique_ptr<Nccl> connect(Session& s, const Place& place) {
  const auto ranks = static_cast<int>(s.model.options.ranks);
  if (!s.gpu || ranks == 1 || place.linked) return nullptr;
  auto nccl = std::make_unique<Nccl>(place.nccl, place.rank, ranks);
  s.gpu->use_nccl(*nccl);
  return nccl;
}

std::unique_ptr<Peers> link(Session& s, const Place& place) {
  const auto ranks = static_cast<int>(s.model.options.ranks);
  if (!s.gpu || ranks == 1 || !place.linked) return nullptr;
  auto peers = std::make_unique<Peers>(place.rank, ranks, s.arena.block(ArenaKind::device), place.gather);
  s.gpu->use_peers(*peers);
  return peers;
}
#endif

Program bind(Session& s, [[maybe_unused]] const Place& place) {
#ifdef NEUROGEN_CUDA
  if (s.gpu) {
    const TensorView workspace = s.model.workspace ? s.arena.view(s.model.workspace.index) : TensorView{};
    if (workspace) s.gpu->use_workspace(workspace.data, static_cast<Bytes>(workspace.elements()));
    if (place.separate) clear_products(*s.gpu);
    if (s.model.ports.staging) s.gpu->reserve_marks(kStagingSlots);
    return Program(s.model.graph, s.arena, *s.gpu);
  }
#endif
  if (place.shared) s.cpu->use_ranks(*place.shared);
  return Program(s.model.graph, s.arena, *s.cpu);
}

}  // namespace

// The GPU is initialized before the arena, which is allocated in its context.
#ifdef NEUROGEN_CUDA
Session::Session(Fit fit, Place place, const Checkpoint* from)
    : rank(place.rank),
      model(std::move(fit.model)),
      starting(place.gpu ? std::make_unique<HeapCapLifted>() : nullptr),
      cpu(place.gpu ? nullptr : std::make_unique<CpuDevice>(static_cast<int>(model.options.target.threads))),
      copiers(place.gpu ? std::make_unique<ThreadPool>(std::min(cores_of_this_process(), kMostCopiers)) : nullptr),
      gpu(place.gpu ? std::make_unique<CudaDevice>(place.ordinal) : nullptr),
      nccl(connect(*this, place)),
      begins_with(from && !place.gpu && from->image(fit.plan).bytes > 0 ? from : nullptr),
      arena(place.gpu ? Arena::on_gpu(std::move(fit.plan), place.separate) : take(std::move(fit.plan), from)),
      peers(link(*this, place)),
      program(bind(*this, place)) {
  starting.reset();
}
#else
Session::Session(Fit fit, Place place, const Checkpoint* from)
    : rank(place.rank),
      model(std::move(fit.model)),
      cpu(place.gpu ? throw Error({"this build has no CUDA: use ", Field("device"), " cpu, or build with make CUDA=native"})
                    : std::make_unique<CpuDevice>(static_cast<int>(model.options.target.threads))),
      begins_with(from && from->image(fit.plan).bytes > 0 ? from : nullptr),
      arena(take(std::move(fit.plan), from)),
      program(bind(*this, place)) {}
#endif

Bytes Session::nccl_bytes() const {
#ifdef NEUROGEN_CUDA
  if (nccl) return nccl->gpu_bytes();
#endif
  return 0;
}

std::vector<TensorId> persistent_tensors(const Plan& plan) {
  std::vector<TensorId> ids;
  for (std::size_t i = 0; i < plan.buffers.size(); ++i) {
    if (plan.buffers[i].kind == BufferKind::persistent) ids.push_back({i});
  }
  return ids;
}

}  // namespace neurogen
