// SPDX-License-Identifier: Apache-2.0
// One connection: reads a request, waits for its answer, writes it, and so on. Included by server*.cpp only.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <deque>
#include <optional>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include "api/server.hpp"
#include "api/server_parser.hpp"

namespace inox::api {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;

/// On the server's thread, except where Exchange and Stream say otherwise.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    /// How the limits of the server count it.
    enum class Role : std::uint8_t {
        client,
        stream,  ///< its answer has begun and is without end
        refusal, ///< it only gets a refusal
    };
    /// What all connections of a server share; outlives them.
    struct Shared {
        [[nodiscard]] std::size_t count(Role role) const { return open[static_cast<std::size_t>(role)]; }
        void change(Role role, int by) {
            open[static_cast<std::size_t>(role)] += static_cast<std::size_t>(by);
            counters.open = count(Role::client);
        }

        asio::io_context& context;
        const ServerOptions& options;
        const Handler& handler;
        ServerCounters& counters;
        std::function<void(const std::shared_ptr<Connection>&)> on_closed;
        std::array<std::size_t, 3> open{}; ///< connections of each role
    };
    Connection(Shared& shared, Socket socket);
    ~Connection();

    void start();
    /// Answers once instead of reading a request, then closes.
    void turn_away(Response response);
    /// The bytes of such an answer, for whoever has no connection.
    static std::string farewell(const Response& response);
    /// The server ends: a connection that is not writing is closed, one that does closes after that.
    void finish();
    void close();

    /// How little it would lose by being closed, least first, then since when; nullopt while it has a request, a part
    /// of one, or an answer on its way. A client that has just connected is about to ask.
    struct Idle {
        enum class Loss : std::uint8_t { silent, unused, new_silent, used };
        Loss loss{};
        std::chrono::steady_clock::time_point since{};
        auto operator<=>(const Idle&) const = default;
    };
    [[nodiscard]] std::optional<Idle> idle() const;

private:
    class Answer;
    class Pieces;
    enum class Phase : std::uint8_t { reading, waiting, writing, streaming, draining, closed };
    using Action = void (Connection::*)();

    void next_request();
    void read_more(bool in_request);
    void on_bytes(std::size_t count);
    void read_with_descriptors(bool in_request);
    [[nodiscard]] std::ptrdiff_t receive();
    void dispatch();
    void become(Role role);
    void refuse(Response response);
    void write(std::string bytes, Action then);
    void on_answer(std::uint64_t request, Response response, bool keep);
    void after_answer();
    /// Reads input and discards it. After the answer, because closing at once would destroy the answer on its way to a
    /// client that still sends. Beside a stream, because the end of input may be that of the reader.
    void drain();
    /// The client has ended its side. It may still read, until it closes the other one too.
    void wait_for_hang_up();
    void begin_stream(std::uint64_t request, const std::string& content_type);
    void add_piece(std::string piece);
    void queue_piece(std::string bytes);
    void write_pieces();
    void set_deadline(std::chrono::milliseconds time);
    [[nodiscard]] std::string head(unsigned status, bool keep) const {
        return head_text(status, keep, parser_.minor_version());
    }
    static std::string head_text(unsigned status, bool keep, unsigned minor_version);

    Shared& shared_;
    Socket socket_;
    asio::steady_timer deadline_;
    RequestParser parser_;
    std::array<char, 8192> input_{};
    std::vector<UniqueFd> descriptors_{}; ///< of the request that is being read
    std::string output_{};
    std::deque<std::string> pieces_{};
    std::atomic<std::size_t> backlog_{0}; ///< bytes in pieces_ and on their way to it
    std::atomic<bool> open_{true};
    std::uint64_t request_{0}; ///< number of the request in work
    std::uint64_t served_{0};
    std::chrono::steady_clock::time_point idle_since_{}; ///< in Phase::reading
    std::size_t drained_{0};
    Phase phase_{Phase::reading};
    Role role_{Role::client};
    bool keep_{true};
    bool writing_pieces_{false};
    bool finishing_{false};
    bool chunked_{true}; ///< the stream; HTTP/1.0 has no chunks
};

} // namespace inox::api
