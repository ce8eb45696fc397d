// SPDX-License-Identifier: Apache-2.0
// Answers without end: their limit, slow readers, readers that close their own direction, HTTP/1.0.
#include <fcntl.h>
#include <mutex>
#include <sys/resource.h>
#include <vector>

#include "tests/catch.hpp"
#include "tests/support/api_socket.hpp"
#include "tests/support/eventually.hpp"

namespace inox::api_stream_test {

using namespace std::chrono_literals;
using tests::echo, tests::eventually, tests::get_root, tests::serve, tests::socket_path;
using Client = tests::ApiSocket;

namespace {

constexpr const char* get_stream = "GET /stream HTTP/1.1\r\n\r\n";

/// Streams /stream, refuses it when there are too many, echoes anything else.
struct Streams {
    explicit Streams(api::ServerOptions options)
        : path{options.path}, server{serve(std::move(options), [this](api::Request request, const auto& exchange) {
              if (request.path != "/stream")
                  return echo(std::move(request), exchange);
              const std::lock_guard lock{mutex};
              if (auto stream = exchange->stream("application/x-ndjson"))
                  streams.push_back(std::move(stream));
              else
                  exchange->answer({503, "\"full\"", "application/json", false});
          })} {}
    [[nodiscard]] bool open(std::size_t count) const {
        return eventually([&] { return server->counters().streams == count && server->counters().open == 0; });
    }
    void end() {
        const std::lock_guard lock{mutex};
        streams.clear();
    }
    bool write(const std::string& piece) {
        const std::lock_guard lock{mutex};
        return streams.back()->write(piece);
    }

