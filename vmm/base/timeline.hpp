// SPDX-License-Identifier: Apache-2.0
// When each step of a start happened. Marking is a clock read and a store, so it may stand on the start path.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <ctime>
#include <string>

#include "vmm/base/error.hpp"

namespace inox {

/// clock_gettime(2) in nanoseconds.
std::uint64_t clock_ns(clockid_t clock) noexcept;

/// Thread-safe. Times are CLOCK_MONOTONIC nanoseconds; only the first mark of a step counts.
class Timeline {
public:
    enum class Step : std::uint8_t {
        process_started,
        config_read,
        kvm_ready,
        memory_ready,
        kernel_loaded,
        first_instruction, ///< the first KVM_RUN was entered
        first_serial_byte,
        user_space_up, ///< the guest wrote 123 to the boot-timer port
        ended,
    };
    static constexpr std::size_t steps = static_cast<std::size_t>(Step::ended) + 1;

    void mark(Step step) noexcept;
    /// `monotonic_us` comes from a parent that measured before exec (--start-time-us).
    void set_start(std::uint64_t monotonic_us) noexcept;
    /// Nanoseconds since process_started; 0 when the step was not reached.
    [[nodiscard]] std::uint64_t at(Step step) const noexcept;
    [[nodiscard]] static const char* name(Step step);

    /// {"steps":[{"name","at_us","took_us"}...]}: only steps that were reached.
    [[nodiscard]] std::string json() const;
    /// A self-contained picture of the same.
    [[nodiscard]] std::string svg() const;
    /// Writes json() or svg() by the path's ending.
    [[nodiscard]] Result<void> save(const std::string& path) const;

private:
    std::array<std::atomic<std::uint64_t>, steps> times_{};
};

} // namespace inox
