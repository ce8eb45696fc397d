// SPDX-License-Identifier: Apache-2.0
// A host with made-up VFIO, a session on it, and guest RAM.
#pragma once

#include <deque>
#include <optional>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/session.hpp"
#include "tests/catch.hpp"
#include "tests/fakes/vfio_kernel.hpp"

namespace inox::fakes {

inline devices::vfio::IovaRange iovas(std::uint64_t first, std::uint64_t last) {
    return *devices::vfio::IovaRange::closed(Iova{first}, Iova{last});
}

struct VfioHost {
    VfioKernel kernel{};
    std::deque<inox::Mapping> memory{};
    std::optional<devices::vfio::LockLimit> limit{devices::vfio::LockLimit{std::nullopt}};
    devices::vfio::SessionHooks hooks{};
    std::unique_ptr<devices::vfio::Session> session_{};

    /// Made at first use, so that a test can set the fields above before.
    devices::vfio::Session& session() {
        if (!session_)
            session_ = std::make_unique<devices::vfio::Session>(hooks, kernel, kernel.tree.root(), limit);
        return *session_;
    }
    std::span<std::byte> pages(std::uint64_t size) {
        auto mapping = inox::Mapping::create(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(mapping);
        return memory.emplace_back(std::move(*mapping)).bytes();
    }
    RamRegion ram(std::uint64_t start, std::uint64_t size) {
        return {*Range<Gpa>::sized(Gpa{start}, size), pages(size), 0};
    }
    Result<std::unique_ptr<devices::vfio::Device>>
    try_open(const std::string& address, devices::vfio::Backend backend = devices::vfio::Backend::automatic) {
        return devices::vfio::Device::open(session(), {"dev", address, backend, {}, {}});
    }
    std::unique_ptr<devices::vfio::Device> open(const std::string& address,
                                                devices::vfio::Backend backend = devices::vfio::Backend::automatic) {
        auto device = try_open(address, backend);
        if (!device)
            UNSCOPED_INFO(device.error().report());
        REQUIRE(device);
        return std::move(*device);
    }
};

} // namespace inox::fakes
