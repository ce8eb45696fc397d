// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/virtio_device.hpp"

namespace inox::fakes {

void EchoDevice::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    store_le(data, 0x1122334455667788U >> (8 * (offset % 8)));
}

void EchoDevice::on_kick(unsigned index) noexcept {
    const auto hold = memory().hold();
    auto* ring = queue(index);
    if (!ring->refresh())
        return;
    while (ring->pop(chain)) {
        std::array<std::byte, 64> data{};
        const auto size = chain.copy_from(0, data);
        ring->push(chain.head, static_cast<std::uint32_t>(chain.copy_to(0, std::span{data}.first(size))));
    }
    signal(index);
}

void EchoDevice::change_config() {
    locked([&] { config_changed(); });
}

} // namespace inox::fakes
