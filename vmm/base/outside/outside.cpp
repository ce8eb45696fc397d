// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/outside/outside.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "vmm/base/descriptors.hpp"
#include "vmm/base/outside/counters.hpp"
#include "vmm/base/replace_output.hpp"
#include "vmm/base/unix_socket.hpp"

namespace inox::outside {
namespace {

std::atomic<Door*> through{nullptr};
std::atomic<bool> closed{false};
std::atomic<bool> fenced{false};
std::atomic<void (*)() noexcept> confine_with{nullptr};
thread_local unsigned brief = 0;
thread_local int until = -1;

/// The Door, or errno, counted as `refusals`.
Door* ask(std::atomic<std::uint64_t>& refusals) {
    Door* const who = door();
    if (who == nullptr) {
        refusals.fetch_add(1, std::memory_order_relaxed);
        errno = refused;
    }
    return who;
}

UniqueFd make_unnamed() {
    const auto folder = unnamed_folder();
    UniqueFd file{::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)}; // NOLINT(*-vararg)
    if (!file && (errno == EOPNOTSUPP || errno == EISDIR)) {                     // a file system without them
        auto name = folder + "/inox.XXXXXX";
        file.reset(::mkostemp(name.data(), O_CLOEXEC));
        if (file)
            ::unlink(name.c_str());
    }
    return file;
}

UniqueFd make_tap(const std::string& name, int flags) {
    UniqueFd fd{::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)}; // NOLINT(*-vararg)
    ifreq request{};
    std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof request.ifr_name - 1));
    request.ifr_flags = static_cast<short>(flags);
    if (fd && ::ioctl(fd.get(), TUNSETIFF, &request) != 0) // NOLINT(*-vararg)
        return {};
    return fd;
}

bool names_descriptor(const std::string& path) {
    return std::ranges::any_of(descriptors::folders, [&](std::string_view one) { return path.starts_with(one); });
}

bool try_bind(int type, std::string_view address) {
    sockaddr_storage place{};
    if (address.size() > sizeof place) {
        errno = EINVAL;
        return false;
    }
    std::memcpy(&place, address.data(), address.size());
    const bool internet = place.ss_family == AF_INET || place.ss_family == AF_INET6;
    const UniqueFd socket{::socket(internet ? place.ss_family : AF_INET, type | SOCK_CLOEXEC, 0)};
    const int yes = 1;
    const auto size = static_cast<socklen_t>(address.size());
    return socket && ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
           ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&place), size) == 0; // NOLINT: as sockets cast
}

} // namespace

void use(Door* door) noexcept { through.store(door, std::memory_order_release); }
Door* door() noexcept { return through.load(std::memory_order_acquire); }
void shut() noexcept { closed.store(true, std::memory_order_release); }
bool is_shut() noexcept { return closed.load(std::memory_order_acquire); }
void reopen() noexcept {
    fenced.store(true, std::memory_order_relaxed);
    closed.store(false, std::memory_order_release);
}

Brief::Brief() noexcept { ++brief; }
Brief::~Brief() { --brief; }
bool is_brief() noexcept { return brief != 0; }

Patient::Patient() noexcept : before_{std::exchange(brief, 0)} {}
Patient::~Patient() { brief = before_; }

Until::Until(int fd) noexcept { until = fd; }
Until::~Until() { until = -1; }
int until_fd() noexcept { return until; }

void begin_thread() noexcept {
    const auto confine = confine_with.load(std::memory_order_acquire);
    if (confine && !is_shut()) // else whoever made the thread is confined
        confine();
}
void confine_threads(void (*confine)() noexcept) noexcept { confine_with.store(confine, std::memory_order_release); }

UniqueFd open(const std::string& path, int flags, unsigned mode, Wait wait) {
    const bool own = fenced.load(std::memory_order_relaxed) && door() != nullptr && names_descriptor(path);
    if (!is_shut() && !own)
        return UniqueFd{::open(path.c_str(), flags | O_CLOEXEC, mode)}; // NOLINT(*-vararg)
    Door* const who = ask(counters().files);
    return who != nullptr ? who->open(path, flags | O_CLOEXEC, mode, wait) : UniqueFd{};
}

std::string unnamed_folder() {
    const char* folder = std::getenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe): nobody sets it
    return folder == nullptr || *folder == '\0' ? "/var/tmp" : folder;
}

UniqueFd open_unnamed() {
    if (!is_shut())
        return make_unnamed();
    Door* const who = ask(counters().files);
    return who != nullptr ? who->open_unnamed() : UniqueFd{};
}

UniqueFd open_tap(const std::string& name, int flags) {
    if (!is_shut())
        return make_tap(name, flags);
    Door* const who = ask(counters().taps);
    return who != nullptr ? who->open_tap(name, flags) : UniqueFd{};
}

bool bind(int socket, const std::string& path, unsigned mode) {
    if (!is_shut()) {
        const auto address = unix_address(path);
        return address && bind_with_mode(socket, *address, mode);
    }
    Door* const who = ask(counters().sockets);
    return who != nullptr && who->bind(socket, path, mode);
}

bool connect(int socket, const std::string& path) {
    if (!is_shut() && door() == nullptr) {
        const auto address = unix_address(path);
        // NOLINTNEXTLINE: the socket interface casts
        return address && ::connect(socket, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0;
    }
    Door* const who = ask(counters().sockets);
    return who != nullptr && who->connect(socket, path);
}

int connect_later(int socket, const std::string& path, UniqueFd& answer) {
    Door* const who = door();
    if (who == nullptr)
        return connect(socket, path) ? 0 : errno;
    answer = who->connect_later(socket, path);
    return answer ? EINPROGRESS : errno;
}

bool connected(const UniqueFd& answer) {
    Door* const who = ask(counters().sockets);
    return who != nullptr && who->connected(answer.get());
}

bool can_bind(int type, std::string_view address) {
    // A fence may keep this process from binding ports (Landlock)
    const bool elsewhere = fenced.load(std::memory_order_relaxed) && door() != nullptr;
    if (!is_shut() && !elsewhere)
        return try_bind(type, address);
    Door* const who = ask(counters().sockets);
    return who != nullptr && who->can_bind(type, address);
}

bool remove(const std::string& path) {
    if (!is_shut())
        return ::unlink(path.c_str()) == 0;
    Door* const who = ask(counters().files);
    return who != nullptr && who->remove(path);
}

bool make_folder(const std::string& path) {
    if (!is_shut())
        return ::mkdir(path.c_str(), 0700) == 0;
    Door* const who = ask(counters().files);
    return who != nullptr && who->make_folder(path);
}

bool rename(const std::string& from, const std::string& to) {
    if (!is_shut())
        return rename_durably(from, to);
    Door* const who = ask(counters().files);
    return who != nullptr && who->rename(from, to);
}

bool replace(const std::string& path, std::string_view text) {
    if (!is_shut()) {
        const auto done = replace_output(path, text);
        errno = done ? 0 : done.error().sys_errno;
        return done.has_value();
    }
    Door* const who = ask(counters().files);
    return who != nullptr && who->replace(path, text);
}

} // namespace inox::outside
