// SPDX-License-Identifier: Apache-2.0
#include "api/server_connection.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include "api/firecracker/protocol.hpp"
#include "vmm/base/descriptors.hpp"
#include "vmm/base/unix_socket.hpp"

namespace inox::api {
namespace {

constexpr std::size_t most_drained = 1024 * 1024;
constexpr std::chrono::milliseconds drain_time{1000};
constexpr std::size_t most_pieces_at_once = 64;
constexpr std::size_t left_for_clients = 8;     // descriptors that a new reader must leave
constexpr std::chrono::seconds silent_after{1}; // a client that has connected and asked nothing
constexpr std::chrono::seconds unused_after{5}; // a client that has asked before

} // namespace

/// Takes the answer to one request. Holds the connection weakly, as it may outlive connection and server.
class Connection::Answer final : public Exchange {
public:
    Answer(const std::shared_ptr<Connection>& connection, std::uint64_t request)
        : connection_{connection}, request_{request} {}
    ~Answer() override {
        if (!answered_.exchange(true))
            send({503, firecracker::protocol_error("The request was dropped."), "application/json", false}, false);
    }
    void answer(Response response) override {
        if (!answered_.exchange(true))
            send(std::move(response), true);
    }
    std::shared_ptr<Stream> stream(std::string content_type) override;

private:
    void send(Response response, bool keep) {
        if (auto connection = connection_.lock()) {
            auto& context = connection->shared_.context;
            asio::post(context, [connection = std::move(connection), request = request_, response = std::move(response),
                                 keep]() mutable { connection->on_answer(request, std::move(response), keep); });
        }
    }

    std::weak_ptr<Connection> connection_;
    std::uint64_t request_;
    std::atomic<bool> answered_{false};
};

class Connection::Pieces final : public Stream {
public:
    explicit Pieces(std::weak_ptr<Connection> connection) : connection_{std::move(connection)} {}
    ~Pieces() override {
        if (auto connection = connection_.lock()) {
            auto& context = connection->shared_.context;
            asio::post(context, [connection = std::move(connection)] { connection->add_piece({}); });
        }
    }
    bool write(std::string piece) override {
        auto connection = connection_.lock();
        if (!connection || !connection->open_)
            return false;
        if (piece.empty())
            return true;
        const auto& shared = connection->shared_;
        const auto size = piece.size();
        const bool fits = connection->backlog_.fetch_add(size) + size <= shared.options.stream_backlog;
        if (!fits && connection->open_.exchange(false))
            ++connection->shared_.counters.dropped_readers;
        auto& context = shared.context;
        asio::post(context, [connection = std::move(connection), piece = std::move(piece), fits]() mutable {
            if (fits)
                connection->add_piece(std::move(piece));
            else
                connection->close();
        });
        return fits;
    }

private:
    std::weak_ptr<Connection> connection_;
};

/// Counts the stream at once; begin_stream() gives the count to the connection, or takes it back.
std::shared_ptr<Stream> Connection::Answer::stream(std::string content_type) {
    auto connection = connection_.lock();
    if (!connection || answered_)
        return std::make_shared<Pieces>(std::weak_ptr<Connection>{});
    auto& shared = connection->shared_;
    auto taken = shared.counters.streams.load();
    do
        // A reader stays, so it must leave descriptors for clients that ask.
        if (taken >= shared.options.max_streams || !descriptors::left(left_for_clients)) {
            ++shared.counters.refused_streams;
            return nullptr;
        }
    while (!shared.counters.streams.compare_exchange_weak(taken, taken + 1));
    if (answered_.exchange(true)) {
        --shared.counters.streams;
        return std::make_shared<Pieces>(std::weak_ptr<Connection>{});
    }
    asio::post(shared.context, [connection, request = request_, type = std::move(content_type)] {
        connection->begin_stream(request, type);
    });
    return std::make_shared<Pieces>(connection);
}

Connection::Connection(Shared& shared, Socket socket)
    : shared_{shared}, socket_{std::move(socket)}, deadline_{shared.context}, parser_{shared.options.max_body} {
    shared_.change(role_, 1);
}

Connection::~Connection() = default;

void Connection::start() { next_request(); }

void Connection::become(Role role) {
    shared_.change(role_, -1);
    role_ = role;
    shared_.change(role_, 1);
}

void Connection::turn_away(Response response) {
    become(Role::refusal);
    refuse(std::move(response));
}

void Connection::refuse(Response response) {
    keep_ = false;
    output_.clear();
    phase_ = Phase::waiting;
    on_answer(request_, std::move(response), false);
}

void Connection::finish() {
    finishing_ = true;
    if (phase_ == Phase::writing || phase_ == Phase::draining)
        return;
    if (phase_ == Phase::streaming)
        return add_piece({});
    close();
}

void Connection::close() {
    if (phase_ == Phase::closed)
        return;
    phase_ = Phase::closed;
    open_ = false;
    boost::system::error_code ignored;
    socket_.close(ignored); // NOLINT(bugprone-unused-return-value)
    deadline_.cancel();
    shared_.change(role_, -1);
    if (role_ == Role::stream)
        --shared_.counters.streams;
    shared_.on_closed(shared_from_this());
}

void Connection::set_deadline(std::chrono::milliseconds time) {
    deadline_.expires_after(time);
    deadline_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        if (error || self->deadline_.expiry() > std::chrono::steady_clock::now())
            return;
        if (self->phase_ != Phase::draining)
            ++self->shared_.counters.timed_out;
        self->close();
    });
}

