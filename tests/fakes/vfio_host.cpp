// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/vfio_host.hpp"

#include "devices/vfio/dma/address_space.hpp"

namespace inox::fakes {

devices::vfio::IovaRange iovas(std::uint64_t first, std::uint64_t last) {
    return *devices::vfio::IovaRange::closed(Iova{first}, Iova{last});
}

devices::vfio::Session& VfioHost::session() {
    if (!session_)
        session_ = std::make_unique<devices::vfio::Session>(hooks, kernel, kernel.tree.root(), limit);
    return *session_;
}

std::span<std::byte> VfioHost::pages(std::uint64_t size) {
    auto mapping = inox::Mapping::create(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory.emplace_back(std::move(mapping).value()).bytes();
}

RamRegion VfioHost::ram(std::uint64_t start, std::uint64_t size) {
    return {*Range<Gpa>::sized(Gpa{start}, size), pages(size), 0};
}

Result<std::unique_ptr<devices::vfio::Device>> VfioHost::try_open(const std::string& address,
                                                                  devices::vfio::Backend backend) {
    return devices::vfio::Device::open(session(), {"dev", address, backend, {}, {}});
}

std::unique_ptr<devices::vfio::Device> VfioHost::open(const std::string& address, devices::vfio::Backend backend) {
    auto device = try_open(address, backend);
    if (!device)
        throw std::runtime_error{device.error().report()};
    return std::move(*device);
}

} // namespace inox::fakes
