// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/vsock_guest.hpp"

namespace inox::fakes {

bool HostStream::send(std::string_view text) {
    return ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
           static_cast<ssize_t>(text.size());
}

std::string HostStream::take(std::size_t limit) {
    std::string out(limit, '\0');
    const auto got = ::recv(fd_.get(), out.data(), out.size(), MSG_DONTWAIT);
    ended_ = got == 0;
    out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return out;
}

std::optional<HostStream> HostListener::accept() {
    auto fd = listener_.accept();
    return fd ? std::optional<HostStream>{std::move(fd)} : std::nullopt;
}

VsockGuest::VsockGuest(devices::virtio::VsockOptions options, unsigned buffers) {
    options.guest_cid = cid;
    options.uds_path = folder.path + "/v.sock";
    device = *devices::virtio::Vsock::create(options, loop);
    start(buffers);
}

void VsockGuest::start(unsigned buffers) {
    driver.activate(*device, 0);
    buffers_.clear();
    taken_ = 0;
    read = 0;
    pool_ = driver.ram.allocate(128 * 1024);
    give(buffers);
    tests::turn(loop);
}

void VsockGuest::give(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
        buffers_.push_back(driver.ram.allocate(buffer_size));
        driver[0].chain().raw({buffers_.back(), buffer_size, true}).post();
    }
    device->kick(0);
}

void VsockGuest::send(Op op, Ports ports, std::string_view payload, std::uint32_t flags) {
    devices::virtio::VsockHeader header = head(op, ports);
    header.length = static_cast<std::uint32_t>(payload.size());
    header.flags = flags;
    send(header, payload);
}

void VsockGuest::send(const devices::virtio::VsockHeader& header, std::string_view payload) {
    (void)driver.ram.memory.write(Gpa{pool_}, std::as_bytes(std::span{&header, 1}));
    (void)driver.ram.memory.write(Gpa{pool_ + sizeof header}, std::as_bytes(std::span{payload}));
    auto chain = driver[1].chain();
    chain.raw({pool_, static_cast<std::uint32_t>(sizeof header + payload.size()), false}).post();
    device->kick(1);
    while (driver[1].used()) {
    }
}

devices::virtio::VsockHeader VsockGuest::head(Op op, Ports ports) const {
    devices::virtio::VsockHeader header;
    header.source_cid = cid;
    header.destination_cid = devices::virtio::vsock_host_cid;
    header.source_port = ports.guest;
    header.destination_port = ports.host;
    header.type = devices::virtio::vsock_stream;
    header.operation = static_cast<std::uint16_t>(op);
    header.buffer_size = buffer;
    header.forwarded = read;
    return header;
}

std::optional<VsockGuest::Packet> VsockGuest::look(bool give_back) {
    const auto used = driver[0].used();
    if (!used)
        return std::nullopt;
    const auto at = buffers_.at(taken_++);
    Packet packet{driver.ram.get<devices::virtio::VsockHeader>(at),
                  driver.ram.text(at + sizeof packet.header, used->length - sizeof packet.header)};
    if (packet.op() == Op::data)
        read += packet.header.length;
    if (give_back) {
        buffers_.push_back(at);
        driver[0].chain().raw({at, buffer_size, true}).post();
        device->kick(0);
    }
    return packet;
}

VsockGuest::Packet VsockGuest::next() {
    std::optional<Packet> packet;
    tests::run_until(
        loop, [&] { return (packet = look()).has_value(); }, std::chrono::seconds{5});
    return packet.value_or(Packet{});
}

bool VsockGuest::nothing() {
    tests::run_for(loop, std::chrono::milliseconds{20});
    return !look();
}

std::pair<HostStream, VsockGuest::Ports> VsockGuest::open_from_host(std::uint32_t port) {
    HostStream stream = connect();
    stream.send("CONNECT " + std::to_string(port) + "\n");
    const auto request = next();
    const Ports ports{request.header.destination_port, request.header.source_port};
    send(Op::response, ports);
    std::string answer;
    until([&] { return !(answer += stream.take()).empty(); });
    return {std::move(stream), ports};
}

std::pair<HostStream, VsockGuest::Ports> VsockGuest::open_from_guest(Ports ports) {
    HostListener listener{path("_" + std::to_string(ports.host))};
    send(Op::request, ports);
    (void)next(); // the response
    return {std::move(*listener.accept()), ports};
}

} // namespace inox::fakes
