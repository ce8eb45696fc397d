// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/broker.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "tests/catch.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/taken_port.hpp"
#include "vmm/confine/broker_wire.hpp"
#include "vmm/confine/landlock.hpp"
#include "vmm/confine/sanitized.hpp"

namespace inox::confine_broker_test {

namespace fs = std::filesystem;
using confine::Broker;
using confine::Purpose;
using outside::Wait;
using tests::eventually;

namespace {

struct Place {
    Place() {
        (void)!::mkdtemp(top.data());
        fs::create_directory(top + "/images");
        std::ofstream{top + "/secret"} << "secret";
        std::ofstream{top + "/images/disk"} << "disk";
    }
    ~Place() { fs::remove_all(top); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    std::string top{"/tmp/inox-broker-XXXXXX"};
};

struct World {
    World() {
        REQUIRE(broker->allow(place.top + "/images", Purpose::write));
        REQUIRE(broker->seal());
    }
    [[nodiscard]] int open(const std::string& path, int flags = O_RDONLY) const {
        return broker->open(place.top + path, flags | O_CLOEXEC, 0600, Wait::usual) ? 0 : errno;
    }
    Place place;
    std::unique_ptr<Broker> broker = *Broker::start();
};

/// What was freed stays for a while, so that its use is noticed.
constexpr std::size_t kept_by_sanitizer_kib = confine::sanitized ? 256 * 1024 : 0;

std::size_t open_descriptors(pid_t process) {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator{format("/proc/%d/fd", process)}, {}));
}

std::size_t resident_kib(pid_t process) {
    std::ifstream file{format("/proc/%d/statm", process)};
    std::size_t total = 0;
    std::size_t resident = 0;
    file >> total >> resident;
    return resident * 4;
}

} // namespace

TEST_CASE("a broker opens what is allowed, and nothing else") {
    const World world;
    CHECK(world.open("/images/disk", O_RDWR) == 0);
    CHECK(world.open("/images/none") == ENOENT);
    CHECK(world.open("/secret") == outside::refused);
    CHECK(world.open("/images/../secret") == outside::refused);
    CHECK(world.broker->open(world.place.top + "/images/disk", O_RDONLY | O_CLOEXEC, 0, Wait::long_));
    const auto file = world.broker->open(world.place.top + "/images/new", O_RDWR | O_CREAT | O_CLOEXEC, 0600, {});
    REQUIRE(file);
    CHECK((::fcntl(file.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(world.broker->replace(world.place.top + "/images", "x") == false);
    CHECK(world.broker->remove(world.place.top + "/images/new"));
    CHECK(world.broker->open_unnamed());
}

TEST_CASE("a list may need several packets, and has an end") {
    const Place place;
    const auto broker = *Broker::start();
    std::vector<confine::Allowed> all;
    for (int i = 0; i < 3000; ++i)
        all.push_back({place.top + "/none/" + std::to_string(i), Purpose::read});
    all.push_back({place.top + "/secret", Purpose::read});
    REQUIRE(broker->allow(all));
    CHECK(broker->open(place.top + "/secret", O_RDONLY, 0, {}));
    const confine::Allowed nul{std::string{"/a\0b", 4}, Purpose::read};
    CHECK_FALSE(broker->allow({&nul, 1}));
    CHECK_FALSE(broker->allow("", Purpose::read));
    for (auto& one : all)
        one.path += "x";
    CHECK_FALSE(broker->allow(all));
    CHECK(broker->open(place.top + "/secret", O_RDONLY, 0, {}));
}

TEST_CASE("a sealed list stays as it is") {
    const World world;
    CHECK_FALSE(world.broker->allow(world.place.top + "/secret", Purpose::read));
    CHECK(world.open("/secret") == outside::refused);
    CHECK(world.broker->seal()); // again
}

TEST_CASE("a descriptor that the process has is opened again, for no more than it is open for") {
    const World world;
    const UniqueFd reading{::open((world.place.top + "/secret").c_str(), O_RDONLY | O_CLOEXEC)};
    const UniqueFd both{::open((world.place.top + "/secret").c_str(), O_RDWR | O_CLOEXEC)};
    const UniqueFd place{::open((world.place.top + "/secret").c_str(), O_PATH | O_CLOEXEC)};
    const auto open = [&](const UniqueFd& fd, int flags) {
        return world.broker->open(format("/dev/fd/%d", fd.get()), flags, 0, {}) ? 0 : errno;
    };
    CHECK(open(reading, O_RDONLY) == 0);
    CHECK(open(reading, O_RDWR) == outside::refused);
    CHECK(open(reading, O_WRONLY) == outside::refused);
    CHECK(open(reading, O_RDONLY | O_TRUNC) == outside::refused);
    CHECK(open(both, O_RDWR) == 0);
    CHECK(open(both, O_RDONLY) == 0);
    CHECK(open(place, O_RDONLY) ==
          outside::refused); // of what may not be read at all there is always such a descriptor
    CHECK(world.broker->open("/dev/fd/1x", O_RDONLY, 0, {}).get() < 0);
    CHECK(fs::file_size(world.place.top + "/secret") == 6);
}

TEST_CASE("a thousand requests leave no descriptor behind, here or there") {
    const World world;
    CHECK(world.open("/images/disk") == 0);
    const auto here = open_descriptors(::getpid());
    const auto memory = resident_kib(world.broker->pid());
    for (int i = 0; i < 1000; ++i) {
        const auto file =
            world.broker->open(world.place.top + (i % 2 == 0 ? "/images/disk" : "/secret"), O_RDONLY, 0, {});
        if (static_cast<bool>(file) != (i % 2 == 0))
            FAIL("request " << i << ": errno " << errno);
    }
    CHECK(open_descriptors(::getpid()) == here);
    CHECK(resident_kib(world.broker->pid()) < memory + 1024 + kept_by_sanitizer_kib);
}

TEST_CASE("requests of several threads do not meet") {
    const World world;
    std::vector<std::jthread> threads;
    std::atomic<int> wrong{0};
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 100; ++i)
                if (world.open(t % 2 == 0 ? "/images/disk" : "/secret") != (t % 2 == 0 ? 0 : outside::refused))
                    ++wrong;
        });
    threads.clear();
    CHECK(wrong == 0);
}

