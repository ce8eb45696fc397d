// SPDX-License-Identifier: Apache-2.0
// The server on a real socket: order, limits, deadlines, and clients that behave badly.
#include <algorithm>
#include <array>
#include <fcntl.h>
#include <filesystem>
#include <mutex>
#include <sys/mman.h>
#include <sys/resource.h>
#include <thread>
#include <vector>

#include "api/client.hpp"
#include "tests/catch.hpp"
#include "tests/support/api_socket.hpp"
#include "tests/support/eventually.hpp"

namespace inox::api_server_test {

using namespace std::chrono_literals;
using tests::ApiSocket, tests::echo, tests::eventually, tests::get_root, tests::serve, tests::socket_path;

TEST_CASE("an answer has Firecracker's exact form") {
    const auto path = socket_path();
    const auto server = serve({.path = path}, [](api::Request request, const auto& exchange) {
        if (request.path == "/none")
            exchange->answer({});
        else
            exchange->answer({400, "{}", "application/json", true});
    });
    ApiSocket client{path};
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
    ApiSocket client{path};
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
    ApiSocket client{path};
    REQUIRE(client.send("PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    CHECK(client.receive_answer().starts_with("HTTP/1.1 100 \r\n"));
    REQUIRE(client.send("{}"));
    CHECK(client.receive_answer().find("\"/x\"") != std::string::npos);
}

TEST_CASE("a client beyond the limit is told so while all are busy, and a place that becomes free is taken") {
    const auto path = socket_path();
    std::atomic<unsigned> busy{0};
    std::vector<std::shared_ptr<api::Exchange>> exchanges;
    const auto server = serve({.path = path, .max_connections = 2}, [&](api::Request request, const auto& exchange) {
        if (request.path != "/busy")
            return echo(std::move(request), exchange);
        exchanges.push_back(exchange);
        ++busy;
    });
    auto first = std::make_unique<ApiSocket>(path);
    ApiSocket second{path};
    for (auto* client : {first.get(), &second})
        REQUIRE(client->send("GET /busy HTTP/1.1\r\n\r\n"));
    REQUIRE(eventually([&] { return busy == 2; }));
    ApiSocket third{path};
    CHECK(third.receive_all() == "HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\n"
                                 "Content-Type: application/json\r\nContent-Length: 40\r\n\r\n"
                                 "{ \"error\": \"Too many open connections\" }");
    exchanges.front()->answer({200, "{}", "application/json", false});
    CHECK(first->receive_answer().starts_with("HTTP/1.1 200"));
    ApiSocket fourth{path};
    REQUIRE(fourth.send(get_root));
    CHECK(fourth.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(server->counters().refused_full == 1);
}

TEST_CASE("clients that are idle make way for one more: those who never asked first, then the longest idle") {
    const auto path = socket_path();
    const auto server = serve({.path = path, .max_connections = 3});
    ApiSocket oldest{path};
    ApiSocket used{path};
    for (auto* client : {&oldest, &used}) {
        REQUIRE(client->send(get_root));
        CHECK(client->receive_answer().starts_with("HTTP/1.1 200"));
    }
    ApiSocket silent{path};
    REQUIRE(eventually([&] { return server->counters().open == 3; }));
    ApiSocket third{path}; // the silent client is closed for it
    REQUIRE(third.send(get_root));
    CHECK(third.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(silent.receive_all().empty());
    CHECK(silent.ended());
    ApiSocket fourth{path};
    REQUIRE(fourth.send(get_root));
    CHECK(fourth.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(oldest.receive_all().empty());
    CHECK(oldest.ended());
    REQUIRE(used.send(get_root));
    CHECK(used.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(server->counters().closed_idle == 2);
    CHECK(server->counters().refused_full == 0);
}

TEST_CASE("a crowd of idle clients keeps nobody out, however many there are") {
    const auto path = socket_path();
    const auto server = serve({.path = path});
    std::vector<std::unique_ptr<ApiSocket>> crowd;
    for (int i = 0; i < 64; ++i) {
        crowd.push_back(std::make_unique<ApiSocket>(path));
        REQUIRE(crowd.back()->send(get_root));
        CHECK(crowd.back()->receive_answer().starts_with("HTTP/1.1 200"));
    }
    for (int i = 0; i < 20; ++i) {
        ApiSocket next{path};
        REQUIRE(next.send(get_root));
        CHECK(next.receive_answer().starts_with("HTTP/1.1 200"));
    }
}

TEST_CASE("without a descriptor left a client is told so at once, and the server does not spin") {
    const auto path = socket_path();
    std::atomic<bool> busy{false};
    std::shared_ptr<api::Exchange> held;
    const auto server = serve({.path = path}, [&](api::Request request, const auto& exchange) {
        if (request.path != "/busy")
            return echo(std::move(request), exchange);
        held = exchange;
        busy = true;
    });
    ApiSocket first{path};
    REQUIRE(first.send("GET /busy HTTP/1.1\r\n\r\n"));
    REQUIRE(eventually([&] { return busy.load(); }));
    std::vector<UniqueFd> late;
    for (int i = 0; i < 3; ++i)
        late.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit small{std::min<rlim_t>(limit.rlim_cur, 256), limit.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &small);
    std::vector<UniqueFd> all;
    for (;;) {
        UniqueFd one{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
        if (!one)
            break;
        all.push_back(std::move(one));
    }
    std::vector<std::string> answers;
    for (const auto& client : late) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        (void)::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address); // NOLINT
        pollfd poll{client.get(), POLLIN, 0};
        char text[512];
        const auto got = ::poll(&poll, 1, 5000) == 1 ? ::read(client.get(), text, sizeof text) : 0;
        answers.emplace_back(text, got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    all.clear();
    ::setrlimit(RLIMIT_NOFILE, &limit);
    for (const auto& answer : answers)
        CHECK(answer.find("No descriptors are left") != std::string::npos);
    CHECK(server->counters().refused_descriptors == 3);
    held->answer({200, "{}", "application/json", false});
    CHECK(first.receive_answer().starts_with("HTTP/1.1 200"));
    ApiSocket next{path};
    REQUIRE(next.send(get_root));
    CHECK(next.receive_answer().starts_with("HTTP/1.1 200"));
}

TEST_CASE("everybody beyond the limit is told, and they take no place that becomes free") {
    const auto path = socket_path();
    std::atomic<bool> busy{false};
    std::shared_ptr<api::Exchange> held;
    const auto server = serve({.path = path, .max_connections = 1}, [&](api::Request request, const auto& exchange) {
        if (request.path != "/busy")
            return echo(std::move(request), exchange);
        held = exchange;
        busy = true;
    });
    auto first = std::make_unique<ApiSocket>(path);
    REQUIRE(first->send("GET /busy HTTP/1.1\r\n\r\n"));
    REQUIRE(eventually([&] { return busy.load(); }));
    std::vector<std::unique_ptr<ApiSocket>> late;
    for (int i = 0; i < 100; ++i)
        late.push_back(std::make_unique<ApiSocket>(path));
    for (const auto& client : late)
        CHECK(client->receive_answer().starts_with("HTTP/1.1 503"));
    first.reset();
    held->answer({200, "{}", "application/json", false});
    REQUIRE(eventually([&] { return server->counters().open == 0; }));
    ApiSocket next{path};
    REQUIRE(next.send(get_root));
    CHECK(next.receive_answer().starts_with("HTTP/1.1 200"));
}

TEST_CASE("a thousand connections leave the server as it was") {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
    ::setrlimit(RLIMIT_NOFILE, &limit);
    const auto path = socket_path();
    const auto server = serve({.path = path});
    ApiSocket before{path};
    REQUIRE(before.send(get_root));
    CHECK(before.receive_answer().starts_with("HTTP/1.1 200"));
    std::vector<std::unique_ptr<ApiSocket>> crowd;
    for (int i = 0; i < 1000; ++i)
        crowd.push_back(std::make_unique<ApiSocket>(path));
    REQUIRE(before.send(get_root));
    CHECK(before.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(server->counters().open <= 64);
    crowd.clear();
    REQUIRE(eventually([&] { return server->counters().open == 1; }));
    ApiSocket after{path};
    REQUIRE(after.send(get_root));
    CHECK(after.receive_answer().starts_with("HTTP/1.1 200"));
}

TEST_CASE("slow senders end at their deadline and delay nobody") {
    const auto path = socket_path();
    const auto server = serve({.path = path, .request_deadline = 4s, .idle_deadline = 4s});
    ApiSocket silent{path};
    ApiSocket slow{path};
    REQUIRE(slow.send("GET / HT"));
    ApiSocket idle{path};
    REQUIRE(idle.send(get_root));
    CHECK(idle.receive_answer().starts_with("HTTP/1.1 200"));
    const auto began = std::chrono::steady_clock::now();
    ApiSocket quick{path};
    REQUIRE(quick.send(get_root));
    CHECK(quick.receive_answer().starts_with("HTTP/1.1 200"));
    CHECK(std::chrono::steady_clock::now() - began < 3s);
    for (auto* client : {&silent, &slow, &idle}) {
        CHECK(client->receive_all(30s).empty());
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
        ApiSocket client{path};
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
        ApiSocket half{path};
        half.send("PUT /x HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
        ApiSocket asks{path};
        asks.send("GET /wait HTTP/1.1\r\n\r\n");
    }
    REQUIRE(eventually([&] {
        std::lock_guard lock{mutex};
        return waiting.size() == 20;
    }));
    for (auto& exchange : waiting)
        exchange->answer({200, "{}", "application/json", false});
    CHECK(eventually([&] { return server->counters().open == 0; }));
    ApiSocket client{path};
    REQUIRE(client.send(get_root));
    CHECK(client.receive_answer().starts_with("HTTP/1.1 200"));
}

TEST_CASE("a request that nobody answers ends with 503") {
    const auto path = socket_path();
    const auto server = serve({.path = path}, [](api::Request, const auto&) {});
    ApiSocket client{path};
    REQUIRE(client.send(get_root));
    CHECK(client.receive_all().starts_with("HTTP/1.1 503"));
}

TEST_CASE("a server on a loop has no thread, and takes descriptors where it is told how many") {
    const auto path = socket_path();
    EventLoop loop;
    std::vector<std::size_t> counts;
    std::string read;
    const auto threads = [] { return std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, {}); };
    const auto before = threads();
    const auto server = api::Server::create(
        {.path = path, .max_descriptors = 1},
        [&](const api::Request& request, const auto& exchange) {
            counts.push_back(request.descriptors ? request.descriptors->size() : 0);
            if (request.descriptors) {
                std::array<char, 4> bytes{};
                (void)!::pread(request.descriptors->front().get(), bytes.data(), bytes.size(), 0);
                read.assign(bytes.begin(), bytes.end());
            }
            exchange->answer({});
        },
        loop);
    REQUIRE(server);
    CHECK(threads() == before);
    UniqueFd file{::memfd_create("passed", MFD_CLOEXEC)};
    REQUIRE(write_all(file.get(), std::string_view{"text"}));
    std::thread client{[&] {
        const api::Client asks{path};
        const std::array<int, 2> passed{file.get(), file.get()};
        CHECK(asks.call("PUT", "/x", "{}")->status == 204);
        CHECK(asks.call("PUT", "/x", "{}", std::span{passed}.first(1))->status == 204);
        CHECK(asks.call("PUT", "/x", "{}", passed)->status == 204); // the second is closed
        loop.stop();
    }};
    loop.run();
    client.join();
    CHECK(counts == std::vector<std::size_t>{0, 1, 1});
    CHECK(read == "text");
}

} // namespace inox::api_server_test