    std::mutex mutex{};
    std::vector<std::shared_ptr<api::Stream>> streams{};
    std::string path;
    std::unique_ptr<api::Server> server;
};

bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

} // namespace

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

TEST_CASE("readers of streams have a limit of their own and take no place of clients") {
    Streams streams{{.path = socket_path(), .max_connections = 2, .max_streams = 3}};
    std::vector<std::unique_ptr<Client>> readers;
    for (std::size_t i = 1; i <= 3; ++i) {
        readers.push_back(std::make_unique<Client>(streams.path));
        REQUIRE(readers.back()->send(get_stream));
        CHECK(has(readers.back()->receive_answer(), "chunked"));
        REQUIRE(streams.open(i));
    }
    Client one{streams.path};
    REQUIRE(one.send(get_root));
    CHECK(one.receive_answer().starts_with("HTTP/1.1 200"));
    Client two{streams.path};
    REQUIRE(two.send(get_stream));
    const auto refused = two.receive_answer();
    CHECK(refused.starts_with("HTTP/1.1 503"));
    CHECK(has(refused, "keep-alive")); // the client may ask for something else
    CHECK(streams.server->counters().refused_streams == 1);
    Client three{streams.path}; // an idle client is closed for others; a reader is not
    REQUIRE(three.send(get_root));
    CHECK(three.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(one.receive_all().empty());
    CHECK(one.ended());
    CHECK(streams.server->counters().streams == 3);
    three.close();
    readers.pop_back();
    REQUIRE(eventually([&] { return streams.server->counters().streams == 2; }));
    REQUIRE(two.send(get_stream));
    CHECK(has(two.receive_answer(), "chunked"));
    readers.clear();
    two.close();
    one.close();
    CHECK(streams.open(0));
}

TEST_CASE("a reader that has ended its own side gets the stream to its end") {
    Streams streams{{.path = socket_path()}};
    Client client{streams.path};
    const bool old = GENERATE(false, true);
    REQUIRE(client.send(old ? "GET /stream HTTP/1.0\r\n\r\n" : get_stream));
    client.end_sending();
    REQUIRE(streams.open(1));
    std::this_thread::sleep_for(20ms); // so that the server sees the end
    CHECK(streams.write("{}\n"));
    CHECK(has(client.receive([](const auto& got) { return has(got, "{}\n"); }), "{}\n"));
    CHECK(streams.write("[]\n"));
    streams.end();
    const auto rest = client.receive_all();
    CHECK(has(rest, "[]\n"));
    CHECK(client.ended());
    CHECK(streams.open(0));
}

TEST_CASE("one that then leaves is noticed at once") {
    Streams streams{{.path = socket_path()}};
    for (const bool half_first : {true, false}) {
        Client client{streams.path};
        REQUIRE(client.send(get_stream));
        REQUIRE(streams.open(1));
        if (half_first) {
            client.end_sending();
            std::this_thread::sleep_for(20ms);
        }
        client.close();
        CHECK(streams.open(0));
    }
}

TEST_CASE("a half-closed reader that does not read is cut off like any other") {
    Streams streams{{.path = socket_path(), .request_deadline = 200ms, .stream_backlog = 1024 * 1024}};
    Client client{streams.path};
    REQUIRE(client.send(get_stream));
    client.end_sending();
    REQUIRE(streams.open(1));
    for (int i = 0; i < 16; ++i)
        streams.write(std::string(60 * 1024, 'x')); // more than the socket takes
    CHECK(streams.open(0));
    CHECK(streams.server->counters().timed_out == 1);
}

TEST_CASE("all requests sent before a client ends its side are answered") {
    Streams streams{{.path = socket_path()}};
    Client client{streams.path};
    std::string requests;
    for (int i = 0; i < 500; ++i)
        requests += "GET /" + std::to_string(i) + " HTTP/1.1\r\n\r\n";
    REQUIRE(client.send(requests));
    client.end_sending();
    const auto all = client.receive_all();
    CHECK(client.ended());
    std::size_t at = 0;
    for (int i = 0; i < 500 && at != all.npos; ++i)
        at = all.find("\"/" + std::to_string(i) + "\"", at);
    CHECK(at != all.npos);
    // A request that is cut off gets no answer and no more time.
    Client half{streams.path};
    REQUIRE(half.send("GET / HT"));
    half.end_sending();
    CHECK(half.receive_all(1s).empty());
    CHECK(half.ended());
}

TEST_CASE("an HTTP/1.0 reader gets lines as they are, until the connection ends") {
    Streams streams{{.path = socket_path()}};
    Client client{streams.path};
    REQUIRE(client.send("GET /stream HTTP/1.0\r\n\r\n"));
    REQUIRE(streams.open(1));
    CHECK(streams.write("{\"a\":1}\n"));
    CHECK(streams.write("{\"b\":2}\n"));
    streams.end();
    CHECK(client.receive_all() == "HTTP/1.0 200 \r\nServer: Firecracker API\r\nConnection: close\r\n"
                                  "Content-Type: application/x-ndjson\r\n\r\n{\"a\":1}\n{\"b\":2}\n");
    CHECK(client.ended());
}

TEST_CASE("readers of streams leave descriptors for who asks") {
    Streams streams{{.path = socket_path()}};
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit small{std::min<rlim_t>(limit.rlim_cur, 256), limit.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &small);
    std::vector<UniqueFd> others;
    while (others.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC)))
        continue;
    others.resize(others.size() - 25); // each reader takes two here, one at either end
    std::vector<std::unique_ptr<Client>> readers;
    std::string answer;
    do {
        readers.push_back(std::make_unique<Client>(streams.path));
        REQUIRE(readers.back()->send(get_stream));
        answer = readers.back()->receive_answer();
    } while (has(answer, "chunked") && readers.size() < 12);
    CHECK(answer.starts_with("HTTP/1.1 503"));
    readers.pop_back();
    for (int turn = 0; turn < 3; ++turn) {
        Client one{streams.path};
        REQUIRE(one.send(get_root));
        CHECK(one.receive_answer().starts_with("HTTP/1.1 200"));
    }
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

} // namespace inox::api_stream_test