TEST_CASE("a broker ends with the process that it serves, and not by signals for a group") {
    auto broker = *Broker::start();
    const auto pid = broker->pid();
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
        ::kill(pid, signal);
    CHECK(broker->seal());
    CHECK_FALSE(broker->remove("/none")); // by now it has begun
    CHECK(::getpgid(pid) != ::getpgid(0));
    broker.reset();
    CHECK(::kill(pid, 0) != 0);
    // Of a process that is killed:
    std::array<int, 2> tell{};
    REQUIRE(::pipe2(tell.data(), O_CLOEXEC) == 0);
    const auto child = ::fork();
    if (child == 0) {
        const auto own = *Broker::start();
        const pid_t its = own->pid();
        (void)!::write(tell[1], &its, sizeof its);
        ::raise(SIGKILL);
    }
    pid_t its = 0;
    REQUIRE(::read(tell[0], &its, sizeof its) == sizeof its);
    ::waitpid(child, nullptr, 0);
    CHECK(eventually([&] { // whoever it was left to may not have awaited it
        std::ifstream stat{format("/proc/%d/stat", its)};
        std::string text{std::istreambuf_iterator<char>{stat}, {}};
        return text.empty() || text.contains(") Z ");
    }));
}

TEST_CASE("a broker holds nothing of the process open") {
    std::array<int, 2> pipe{};
    REQUIRE(::pipe2(pipe.data(), 0) == 0);
    const auto broker = *Broker::start();
    REQUIRE(broker->seal());
    ::close(pipe[1]);
    pollfd end{pipe[0], POLLIN, 0};
    CHECK(::poll(&end, 1, 1000) == 1);
    CHECK((end.revents & POLLHUP) != 0);
    ::close(pipe[0]);
}

