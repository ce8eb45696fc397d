// SPDX-License-Identifier: Apache-2.0
// A host with made-up VFIO, a session on it, and guest RAM.
#pragma once

#include <deque>
#include <optional>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/session.hpp"
#include "tests/fakes/vfio_kernel.hpp"

namespace inox::fakes {

devices::vfio::IovaRange iovas(std::uint64_t first, std::uint64_t last);

struct VfioHost {
    VfioKernel kernel{};
    std::deque<inox::Mapping> memory{};
    std::optional<devices::vfio::LockLimit> limit{devices::vfio::LockLimit{std::nullopt}};
    devices::vfio::SessionHooks hooks{};
    std::unique_ptr<devices::vfio::Session> session_{};

    /// Made at first use, so that a test can set the fields above before.
    devices::vfio::Session& session();
    std::span<std::byte> pages(std::uint64_t size);
    RamRegion ram(std::uint64_t start, std::uint64_t size);
    Result<std::unique_ptr<devices::vfio::Device>>
    try_open(const std::string& address, devices::vfio::Backend backend = devices::vfio::Backend::automatic);
    std::unique_ptr<devices::vfio::Device> open(const std::string& address,
                                                devices::vfio::Backend backend = devices::vfio::Backend::automatic);
};

} // namespace inox::fakes
