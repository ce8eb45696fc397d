// SPDX-License-Identifier: Apache-2.0
// What is outside of a confined process: files, sockets with a path, programs. All that is opened, bound, connected,
// removed or started once the guest may run passes here. Before shut() the calls act themselves; after it a Door acts,
// by its own rules, or nobody does. Failures are errno, as of the system call; `refused` when the rules are the reason.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::outside {

/// No system call fails with these here. fail_errno() makes Errc::not_allowed of it, with the hint to use --allow.
inline constexpr int refused = EKEYREJECTED;
/// The Door is no more: host_error.
inline constexpr int gone = EKEYREVOKED;
/// The Door did not answer in time: timed_out. It may do later what it was asked for.
inline constexpr int unanswered = EKEYEXPIRED;

/// How long the Door may take.
enum class Wait : std::uint8_t {
    usual, ///< five seconds
    long_, ///< two minutes: a device that is reset while it is opened
};

/// While this lives, others wait for its thread: the Door answers it within 50 ms, or `unanswered`. And at once, as
/// long as it has not answered the last one. EventLoop::run() has one.
class Brief {
public:
    Brief() noexcept;
    ~Brief();
    Brief(const Brief&) = delete;
    Brief& operator=(const Brief&) = delete;
};
/// Of the calling thread.
[[nodiscard]] bool is_brief() noexcept;
/// While this lives on a thread that is Brief, it is not: nobody waits for it but who asked for this work.
class Patient {
public:
    Patient() noexcept;
    ~Patient();
    Patient(const Patient&) = delete;
    Patient& operator=(const Patient&) = delete;

private:
    unsigned before_;
};

/// While this lives, whatever its thread asks of the Door is `unanswered` once this descriptor is readable.
class Until {
public:
    explicit Until(int fd) noexcept;
    ~Until();
    Until(const Until&) = delete;
    Until& operator=(const Until&) = delete;
};
/// Of the calling thread; -1: none.
[[nodiscard]] int until_fd() noexcept;

/// A program that serves this process, started by the Door and its child.
struct Helper {
    int number{};       ///< the Door's name for it
    UniqueFd process{}; ///< a pidfd
    UniqueFd socket{};  ///< of a server that the Door gave one; else none
};

/// Any thread.
class Door {
public:
    Door() = default;
    Door(const Door&) = delete;
    Door& operator=(const Door&) = delete;
    virtual ~Door() = default;
    virtual UniqueFd open(const std::string& path, int flags, unsigned mode, Wait wait) = 0;
    virtual UniqueFd open_unnamed() = 0;
    virtual UniqueFd open_tap(const std::string& name, int flags) = 0;
    virtual bool bind(int socket, const std::string& path, unsigned mode) = 0;
    virtual bool connect(int socket, const std::string& path) = 0;
    /// A descriptor that becomes readable with the answer, for connected().
    virtual UniqueFd connect_later(int socket, const std::string& path) = 0;
    virtual bool connected(int answer) = 0;
    virtual bool can_bind(int type, std::string_view address) = 0;
    virtual bool remove(const std::string& path) = 0;
    virtual bool make_folder(const std::string& path) = 0;
    virtual bool rename(const std::string& from, const std::string& to) = 0;
    virtual bool replace(const std::string& path, std::string_view text) = 0;
    /// passt with these words; `served` becomes its descriptor 3, `errors` its standard error.
    virtual std::optional<Helper> start_passt(const std::vector<std::string>& words, int served, int errors) = 0;
    virtual std::optional<Helper> start_share(const std::string& folder, bool read_only) = 0;
    /// How a helper ended, as waitpid(2) tells, or `unknown`; nullopt while it runs.
    virtual std::optional<int> status(int helper) = 0;
    static constexpr int unknown = -1;
    /// Kills it, and forgets it.
    virtual void end(int helper) = 0;
};

/// From now on helpers are started by it; null: no more. It outlives its use. Before other threads exist.
void use(Door* door) noexcept;
/// Null: there is none.
[[nodiscard]] Door* door() noexcept;
/// From now on nothing is done by this process itself. For ever.
void shut() noexcept;
[[nodiscard]] bool is_shut() noexcept;
/// In a process that was forked from one that is shut(), before it has other threads: the calls act themselves until it
/// is shut() again, as far as the kernel lets them (Landlock). What names a descriptor of this process is opened by the
/// Door, if there is one: the kernel would look at where the file lies.
void reopen() noexcept;

/// In a thread that is there before shut() and opens nothing itself: it is confined at once. enter_thread() calls it.
void begin_thread() noexcept;
/// How that is done; null: not at all. Before other threads exist.
void confine_threads(void (*confine)() noexcept) noexcept;

/// open(2) with O_CLOEXEC added.
UniqueFd open(const std::string& path, int flags, unsigned mode = 0, Wait wait = Wait::usual);
/// A file without a name in TMPDIR or /var/tmp, open for reading and writing.
UniqueFd open_unnamed();
/// The folder of open_unnamed().
std::string unnamed_folder();
/// A queue of the tap `name`, attached with these flags of TUNSETIFF.
UniqueFd open_tap(const std::string& name, int flags);
/// bind(2) of a unix socket to a file of exactly this mode.
bool bind(int socket, const std::string& path, unsigned mode);
/// connect(2) of a unix socket. By the Door also before shut(): threads whose list has no such call are there by then.
bool connect(int socket, const std::string& path);
/// The same for who must not wait: 0, or EINPROGRESS with an `answer` that is readable once connected() can tell, or
/// another errno.
int connect_later(int socket, const std::string& path, UniqueFd& answer);
bool connected(const UniqueFd& answer);
/// Whether a socket of `type` (SOCK_STREAM, SOCK_DGRAM) could be bound, with SO_REUSEADDR, to `address`: the bytes of a
/// sockaddr_in or sockaddr_in6.
bool can_bind(int type, std::string_view address);
/// unlink(2)
bool remove(const std::string& path);
/// mkdir(2), for this user only.
bool make_folder(const std::string& path);
/// rename(2) within a folder, which then is on stable storage. May take long: not from the loop.
bool rename(const std::string& from, const std::string& to);
/// replace_output()
bool replace(const std::string& path, std::string_view text);

} // namespace inox::outside
