// SPDX-License-Identifier: Apache-2.0
// MC146818 real-time clock and the PC's CMOS memory. The clock is the host's, in UTC; the guest cannot set it. It
// raises no interrupt.
#pragma once

#include <array>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <span>

#include "vmm/bus/bus.hpp"

namespace inox::devices {

class Cmos final : public BusDevice {
public:
    using Clock = timespec (*)();
    static timespec host_clock();

    /// RAM sizes in bytes, as the memory size registers report them.
    Cmos(std::uint64_t ram_below_4g, std::uint64_t ram_above_4g, Clock clock = host_clock);

    [[nodiscard]] std::string_view name() const override { return "cmos"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;

private:
    [[nodiscard]] std::uint8_t read_register(std::uint8_t index) const;
    [[nodiscard]] std::uint8_t time_register(std::uint8_t index) const;
    [[nodiscard]] std::uint8_t encode(int value) const;
    [[nodiscard]] std::uint8_t encode_hour(int hour) const;

    Clock clock_;
    std::mutex mutex_; // guards all below
    std::array<std::uint8_t, 128> ram_{};
    std::uint8_t index_{};
};

} // namespace inox::devices
