// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/page_server.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/memory/huge_pages.hpp"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) // since Linux 6.1
#endif

namespace inox {
namespace {

constexpr const char* device = "/dev/userfaultfd";
constexpr int for_an_orderly_stop_ms = 50;

std::unexpected<Error> no_userfaultfd(int error) {
    errno = error;
    if (error == ENOSYS)
        return fail_errno(Errc::memory_unavailable, "this host's kernel has no userfaultfd",
                          "it needs CONFIG_USERFAULTFD; or restore from the memory file, without a page server");
    if (error == EPERM || error == EACCES)
        return fail_errno(Errc::memory_unavailable, "this user may not use userfaultfd",
                          std::string{"give it access to "} + device +
                              " (Linux 6.1), or CAP_SYS_PTRACE, or: sudo sysctl vm.unprivileged_userfaultfd=1");
    return fail_errno(Errc::memory_unavailable, "cannot make a userfaultfd");
}

Result<UniqueFd> make_userfaultfd() {
    constexpr int flags = O_CLOEXEC | O_NONBLOCK;
    if (const UniqueFd file{::open(device, O_RDWR | O_CLOEXEC)}; file)            // NOLINT(*-vararg)
        if (UniqueFd made{::ioctl(file.get(), USERFAULTFD_IOC_NEW, flags)}; made) // NOLINT(*-vararg)
            return made;
    UniqueFd made{static_cast<int>(::syscall(SYS_userfaultfd, flags))}; // NOLINT(*-vararg)
    if (!made)
        return no_userfaultfd(errno);
    return made;
}

std::string message_text(const GuestMemory& memory) {
    const auto page =
        static_cast<unsigned long long>(memory.huge_pages() == HugePages::two_mib ? huge_page_size : page_size);
    std::string text;
    for (const auto& region : memory.regions()) {
        const auto address = reinterpret_cast<std::uintptr_t>(region.host.data()); // NOLINT: for the kernel
        text += format("%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,\"page_size\":%llu,"
                       "\"page_size_kib\":%llu}",
                       text.empty() ? "" : ",", static_cast<unsigned long long>(address),
                       static_cast<unsigned long long>(region.host.size()),
                       static_cast<unsigned long long>(region.file_offset), page, page);
    }
    return "[" + text + "]";
}

} // namespace

Result<UniqueFd> open_userfaultfd(std::uint64_t features) {
    auto faults = TRY(make_userfaultfd());
    uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
    if (::ioctl(faults.get(), UFFDIO_API, &api) != 0) // NOLINT(*-vararg)
        return fail_errno(Errc::memory_unavailable,
                          "this host's userfaultfd does not tell of pages that a guest gives back, or knows no huge "
                          "pages",
                          "it needs Linux 4.11; or restore from the memory file, without a page server");
    return faults;
}

PageServer::PageServer(std::string path, UniqueFd socket, UniqueFd faults, EventFd woken, std::function<AtEnd()> on_end)
    : path_{std::move(path)}, socket_{std::move(socket)}, faults_{std::move(faults)}, woken_{std::move(woken)},
      on_end_{std::move(on_end)} {}

PageServer::~PageServer() {
    finishing_ = true;
    woken_.signal();
    if (thread_.joinable())
        thread_.join();
}

Result<std::unique_ptr<PageServer>> PageServer::hand_over(const std::string& socket, const GuestMemory& memory,
                                                          std::function<AtEnd()> on_end) {
    UniqueFd peer{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const auto address = unix_address(socket);
    if (!peer || !address || ::connect(peer.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
        return fail_errno(Errc::page_server, "cannot connect to the page server at " + socket,
                          "start the server first; it listens at a unix stream socket");
    const bool huge = memory.huge_pages() == HugePages::two_mib;
    auto faults = TRY(open_userfaultfd(UFFD_FEATURE_EVENT_REMOVE | (huge ? UFFD_FEATURE_MISSING_HUGETLBFS : 0U)));
    std::unique_ptr<PageServer> server{
        new PageServer{socket, std::move(peer), std::move(faults), TRY(EventFd::create()), std::move(on_end)}};
    TRY_VOID(server->register_regions(memory));
    TRY_VOID(server->send(memory));
    try {
        server->thread_ = std::thread{[self = server.get()] { self->watch(); }};
    } catch (const std::system_error& error) {
        return fail_thread("the thread that watches the page server", error);
    }
    return server;
}

Result<void> PageServer::register_regions(const GuestMemory& memory) {
    for (const auto& region : memory.regions()) {
        uffdio_register request{};
        request.range.start = reinterpret_cast<std::uintptr_t>(region.host.data()); // NOLINT: for the kernel
        request.range.len = region.host.size();
        request.mode = UFFDIO_REGISTER_MODE_MISSING;
        TRY_VOID(checked_ioctl(faults_.get(), UFFDIO_REGISTER, &request, "UFFDIO_REGISTER"));
        regions_.push_back(region.host);
    }
    return {};
}

Result<void> PageServer::send(const GuestMemory& memory) {
    auto text = message_text(memory);
    const iovec part{text.data(), text.size()};
    const int fd = faults_.get();
    ssize_t sent = -1;
    do
        sent = send_passing(socket_.get(), std::span{&part, 1}, std::span{&fd, 1}, 0);
    while (sent < 0 && errno == EINTR);
    if (sent != static_cast<ssize_t>(text.size()))
        return fail_errno(Errc::page_server, "cannot hand the guest's memory to the page server at " + path_);
    return {};
}

Error PageServer::end_error() const {
    return make_error(Errc::page_server, "the page server at " + path_ + " has closed its connection, or has ended",
                      "see what it printed; pages that it had not brought are lost, so the guest cannot go on");
}

void PageServer::release() noexcept {
    if (released_.exchange(true))
        return;
    for (const auto& region : regions_) {
        uffdio_range range{reinterpret_cast<std::uintptr_t>(region.data()), region.size()}; // NOLINT: for the kernel
        ::ioctl(faults_.get(), UFFDIO_UNREGISTER, &range);                                  // NOLINT(*-vararg)
    }
    woken_.signal(); // for the events that remain
}

void PageServer::abandon() noexcept {
    static std::atomic<const std::vector<std::span<std::byte>>*> abandoned{};
    abandoned = &regions_;
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = [](int, siginfo_t* fault, void*) {
        for (const auto& region : *abandoned.load())
            while (fault->si_addr >= region.data() && fault->si_addr < region.data() + region.size())
                ::poll(nullptr, 0, -1);
        ::signal(SIGSEGV, SIG_DFL); // NOLINT: of this process's own making, and comes again
    };
    ::sigaction(SIGSEGV, &action, nullptr);
    for (const auto& region : regions_)
        ::mprotect(region.data(), region.size(), PROT_NONE);
    release();
}

void PageServer::watch() {
    enter_thread(ThreadKind::pages, "page-server");
    while (!finishing_) {
        // Whoever gave pages back waits until its event was read: by the server, or, once that is no more, here.
        std::array<pollfd, 3> polls{{{woken_.fd(), POLLIN, 0},
                                     {ended_ ? -1 : socket_.get(), POLLIN, 0},
                                     {released_ ? faults_.get() : -1, POLLIN, 0}}};
        ::poll(polls.data(), polls.size(), -1);
        if (polls[0].revents != 0)
            woken_.drain();
        if (polls[1].revents != 0)
            look_at_socket();
        if (polls[2].revents != 0)
            drop_events();
    }
}

/// The server says nothing that is of interest, but for its end.
void PageServer::look_at_socket() {
    std::array<std::byte, 4096> words{};
    const auto got = ::recv(socket_.get(), words.data(), words.size(), MSG_DONTWAIT);
    if (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)))
        return;
    ended_.store(true, std::memory_order_release);
    if (on_end_() == AtEnd::release)
        return release();
    // Mostly the loop waits for nothing, and an orderly stop touches little memory.
    pollfd stopped{woken_.fd(), POLLIN, 0};
    ::poll(&stopped, 1, for_an_orderly_stop_ms);
    if (!finishing_)
        abandon();
}

void PageServer::drop_events() const noexcept {
    uffd_msg event{};
    while (::read(faults_.get(), &event, sizeof event) == static_cast<ssize_t>(sizeof event)) {
    }
}

} // namespace inox
