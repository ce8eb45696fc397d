// SPDX-License-Identifier: Apache-2.0
#include "vmm/gdb/server.hpp"

#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "api/socket_file.hpp"
#include "vmm/base/log.hpp"
#include "vmm/gdb/machine_target.hpp"
#include "vmm/gdb/session.hpp"
#include "vmm/machine/preparation.hpp"

namespace inox::gdb {
namespace {

/// Read at a time: what a client asks for in so few bytes has at most some MiB of answers, and they are sent before
/// more is read.
constexpr std::size_t piece = 256;
constexpr const char* whose = "GDB";
constexpr auto key = "/inox/gdb";

Result<UniqueFd> listen_on(std::uint16_t port) {
    UniqueFd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    if (!socket || ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || // NOLINT: bind(2)
        ::listen(socket.get(), 1) != 0)
        return fail_errno(errno == EADDRINUSE ? Errc::in_use : Errc::host_error,
                          format("cannot listen on 127.0.0.1:%u for GDB", port), "choose another port");
    return socket;
}

class Server {
public:
    Server(EventLoop& loop, bool wait, std::function<void()> kill)
        : loop_{loop}, target_{loop,
                               wait,
                               {.stopped = [this](const Stop& stop) { on_stop(stop); },
                                .ready = [this] { accept_if_ready(); },
                                .kill = std::move(kill)}} {}
    ~Server() {
        if (session_)
            session_->on_end();
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    Result<void> listen(const GdbConfig& config);
    [[nodiscard]] MachineTarget& target() { return target_; }

private:
    [[nodiscard]] int listener() const { return file_ ? file_->fd() : port_.get(); }
    void accept_if_ready();
    void accept();
    void receive();
    void send(std::string_view text);
    void flush();
    void on_stop(const Stop& stop);
    void disconnect();

    EventLoop& loop_;
    MachineTarget target_;
    std::optional<api::SocketFile> file_{};
    UniqueFd port_{};
    Registration accepting_{};
    UniqueFd client_{};
    std::unique_ptr<Session> session_{};
    Registration reading_{};
    Registration writing_{};
    std::string unsent_{}; ///< nothing is read while there is any, so it stays short
};

Result<void> Server::listen(const GdbConfig& config) {
    if (config.port == 0)
        file_.emplace(TRY(api::SocketFile::create(config.socket, {}, whose)));
    else
        port_ = TRY(listen_on(config.port));
    return {};
}

/// A client that comes before there is a machine waits in the kernel's list.
void Server::accept_if_ready() {
    if (accepting_)
        return;
    if (auto watch = loop_.watch(listener(), [this] { accept(); }))
        accepting_ = std::move(*watch);
    else
        log::write(log::Level::error, "GDB cannot connect: %s", watch.error().message().c_str());
}

void Server::accept() {
    UniqueFd client{::accept4(listener(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!client || session_ || (file_ && !file_->peers().admits(client.get())))
        return; // one debugger at a time: the others are closed
    const int on = 1;
    if (!file_)
        static_cast<void>(::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    auto watch = loop_.watch(client.get(), [this] { receive(); });
    if (!watch)
        return log::write(log::Level::error, "GDB cannot connect: %s", watch.error().message().c_str());
    client_ = std::move(client);
    reading_ = std::move(*watch);
    target_.interrupt();
    session_ = std::make_unique<Session>(target_,
                                         Session::Owner{.send = [this](std::string_view text) { send(text); },
                                                        .detached = [this] { loop_.post([this] { disconnect(); }); }});
}

void Server::receive() {
    std::array<std::byte, piece> bytes;
    const auto count = ::recv(client_.get(), bytes.data(), bytes.size(), 0);
    if (count > 0)
        session_->receive(std::span{bytes}.first(static_cast<std::size_t>(count)));
    else if (count == 0 || (errno != EAGAIN && errno != EINTR))
        disconnect();
}

void Server::send(std::string_view text) {
    unsent_ += text;
    flush();
}

void Server::flush() {
    while (!unsent_.empty()) {
        const auto count = ::send(client_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
        if (count < 0)
            break;
        unsent_.erase(0, static_cast<std::size_t>(count));
    }
    if (unsent_.empty()) {
        writing_.reset();
        if (!reading_)
            if (auto watch = loop_.watch(client_.get(), [this] { receive(); }))
                reading_ = std::move(*watch);
        return;
    }
    if (errno != EAGAIN)
        return unsent_.clear(); // receive() sees the end, too
    if (writing_)
        return;
    if (auto watch = loop_.watch_writable(client_.get(), [this] { flush(); })) {
        writing_ = std::move(*watch);
        reading_.reset();
    }
}

void Server::on_stop(const Stop& stop) {
    if (session_)
        session_->on_stop(stop);
    else
        static_cast<void>(target_.resume({}));
}

/// Whatever the client left behind: the guest goes on as if there had been none.
void Server::disconnect() {
    if (!session_)
        return;
    writing_.reset();
    reading_.reset();
    unsent_.clear();
    session_.reset();
    client_.reset();
    target_.interrupt();
    target_.remove_all();
    static_cast<void>(target_.resume({}));
}

} // namespace

Result<void> check(const GdbConfig& config) {
    if (config.port == 0)
        return placed(api::SocketFile::check_path(config.socket, whose), key);
    TRY_VOID(placed(listen_on(config.port), key));
    return {};
}

Result<Registration> serve(const GdbConfig& config, EventLoop& loop, Instance& instance) {
    auto server =
        std::make_unique<Server>(loop, config.wait, [&instance] { instance.leave("the debugger ended the guest"); });
    TRY_VOID(placed(server->listen(config), key));
    instance.use_debugger(server->target());
    return Registration{[server = std::move(server)]() mutable { server.reset(); }};
}

} // namespace inox::gdb
