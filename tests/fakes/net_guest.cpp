// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/net_guest.hpp"

#include "tests/support/run_loop.hpp"

namespace inox::fakes {

NetGuest::NetGuest(devices::virtio::NetOptions options, std::shared_ptr<devices::virtio::NetFilter> filter) {
    options.retry = std::chrono::milliseconds{5};
    net = *devices::virtio::Net::create(options, loop, std::make_unique<FakePort>(port), std::move(filter));
}

void NetGuest::start(std::uint64_t features, std::vector<std::uint16_t> sizes) {
    driver.activate(*net, features, std::move(sizes));
    tests::run_for(loop, std::chrono::milliseconds{2});
}

std::uint64_t NetGuest::give(std::uint32_t size, unsigned pair) {
    return driver[2 * pair].chain().writable(size).post().front().address;
}

bool NetGuest::nothing_received() {
    tests::run_for(loop, std::chrono::milliseconds{20});
    return !driver[0].used();
}

std::optional<VirtqueueDriver::Used> NetGuest::received(unsigned pair) {
    std::optional<VirtqueueDriver::Used> used;
    tests::run_until(
        loop, [&] { return (used = driver[2 * pair].used()).has_value(); }, std::chrono::seconds{5});
    return used;
}

void NetGuest::send(std::string_view bytes, devices::virtio::NetHeader header, unsigned pair) {
    driver[2 * pair + 1].chain().readable(header).readable(bytes).post();
    net->kick(2 * pair + 1);
}

devices::virtio::NetHeader NetGuest::header_at(std::uint64_t address) {
    return driver.ram.get<devices::virtio::NetHeader>(address);
}

} // namespace inox::fakes