// Reading

void Connection::next_request() {
    phase_ = Phase::reading;
    if (!parser_.idle())
        return dispatch();
    idle_since_ = std::chrono::steady_clock::now();
    set_deadline(served_ == 0 ? shared_.options.request_deadline : shared_.options.idle_deadline);
    read_more(false);
}

std::optional<Connection::Idle> Connection::idle() const {
    boost::system::error_code error;
    if (role_ != Role::client || phase_ != Phase::reading || !parser_.idle() || socket_.available(error) != 0)
        return std::nullopt;
    const auto age = std::chrono::steady_clock::now() - idle_since_;
    if (served_ == 0)
        return Idle{age >= silent_after ? Idle::Loss::silent : Idle::Loss::new_silent, idle_since_};
    return Idle{age >= unused_after ? Idle::Loss::unused : Idle::Loss::used, idle_since_};
}

/// What comes along beyond the limit is closed.
std::ptrdiff_t Connection::receive() {
    return receive_passed(socket_.native_handle(), std::as_writable_bytes(std::span{input_}), MSG_DONTWAIT,
                          [this](UniqueFd fd) {
                              if (descriptors_.size() < shared_.options.max_descriptors)
                                  descriptors_.push_back(std::move(fd));
                          })
        .bytes;
}

void Connection::read_with_descriptors(bool in_request) {
    socket_.async_wait(Socket::wait_read,
                       [self = shared_from_this(), in_request](const boost::system::error_code& error) {
                           if (self->phase_ == Phase::closed)
                               return;
                           const auto got = error ? 0 : self->receive();
                           if (got < 0 && (errno == EAGAIN || errno == EINTR))
                               return self->read_with_descriptors(in_request);
                           if (got <= 0)
                               return self->close();
                           if (!in_request)
                               self->set_deadline(self->shared_.options.request_deadline);
                           self->on_bytes(static_cast<std::size_t>(got));
                       });
}

void Connection::read_more(bool in_request) {
    if (shared_.options.max_descriptors != 0)
        return read_with_descriptors(in_request);
    socket_.async_read_some(asio::buffer(input_), [self = shared_from_this(), in_request](
                                                      const boost::system::error_code& error, std::size_t count) {
        if (self->phase_ == Phase::closed)
            return;
        if (error)
            return self->close();
        if (!in_request)
            self->set_deadline(self->shared_.options.request_deadline);
        self->on_bytes(count);
    });
}

void Connection::on_bytes(std::size_t count) {
    parser_.feed({input_.data(), count});
    dispatch();
}

void Connection::dispatch() {
    switch (parser_.step()) {
    case RequestParser::Step::more:
        return read_more(true);
    case RequestParser::Step::proceed:
        return write("HTTP/1.1 100 \r\nServer: " + std::string{firecracker::server_name} +
                         "\r\nConnection: keep-alive\r\n\r\n",
                     &Connection::dispatch);
    case RequestParser::Step::refused:
        ++shared_.counters.malformed;
        return refuse(parser_.refusal());
    case RequestParser::Step::request:
        break;
    }
    ++shared_.counters.requests;
    ++served_;
    phase_ = Phase::waiting;
    deadline_.cancel();
    auto request = parser_.take();
    if (!descriptors_.empty())
        request.descriptors = std::make_shared<std::vector<UniqueFd>>(std::exchange(descriptors_, {}));
    keep_ = parser_.keep_alive();
    shared_.handler(std::move(request), std::make_shared<Answer>(shared_from_this(), ++request_));
}

