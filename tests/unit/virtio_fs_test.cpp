// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/fs.hpp"

#include "tests/catch.hpp"
#include "vmm/memory/guest_memory.hpp"

using namespace devices::virtio;

TEST_CASE("a daemon is offered only memory that it can be given") {
    vmm::EventLoop loop;
    const FsOptions options{.tag = "work", .socket = "/nonexistent/work.sock"};
    const auto made = [&](vmm::GuestMemory::Sharing sharing) {
        const auto memory = *vmm::GuestMemory::create(4 * vmm::MiB, vmm::HugePages::transparent, sharing);
        return Fs::create(options, loop, memory).error();
    };
    const auto refused = made(vmm::GuestMemory::Sharing::unneeded);
    CHECK(refused.code == vmm::Errc::wrong_state);
    CHECK(refused.what.find("'work'") != std::string::npos);
    CHECK(refused.hint.find("--huge-pages none") != std::string::npos);
    CHECK(made(vmm::GuestMemory::Sharing::needed).code == vmm::Errc::not_found); // nobody listens there
}
