// SPDX-License-Identifier: Apache-2.0
// Why, and where, a vCPU left the guest for user space, counted.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "vmm/kvm/vcpu.hpp"

namespace inox {

enum class ExitReason : std::uint8_t { port, memory, msr, halt, interrupted, debug, system_event, emulation, failure };
inline constexpr std::size_t exit_reasons = 9;
/// "port"
std::string_view exit_reason_text(ExitReason reason);

struct ExitCount {
    ExitReason reason{};
    bool write{};                           ///< of a port, memory or an MSR
    std::optional<std::uint64_t> address{}; ///< the same; absent: of other places than those in the table
    std::uint64_t count{};
};

/// A fixed size: the first places take it, those that come when there is no room are counted together. Counting
/// allocates nothing and takes no lock; one thread counts, any thread reads.
class ExitTable {
public:
    /// Right after run(), before the exit is handled. On the vCPU's thread.
    void count(const VmExit& exit) noexcept;
    /// Appends what was counted so far. Any thread.
    void collect(std::vector<ExitCount>& counts) const;

private:
    static constexpr unsigned slot_bits = 10;
    static constexpr unsigned probes = 8;
    struct Slot {
        std::atomic<std::uint64_t> key{0};
        std::atomic<std::uint64_t> count{0};
    };
    void add(ExitReason reason, bool write, std::uint64_t address) noexcept;

    std::array<Slot, 1U << slot_bits> slots_{};
    std::array<std::atomic<std::uint64_t>, 2 * exit_reasons> others_{}; ///< by reason, then by direction
};

/// Adds up equal places, the most frequent first.
void merge(std::vector<ExitCount>& counts);

} // namespace inox