// Answering

std::string Connection::head_text(unsigned status, bool keep, unsigned minor_version) {
    return "HTTP/1." + std::to_string(minor_version) + " " + std::to_string(status) +
           " \r\nServer: " + firecracker::server_name + "\r\nConnection: " + (keep ? "keep-alive" : "close") + "\r\n";
}

namespace {

std::string body_text(const Response& response) {
    if (response.body.empty())
        return "\r\n";
    return "Content-Type: " + response.content_type + "\r\nContent-Length: " + std::to_string(response.body.size()) +
           "\r\n\r\n" + response.body;
}

} // namespace

std::string Connection::farewell(const Response& response) {
    return head_text(response.status, false, 1) + body_text(response);
}

void Connection::on_answer(std::uint64_t request, Response response, bool keep) {
    if (phase_ != Phase::waiting || request != request_)
        return;
    keep_ = keep_ && keep && !finishing_;
    std::string bytes = head(response.status, keep_);
    if (response.deprecated)
        bytes += "Deprecation: true\r\n";
    bytes += body_text(response);
    set_deadline(shared_.options.request_deadline);
    write(std::move(bytes), &Connection::after_answer);
}

void Connection::write(std::string bytes, Action then) {
    phase_ = Phase::writing;
    output_ = std::move(bytes);
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this(), then](const boost::system::error_code& error, std::size_t) {
                          if (self->phase_ == Phase::closed)
                              return;
                          if (error)
                              return self->close();
                          self->phase_ = Phase::reading;
                          ((*self).*then)();
                      });
}

void Connection::after_answer() {
    if (keep_ && !finishing_)
        return next_request();
    phase_ = Phase::draining;
    boost::system::error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored); // NOLINT(bugprone-unused-return-value)
    set_deadline(drain_time);
    drain();
}

void Connection::drain() {
    socket_.async_read_some(asio::buffer(input_),
                            [self = shared_from_this()](const boost::system::error_code& error, std::size_t count) {
                                if (self->phase_ == Phase::closed)
                                    return;
                                self->drained_ += count;
                                if (error == asio::error::eof && self->phase_ != Phase::draining)
                                    return self->wait_for_hang_up();
                                if (error || self->drained_ > most_drained)
                                    return self->close();
                                self->drain();
                            });
}

void Connection::wait_for_hang_up() {
    socket_.async_wait(Socket::wait_error, [self = shared_from_this()](const boost::system::error_code&) {
        self->close(); // does nothing when it is closed already
    });
}

// Streams

void Connection::begin_stream(std::uint64_t request, const std::string& content_type) {
    if (phase_ != Phase::waiting || request != request_) {
        --shared_.counters.streams; // the client left meanwhile
        return;
    }
    become(Role::stream);
    phase_ = Phase::streaming;
    keep_ = false;
    chunked_ = parser_.minor_version() != 0;
    queue_piece(head(200, false) + "Content-Type: " + content_type + "\r\n" +
                (chunked_ ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n"));
    drain();
    write_pieces();
}

void Connection::queue_piece(std::string bytes) {
    backlog_ += bytes.size();
    pieces_.push_back(std::move(bytes));
}

/// An empty piece is the end.
void Connection::add_piece(std::string piece) {
    if (phase_ != Phase::streaming)
        return;
    const auto size = piece.size();
    backlog_ -= size; // write() counted the piece; queue_piece() counts it with its frame
    if (chunked_)
        queue_piece(format("%zx\r\n", size) + piece + "\r\n");
    else if (size != 0)
        queue_piece(std::move(piece));
    if (size == 0) {
        phase_ = Phase::writing;
        open_ = false;
    }
    write_pieces();
}

void Connection::write_pieces() {
    if (writing_pieces_)
        return;
    if (pieces_.empty()) {
        deadline_.cancel();
        if (phase_ == Phase::writing)
            after_answer();
        return;
    }
    output_.clear();
    for (std::size_t i = 0; i < most_pieces_at_once && !pieces_.empty(); ++i) {
        output_ += pieces_.front();
        pieces_.pop_front();
    }
    writing_pieces_ = true;
    set_deadline(shared_.options.request_deadline);
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
                          if (self->phase_ == Phase::closed)
                              return;
                          if (error)
                              return self->close();
                          self->backlog_ -= self->output_.size();
                          self->writing_pieces_ = false;
                          self->write_pieces();
                      });
}

} // namespace inox::api
