// SPDX-License-Identifier: Apache-2.0
// The server on a real socket: order, limits, deadlines, and clients that behave badly.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "api/server.hpp"
#include "tests/catch.hpp"

using namespace std::chrono_literals;

namespace {

std::string socket_path() {
    static std::atomic<unsigned> number{0};
    return "/tmp/inox-server-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
}

class Client {
public:
    explicit Client(const std::string& path) : fd_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0; // NOLINT
    }
    [[nodiscard]] bool connected() const { return connected_; }
    bool send(const std::string& bytes) const {
        return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
    }
    /// Bytes until `enough` says so, the end, or the limit.
    template <class F> std::string receive(F enough, std::chrono::milliseconds limit = 5s) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (!enough(text_)) {
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
            pollfd poll{fd_.get(), POLLIN, 0};
            char buffer[4096];
            if (left <= 0ms || ::poll(&poll, 1, static_cast<int>(left.count())) != 1)
                break;
            const auto got = ::read(fd_.get(), buffer, sizeof buffer);
            if (got <= 0) {
                ended_ = true;
                break;
            }
            text_.append(buffer, static_cast<std::size_t>(got));
        }
        return std::exchange(text_, {});
    }
    std::string receive_answer() {
        return receive([](const std::string& text) {
            const auto head = text.find("\r\n\r\n");
            if (head == text.npos)
                return false;
            const auto at = text.find("Content-Length: ");
            return at == text.npos || text.size() >= head + 4 + std::stoul(text.substr(at + 16));
        });
    }
    std::string receive_all(std::chrono::milliseconds limit = 5s) {
        return receive([](const std::string&) { return false; }, limit);
    }
    [[nodiscard]] bool ended() const { return ended_; }
    void close() { fd_.reset(); }

private:
    vmm::UniqueFd fd_;
    bool connected_{false};
    bool ended_{false};
    std::string text_{};
};

constexpr const char* get_root = "GET / HTTP/1.1\r\n\r\n";

/// Answers with the request's path as the body.
void echo(api::Request request, const std::shared_ptr<api::Exchange>& exchange) {
    exchange->answer({200, "\"" + request.path + "\"", "application/json", false});
}

std::unique_ptr<api::Server> serve(api::ServerOptions options, api::Handler handler = echo) {
    auto server = api::Server::create(options, std::move(handler));
    REQUIRE(server);
    return std::move(*server);
}

template <class F> bool eventually(F done, std::chrono::milliseconds limit = 5s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(1ms);
    return done();
}

} // namespace

