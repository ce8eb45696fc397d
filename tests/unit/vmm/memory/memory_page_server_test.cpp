// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/page_server.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <future>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/catch.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::memory_page_server_test {
namespace {

constexpr std::uint64_t size = 8 * MiB;
const Gpa hole{6 * MiB};

bool can_serve() {
    const bool can = open_userfaultfd(UFFD_FEATURE_EVENT_REMOVE).has_value();
    if (!can)
        WARN("skipped: this user has no userfaultfd");
    return can;
}

/// Serves pages that hold their own number in the memory file.
class Server {
public:
    explicit Server(const std::string& path) : listener_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
        const auto address = unix_address(path);
        REQUIRE(address);
        REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0);
        REQUIRE(::listen(listener_.get(), 1) == 0);
    }
    void accept() {
        connection_.reset(::accept(listener_.get(), nullptr, nullptr));
        std::array<char, 4096> text{};
        const auto got = receive_passed(connection_.get(), std::as_writable_bytes(std::span{text}), 0,
                                        [this](UniqueFd fd) { faults_ = std::move(fd); });
        text_.assign(text.data(), static_cast<std::size_t>(std::max<ssize_t>(got.bytes, 0)));
    }
    uffd_msg event() const {
        pollfd ready{faults_.get(), POLLIN, 0};
        uffd_msg out{};
        if (::poll(&ready, 1, 10'000) == 1 && ::read(faults_.get(), &out, sizeof out) != sizeof out)
            out = {};
        return out;
    }
    void bring(std::uint64_t address, std::uint64_t value) const {
        std::array<std::uint64_t, page_size / 8> page{};
        page.fill(value);
        uffdio_copy copy{};
        copy.dst = address & ~(page_size - 1);
        copy.src = reinterpret_cast<std::uintptr_t>(page.data());
        copy.len = page_size;
        ::ioctl(faults_.get(), UFFDIO_COPY, &copy);
    }
    void end() {
        connection_.reset();
        faults_.reset();
    }
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    UniqueFd listener_;
    UniqueFd connection_{};
    UniqueFd faults_{};
    std::string text_{};
};

struct Folder {
    Folder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string path{"/tmp/inox-pages.XXXXXX"};
};

struct World {
    Folder folder{};
    std::string path = folder.path + "/pages";
    Server server{path};
    GuestMemory memory = GuestMemory::awaiting(size, HugePages::none, hole).value();
    std::promise<void> ended{};

    std::unique_ptr<PageServer> hand_over(PageServer::AtEnd then) {
        auto accepted = std::async(std::launch::async, [this] { server.accept(); });
        auto pages = PageServer::hand_over(path, memory, [this, then] {
            ended.set_value();
            return then;
        });
        accepted.get();
        REQUIRE(pages);
        return std::move(*pages);
    }
    std::uint64_t host(Gpa at) const { return reinterpret_cast<std::uintptr_t>(memory.host(at, 1)->data()); }
};

} // namespace

TEST_CASE("a page server is given Firecracker's message, brings pages, and hears of those that come back") {
    if (!can_serve())
        return;
    World world;
    const auto pages = world.hand_over(PageServer::AtEnd::release);
    const auto low = world.host(Gpa{0});
    const auto high = world.host(layout::ram_above_hole);
    CHECK(world.server.text() ==
          format(
              "[{\"base_host_virt_addr\":%llu,\"size\":6291456,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096},"
              "{\"base_host_virt_addr\":%llu,\"size\":2097152,\"offset\":6291456,\"page_size\":4096,"
              "\"page_size_kib\":4096}]",
              static_cast<unsigned long long>(low), static_cast<unsigned long long>(high)));

    auto read = std::async(std::launch::async, [&] { return world.memory.read<std::uint64_t>(Gpa{0x3008}); });
    const auto fault = world.server.event();
    CHECK(fault.event == UFFD_EVENT_PAGEFAULT);
    CHECK((fault.arg.pagefault.address & ~(page_size - 1)) == low + 0x3000);
    world.server.bring(fault.arg.pagefault.address, 77);
    CHECK(read.get() == 77U);

    auto given_back = std::async(std::launch::async,
                                 [&] { return world.memory.discard(*world.memory.host(Gpa{0x3000}, page_size)); });
    const auto removal = world.server.event();
    CHECK(removal.event == UFFD_EVENT_REMOVE);
    CHECK(removal.arg.remove.start == low + 0x3000);
    CHECK(removal.arg.remove.end == low + 0x4000);
    CHECK(given_back.get());
    CHECK(!pages->ended());
}

TEST_CASE("whoever waits for a page server that ends goes on") {
    if (!can_serve())
        return;
    World world;
    const auto pages = world.hand_over(PageServer::AtEnd::release);
    auto read = std::async(std::launch::async, [&] { return world.memory.read<std::uint64_t>(Gpa{0}); });
    CHECK(world.server.event().event == UFFD_EVENT_PAGEFAULT);
    world.server.end();
    world.ended.get_future().get();
    CHECK(read.get() == 0U);
    CHECK(pages->ended());
    CHECK(pages->end_error().code == Errc::page_server);
}

TEST_CASE("the kernel's work for a guest whose page server has ended fails, and writes no zeros") {
    if (!can_serve())
        return;
    World world;
    const auto pages = world.hand_over(PageServer::AtEnd::abandon);
    const auto file = world.folder.path + "/disk";
    const auto disk = open_file(file, O_RDWR | O_CREAT, Errc::internal).value();
    auto written = std::async(std::launch::async, [&] {
        const auto count = ::pwrite(disk.get(), world.memory.host(Gpa{0}, page_size)->data(), page_size, 0);
        return count < 0 ? -errno : count;
    });
    CHECK(world.server.event().event == UFFD_EVENT_PAGEFAULT);
    world.server.end();
    CHECK(written.get() == -EFAULT);
    CHECK(file_size(disk.get()).value_or(1) == 0);
}

TEST_CASE("a page server that is not there is an error") {
    const auto memory = GuestMemory::awaiting(size, HugePages::none, hole).value();
    const auto pages = PageServer::hand_over("/nonexistent/pages", memory, [] { return PageServer::AtEnd::release; });
    REQUIRE(!pages);
    CHECK(pages.error().code == Errc::page_server);
    CHECK(pages.error().message() ==
          "cannot connect to the page server at /nonexistent/pages: No such file or directory (errno 2)");
}

} // namespace inox::memory_page_server_test
