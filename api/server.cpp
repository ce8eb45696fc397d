// SPDX-License-Identifier: Apache-2.0
#include "api/server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <thread>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

#include "api/firecracker/protocol.hpp"
#include "api/server_connection.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"

namespace inox::api {
namespace {

constexpr std::chrono::milliseconds last_answers{250};
constexpr std::chrono::milliseconds accept_later{100};
constexpr std::size_t most_refusals = 64; ///< that linger at the same time
constexpr unsigned most_accepted = 16;    ///< in one turn: who connects without end must not delay those who ask

/// A client that has gone again and sent nothing: nobody to answer, and no reason to close another's connection.
bool has_left(int socket) {
    pollfd poll{socket, 0, 0};
    if (::poll(&poll, 1, 0) != 1 || (poll.revents & POLLHUP) == 0)
        return false;
    int unread = 0;
    return ::ioctl(socket, FIONREAD, &unread) == 0 && unread == 0; // NOLINT(*-vararg)
}

} // namespace

class Server::Core {
public:
    /// `loop`: null for a thread of its own.
    Core(const ServerOptions& options, Handler handler, SocketFile file, EventLoop* loop)
        : options_{options}, handler_{std::move(handler)}, file_{std::move(file)},
          own_{loop == nullptr ? std::make_unique<asio::io_context>(1) : nullptr}, context_{loop == nullptr
                                                                                                ? *own_
                                                                                                : loop->context()} {}
    ~Core() { stop(); }
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    Result<void> start();
    [[nodiscard]] const ServerCounters& counters() const { return counters_; }

private:
    void stop();
    void accept_soon();
    void accept_some();
    void admit(UniqueFd peer);
    void turn_away(UniqueFd peer, Response response);
    std::shared_ptr<Connection> connect(UniqueFd peer);
    /// Closes an idle client; false when there is none.
    bool close_idle();
    [[nodiscard]] bool somebody_waits() const;
    /// When a client waits and no descriptor is left: refuses it with the one in reserve. False when there is none.
    bool refuse_one();
    void end_when_empty();

    const ServerOptions options_;
    const Handler handler_;
    SocketFile file_;
    ServerCounters counters_;
    std::unique_ptr<asio::io_context> own_; ///< null: it is that of a loop
    asio::io_context& context_;
    asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
    asio::posix::stream_descriptor listener_{context_};
    asio::steady_timer timer_{context_};
    bool stopping_{false};
    Connection::Shared shared_{context_, options_, handler_, counters_,
                               [this](const std::shared_ptr<Connection>& connection) {
                                   connections_.erase(connection);
                                   end_when_empty();
                               }};
    std::set<std::shared_ptr<Connection>> connections_;
    UniqueFd spare_{}; ///< a reserve, released for a moment to refuse a client
    log::Throttle told_full_{1};
    descriptors::Reserve reserve_{options_.max_connections + options_.max_streams + most_refusals};
    std::thread thread_;
};

Result<void> Server::Core::start() {
    const int own = ::fcntl(file_.fd(), F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return fail_errno(Errc::host_error, "cannot watch the API socket", "raise ulimit -n");
    listener_.assign(own);
    spare_.reset(::fcntl(file_.fd(), F_DUPFD_CLOEXEC, 0));
    accept_soon();
    if (!own_)
        return {};
    try {
        thread_ = std::thread{[this] {
            enter_thread(ThreadKind::api, "api");
            context_.run();
        }};
    } catch (const std::system_error& error) {
        return fail_thread("the API's thread", error);
    }
    return {};
}

void Server::Core::stop() {
    if (!own_) {
        stopping_ = true;
        for (const auto& connection : std::set{connections_})
            connection->close();
        return;
    }
    if (!thread_.joinable())
        return;
    asio::post(context_, [this] {
        stopping_ = true;
        boost::system::error_code ignored;
        listener_.close(ignored); // NOLINT(bugprone-unused-return-value)
        timer_.expires_after(last_answers);
        timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error)
                context_.stop();
        });
        for (const auto& connection : std::set{connections_})
            connection->finish();
        end_when_empty();
    });
    thread_.join();
    connections_.clear();
}

void Server::Core::end_when_empty() {
    if (own_ && stopping_ && connections_.empty())
        context_.stop();
}

void Server::Core::accept_soon() {
    listener_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
        if (!error)
            accept_some();
    });
}