TEST_CASE("passt is started with words of inox's only") {
    const World world;
    std::array<int, 2> pair{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
    CHECK_FALSE(
        world.broker->start_passt({"passt", "--foreground", "--pcap", world.place.top + "/x"}, pair[0], pair[1]));
    CHECK(errno == outside::refused);
    CHECK_FALSE(world.broker->start_passt({}, pair[0], pair[1]));
    for (const int fd : pair)
        ::close(fd);
}

TEST_CASE("only an allowed folder is shared") {
    const World world;
    CHECK_FALSE(world.broker->start_share(world.place.top, true));
    CHECK(errno == outside::refused);
    CHECK_FALSE(world.broker->start_share(world.place.top + "/images/none", true));
    CHECK(errno == ENOENT);
    // The test's program is no server: what counts is that it is started, watched and ended.
    auto helper = world.broker->start_share(world.place.top + "/images", true);
    REQUIRE(helper);
    CHECK(helper->socket);
    CHECK(helper->process);
    CHECK(eventually([&] { return world.broker->status(helper->number).has_value(); }));
    world.broker->end(helper->number);
    CHECK(world.broker->status(helper->number) == outside::Door::unknown); // forgotten
    for (int i = 0; i < 200; ++i)
        world.broker->end(i);
}

// Whoever took the process over may send anything.

TEST_CASE("nonsense does not end a broker, and costs it nothing") {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    UniqueFd near{ends[0]};
    UniqueFd far{ends[1]};
    const auto pid = ::fork();
    if (pid == 0) {
        near.reset();
        confine::wire::serve(std::move(far));
    }
    far.reset();
    const auto alive = [&] {
        std::array<int, 2> answer{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, answer.data()) == 0);
        const UniqueFd mine{answer[0]};
        const UniqueFd theirs{answer[1]};
        const confine::wire::Request request{confine::wire::Op::status, 0, 7};
        const std::array<int, 1> fds{theirs.get()};
        REQUIRE(confine::wire::send(near.get(), std::as_bytes(std::span{&request, 1}), {}, fds, 0));
        pollfd ready{mine.get(), POLLIN, 0};
        return ::poll(&ready, 1, 20'000) == 1;
    };
    REQUIRE(alive());
    const auto before = resident_kib(pid);
    const std::array<int, 8> many{0, 0, 0, 0, 0, 0, 0, 0};
    std::uint64_t random = 0x9e3779b97f4a7c15;
    std::vector<std::byte> bytes(12 + confine::wire::most_text);
    for (int i = 0; i < 3000; ++i) {
        for (auto& byte : bytes) {
            random = random * 6364136223846793005ULL + 1442695040888963407ULL;
            byte = static_cast<std::byte>(random >> 56);
            if (&byte - bytes.data() > 64)
                break;
        }
        const std::uint32_t op = static_cast<std::uint32_t>(random >> 33) % 20;
        std::memcpy(bytes.data(), &op, sizeof op);
        const std::size_t size =
            i % 3 == 0 ? bytes.size() : 1 + static_cast<std::size_t>(random >> 40) % 64; // none is the end
        REQUIRE(confine::wire::send(near.get(), std::span{bytes}.first(size), {},
                                    std::span{many}.first(static_cast<std::size_t>(i) % 6), 0));
    }
    CHECK(alive());
    // More requests than it reads: their sender is refused, and it is not.
    REQUIRE(::kill(pid, SIGSTOP) == 0);
    int sent = 0;
    while (sent < 100'000 && confine::wire::send(near.get(), std::span{bytes}.first(64), {}, {}, MSG_DONTWAIT))
        ++sent;
    CHECK(sent < 100'000);
    CHECK((errno == EAGAIN || errno == ETOOMANYREFS));
    REQUIRE(::kill(pid, SIGCONT) == 0);
    CHECK(alive());
    CHECK(resident_kib(pid) < before + 2048 + kept_by_sanitizer_kib);
    CHECK(open_descriptors(pid) < 12);
    near.reset();
    int status = 0;
    CHECK(eventually([&] { return ::waitpid(pid, &status, WNOHANG) == pid; }));
    CHECK(WIFEXITED(status));
}

// Landlock, and all of it together

namespace {

/// Exit status of a process that does `work`.
int in_child(const std::function<int()>& work) {
    const auto child = ::fork();
    if (child == 0)
        ::_exit(work());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

bool opens(const std::string& path, int flags = O_RDONLY) {
    return static_cast<bool>(UniqueFd{::open(path.c_str(), flags | O_CLOEXEC, 0600)});
}

} // namespace

TEST_CASE("a confined thread opens nothing but what stays readable, and neither do those it makes") {
    const int abi = confine::landlock::version();
    if (abi == 0)
        return; // this kernel has none
    const Place place;
    for (const int version : {1, 2, 3, 4, 5, 6, abi}) {
        if (version > abi)
            continue;
        CAPTURE(version);
        CHECK(in_child([&] {
                  const std::array readable{place.top + "/images", std::string{"/nonexistent"}};
                  if (!confine::landlock::restrict_thread(readable, version))
                      return 1;
                  if (!opens(place.top + "/images/disk"))
                      return 2;
                  const auto refused = [&] {
                      return !opens(place.top + "/images/disk", O_RDWR) && !opens(place.top + "/secret") &&
                             !opens("/etc/passwd") && !opens(place.top + "/images/new", O_RDWR | O_CREAT) &&
                             ::mkdir((place.top + "/images/d").c_str(), 0700) != 0 &&
                             ::unlink((place.top + "/images/disk").c_str()) != 0 &&
                             ::rename((place.top + "/images/disk").c_str(), (place.top + "/images/e").c_str()) != 0;
                  };
                  if (!refused())
                      return 3;
                  bool later = false;
                  std::thread{[&] { later = refused(); }}.join();
                  return later ? 0 : 4;
              }) == 0);
    }
    CHECK(in_child([&] { // the oldest kernels have none
              return confine::landlock::restrict_thread({}, 0) && opens(place.top + "/secret") ? 0 : 1;
          }) == 0);
}

TEST_CASE("neither TCP nor processes outside are in reach of a confined thread, where the kernel can see to it") {
    const int abi = confine::landlock::version();
    if (abi < 4)
        return; // this kernel's is older
    const auto other = ::fork();
    if (other == 0)
        for (;;)
            ::pause();
    CHECK(in_child([&] {
              if (!confine::landlock::restrict_thread({}, abi))
                  return 1;
              const UniqueFd tcp{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
              sockaddr_in address{};
              address.sin_family = AF_INET;
              // NOLINTNEXTLINE: the socket interface casts
              if (::bind(tcp.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
                  errno != EACCES)
                  return 2;
              if (abi >= 6 && (::kill(other, SIGCONT) == 0 || errno != EPERM))
                  return 3;
              return ::raise(SIGCONT) == 0 ? 0 : 4; // oneself
          }) == 0);
    ::kill(other, SIGKILL);
    ::waitpid(other, nullptr, 0);
}

TEST_CASE("a confined process hears from its broker whether a port is free") {
    const tests::TakenPort taken;
    CHECK(
        in_child([&] {
            const auto broker = *Broker::start();
            outside::use(broker.get());
            outside::shut();
            if (!confine::landlock::restrict_thread({}, confine::landlock::version()))
                return 1;
            const std::string_view bytes{reinterpret_cast<const char*>(&taken.address), sizeof taken.address}; // NOLINT
            if (outside::can_bind(SOCK_STREAM, bytes) || errno != EADDRINUSE)
                return 2;
            if (!outside::can_bind(SOCK_DGRAM, bytes)) // of another protocol
                return 3;
            return outside::can_bind(SOCK_STREAM, bytes.substr(0, 3)) ? 4 : 0;
        }) == 0);
}

TEST_CASE("a confined process opens through its broker, and nothing without one") {
    const Place place;
    const auto code = [&](bool with_broker) {
        return in_child([&] {
            std::unique_ptr<Broker> broker;
            if (with_broker) {
                broker = *Broker::start();
                if (!broker->allow(place.top + "/images", Purpose::write) || !broker->seal())
                    return 1;
            }
            outside::use(broker.get());
            outside::shut();
            if (!confine::landlock::restrict_thread({}, confine::landlock::version()))
                return 2;
            auto disk = open_file(place.top + "/images/disk", O_RDWR, Errc::disk_missing);
            if (disk.has_value() != with_broker)
                return 3;
            if (!disk && (disk.error().code != Errc::not_allowed || !disk.error().hint.contains("--allow")))
                return 4;
            auto secret = open_file(place.top + "/secret", O_RDONLY, Errc::disk_missing);
            return secret ? 5 : secret.error().code == Errc::not_allowed ? 0 : 6;
        });
    };
    CHECK(code(true) == 0);
    CHECK(code(false) == 0);
}

TEST_CASE("a narrower broker opens what it was told, as far as the wider one may") {
    const World world;
    std::ofstream{world.place.top + "/images/other"} << "other";
    fs::create_symlink("../secret", world.place.top + "/images/link");
    auto made = world.broker->narrow();
    REQUIRE(made);
    auto narrow = std::move(*made);
    REQUIRE(narrow->allow(world.place.top + "/images/disk", Purpose::write));
    REQUIRE(narrow->allow(world.place.top + "/images/link", Purpose::write));
    const auto refused = narrow->allow(world.place.top + "/secret", Purpose::read);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::not_allowed);
    REQUIRE(narrow->seal());
    CHECK_FALSE(narrow->allow(world.place.top + "/images/other", Purpose::read));
    const auto open = [&](const char* name) {
        return narrow->open(world.place.top + name, O_RDONLY | O_CLOEXEC, 0600, Wait::usual) ? 0 : errno;
    };
    CHECK(open("/images/disk") == 0);
    CHECK(open("/images/other") == outside::refused);
    CHECK(open("/images/link") == outside::refused); // who names it here may not leave the folder
    CHECK(open("/secret") == outside::refused);
    CHECK(world.open("/images/other") == 0);
    // It is a child of this process, which reaps it
    narrow.reset();
    CHECK(eventually([] { return ::waitpid(-1, nullptr, WNOHANG) > 0; }));
}

} // namespace inox::confine_broker_test