TEST_CASE("an answer has Firecracker's exact form") {
    const auto path = socket_path();
    const auto server = serve({.path = path}, [](api::Request request, const auto& exchange) {
        if (request.path == "/none")
            exchange->answer({});
        else
            exchange->answer({400, "{}", "application/json", true});
    });
    Client client{path};
    REQUIRE(client.send("GET /none HTTP/1.1\r\n\r\n"));
    CHECK(client.receive_answer() == "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n");
    REQUIRE(client.send("GET /x HTTP/1.1\r\n\r\n"));
    CHECK(client.receive_answer() ==
          "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nDeprecation: true\r\n"
          "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
}

TEST_CASE("pipelined requests are answered in order, though the first takes longest") {
    const auto path = socket_path();
    std::shared_ptr<api::Exchange> slow;
    std::mutex mutex;
    const auto server = serve({.path = path}, [&](api::Request request, const auto& exchange) {
        std::lock_guard lock{mutex};
        if (request.path == "/1")
            slow = exchange;
        else
            echo(std::move(request), exchange);
    });
    Client client{path};
    REQUIRE(client.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\nConnection: close\r\n\r\n"));
    CHECK(client.receive_all(100ms).empty());
    REQUIRE(eventually([&] {
        std::lock_guard lock{mutex};
        return slow != nullptr;
    }));
    slow->answer({200, "\"/1\"", "application/json", false});
    slow->answer({200, "\"twice\"", "application/json", false});
    const auto all = client.receive_all();
    CHECK(client.ended());
    const auto first = all.find("\"/1\"");
    const auto second = all.find("\"/2\"");
    CHECK(first < second);
    CHECK(second < all.find("\"/3\""));
    CHECK(all.find("twice") == all.npos);
    CHECK(all.find("Connection: close") != all.npos);
}

TEST_CASE("a client that waits for 100-continue gets it, then the answer") {
    const auto path = socket_path();
    const auto server = serve({.path = path});
    Client client{path};
    REQUIRE(client.send("PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    CHECK(client.receive_answer().starts_with("HTTP/1.1 100 \r\n"));
    REQUIRE(client.send("{}"));
    CHECK(client.receive_answer().find("\"/x\"") != std::string::npos);
}

TEST_CASE("a client beyond the limit is told so, and a place that becomes free is taken") {
    const auto path = socket_path();
    const auto server = serve({.path = path, .max_connections = 2});
    auto first = std::make_unique<Client>(path);
    Client second{path};
    for (auto* client : {first.get(), &second}) {
        REQUIRE(client->send(get_root));
        CHECK(client->receive_answer().starts_with("HTTP/1.1 200"));
    }
    Client third{path};
    CHECK(third.receive_all() == "HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\n"
                                 "Content-Type: application/json\r\nContent-Length: 40\r\n\r\n"
                                 "{ \"error\": \"Too many open connections\" }");
    first.reset();
    REQUIRE(eventually([&] { return server->counters().open == 1; }));
    Client fourth{path};
    REQUIRE(fourth.send(get_root));
    CHECK(fourth.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(server->counters().refused_full == 1);
}

TEST_CASE("a thousand connections leave the server as it was") {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    const auto path = socket_path();
    const auto server = serve({.path = path});
    Client before{path};
    REQUIRE(before.send(get_root));
    CHECK(before.receive_answer().starts_with("HTTP/1.1 200"));
    std::vector<std::unique_ptr<Client>> crowd;
    for (int i = 0; i < 1000; ++i)
        crowd.push_back(std::make_unique<Client>(path));
    REQUIRE(before.send(get_root));
    CHECK(before.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(server->counters().open <= 64);
    crowd.clear();
    REQUIRE(eventually([&] { return server->counters().open == 1; }));
    Client after{path};
    REQUIRE(after.send(get_root));
    CHECK(after.receive_answer().starts_with("HTTP/1.1 200"));
}

TEST_CASE("slow senders end at their deadline and delay nobody") {
    const auto path = socket_path();
    const auto server = serve({.path = path, .request_deadline = 1s, .idle_deadline = 1s});
    Client silent{path};
    Client slow{path};
    REQUIRE(slow.send("GET / HT"));
    Client idle{path};
    REQUIRE(idle.send(get_root));
    CHECK(idle.receive_answer().starts_with("HTTP/1.1 200"));
    const auto began = std::chrono::steady_clock::now();
    Client quick{path};
    REQUIRE(quick.send(get_root));
    CHECK(quick.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(std::chrono::steady_clock::now() - began < 800ms);
    for (auto* client : {&silent, &slow, &idle}) {
        CHECK(client->receive_all().empty());
        CHECK(client->ended());
    }
    CHECK(server->counters().timed_out >= 3);
}

TEST_CASE("malformed requests are answered, then the connection is closed") {
    const auto path = socket_path();
    const auto server = serve({.path = path});
    for (const std::string& bytes :
         {std::string{"\x16\x03\x01"} + "\r\n\r\n", std::string{"NONSENSE\r\n\r\n"}, "GET /" + std::string(3000, 'a'),
          std::string{"PUT / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n"} + std::string(60000, ' ')}) {
        Client client{path};
        client.send(bytes);
        const auto all = client.receive_all();
        CHECK(all.starts_with("HTTP/1.1 400 \r\n"));
        CHECK(all.find("{ \"error\": \"") != all.npos);
        CHECK(client.ended());
    }
    CHECK(server->counters().malformed == 4);
}

TEST_CASE("a client that vanishes takes nothing with it") {
    const auto path = socket_path();
    std::vector<std::shared_ptr<api::Exchange>> waiting;
    std::mutex mutex;
    const auto server = serve({.path = path}, [&](api::Request request, const auto& exchange) {
        std::lock_guard lock{mutex};
        if (request.path == "/wait")
            waiting.push_back(exchange);
        else
            echo(std::move(request), exchange);
    });
    for (int i = 0; i < 20; ++i) {
        Client half{path};
        half.send("PUT /x HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
        Client asks{path};
        asks.send("GET /wait HTTP/1.1\r\n\r\n");
    }
    REQUIRE(eventually([&] {
        std::lock_guard lock{mutex};
        return waiting.size() == 20;
    }));
    for (auto& exchange : waiting)
        exchange->answer({200, "{}", "application/json", false});
    CHECK(eventually([&] { return server->counters().open == 0; }));
    Client client{path};
    REQUIRE(client.send(get_root));
    CHECK(client.receive_answer().starts_with("HTTP/1.1 200"));
}

TEST_CASE("a request that nobody answers ends with 503") {
    const auto path = socket_path();
    const auto server = serve({.path = path}, [](api::Request, const auto&) {});
    Client client{path};
    REQUIRE(client.send(get_root));
    CHECK(client.receive_all().starts_with("HTTP/1.1 503"));
}

TEST_CASE("a stream arrives in pieces; a reader that does not read is cut off and counted") {
    const auto path = socket_path();
    std::shared_ptr<api::Stream> stream;
    std::atomic<bool> ready{false};
    const auto server = serve({.path = path, .stream_backlog = 4096}, [&](api::Request, const auto& exchange) {
        stream = exchange->stream("application/x-ndjson");
        ready = true;
    });
    SECTION("read") {
        Client client{path};
        REQUIRE(client.send(get_root));
        REQUIRE(eventually([&] { return ready.load(); }));
        CHECK(stream->write("{\"a\":1}\n"));
        const auto text = client.receive([](const auto& got) { return got.find("{\"a\":1}\n\r\n") != got.npos; });
        CHECK(text.find("Transfer-Encoding: chunked") != text.npos);
        CHECK(text.find("8\r\n{\"a\":1}\n\r\n") != text.npos);
        stream.reset();
        CHECK(client.receive_all() == "0\r\n\r\n");
        CHECK(client.ended());
    }
    SECTION("not read") {
        Client client{path};
        REQUIRE(client.send(get_root));
        REQUIRE(eventually([&] { return ready.load(); }));
        CHECK(eventually([&] { return !stream->write(std::string(1024, 'x')); }));
        CHECK(server->counters().dropped_readers == 1);
        CHECK(eventually([&] { return server->counters().open == 0; }));
    }
    SECTION("left") {
        {
            Client client{path};
            REQUIRE(client.send(get_root));
            REQUIRE(eventually([&] { return ready.load(); }));
        }
        CHECK(eventually([&] { return !stream->write(""); }));
    }
}

TEST_CASE("the end of the server closes its clients, removes the socket, and lets late answers fall") {
    const auto path = socket_path();
    std::shared_ptr<api::Exchange> late;
    std::shared_ptr<api::Stream> stream;
    std::atomic<int> seen{0};
    auto server = serve({.path = path}, [&](api::Request request, const auto& exchange) {
        if (request.path == "/late")
            late = exchange;
        else
            stream = exchange->stream("text/plain");
        ++seen;
    });
    Client idle{path};
    Client waiting{path};
    REQUIRE(waiting.send("GET /late HTTP/1.1\r\n\r\n"));
    Client reading{path};
    REQUIRE(reading.send("GET /stream HTTP/1.1\r\n\r\n"));
    REQUIRE(eventually([&] { return seen == 2; }));
    stream->write("last words\n");
    server.reset();
    CHECK(::access(path.c_str(), F_OK) != 0);
    CHECK(idle.receive_all().empty());
    CHECK(idle.ended());
    CHECK(waiting.receive_all().empty());
    CHECK(reading.receive_all().find("last words\n") != std::string::npos);
    late->answer({200, "{}", "application/json", false});
    CHECK_FALSE(stream->write("x"));
}

TEST_CASE("the socket: mode, stale files, live ones, long paths") {
    const auto path = socket_path();
    {
        const auto server = serve({.path = path});
        struct stat status {};
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
        const auto second = api::Server::create({.path = path}, echo);
        REQUIRE_FALSE(second);
        CHECK(second.error().code == vmm::Errc::in_use);
        CHECK(second.error().what ==
              "Failed to open the API socket at: " + path + ". Check that it is not already used.");
        Client client{path};
        CHECK(client.send(get_root)); // the refusal left the live one alone
        CHECK(client.receive_answer().starts_with("HTTP/1.1 200"));
    }
    CHECK(::access(path.c_str(), F_OK) != 0);
    // A socket whose process is gone.
    const vmm::UniqueFd stale{::socket(AF_UNIX, SOCK_STREAM, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(stale.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0); // NOLINT
    {
        const auto server = serve({.path = path});
        // Somebody else's file in its place stays.
        ::unlink(path.c_str());
        vmm::UniqueFd other{::creat(path.c_str(), 0600)};
    }
    CHECK(::access(path.c_str(), F_OK) == 0);
    const auto file = api::Server::create({.path = path}, echo);
    REQUIRE_FALSE(file);
    CHECK(file.error().code == vmm::Errc::in_use);
    ::unlink(path.c_str());
    const auto long_path = api::Server::create({.path = "/tmp/" + std::string(103, 'x')}, echo);
    REQUIRE_FALSE(long_path);
    CHECK(long_path.error().what.find("108 bytes: a unix socket takes at most 107") != std::string::npos);
    const std::string longest =
        "/tmp/" + std::string(102 - std::to_string(::getpid()).size(), 'y') + std::to_string(::getpid());
    CHECK(api::Server::create({.path = longest}, echo));
    const auto nowhere = api::Server::create({.path = "/nonexistent/socket"}, echo);
    REQUIRE_FALSE(nowhere);
    CHECK(nowhere.error().code == vmm::Errc::output_unwritable);
}

TEST_CASE("a group's members may be admitted, others are not") {
    const auto path = socket_path();
    const auto group = std::to_string(::getegid());
    const auto server = serve({.path = path, .group = group});
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0660);
    CHECK(status.st_gid == ::getegid());
    int pair[2]{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(api::PeerRule{}.admits(pair[0])); // ourselves
    CHECK_FALSE(api::PeerRule{}.admits(0)); // no socket: unknown, so no
    ::close(pair[0]);
    ::close(pair[1]);
}

TEST_CASE("a peer of another user is refused, whatever the socket's mode") {
    if (::geteuid() != 0)
        return; // needs two users
    const auto path = socket_path();
    const auto server = serve({.path = path});
    REQUIRE(::chmod(path.c_str(), 0666) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0)
            ::_exit(3);
        Client client{path};
        const auto all = client.receive_all();
        ::_exit(all.starts_with("HTTP/1.1 403 \r\n") && all.find("may not use the API") != all.npos ? 0 : 4);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(server->counters().refused_peer == 1);
}
