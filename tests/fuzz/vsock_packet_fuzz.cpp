// SPDX-License-Identifier: Apache-2.0
// A guest's packets to a socket device with programs at both kinds of socket, in any order, with any header. Whatever
// the input, the guest gets well-formed packets only.

#include "tests/fakes/vsock_guest.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using namespace devices::virtio;
using fuzz::Input;
using fuzz::require;

struct Target {
    fakes::VsockGuest guest{{}, 0};
    fakes::HostListener listener{guest.path("_1")};
    std::vector<fakes::HostStream> programs{};

    void begin() {
        guest.device->reset();
        programs.clear();
        guest.start(64);
    }
    void turn() {
        tests::turn(guest.loop);
        while (auto program = listener.accept())
            programs.push_back(std::move(*program));
        while (const auto packet = guest.look())
            check(*packet);
    }
    void check(const fakes::VsockGuest::Packet& packet) {
        const VsockHeader& header = packet.header;
        // A packet that nobody takes is answered by a reset from its destination, in its own type.
        require(packet.op() == VsockOp::reset || (header.source_cid == vsock_host_cid && header.type == vsock_stream));
        require(header.destination_cid == fakes::VsockGuest::cid && header.length == packet.payload.size());
        require(header.operation >= 1 && header.operation <= 7);
        require((packet.op() == VsockOp::data) == (header.length != 0));
    }
    void packet(Input& input, std::uint8_t how) {
        VsockHeader header;
        if ((how & 1) != 0) {
            header = guest.head(static_cast<VsockOp>(how >> 1 & 7), {how / 64U, how / 16U % 2});
            header.flags = input.take<std::uint8_t>();
            header.length = input.take<std::uint8_t>();
            header.buffer_size = input.take<std::uint16_t>();
        } else {
            const auto bytes = input.take(sizeof header);
            std::memcpy(&header, bytes.data(), bytes.size());
        }
        const auto payload = input.take(input.take<std::uint8_t>());
        guest.send(header, {reinterpret_cast<const char*>(payload.data()), payload.size()}); // NOLINT
    }
    void program(Input& input, std::uint8_t how) {
        if (how < 64 && programs.size() < 8) {
            programs.push_back(guest.connect());
            const auto line = input.take(how % 16U + 1U);
            programs.back().send({reinterpret_cast<const char*>(line.data()), line.size()}); // NOLINT
            programs.back().send("\n");
        } else if (!programs.empty()) {
            auto& chosen = programs[how % programs.size()];
            if (how < 128)
                chosen.send(std::string(input.take<std::uint16_t>() % 9000U, 'p'));
            else if (how < 160)
                chosen.shut(how % 3);
            else if (how < 192)
                chosen.close();
            else
                (void)chosen.take();
        }
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target target;
    Input input{std::as_bytes(std::span{data, size})};
    target.begin();
    for (int step = 0; step < 40 && !input.empty(); ++step) {
        const auto kind = input.take<std::uint8_t>();
        const auto how = input.take<std::uint8_t>();
        if (kind % 4 == 0)
            target.program(input, how);
        else
            target.packet(input, how);
        target.turn();
    }
    return 0;
}
