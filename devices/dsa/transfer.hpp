// SPDX-License-Identifier: Apache-2.0
// Walks device addresses in pieces of host memory, as far as they can be reached.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/memory/dma_memory.hpp"

namespace inox::devices::dsa {

/// One range a descriptor works on.
struct Operand {
    std::uint64_t address{};
    Access access{};
};

/// Who works asks here between two pieces, so that an abort or a pause takes effect within one.
class Pace {
public:
    Pace() = default;
    Pace(const Pace&) = delete;
    Pace& operator=(const Pace&) = delete;
    virtual ~Pace() = default;
    /// May wait, so it is called with no memory held. False: the work is aborted.
    [[nodiscard]] virtual bool go_on() noexcept = 0;
};

/// Where an operation ended early.
struct Stop {
    enum class Why : std::uint8_t {
        fault,     ///< `address` cannot be accessed so
        found,     ///< the step asked to stop
        cancelled, ///< an abort: nothing of the descriptor is reported
    };
    Why why{Why::fault};
    std::uint64_t done{}; ///< bytes before it; from the end for a backward copy
    std::uint64_t address{};
    bool write{};
};

/// Consumes pieces of host memory from the front.
class Pieces {
public:
    explicit Pieces(std::vector<iovec>& pieces) : pieces_{pieces} {}
    /// The next bytes that lie together, at most `limit`.
    [[nodiscard]] std::span<std::byte> peek(std::size_t limit) const {
        const iovec& piece = pieces_[at_];
        return {static_cast<std::byte*>(piece.iov_base) + used_, std::min(limit, piece.iov_len - used_)};
    }
    void skip(std::size_t bytes) {
        used_ += bytes;
        if (used_ == pieces_[at_].iov_len) {
            ++at_;
            used_ = 0;
        }
    }

private:
    std::vector<iovec>& pieces_;
    std::size_t at_{0};
    std::size_t used_{0};
};

/// For one thread. Address translations are held for one chunk at a time, so an unmap by the guest never waits long.
class Transfer {
public:
    static constexpr std::size_t max_operands = 3;
    static constexpr std::size_t chunk_size = 128 * 1024;

    Transfer(const DmaMemory& memory, Pace& pace) : memory_{memory}, pace_{pace} {}

    /// Calls `step(pieces, bytes, done)` for chunk after chunk, `pieces` one per operand; a step returns the offset in
    /// its chunk at which it wants to stop. nullopt when everything was walked.
    template <class Step>
    std::optional<Stop> forward(std::span<const Operand> operands, std::uint64_t size, Step&& step) {
        std::uint64_t done = 0;
        while (done < size) {
            if (!pace_.go_on())
                return Stop{Stop::Why::cancelled, done, 0, false};
            const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(size - done, chunk_size));
            const auto hold = memory_.hold();
            const Reach reach = reach_all(operands, done, want);
            if (reach.bytes != 0) {
                const auto at = step(std::span{pieces_}, reach.bytes, done);
                for (std::size_t i = 0; i < operands.size(); ++i)
                    if (operands[i].access == Access::write)
                        memory_.wrote(pieces_[i]);
                if (at)
                    return Stop{Stop::Why::found, done + *at, 0, false};
            }
            done += reach.bytes;
            if (reach.bytes < want)
                return Stop{Stop::Why::fault, done, operands[reach.limiting].address + done,
                            operands[reach.limiting].access == Access::write};
        }
        return std::nullopt;
    }

    /// From the last byte to the first, for a destination that overlaps the end of its source.
    std::optional<Stop> copy_backward(std::uint64_t source, std::uint64_t destination, std::uint64_t size);

private:
    struct Reach {
        std::size_t bytes{};
        std::size_t limiting{}; ///< operand that ends it
    };
    Reach reach_all(std::span<const Operand> operands, std::uint64_t done, std::size_t want);
    std::size_t reach(std::uint64_t address, std::size_t size, Access access, std::vector<iovec>& out);
    bool whole(std::uint64_t address, std::size_t size, Access access, std::vector<iovec>& out);

    const DmaMemory& memory_;
    Pace& pace_;
    std::array<std::vector<iovec>, max_operands> pieces_{};
};

} // namespace inox::devices::dsa
