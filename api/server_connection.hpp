// SPDX-License-Identifier: Apache-2.0
// One connection: reads a request, waits for its answer, writes it, and so on. Included by server*.cpp only.
#pragma once

#include <array>
#include <deque>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include "api/server.hpp"
#include "api/server_parser.hpp"

namespace api {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;

/// On the server's thread, except where Exchange and Stream say otherwise.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    /// What all connections of a server share; outlives them.
    struct Shared {
        asio::io_context& context;
        const ServerOptions& options;
        const Handler& handler;
        ServerCounters& counters;
        std::function<void(const std::shared_ptr<Connection>&)> on_closed;
    };
    Connection(Shared& shared, Socket socket);
    ~Connection();

    void start();
    /// Answers once without a request, then closes.
    void refuse(Response response);
    /// It only gets a refusal: no place of the server's is taken.
    [[nodiscard]] bool is_refusal() const { return refusal_; }
    void be_refusal() { refusal_ = true; }
    /// The server ends: a connection that is not writing is closed, one that does closes after that.
    void finish();
    void close();

private:
    class Answer;
    class Pieces;
    enum class Phase : std::uint8_t { reading, waiting, writing, streaming, draining, closed };
    using Action = void (Connection::*)();

    void next_request();
    void read_more(bool in_request);
    void on_bytes(std::size_t count);
    void dispatch();
    void write(std::string bytes, Action then);
    void on_answer(std::uint64_t request, Response response, bool keep);
    void after_answer();
    /// The client may still be sending what nobody will read: closing at once would destroy the answer on its way.
    void drain();
    void begin_stream(std::uint64_t request, const std::string& content_type);
    void add_piece(std::string piece);
    void write_pieces();
    void set_deadline(std::chrono::milliseconds time);
    [[nodiscard]] std::string head(unsigned status, bool keep) const;

    Shared& shared_;
    Socket socket_;
    asio::steady_timer deadline_;
    RequestParser parser_;
    std::array<char, 8192> input_{};
    std::string output_{};
    std::deque<std::string> pieces_{};
    std::atomic<std::size_t> backlog_{0}; ///< bytes in pieces_ and on their way to it
    std::atomic<bool> open_{true};
    std::uint64_t request_{0}; ///< number of the request in work
    std::uint64_t served_{0};
    std::size_t drained_{0};
    Phase phase_{Phase::reading};
    bool keep_{true};
    bool writing_pieces_{false};
    bool finishing_{false};
    bool refusal_{false};
};

} // namespace api
