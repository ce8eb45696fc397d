// SPDX-License-Identifier: Apache-2.0
// A virtio device for tests of the transports: copies what it reads into what it may write.
#pragma once

#include "devices/virtio/device.hpp"

namespace inox::fakes {

class EchoDevice final : public devices::virtio::Device {
public:
    EchoDevice() : Device{"echo0"} {}
    [[nodiscard]] devices::virtio::Type type() const override { return kind; }
    [[nodiscard]] bool serves_at_once() const override { return at_once; }
    [[nodiscard]] std::uint64_t features() const override { return 1; }
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return sizes; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void on_kick(unsigned index) noexcept override;
    void on_reset() noexcept override { ++resets; }
    void on_state(State& /*state*/) override {}
    void change_config();

    static constexpr std::array<std::uint16_t, 2> sizes{16, 8};
    devices::virtio::Type kind{devices::virtio::Type::entropy};
    devices::virtio::Chain chain{};
    unsigned resets{0};
    bool at_once{false};
};

} // namespace inox::fakes
