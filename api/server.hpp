// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 on a unix socket, on a thread of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "api/http.hpp"
#include "api/socket_file.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::api {

struct ServerOptions {
    std::string path{};
    std::string group{}; ///< whose members may connect besides our own user and root; empty: nobody's
    /// For a new one, the connection that has been idle for longest is closed; if all are busy, the new one is refused.
    unsigned max_connections{64};
    unsigned max_streams{most_streams}; ///< readers of streams, who do not count as connections
    std::size_t max_body{51200};        ///< bytes
    /// From a request's first byte to its last, and for the answer to be read. Also for a connection's first byte.
    std::chrono::milliseconds request_deadline{10'000};
    std::chrono::milliseconds idle_deadline{300'000}; ///< between two requests
    std::size_t stream_backlog{256 * 1024};           ///< bytes a slow reader of a stream may be behind
    std::size_t max_descriptors{0};                   ///< that a request may bring along (SCM_RIGHTS), to 64
};

struct ServerCounters {
    std::atomic<std::uint64_t> connections{0};         ///< accepted so far
    std::atomic<std::uint64_t> open{0};                ///< now, without streams
    std::atomic<std::uint64_t> streams{0};             ///< readers of streams now
    std::atomic<std::uint64_t> requests{0};            ///< complete ones
    std::atomic<std::uint64_t> refused_full{0};        ///< max_connections were busy
    std::atomic<std::uint64_t> refused_descriptors{0}; ///< the process had no descriptor left
    std::atomic<std::uint64_t> closed_idle{0};         ///< for a newcomer
    std::atomic<std::uint64_t> refused_streams{0};     ///< max_streams were open
    std::atomic<std::uint64_t> refused_peer{0};        ///< of users without permission
    std::atomic<std::uint64_t> malformed{0};           ///< no HTTP requests, or too large
    std::atomic<std::uint64_t> timed_out{0};           ///< connections whose deadline passed
    std::atomic<std::uint64_t> dropped_readers{0};     ///< streams whose reader was too slow
};

class Server {
public:
    /// Listens; from then on `handler` is called on the server's thread, one request of a connection at a time. It must
    /// not wait.
    static Result<std::unique_ptr<Server>> create(const ServerOptions& options, Handler handler);
    /// The same on the thread of this loop, which outlives it: it makes no thread, and the handler may wait.
    static Result<std::unique_ptr<Server>> create(const ServerOptions& options, Handler handler, EventLoop& loop);
    /// Answers that are on their way get up to a quarter of a second, then all connections and the socket are gone.
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    [[nodiscard]] const ServerCounters& counters() const;

private:
    class Core;
    explicit Server(std::unique_ptr<Core> core);
    std::unique_ptr<Core> core_;
};

} // namespace inox::api
