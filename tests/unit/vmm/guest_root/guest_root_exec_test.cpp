// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/exec_session.hpp"

#include <array>
#include <csignal>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/fakes/vsock_guest.hpp"

namespace inox::guest_root_exec_test {

using namespace guest_root;
using namespace std::chrono_literals;

namespace {

struct Frame {
    char type{};
    std::string data{};
};

/// init's side of a connection, for a thread of its own.
class Guest {
public:
    explicit Guest(int fd) : fd_{fd} {}
    void put(char type, std::string_view data) const {
        const auto size = data.size();
        std::string all{static_cast<char>(size), static_cast<char>(size >> 8), static_cast<char>(size >> 16),
                        static_cast<char>(size >> 24), type};
        all += data;
        (void)!::send(fd_, all.data(), all.size(), MSG_NOSIGNAL);
    }
    /// With type 0 at the end of the connection.
    [[nodiscard]] Frame get() const {
        const auto head = take(5);
        if (head.size() < 5)
            return {};
        std::size_t size = 0;
        for (unsigned i = 0; i < 4; ++i)
            size |= std::size_t{static_cast<unsigned char>(head[i])} << 8 * i;
        return {head[4], take(size)};
    }
    void acknowledge(std::size_t size) const {
        put('A', std::string{static_cast<char>(size), static_cast<char>(size >> 8), static_cast<char>(size >> 16), 0});
    }
    void put_raw(std::string_view bytes) const { (void)!::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

private:
    [[nodiscard]] std::string take(std::size_t size) const {
        std::string out(size, '\0');
        if (size == 0)
            return out; // recv() would wait for the next frame
        return ::recv(fd_, out.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size) ? out : std::string{};
    }
    int fd_;
};

struct Pipe {
    Pipe() { REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0); }
    ~Pipe() {
        ::close(ends[0]);
        if (ends[1] >= 0)
            ::close(ends[1]);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void write(std::string_view text) {
        (void)!::write(ends[1], text.data(), text.size());
        ::close(std::exchange(ends[1], -1));
    }
    std::string read() {
        ::close(std::exchange(ends[1], -1));
        std::string out(1 << 16, '\0');
        const auto count = ::read(ends[0], out.data(), out.size());
        out.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
        return out;
    }
    std::array<int, 2> ends{};
};

struct Bench {
    Result<int> run(const std::function<void(const Guest&)>& guest, const ExecRequest& request = {{"true"}}) {
        std::array<int, 2> pair{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
        std::thread other{[&] {
            guest(Guest{pair[1]});
            ::close(pair[1]);
        }};
        sigset_t before;
        ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
        auto result = run_exec(UniqueFd{pair[0]}, request, {in.ends[0], out.ends[1], err.ends[1]});
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        other.join();
        return result;
    }
    Pipe in{};
    Pipe out{};
    Pipe err{};
};

} // namespace

TEST_CASE("a command's input, output, error and status each go their own way") {
    Bench bench;
    bench.in.write("typed");
    std::string start;
    std::string input;
    const auto status = bench.run(
        [&](const Guest& guest) {
            start = guest.get().data;
            for (auto frame = guest.get(); frame.type == 'I'; frame = guest.get()) {
                input += frame.data;
                guest.acknowledge(frame.data.size());
            }
            guest.put('O', "out");
            guest.put('R', "err");
            guest.put('O', "put");
            guest.put('X', std::string{"\0\7", 2});
        },
        {.arguments = {"a", "b c"}, .environment = {"X=y"}, .directory = "/d"});
    CHECK(status.value_or(-1) == 7);
    CHECK(start == std::string{"argument=a\0argument=b c\0env=X=y\0directory=/d\0", 45});
    CHECK(input == "typed");
    CHECK(bench.out.read() == "output");
    CHECK(bench.err.read() == "err");
}

TEST_CASE("a death by a signal is 128 and its number; signals here go to the command") {
    Bench bench;
    bench.in.write("");
    char sent = 0;
    const auto here = ::pthread_self();
    const auto status = bench.run([&](const Guest& guest) {
        (void)guest.get();
        (void)guest.get(); // the end of the input: the session waits now
        ::pthread_kill(here, SIGTERM);
        const auto frame = guest.get();
        sent = frame.type == 'K' ? frame.data.at(0) : '\0';
        guest.put('X', std::string{'\1', frame.data.at(0)});
    });
    CHECK(sent == SIGTERM);
    CHECK(status.value_or(-1) == 128 + SIGTERM);
}

TEST_CASE("no more input is on its way than the guest has acknowledged room for") {
    Bench bench;
    const UniqueFd endless{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
    ::dup2(endless.get(), bench.in.ends[0]);
    std::size_t before = 0;
    std::size_t behind = 0;
    const auto status = bench.run([&](const Guest& guest) {
        (void)guest.get();
        while (before < 64 * 1024)
            before += guest.get().data.size();
        guest.acknowledge(1000);
        behind = guest.get().data.size();
        guest.put('X', std::string{"\0\0", 2});
    });
    CHECK(status.value_or(-1) == 0);
    CHECK(before == 64 * 1024);
    CHECK(behind == 1000);
}

TEST_CASE("a guest that ends, or says what is not the protocol, is an error and no status") {
    const auto code = [](const std::function<void(const Guest&)>& guest) {
        Bench bench;
        bench.in.write("");
        const auto result = bench.run(guest);
        return result ? Errc::internal : result.error().code;
    };
    CHECK(code([](const Guest& guest) { (void)guest.get(); }) == Errc::host_error);
    CHECK(code([](const Guest& guest) { guest.put_raw("\xff\xff\xff\xffO"); }) == Errc::host_error);
    CHECK(code([](const Guest& guest) { guest.put('?', "x"); }) == Errc::host_error);
    CHECK(code([](const Guest& guest) { guest.put('X', "x"); }) == Errc::host_error);
    CHECK(code([](const Guest& guest) { guest.put('F', "no \x1b[2Jpipe"); }) == Errc::host_error);
    CHECK(code([](const Guest& guest) { guest.put_raw(std::string{"\5\0\0\0Oab", 7}); }) == Errc::host_error);
}

TEST_CASE("a connection is made by the words of the vsock's socket") {
    const auto answer = [](std::string_view text) {
        fakes::TemporaryFolder folder;
        const auto path = folder.path + "/s";
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        const UniqueFd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0); // NOLINT
        REQUIRE(::listen(listener.get(), 1) == 0);
        std::string hello(13, '\0');
        std::thread server{[&] {
            const UniqueFd client{::accept(listener.get(), nullptr, nullptr)};
            (void)!::recv(client.get(), hello.data(), hello.size(), MSG_WAITALL);
            (void)!::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (text == "wait")
                std::this_thread::sleep_for(200ms);
        }};
        auto connected = connect_exec(path, text == "wait" ? 50ms : 10'000ms);
        server.join();
        CHECK(hello == "CONNECT 1024\n");
        return connected ? Errc::internal : connected.error().code;
    };
    CHECK(answer("OK 1073741824\n") == Errc::internal);
    CHECK(answer("") == Errc::not_found);
    CHECK(answer("NO\n") == Errc::host_error);
    CHECK(answer("wait") == Errc::timed_out);
    CHECK(connect_exec("/none/there", 1s).error().code == Errc::not_found);
    CHECK(connect_exec(std::string(200, 'x'), 1s).error().code == Errc::not_found);
}

} // namespace inox::guest_root_exec_test