void Server::Core::accept_some() {
    for (unsigned i = 0; i < most_accepted; ++i) {
        UniqueFd peer{::accept4(file_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (peer) {
            admit(std::move(peer));
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EAGAIN)
            return accept_soon();
        if (errno == EMFILE || errno == ENFILE) {
            if (!somebody_waits()) // accept looks for a descriptor before it looks for a client
                return accept_soon();
            if (close_idle() || refuse_one())
                continue;
        }
        // Waiting clients stay in the backlog.
        timer_.expires_after(accept_later);
        timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error && !stopping_)
                accept_some();
        });
        return;
    }
    accept_soon();
}

void Server::Core::admit(UniqueFd peer) {
    ++counters_.connections;
    if (has_left(peer.get()))
        return;
    const bool allowed = file_.peers().admits(peer.get());
    const bool full = allowed && shared_.count(Connection::Role::client) >= options_.max_connections && !close_idle();
    if (!allowed || full) {
        ++(allowed ? counters_.refused_full : counters_.refused_peer);
        return turn_away(
            std::move(peer),
            allowed ? Response{503, firecracker::protocol_error("Too many open connections"), "application/json", false}
                    : Response{403, firecracker::protocol_error("This user may not use the API socket."),
                               "application/json", false});
    }
    if (const auto connection = connect(std::move(peer)))
        connection->start();
}

bool Server::Core::close_idle() {
    std::pair<Connection::Idle, std::shared_ptr<Connection>> least{};
    for (const auto& connection : connections_)
        if (const auto idle = connection->idle(); idle && (!least.second || *idle < least.first))
            least = {*idle, connection};
    if (!least.second)
        return false;
    ++counters_.closed_idle;
    least.second->close();
    return true;
}

bool Server::Core::somebody_waits() const {
    pollfd poll{file_.fd(), POLLIN, 0};
    return ::poll(&poll, 1, 0) == 1;
}

bool Server::Core::refuse_one() {
    if (!spare_)
        return false;
    spare_.reset();
    UniqueFd peer{::accept4(file_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    const bool taken{peer};
    if (taken) {
        ++counters_.refused_descriptors;
        const auto bytes = Connection::farewell(
            {503, firecracker::protocol_error("No descriptors are left: raise ulimit -n."), "application/json", false});
        static_cast<void>(::send(peer.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
        if (told_full_.allow())
            log::write(log::Level::warning, "a client of the API is refused: no descriptors are left");
    }
    peer.reset();
    spare_.reset(::fcntl(file_.fd(), F_DUPFD_CLOEXEC, 0));
    return taken;
}

/// Refuses a client and reads its request to the end for a moment; above a limit, only refuses.
void Server::Core::turn_away(UniqueFd peer, Response response) {
    if (shared_.count(Connection::Role::refusal) >= most_refusals) {
        const auto bytes = Connection::farewell(response);
        static_cast<void>(::send(peer.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    } else if (const auto connection = connect(std::move(peer))) {
        connection->turn_away(std::move(response));
    }
}

std::shared_ptr<Connection> Server::Core::connect(UniqueFd peer) {
    Socket socket{context_};
    boost::system::error_code error;
    socket.assign(asio::local::stream_protocol{}, peer.get(), error); // NOLINT(bugprone-unused-return-value)
    if (error)
        return nullptr;
    (void)peer.release();
    auto connection = std::make_shared<Connection>(shared_, std::move(socket));
    connections_.insert(connection);
    return connection;
}

Server::Server(std::unique_ptr<Core> core) : core_{std::move(core)} {}
Server::~Server() = default;
const ServerCounters& Server::counters() const { return core_->counters(); }

Result<std::unique_ptr<Server>> Server::create(const ServerOptions& options, Handler handler) {
    auto file = TRY(SocketFile::create(options.path, options.group));
    auto core = std::make_unique<Core>(options, std::move(handler), std::move(file), nullptr);
    TRY_VOID(core->start());
    return std::unique_ptr<Server>{new Server{std::move(core)}};
}

Result<std::unique_ptr<Server>> Server::create(const ServerOptions& options, Handler handler, EventLoop& loop) {
    auto file = TRY(SocketFile::create(options.path, options.group));
    auto core = std::make_unique<Core>(options, std::move(handler), std::move(file), &loop);
    TRY_VOID(core->start());
    return std::unique_ptr<Server>{new Server{std::move(core)}};
}

} // namespace inox::api
