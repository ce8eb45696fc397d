// SPDX-License-Identifier: Apache-2.0
// A guest's packets to a socket device with programs at both kinds of socket, in any order, with any header. Another
// process may have to connect for the device, and answers now, later or never. Whatever the input, the guest gets
// well-formed packets only.

#include <poll.h>

#include "tests/fakes/vsock_guest.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/state.hpp"
#include "tests/support/run_loop.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/outside/outside.hpp"

using namespace inox;

namespace {

using namespace devices::virtio;
using fuzz::Input;
using fuzz::require;

/// Connects when it is told to.
class LateDoor final : public outside::Door {
public:
    UniqueFd connect_later(int socket, const std::string& path) override {
        std::array<int, 2> ends{};
        if (waiting.size() >= 8 || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
            errno = outside::unanswered;
            return {};
        }
        waiting.push_back({UniqueFd{::dup(socket)}, UniqueFd{ends[1]}, path});
        return UniqueFd{ends[0]};
    }
    bool connected(int answer) override {
        char good = 0;
        return ::recv(answer, &good, 1, MSG_DONTWAIT) == 1 && good == 1;
    }
    /// Answers the oldest that waits.
    void answer(bool connects) {
        if (waiting.empty())
            return;
        auto one = std::move(waiting.front());
        waiting.erase(waiting.begin());
        outside::use(nullptr);
        const char good = connects && outside::connect(one.socket.get(), one.path) ? 1 : 0;
        outside::use(this);
        (void)!::send(one.answer.get(), &good, 1, MSG_NOSIGNAL);
    }

    UniqueFd open(const std::string&, int, unsigned, outside::Wait) override { return {}; }
    UniqueFd open_unnamed() override { return {}; }
    UniqueFd open_tap(const std::string&, int) override { return {}; }
    bool bind(int, const std::string&, unsigned) override { return false; }
    bool connect(int, const std::string&) override { return false; }
    bool can_bind(int, std::string_view) override { return false; }
    bool remove(const std::string&) override { return false; }
    bool make_folder(const std::string&) override { return false; }
    bool rename(const std::string&, const std::string&) override { return false; }
    bool replace(const std::string&, std::string_view) override { return false; }
    std::optional<outside::Helper> start_passt(const std::vector<std::string>&, int, int) override { return {}; }
    std::optional<outside::Helper> start_share(const std::string&, bool) override { return {}; }
    std::optional<int> status(int) override { return unknown; }
    void end(int) override {}

    struct Waiting {
        UniqueFd socket;
        UniqueFd answer;
        std::string path;
    };
    std::vector<Waiting> waiting{};
};

struct Target {
    explicit Target(std::chrono::milliseconds request_timeout) : guest{{.request_timeout = request_timeout}, 0} {}

    LateDoor door{};
    fakes::VsockGuest guest;
    fakes::HostListener listener{guest.path("_1")};
    std::vector<fakes::HostStream> programs{};
    std::vector<fakes::VsockGuest::Ports> opened{}; ///< by programs
    bool gives_back{true};                          ///< receive buffers, once it has looked at them

    void begin(bool late) {
        guest.device->reset();
        programs.clear();
        opened.clear();
        gives_back = true;
        door.waiting.clear();
        std::array<std::byte, 8> cid{};
        guest.device->read_config(0, cid);
        require(load_le(cid) == fakes::VsockGuest::cid);
        outside::use(late ? &door : nullptr);
        guest.start(64);
    }
    void turn() {
        tests::turn(guest.loop);
        while (auto program = listener.accept())
            programs.push_back(std::move(*program));
        while (const auto packet = guest.look(gives_back))
            check(*packet);
    }
    void check(const fakes::VsockGuest::Packet& packet) {
        const VsockHeader& header = packet.header;
        if (packet.op() == VsockOp::request)
            opened.push_back({header.destination_port, header.source_port});
        // A packet that nobody takes is answered by a reset from its destination, in its own type.
        require(packet.op() == VsockOp::reset || (header.source_cid == vsock_host_cid && header.type == vsock_stream));
        require(header.destination_cid == fakes::VsockGuest::cid && header.length == packet.payload.size());
        require(header.operation >= 1 && header.operation <= 7);
        require((packet.op() == VsockOp::data) == (header.length != 0));
    }
    void short_packet(std::uint32_t bytes) {
        auto chain = guest.driver[1].chain();
        chain.raw({page_size, bytes, false}).post();
        guest.device->kick(1);
        while (guest.driver[1].used()) {
        }
    }
    /// The device rests and goes on, or what was saved of it goes on without its streams: the guest is told.
    void rest(Input& input, std::uint8_t how) {
        auto saved = fuzz::save(*guest.device);
        require(saved.has_value());
        tests::turn(guest.loop);
        if ((how & 1) != 0) {
            const auto rings = (*saved)["rings"]; // this driver would look for answers where there are none
            fuzz::damage(*saved, input);
            (*saved)["rings"] = rings;
            guest.device->reset();
            if (!tests::replace(guest.driver, *guest.device, *std::move(saved)))
                return begin((how & 2) != 0);
        }
        guest.device->resume();
    }
    /// A buffer for the event that the streams are gone; or the driver's receive buffers run out, or are none.
    void buffer(std::uint8_t how) {
        if (how >= 120) {
            guest.driver[0].chain().raw({page_size, 16, how % 2 == 0}).post();
            guest.device->kick(0);
            return;
        }
        if (how >= 112) {
            gives_back = how % 2 != 0;
            if (gives_back)
                guest.give(4);
            return;
        }
        guest.driver[2].chain().raw({page_size, how % 16U + 1, how < 104}).post();
        guest.device->kick(2);
    }
    /// Of a connection that a program began, to it: acceptance, data that may be more than it reads, or an end.
    void packet_to_program(Input& input, std::uint8_t how) {
        if (opened.empty())
            return;
        constexpr std::array operations{VsockOp::response, VsockOp::data, VsockOp::data,          VsockOp::shutdown,
                                        VsockOp::reset,    VsockOp::data, VsockOp::credit_update, VsockOp::response};
        const auto operation = operations[how % 8];
        const auto payload = operation == VsockOp::data ? input.take<std::uint16_t>() % 65000U + 1 : 0;
        guest.send(operation, opened[how / 8U % opened.size()], std::string(payload, 'g'),
                   operation == VsockOp::shutdown ? how / 64U : 0);
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
            if (how % 16 != 15)
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
    static Target patient{devices::virtio::VsockOptions{}.request_timeout};
    static Target impatient{std::chrono::milliseconds{0}};
    auto& target = size != 0 && data[0] % 64 == 60 ? impatient : patient;
    Input input{std::as_bytes(std::span{data, size})};
    target.begin(size != 0 && data[0] >= 192);
    for (int step = 0; step < 40 && !input.empty(); ++step) {
        const auto kind = input.take<std::uint8_t>();
        const auto how = input.take<std::uint8_t>();
        if (kind % 4 == 0)
            target.program(input, how);
        else if (kind % 16 == 7)
            target.packet_to_program(input, how);
        else if (kind % 16 == 11)
            target.door.answer(how % 2 != 0);
        else if (kind % 16 == 13 && how < 64)
            target.rest(input, how);
        else if (kind % 16 == 13 && how < 128)
            target.buffer(how);
        else if (kind == 14) // a packet that is shorter than its header
            target.short_packet(how % sizeof(VsockHeader));
        else
            target.packet(input, how);
        target.turn();
    }
    return 0;
}
