// SPDX-License-Identifier: Apache-2.0
#include "devices/vfio/dma/pin_job.hpp"

#include <numeric>
#include <utility>

#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/dma/pin_memory.hpp"
#include "vmm/memory/huge_pages.hpp"

namespace inox::devices::vfio {

void PinJob::run(const std::stop_token& stop) {
    result_ = pin(stop);
    for (; !*result_ && pinned_ > 0; --pinned_)
        if (auto undone = space_.unpin(pieces_[pinned_ - 1].range); !undone)
            result_ = std::move(undone);
}

Result<void> PinJob::pin(const std::stop_token& stop) {
    const auto total = std::accumulate(pieces_.begin(), pieces_.end(), std::uint64_t{0},
                                       [](auto sum, const auto& piece) { return sum + piece.host.size(); });
    if (check_available_) {
        std::vector<std::span<std::byte>> memory;
        for (const auto& piece : pieces_)
            memory.push_back(piece.host);
        TRY_VOID(check_available(root_, memory));
    }
    PinProgress progress{root_, total, progress_};
    for (const auto& piece : pieces_) {
        if (stop.stop_requested())
            return fail(Errc::wrong_state, "pinning guest memory for " + space_.name() + " was cancelled");
        if (piece.host.size() >= least_gathered)
            gather_huge_pages(piece.host, [&, before = std::uint64_t{0}](std::uint64_t done) mutable {
                progress.gathered(done - std::exchange(before, done));
            });
        TRY_VOID(space_.pin(piece.range, piece.host, Access::read_write));
        ++pinned_;
    }
    return {};
}

} // namespace inox::devices::vfio
